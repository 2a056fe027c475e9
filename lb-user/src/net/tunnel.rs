//! Where the ends of a VXLAN are, as the kernel was told: an overlay network of Docker's knows each end on other hosts by
//! address, by MAC address, and by the host that it is on.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use nix::sys::socket::SockProtocol;

use super::diag::{REQUEST_DUMP, answers, request};
use super::network::MacAddress;
use super::{NetError, NetNs};

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Bytes of `struct ndmsg`, and of an attribute's header.
const BODY: usize = 12;
const ATTRIBUTE: usize = 4;

/// An entry: an address and a MAC address on an interface.
type Entry = (u32, MacAddress, Ipv4Addr);

/// The ends of all tunnels of a namespace that are on other hosts, each with its host: what neighbours' addresses and the
/// tunnels' forwarding tables say together.
///
/// # Errors
/// The namespace cannot be entered, or the kernel does not list them.
pub fn far_ends(netns: &NetNs) -> Result<BTreeMap<Ipv4Addr, Ipv4Addr>, NetError> {
    let hosts: BTreeMap<(u32, MacAddress), Ipv4Addr> = entries(netns, libc::AF_BRIDGE)?
        .into_iter()
        .map(|(interface, mac, host)| ((interface, mac), host))
        .collect();
    let ends = entries(netns, libc::AF_INET)?;
    Ok(ends
        .into_iter()
        .filter_map(|(interface, mac, end)| Some((end, *hosts.get(&(interface, mac))?)))
        .collect())
}

fn entries(netns: &NetNs, family: libc::c_int) -> Result<Vec<Entry>, NetError> {
    let failed = |error: io::Error| NetError::system("cannot list neighbours")(error);
    let socket = netns.netlink_socket(SockProtocol::NetlinkRoute)?;
    let mut body = [0; BODY];
    body[0] = family as u8;
    request(&socket, RTM_GETNEIGH, REQUEST_DUMP, &body).map_err(failed)?;
    let mut all = Vec::new();
    answers(&socket, RTM_NEWNEIGH, |message| all.extend(read(message))).map_err(failed)?;
    Ok(all)
}

/// One that has both a MAC address and an IPv4 address: a neighbour's own, or that of the host behind a tunnel.
fn read(message: &[u8]) -> Option<Entry> {
    let interface = u32::from_ne_bytes(message.get(4..8)?.try_into().ok()?);
    let mut rest = message.get(BODY..)?;
    let (mut mac, mut address) = (None, None);
    while let Some([l0, l1, k0, k1]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = rest.get(ATTRIBUTE..length)?;
        match u16::from_ne_bytes([*k0, *k1]) {
            NDA_LLADDR => mac = MacAddress::try_from(value).ok(),
            NDA_DST => address = <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((interface, mac?, address?))
}
