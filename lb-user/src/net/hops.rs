//! From what the kernel says to what the datapath needs. Pure.
//!
//! The kernel's routing is a walk: policy rules name tables, each table is searched by longest prefix, and the first
//! that has an answer ends the walk. The datapath has one longest-prefix table. The walk is laid flat here:
//!
//! - the default rules are taken for granted: local, then main, then default (a namespace with other rules is
//!   reported by [`super::watch()`]);
//! - a prefix that a table *before* contains is left out, because the walk would have ended there;
//! - of routes with one prefix, the first by metric that can be used counts. A route by an interface that is down, or
//!   with all its next hops dead, cannot;
//! - of the next hops of a multipath route, the first that can be used takes all packets;
//! - routes for one type of service only are left out;
//! - local addresses and ranges (127.0.0.0/8) lead to the one local hop; blackhole, unreachable, prohibit and throw
//!   routes, broadcast and multicast addresses, and ways through a lightweight tunnel to the one blackhole.
//!
//! A route to a subnet on the link has one hop, without MAC addresses. Each neighbour on it whose MAC address is known
//! has a /32 and a hop of its own; one that is not (yet, or any more) falls back to the subnet's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};

use super::attach::{self, AttachSettings};
use super::hop_table::{HopKey, HopTable};
use super::network::{Hop, HopId, HopKind, Interface, MacAddress, Medium, Network, Route};
use super::prefixes::Prefixes;
use super::snapshot::{
    LinkKind, NextHop, RouteEntry, RouteKey, RouteKind, Snapshot, TABLE_DEFAULT, TABLE_LOCAL,
    TABLE_MAIN,
};
use super::source::Addresses;

/// The largest packet that IPv4 has, for hops without an interface of their own.
const LARGEST_PACKET: u32 = 65535;

/// A way out, before it has an id.
#[derive(Clone, Copy)]
struct Way {
    key: HopKey,
    /// Of the route: decides which addresses may be its source.
    scope: u8,
}

impl Way {
    const LOCAL: Self = Self {
        key: HopKey::LOCAL,
        scope: 0,
    };
    const BLACKHOLE: Self = Self {
        key: HopKey::BLACKHOLE,
        scope: 0,
    };
}

/// The network of a snapshot. `table` remembers the ids from one call to the next, `now` is for its quarantine.
#[must_use]
pub fn compute(
    snapshot: &Snapshot,
    table: &mut HopTable,
    settings: &AttachSettings,
    now: Instant,
) -> Network {
    let addresses = Addresses::new(snapshot);
    let flat = flatten(snapshot);

    let mut ways: BTreeMap<Ipv4Net, Way> = BTreeMap::new();
    for (ifindex, address) in resolved(snapshot) {
        let Some((_, way)) = flat.lookup(address) else {
            continue;
        };
        if way.key.kind == HopKind::Forward && way.key.oif == ifindex && way.key.gateway.is_none() {
            let key = HopKey {
                neighbour: Some(address.into()),
                ..way.key
            };
            ways.insert(Ipv4Net::from(address), Way { key, ..*way });
        }
    }
    for (prefix, way) in flat.into_iter() {
        ways.entry(prefix).or_insert(way);
    }

    table.begin();
    let mut hops = BTreeMap::new();
    let routes = ways
        .iter()
        .map(|(prefix, way)| {
            let id = table.id(way.key);
            hops.entry(id).or_insert(way);
            Route {
                destination: IpNet::V4(*prefix),
                hop: id,
            }
        })
        .collect();
    table.finish(now);

    Network {
        routes,
        hops: hops
            .into_iter()
            .map(|(id, way)| Hop {
                id,
                ..describe(snapshot, &addresses, way)
            })
            .collect(),
        interfaces: interfaces(snapshot, &addresses, settings),
        local_ports: snapshot.local_ports,
    }
}

/// Every prefix that the walk through the default rules' tables can end at, with where it leads.
fn flatten(snapshot: &Snapshot) -> Prefixes<Way> {
    let mut flat: Prefixes<Way> = Prefixes::new();
    for number in [TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT] {
        // Sorted by prefix, then by metric: the first that is usable is the preferred one.
        let mut usable: Vec<(Ipv4Net, Way)> = Vec::new();
        for (key, entries) in table_of(snapshot, number) {
            if key.tos != 0
                || usable
                    .last()
                    .is_some_and(|(last, _)| *last == key.destination)
            {
                continue;
            }
            let way = entries.iter().find_map(|entry| way(snapshot, entry));
            if let Some(way) = way
                && !flat.covers(key.destination)
            {
                usable.push((key.destination, way));
            }
        }
        for (prefix, way) in usable {
            flat.insert_if_absent(prefix, way);
        }
    }
    flat
}

