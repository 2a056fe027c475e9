//! A copy of the kernel's tables that events keep up to date. Pure: messages in, a [`Snapshot`] out.
//!
//! Events alone are not enough. What the kernel changes without saying so:
//!
//! - when an interface goes down or away, or (before Linux 6.7) an address that routes name as their source is deleted,
//!   the routes that need it vanish without a message each;
//! - when a next hop object is deleted, the routes that refer to it vanish likewise, or lose one of their ways;
//! - when an interface comes up, dead next hops of multipath routes live again without one;
//! - when a primary address is deleted, a secondary one may take its place, and with it another place in the order.
//!
//! So some events ask for a dump of a table ([`Mirror::apply`] says which). Neighbours and routes, of which there may be
//! many and which change all the time, never do by themselves.
//!
//! A dump goes into a table of its own, together with the events that come in between, and then takes the old one's
//! place. As answers and events are read from one queue, each event finds the table as it was at its time: one that a
//! later part of the dump repeats changes nothing, and a deletion is not undone by a later part, which does not have the
//! entry any more.

use std::collections::BTreeSet;

use super::message::{Message, Placing, Rule};
use super::snapshot::{Address, RouteEntry, RouteKey, Snapshot};

/// A table of the kernel's that is dumped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Links,
    Addresses,
    Routes,
    Rules,
    Neighbours,
    Forwarding,
}

impl Table {
    /// All of them, in the order in which to dump them.
    pub(super) const ALL: [Self; 6] = [
        Self::Links,
        Self::Addresses,
        Self::Routes,
        Self::Rules,
        Self::Neighbours,
        Self::Forwarding,
    ];
}

/// What an event was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The copy is another one than before.
    pub(super) changed: bool,
    /// Tables whose copy cannot be trusted any more.
    pub(super) stale: BTreeSet<Table>,
}

/// The copy, and a dump in progress.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    current: Snapshot,
    dump: Option<(Table, Snapshot)>,
}

impl Mirror {
    /// The tables as they stand.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.current
    }

    /// What is told outside netlink.
    pub(super) fn set_local_ports(&mut self, ports: Option<(u16, u16)>) {
        self.current.local_ports = ports;
    }

    /// The tables themselves.
    pub(super) fn into_snapshot(self) -> Snapshot {
        self.current
    }

    /// From now on messages about `table` go into a new copy of it.
    pub(super) fn begin(&mut self, table: Table) {
        self.dump = Some((table, Snapshot::default()));
    }

    /// The dump is complete: the new copy takes the old one's place.
    pub(super) fn finish(&mut self) {
        let Some((table, fresh)) = self.dump.take() else {
            return;
        };
        match table {
            Table::Links => self.current.links = fresh.links,
            Table::Addresses => self.current.addresses = fresh.addresses,
            Table::Routes => self.current.routes = fresh.routes,
            Table::Rules => self.current.policy = fresh.policy,
            Table::Neighbours => self.current.neighbours = fresh.neighbours,
            Table::Forwarding => self.current.forwarding = fresh.forwarding,
        }
    }

    /// Takes in a message: part of a dump, or an event.
    pub(super) fn apply(&mut self, message: Message, dumped: bool) -> Applied {
        let table = match &message {
            Message::NewLink(_) | Message::DelLink(_) | Message::Port { .. } => Table::Links,
            Message::NewAddress(_) | Message::DelAddress(_) => Table::Addresses,
            Message::NewRoute { .. } | Message::DelRoute { .. } | Message::NextHopObject => {
                Table::Routes
            }
            Message::NewRule(_) | Message::DelRule => Table::Rules,
            Message::NewNeighbour(..) | Message::DelNeighbour(_) => Table::Neighbours,
            Message::NewForwarding(..) | Message::DelForwarding(..) => Table::Forwarding,
        };
        let mut applied = Applied::default();
        // What a link's event means for the routes is judged by how the link was before.
        let was_up = match &message {
            Message::NewLink(link) => Some(self.current.is_up(link.ifindex)),
            _ => None,
        };
        let target = match &mut self.dump {
            Some((dumping, fresh)) if *dumping == table => fresh,
            _ => &mut self.current,
        };
        match message {
            Message::NewLink(link) => {
                if !dumped && was_up != Some(link.up) {
                    applied.stale.insert(Table::Routes);
                }
                applied.changed = target.links.get(&link.ifindex) != Some(&link);
                target.links.insert(link.ifindex, link);
            }
            Message::DelLink(ifindex) => {
                applied.changed = target.links.remove(&ifindex).is_some();
                self.current
                    .addresses
                    .retain(|address| address.ifindex != ifindex);
                applied.stale.insert(Table::Routes);
            }
            Message::NewAddress(address) => {
                applied.changed = insert_address(&mut target.addresses, address, dumped);
            }
            Message::DelAddress(address) => {
                let before = target.addresses.len();
                target.addresses.retain(|known| !same(known, &address));
                applied.changed = target.addresses.len() != before;
                applied.stale.extend([Table::Addresses, Table::Routes]);
            }
            Message::NewRoute {
                key,
                entry,
                placing,
            } => {
                let placing = if dumped { Placing::Last } else { placing };
                applied.changed = insert_route(target, key, entry, placing);
            }
            Message::DelRoute { key, entry } => {
                applied.changed = true;
                if !remove_route(target, key, &entry) {
                    applied.stale.insert(Table::Routes);
                }
            }
            Message::NextHopObject => {
                applied.stale.insert(Table::Routes);
            }
            Message::NewNeighbour(key, neighbour) => {
                applied.changed = target.neighbours.insert(key, neighbour) != Some(neighbour);
            }
            Message::DelNeighbour(key) => {
                applied.changed = target.neighbours.remove(&key).is_some();
            }
            Message::Port { ifindex, forwards } => {
                if let Some(link) = target.links.get_mut(&ifindex) {
                    applied.changed = link.forwards != forwards;
                    link.forwards = forwards;
                }
            }
            Message::NewForwarding(key, port) => {
                applied.changed = target.forwarding.insert(key, port) != Some(port);
            }
            Message::DelForwarding(key, port) => {
                // It may have moved to another port meanwhile.
                if target.forwarding.get(&key) == Some(&port) {
                    target.forwarding.remove(&key);
                    applied.changed = true;
                }
            }
            Message::NewRule(rule) if dumped => {
                match rule {
                    Rule::Default(place) => {
                        if let Some(present) = target.policy.default_rules.get_mut(place) {
                            *present = true;
                        }
                    }
                    Rule::Other => target.policy.others += 1,
                }
                applied.changed = true;
            }
            Message::NewRule(_) | Message::DelRule => {
                applied.changed = true;
                applied.stale.insert(Table::Rules);
            }
        }
        applied
    }
}

