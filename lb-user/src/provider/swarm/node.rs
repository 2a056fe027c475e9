//! What the provider has to know of the node itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;

use crate::model::Protocol;

/// Ports at which somebody listens.
pub(super) type Listeners = BTreeSet<(Protocol, u16)>;

/// The node as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Its addresses, but for those of the loopback interface.
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    /// The ports at which somebody on it listens, at other addresses than loopback's; empty where it does not matter.
    pub(super) listeners: Listeners,
    /// Whether its kernel has IPVS, and dockerd used it.
    pub(super) ipvs: bool,
}

impl Node {
    /// The node of the calling thread's namespace; `listeners` where they are known, for to look for them takes time
    /// where there are many sockets.
    pub(super) fn read(listeners: Option<Listeners>) -> nix::Result<Self> {
        let addresses = getifaddrs()?
            .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
            .filter(|address| !address.is_loopback())
            .collect();
        Ok(Self {
            addresses,
            listeners: listeners.unwrap_or_else(all_listeners),
            ipvs: Path::new("/proc/thread-self/net/ip_vs").exists(),
        })
    }

    /// The protocols that a published port may have, where nobody says which. dockerd reserves published ports by
    /// listening at them when there is IPVS. When there is none, who listens is somebody else, and is not to be cut off.
    pub(super) fn protocols(&self, port: u16) -> Vec<Protocol> {
        let both = [Protocol::Tcp, Protocol::Udp];
        both.into_iter()
            .filter(|protocol| self.listeners.contains(&(*protocol, port)) == self.ipvs)
            .collect()
    }
}

fn all_listeners() -> Listeners {
    let mut listeners = Listeners::new();
    for (table, protocol, state) in [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ] {
        // Without IPv6 there is no such table.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        let ports = listening(&text, state);
        listeners.extend(ports.map(|port| (protocol, port)));
    }
    listeners
}

/// States in the kernel's tables of sockets.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// The ports of sockets in this state in one of the kernel's tables, but for those at loopback addresses.
fn listening<'t>(table: &'t str, state: &'t str) -> impl Iterator<Item = u16> + use<'t> {
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        // Words of the address in host order: the first octet is the last one written.
        let loopback = match address.len() {
            8 => address.ends_with("7F"),
            _ => address == "00000000000000000000000001000000",
        };
        let is_it = fields.nth(1)? == state && !loopback;
        is_it.then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 1 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 014DA8C0:0016 FE4DA8C0:D431 01 00000000:00000000 02:000A7214 00000000     0        0 3 2 0 20 4 29 10 -1";
        assert_eq!(listening(table, LISTEN).collect::<Vec<_>>(), [0x1f90]);
    }

    #[test]
    fn protocols_that_nobody_says() {
        let mut node = Node {
            listeners: BTreeSet::from([(Protocol::Udp, 53)]),
            ..Node::default()
        };
        assert_eq!(node.protocols(53), [Protocol::Tcp]);
        assert_eq!(node.protocols(80), [Protocol::Tcp, Protocol::Udp]);
        node.ipvs = true;
        assert_eq!(node.protocols(53), [Protocol::Udp]);
    }

    #[test]
    fn this_node() {
        let socket = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let listener = (Protocol::Tcp, socket.local_addr().unwrap().port());
        let node = Node::read(None).unwrap();
        assert!(!node.addresses.contains(&Ipv4Addr::LOCALHOST));
        assert!(node.listeners.contains(&listener));
        let known = Listeners::from([(Protocol::Udp, 9)]);
        assert_eq!(Node::read(Some(known.clone())).unwrap().listeners, known);
    }
}