fn table_of(
    snapshot: &Snapshot,
    table: u32,
) -> impl Iterator<Item = (&RouteKey, &Vec<RouteEntry>)> {
    let first = RouteKey {
        table,
        destination: Ipv4Net::default(),
        tos: 0,
        metric: 0,
    };
    snapshot
        .routes
        .range(first..)
        .take_while(move |(key, _)| key.table == table)
}

/// Where a route leads; None if it cannot be used as things are.
fn way(snapshot: &Snapshot, entry: &RouteEntry) -> Option<Way> {
    match entry.kind {
        RouteKind::Local => Some(Way::LOCAL),
        RouteKind::Unicast => {
            let usable = |hop: &&NextHop| !hop.dead && snapshot.is_up(hop.oif);
            let hop = entry.next_hops.iter().find(usable)?;
            if hop.encapsulated {
                return Some(Way::BLACKHOLE);
            }
            let key = HopKey {
                kind: HopKind::Forward,
                oif: hop.oif,
                gateway: hop.gateway,
                neighbour: None,
                source: entry.source,
                mtu: entry.mtu,
            };
            Some(Way {
                key,
                scope: entry.scope,
            })
        }
        RouteKind::Broadcast
        | RouteKind::Multicast
        | RouteKind::Blackhole
        | RouteKind::Unreachable
        | RouteKind::Prohibit
        | RouteKind::Throw
        | RouteKind::Other(_) => Some(Way::BLACKHOLE),
    }
}

/// The neighbours that can be sent to by MAC address.
fn resolved(snapshot: &Snapshot) -> impl Iterator<Item = (u32, Ipv4Addr)> {
    snapshot
        .neighbours
        .iter()
        .filter_map(|((ifindex, address), neighbour)| {
            let IpAddr::V4(address) = *address else {
                return None;
            };
            let odd = address.is_multicast() || address.is_broadcast() || address.is_unspecified();
            if odd || !snapshot.is_up(*ifindex) || own_mac(snapshot, *ifindex).is_none() {
                return None;
            }
            neighbour.usable_mac()?;
            Some((*ifindex, address))
        })
}

/// The MAC address that frames leave with, for a link with Ethernet headers.
fn own_mac(snapshot: &Snapshot, ifindex: u32) -> Option<MacAddress> {
    snapshot
        .links
        .get(&ifindex)
        .filter(|link| link.header_type == attach::ARPHRD_ETHER)
        .and_then(|link| link.mac)
}

/// All of a hop but its id.
fn describe(snapshot: &Snapshot, addresses: &Addresses<'_>, way: &Way) -> Hop {
    let key = way.key;
    let source = match (key.kind, key.source) {
        (HopKind::Local | HopKind::Blackhole, _) => None,
        (HopKind::Forward, Some(source)) => Some(source),
        (HopKind::Forward, None) => {
            let gateway = match key.gateway {
                Some(IpAddr::V4(gateway)) => Some(gateway),
                Some(IpAddr::V6(_)) | None => None,
            };
            addresses.select(key.oif, gateway, way.scope)
        }
    };
    let macs = key.neighbour.or(key.gateway).and_then(|next| {
        let neighbour = snapshot.neighbours.get(&(key.oif, next))?;
        Some((neighbour.usable_mac()?, own_mac(snapshot, key.oif)?))
    });
    let port = macs.and_then(|(destination, _)| snapshot.port_towards(key.oif, destination));
    let last = port.or_else(|| snapshot.links.get(&key.oif));
    let mtu = key
        .mtu
        .or_else(|| snapshot.links.get(&key.oif).map(|link| link.mtu))
        .unwrap_or(LARGEST_PACKET);
    Hop {
        id: HopId::NONE,
        kind: key.kind,
        oif: key.oif,
        gateway: key.gateway,
        source: source.map(IpAddr::V4),
        macs,
        port: port.map(|port| port.ifindex),
        leads_out: macs.is_some()
            && last
                .is_some_and(|link| link.kind == LinkKind::Veth && link.peer_namespace.is_some()),
        on_link: key.kind == HopKind::Forward && key.gateway.is_none(),
        mtu,
        vlan: snapshot.vlan(key.oif),
    }
}

fn interfaces(
    snapshot: &Snapshot,
    addresses: &Addresses<'_>,
    settings: &AttachSettings,
) -> Vec<Interface> {
    snapshot
        .links
        .values()
        .map(|link| {
            let decision = attach::decide(link, &snapshot.links, settings);
            Interface {
                ifindex: link.ifindex,
                name: link.name.clone(),
                mac: link.mac.unwrap_or_default(),
                attach: decision.attach,
                attach_reason: decision.reason,
                up: link.up,
                mtu: link.mtu,
                primary: addresses.first_of(link.ifindex),
                vlan: snapshot.vlan(link.ifindex),
                medium: match link.kind {
                    LinkKind::Physical if !link.loopback => Medium::Wire,
                    LinkKind::Veth => Medium::Veth,
                    _ => Medium::Other,
                },
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "hops_tests.rs"]
mod tests;