fn same(one: &Address, other: &Address) -> bool {
    one.ifindex == other.ifindex && one.local == other.local && one.prefix_len == other.prefix_len
}

/// Puts an address where the kernel puts it: a new primary one behind the last primary one of the interface whose scope
/// is as near or nearer, a secondary one at the end. Dumps have the right order already.
fn insert_address(addresses: &mut Vec<Address>, address: Address, dumped: bool) -> bool {
    if let Some(known) = addresses.iter_mut().find(|known| same(known, &address)) {
        let changed = *known != address;
        *known = address;
        return changed;
    }
    let place = if dumped || address.secondary || address.local.is_ipv6() {
        None
    } else {
        // In front of the first one of this interface that must come later, if there is one.
        addresses.iter().position(|known| {
            known.ifindex == address.ifindex
                && known.local.is_ipv4()
                && (known.secondary || known.scope < address.scope)
        })
    };
    addresses.insert(place.unwrap_or(addresses.len()), address);
    true
}

fn insert_route(target: &mut Snapshot, key: RouteKey, entry: RouteEntry, placing: Placing) -> bool {
    let entries = target.routes.entry(key).or_default();
    match placing {
        Placing::InPlaceOfFirst => {
            if let Some(first) = entries.first_mut() {
                let changed = *first != entry;
                *first = entry;
                return changed;
            }
            entries.push(entry);
            true
        }
        Placing::First | Placing::Last => {
            if let Some(known) = entries.iter_mut().find(|known| alike(known, &entry)) {
                let changed = *known != entry;
                *known = entry;
                return changed;
            }
            if placing == Placing::First {
                entries.insert(0, entry);
            } else {
                entries.push(entry);
            }
            true
        }
    }
}

/// Whether it was there.
fn remove_route(target: &mut Snapshot, key: RouteKey, entry: &RouteEntry) -> bool {
    let Some(entries) = target.routes.get_mut(&key) else {
        // Deleted with its interface or address, and read already without it.
        return true;
    };
    let Some(place) = entries.iter().position(|known| alike(known, entry)) else {
        return false;
    };
    entries.remove(place);
    if entries.is_empty() {
        target.routes.remove(&key);
    }
    true
}

