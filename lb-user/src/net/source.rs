//! Which of its addresses a host sends from.
//!
//! The kernel's rule (`inet_select_addr`), followed step by step, because packets that bpvs gives a source address must
//! carry the one that the rest of the host's packets on the same way carry.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::snapshot::{Address, SCOPE_LINK, SCOPE_UNIVERSE, Snapshot};

/// The primary IPv4 addresses of a namespace, by interface, in the kernel's order.
pub(super) struct Addresses<'a> {
    primary: BTreeMap<u32, Vec<(Ipv4Addr, &'a Address)>>,
}

impl<'a> Addresses<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let mut primary: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for address in &snapshot.addresses {
            if let (IpAddr::V4(local), false) = (address.local, address.secondary) {
                primary
                    .entry(address.ifindex)
                    .or_default()
                    .push((local, address));
            }
        }
        Self { primary }
    }

    /// The source of packets that leave by `oif` for `gateway`, or for the link itself, on a route of this scope:
    /// an address of the interface whose subnet has the gateway in it, else its first one, else the first global one of
    /// any other interface. Addresses of a nearer scope than the route's are passed over.
    pub(super) fn select(
        &self,
        oif: u32,
        gateway: Option<Ipv4Addr>,
        scope: u8,
    ) -> Option<Ipv4Addr> {
        let mut candidates = self
            .primary
            .get(&oif)
            .into_iter()
            .flatten()
            .filter(|(_, address)| address.scope <= scope);
        let first = candidates.clone().next();
        let fitting = match gateway {
            Some(gateway) => candidates.find(|(_, address)| subnet_contains(address, gateway)),
            None => None,
        };
        if let Some((local, _)) = fitting.or(first) {
            return Some(*local);
        }
        self.primary
            .values()
            .flatten()
            .find(|(_, address)| address.scope != SCOPE_LINK && address.scope <= scope)
            .map(|(local, _)| *local)
    }

    /// The first address of an interface that is valid everywhere, else its first one.
    pub(super) fn first_of(&self, ifindex: u32) -> Option<Ipv4Addr> {
        let addresses = self.primary.get(&ifindex)?;
        addresses
            .iter()
            .find(|(_, address)| address.scope == SCOPE_UNIVERSE)
            .or_else(|| addresses.first())
            .map(|(local, _)| *local)
    }
}

fn subnet_contains(address: &Address, other: Ipv4Addr) -> bool {
    match address.peer {
        IpAddr::V4(peer) => {
            Ipv4Net::new(peer, address.prefix_len).is_ok_and(|subnet| subnet.contains(&other))
        }
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ifindex: u32, local: &str, scope: u8, secondary: bool) -> Address {
        let net: Ipv4Net = local.parse().unwrap();
        Address {
            ifindex,
            local: net.addr().into(),
            peer: net.addr().into(),
            prefix_len: net.prefix_len(),
            scope,
            secondary,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            addresses: vec![
                address(1, "127.0.0.1/8", 254, false),
                address(2, "169.254.1.1/16", 253, false),
                address(2, "10.0.0.2/24", 0, false),
                address(2, "10.1.0.2/24", 0, false),
                address(2, "10.0.0.3/24", 0, true),
            ],
            ..Snapshot::default()
        }
    }

    fn select(oif: u32, gateway: Option<[u8; 4]>, scope: u8) -> Option<String> {
        let snapshot = snapshot();
        Addresses::new(&snapshot)
            .select(oif, gateway.map(Into::into), scope)
            .map(|address| address.to_string())
    }

    #[test]
    fn the_subnet_of_the_gateway_decides_then_the_order() {
        assert_eq!(select(2, Some([10, 1, 0, 1]), 0).unwrap(), "10.1.0.2");
        assert_eq!(select(2, Some([10, 0, 0, 1]), 0).unwrap(), "10.0.0.2");
        assert_eq!(select(2, Some([192, 0, 2, 1]), 0).unwrap(), "10.0.0.2");
        assert_eq!(select(2, None, 0).unwrap(), "10.0.0.2");
    }

    #[test]
    fn a_route_of_link_scope_may_use_a_link_local_address() {
        assert_eq!(select(2, None, SCOPE_LINK).unwrap(), "169.254.1.1");
    }

    #[test]
    fn an_interface_without_addresses_borrows_a_global_one() {
        assert_eq!(select(9, None, SCOPE_LINK).unwrap(), "10.0.0.2");
        assert_eq!(select(9, Some([10, 1, 0, 1]), 0).unwrap(), "10.0.0.2");
        let none = Snapshot::default();
        assert_eq!(Addresses::new(&none).select(9, None, 0), None);
    }

    #[test]
    fn the_first_address_of_an_interface_is_a_global_one_if_there_is_one() {
        let snapshot = snapshot();
        let addresses = Addresses::new(&snapshot);
        assert_eq!(addresses.first_of(2), Some([10, 0, 0, 2].into()));
        assert_eq!(addresses.first_of(1), Some([127, 0, 0, 1].into()));
        assert_eq!(addresses.first_of(3), None);
    }
}