/// Whether two entries are one route, in whatever state its next hops are.
fn alike(one: &RouteEntry, other: &RouteEntry) -> bool {
    one.kind == other.kind
        && one.scope == other.scope
        && one.source == other.source
        && one.next_hops.len() == other.next_hops.len()
        && one
            .next_hops
            .iter()
            .zip(&other.next_hops)
            .all(|(one, other)| one.oif == other.oif && one.gateway == other.gateway)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::snapshot::{
        Link, LinkKind, Neighbour, NeighbourState, NextHop, RouteKind, TABLE_MAIN,
    };
    use super::*;

    fn link(ifindex: u32, up: bool) -> Message {
        Message::NewLink(Link {
            ifindex,
            name: format!("eth{ifindex}"),
            header_type: 1,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up,
            loopback: false,
            master: None,
            forwards: false,
            peer: None,
            peer_namespace: None,
            kind: LinkKind::Veth,
        })
    }

    fn address(last: u8, scope: u8, secondary: bool) -> Address {
        let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        Address {
            ifindex: 2,
            local,
            peer: local,
            prefix_len: 24,
            scope,
            secondary,
        }
    }

    fn key(metric: u32) -> RouteKey {
        RouteKey {
            table: TABLE_MAIN,
            destination: "10.9.0.0/16".parse().unwrap(),
            tos: 0,
            metric,
        }
    }

    fn entry(gateway: [u8; 4]) -> RouteEntry {
        RouteEntry {
            kind: RouteKind::Unicast,
            scope: 0,
            source: None,
            mtu: None,
            next_hops: vec![NextHop {
                oif: 2,
                gateway: Some(IpAddr::from(gateway)),
                dead: false,
                encapsulated: false,
            }],
        }
    }

    fn new_route(gateway: [u8; 4], placing: Placing) -> Message {
        Message::NewRoute {
            key: key(0),
            entry: entry(gateway),
            placing,
        }
    }

    fn gateways(mirror: &Mirror) -> Vec<String> {
        mirror
            .snapshot()
            .routes
            .values()
            .flatten()
            .map(|entry| entry.next_hops[0].gateway.unwrap().to_string())
            .collect()
    }

    fn neighbour(state: NeighbourState) -> Message {
        Message::NewNeighbour(
            (2, IpAddr::from([10, 0, 0, 9])),
            Neighbour {
                state,
                mac: Some([2, 0, 0, 0, 0, 9]),
                managed: false,
                externally_learned: false,
                protocol: 0,
            },
        )
    }

    #[test]
    fn neighbours_and_routes_are_taken_in_without_a_dump() {
        let mut mirror = Mirror::default();
        let applied = mirror.apply(neighbour(NeighbourState::Reachable), false);
        assert_eq!((applied.changed, applied.stale.len()), (true, 0));
        let applied = mirror.apply(neighbour(NeighbourState::Reachable), false);
        assert_eq!((applied.changed, applied.stale.len()), (false, 0));
        let applied = mirror.apply(new_route([10, 0, 0, 1], Placing::First), false);
        assert_eq!((applied.changed, applied.stale.len()), (true, 0));
        let applied = mirror.apply(
            Message::DelNeighbour((2, IpAddr::from([10, 0, 0, 9]))),
            false,
        );
        assert_eq!((applied.changed, applied.stale.len()), (true, 0));
    }

    #[test]
    fn a_mac_address_that_has_moved_stays_when_its_old_entry_goes() {
        let key = (4, [2, 0, 0, 0, 0, 9]);
        let mut mirror = Mirror::default();
        assert!(mirror.apply(Message::NewForwarding(key, 5), false).changed);
        assert!(!mirror.apply(Message::NewForwarding(key, 5), false).changed);
        assert!(mirror.apply(Message::NewForwarding(key, 6), false).changed);
        assert!(!mirror.apply(Message::DelForwarding(key, 5), false).changed);
        assert_eq!(mirror.snapshot().forwarding.get(&key), Some(&6));
        assert!(mirror.apply(Message::DelForwarding(key, 6), false).changed);
        assert!(mirror.snapshot().forwarding.is_empty());
    }

    #[test]
    fn a_bridge_says_of_its_ports_whether_they_forward() {
        let mut mirror = Mirror::default();
        let port = |ifindex, forwards| Message::Port { ifindex, forwards };
        assert!(!mirror.apply(port(2, true), false).changed, "no such link");
        mirror.apply(link(2, true), false);
        assert!(mirror.apply(port(2, true), false).changed);
        assert!(mirror.snapshot().links[&2].forwards);
        assert!(!mirror.apply(port(2, true), false).changed);
        assert!(mirror.apply(port(2, false), false).changed);
    }

    #[test]
    fn routes_of_one_key_stand_as_the_kernel_places_them() {
        let mut mirror = Mirror::default();
        mirror.apply(new_route([10, 0, 0, 1], Placing::First), false);
        mirror.apply(new_route([10, 0, 0, 2], Placing::First), false);
        mirror.apply(new_route([10, 0, 0, 3], Placing::Last), false);
        assert_eq!(gateways(&mirror), ["10.0.0.2", "10.0.0.1", "10.0.0.3"]);
        mirror.apply(new_route([10, 0, 0, 4], Placing::InPlaceOfFirst), false);
        assert_eq!(gateways(&mirror), ["10.0.0.4", "10.0.0.1", "10.0.0.3"]);

        let gone = Message::DelRoute {
            key: key(0),
            entry: entry([10, 0, 0, 1]),
        };
        assert!(mirror.apply(gone, false).stale.is_empty());
        assert_eq!(gateways(&mirror), ["10.0.0.4", "10.0.0.3"]);
    }

    #[test]
    fn a_deletion_that_does_not_fit_asks_for_a_dump() {
        let mut mirror = Mirror::default();
        mirror.apply(new_route([10, 0, 0, 1], Placing::First), false);
        let odd = Message::DelRoute {
            key: key(0),
            entry: entry([10, 0, 0, 7]),
        };
        assert!(mirror.apply(odd, false).stale.contains(&Table::Routes));
    }

    #[test]
    fn a_link_that_goes_up_down_or_away_makes_the_routes_stale_and_no_other_change_does() {
        let mut mirror = Mirror::default();
        assert!(mirror.apply(link(2, false), false).stale.is_empty());
        assert!(
            mirror
                .apply(link(2, true), false)
                .stale
                .contains(&Table::Routes)
        );
        assert!(mirror.apply(link(2, true), false).stale.is_empty());
        assert!(
            mirror
                .apply(link(2, false), false)
                .stale
                .contains(&Table::Routes)
        );
        let applied = mirror.apply(Message::NextHopObject, false);
        assert!(applied.stale.contains(&Table::Routes) && !applied.changed);
        mirror.apply(Message::NewAddress(address(1, 0, false)), false);
        assert!(
            mirror
                .apply(Message::DelLink(2), false)
                .stale
                .contains(&Table::Routes)
        );
        assert!(mirror.snapshot().addresses.is_empty());
    }

    #[test]
    fn a_new_primary_address_stands_behind_those_of_nearer_scope_and_before_secondary_ones() {
        let mut mirror = Mirror::default();
        for new in [
            address(1, 0, false),
            address(2, 0, true),
            address(3, 253, false),
            address(4, 0, false),
        ] {
            mirror.apply(Message::NewAddress(new), false);
        }
        let order: Vec<_> = mirror
            .snapshot()
            .addresses
            .iter()
            .map(|address| address.local.to_string())
            .collect();
        assert_eq!(order, ["10.0.0.3", "10.0.0.1", "10.0.0.4", "10.0.0.2"]);
        let applied = mirror.apply(Message::DelAddress(address(1, 0, false)), false);
        assert_eq!(
            applied.stale.into_iter().collect::<Vec<_>>(),
            [Table::Addresses, Table::Routes]
        );
    }

    #[test]
    fn a_dump_replaces_the_table_and_keeps_what_happened_meanwhile() {
        let mut mirror = Mirror::default();
        mirror.apply(new_route([10, 0, 0, 1], Placing::First), false);
        mirror.begin(Table::Routes);
        mirror.apply(new_route([10, 0, 0, 2], Placing::Last), true);
        // Events in between: one more, which the dump repeats, and a deletion of what was dumped.
        mirror.apply(new_route([10, 0, 0, 3], Placing::First), false);
        mirror.apply(new_route([10, 0, 0, 3], Placing::Last), true);
        let gone = Message::DelRoute {
            key: key(0),
            entry: entry([10, 0, 0, 2]),
        };
        mirror.apply(gone, false);
        // Another table is not concerned.
        mirror.apply(neighbour(NeighbourState::Stale), false);
        assert_eq!(gateways(&mirror), ["10.0.0.1"], "the old one until the end");
        mirror.finish();
        assert_eq!(gateways(&mirror), ["10.0.0.3"]);
        assert_eq!(mirror.snapshot().neighbours.len(), 1);
    }

    #[test]
    fn policy_rules_are_counted_by_a_dump_alone() {
        let mut mirror = Mirror::default();
        let applied = mirror.apply(Message::NewRule(Rule::Other), false);
        assert!(applied.stale.contains(&Table::Rules));
        mirror.begin(Table::Rules);
        for rule in [Rule::Default(0), Rule::Default(1), Rule::Default(2)] {
            mirror.apply(Message::NewRule(rule), true);
        }
        mirror.finish();
        assert!(mirror.snapshot().policy.is_default());
        mirror.begin(Table::Rules);
        mirror.apply(Message::NewRule(Rule::Other), true);
        mirror.finish();
        assert_eq!(mirror.snapshot().policy.others, 1);
        assert!(!mirror.snapshot().policy.is_default());
    }
}
