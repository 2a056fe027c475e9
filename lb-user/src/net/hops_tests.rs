//! Snapshots as a kernel would give them, and the network that must come of them.

use std::time::Duration;

use super::super::snapshot::{Address, Link, LinkKind, Neighbour, NeighbourState, Policy};
use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const MAC0: MacAddress = [2, 0, 0, 0, 0, 2];

/// lo, eth0 10.0.0.2/24, eth1 10.1.0.2/24, and the routes that the kernel makes of that.
fn host() -> Snapshot {
    let mut host = Snapshot {
        policy: Policy {
            default_rules: [true; 3],
            others: 0,
        },
        ..Snapshot::default()
    };
    add_link(&mut host, 1, "lo", 772);
    add_link(&mut host, ETH0, "eth0", attach::ARPHRD_ETHER);
    add_link(&mut host, ETH1, "eth1", attach::ARPHRD_ETHER);
    if let Some(lo) = host.links.get_mut(&1) {
        lo.loopback = true;
        lo.mtu = 65536;
    }
    add_address(&mut host, 1, "127.0.0.1/8", 254);
    add_address(&mut host, ETH0, "10.0.0.2/24", 0);
    add_address(&mut host, ETH1, "10.1.0.2/24", 0);
    for (prefix, kind) in [
        ("127.0.0.0/8", RouteKind::Local),
        ("127.0.0.1/32", RouteKind::Local),
        ("10.0.0.2/32", RouteKind::Local),
        ("10.1.0.2/32", RouteKind::Local),
        ("10.0.0.255/32", RouteKind::Broadcast),
    ] {
        add_route(&mut host, TABLE_LOCAL, prefix, 0, entry(kind, ETH0, None));
    }
    for (prefix, oif, source) in [
        ("10.0.0.0/24", ETH0, [10, 0, 0, 2]),
        ("10.1.0.0/24", ETH1, [10, 1, 0, 2]),
    ] {
        let mut connected = entry(RouteKind::Unicast, oif, None);
        connected.scope = 253;
        connected.source = Some(source.into());
        add_route(&mut host, TABLE_MAIN, prefix, 0, connected);
    }
    host
}

fn add_link(snapshot: &mut Snapshot, ifindex: u32, name: &str, header_type: u16) {
    let link = Link {
        ifindex,
        name: name.to_owned(),
        header_type,
        mac: Some([2, 0, 0, 0, 0, ifindex as u8]),
        mtu: 1500,
        up: true,
        loopback: false,
        master: None,
        forwards: false,
        peer: None,
        peer_namespace: None,
        kind: LinkKind::Physical,
    };
    snapshot.links.insert(ifindex, link);
}

fn add_address(snapshot: &mut Snapshot, ifindex: u32, address: &str, scope: u8) {
    let net: Ipv4Net = address.parse().unwrap();
    snapshot.addresses.push(Address {
        ifindex,
        local: net.addr().into(),
        peer: net.addr().into(),
        prefix_len: net.prefix_len(),
        scope,
        secondary: false,
    });
}

fn entry(kind: RouteKind, oif: u32, gateway: Option<&str>) -> RouteEntry {
    RouteEntry {
        kind,
        scope: 0,
        source: None,
        mtu: None,
        next_hops: vec![next_hop(oif, gateway)],
    }
}

fn next_hop(oif: u32, gateway: Option<&str>) -> NextHop {
    NextHop {
        oif,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        dead: false,
        encapsulated: false,
    }
}

fn add_route(snapshot: &mut Snapshot, table: u32, prefix: &str, metric: u32, entry: RouteEntry) {
    let key = RouteKey {
        table,
        destination: prefix.parse().unwrap(),
        tos: 0,
        metric,
    };
    snapshot.routes.entry(key).or_default().push(entry);
}

fn via(snapshot: &mut Snapshot, prefix: &str, metric: u32, oif: u32, gateway: &str) {
    let entry = entry(RouteKind::Unicast, oif, Some(gateway));
    add_route(snapshot, TABLE_MAIN, prefix, metric, entry);
}

fn add_neighbour(snapshot: &mut Snapshot, oif: u32, address: &str, state: NeighbourState) {
    let last = address.rsplit('.').next().unwrap().parse().unwrap();
    let neighbour = Neighbour {
        state,
        mac: Some([6, 0, 0, 0, 0, last]),
        managed: false,
        externally_learned: false,
        protocol: 0,
    };
    snapshot
        .neighbours
        .insert((oif, address.parse().unwrap()), neighbour);
}

fn network(snapshot: &Snapshot) -> Network {
    let network = compute(
        snapshot,
        &mut HopTable::new(),
        &AttachSettings::default(),
        Instant::now(),
    );
    // What is promised of every network.
    assert!(network.routes.is_sorted_by_key(|route| route.destination));
    assert!(network.hops.is_sorted_by_key(|hop| hop.id));
    for route in &network.routes {
        assert!(network.hop(route.hop).is_some(), "{route:?}");
    }
    for hop in &network.hops {
        assert!(
            network.routes.iter().any(|route| route.hop == hop.id),
            "{hop:?}"
        );
    }
    network
}

fn hop(network: &Network, address: &str) -> Option<Hop> {
    network.lookup(address.parse().unwrap()).copied()
}

fn source(hop: Option<Hop>) -> String {
    hop.unwrap().source.unwrap().to_string()
}

#[test]
fn a_subnet_on_the_link_has_one_hop_without_macs() {
    let network = network(&host());
    let subnet = hop(&network, "10.0.0.9").unwrap();
    assert_eq!(
        (
            subnet.kind,
            subnet.oif,
            subnet.on_link,
            subnet.macs,
            subnet.mtu
        ),
        (HopKind::Forward, ETH0, true, None, 1500)
    );
    assert_eq!(source(Some(subnet)), "10.0.0.2");
    assert_eq!(hop(&network, "10.0.0.10"), Some(subnet));
    assert_eq!(source(hop(&network, "10.1.0.9")), "10.1.0.2");
    assert_eq!(hop(&network, "192.0.2.1"), None, "not routed");
}

#[test]
fn local_addresses_and_loopback_lead_to_the_one_local_hop() {
    let network = network(&host());
    for address in ["10.0.0.2", "10.1.0.2", "127.0.0.1", "127.9.9.9"] {
        let hop = hop(&network, address).unwrap();
        assert_eq!((hop.kind, hop.oif, hop.source), (HopKind::Local, 0, None));
    }
    let locals = network.hops.iter().filter(|hop| hop.kind == HopKind::Local);
    assert_eq!(locals.count(), 1);
}

#[test]
fn a_resolved_neighbour_has_a_route_of_its_own_and_others_have_not() {
    for (state, resolved) in [
        (NeighbourState::Reachable, true),
        (NeighbourState::Stale, true),
        (NeighbourState::Delay, true),
        (NeighbourState::Probe, true),
        (NeighbourState::Permanent, true),
        (NeighbourState::NoArp, true),
        (NeighbourState::Incomplete, false),
        (NeighbourState::Failed, false),
        (NeighbourState::None, false),
    ] {
        let mut host = host();
        add_neighbour(&mut host, ETH0, "10.0.0.9", state);
        let network = network(&host);
        let hop = hop(&network, "10.0.0.9").unwrap();
        let macs = resolved.then_some(([6, 0, 0, 0, 0, 9], MAC0));
        assert_eq!((hop.macs, hop.on_link), (macs, true), "{state:?}");
        assert_eq!(source(Some(hop)), "10.0.0.2", "{state:?}");
        let own = "10.0.0.9/32".parse::<IpNet>().unwrap();
        let routed = network.routes.iter().any(|route| route.destination == own);
        assert_eq!(routed, resolved, "{state:?}");
    }
}

#[test]
fn a_neighbour_counts_only_where_its_route_leads() {
    let mut host = host();
    // Behind a gateway, behind the other interface, local, multicast, without a MAC address.
    via(&mut host, "10.9.0.0/16", 0, ETH0, "10.0.0.1");
    for (oif, address) in [
        (ETH0, "10.9.0.9"),
        (ETH1, "10.0.0.9"),
        (ETH0, "10.0.0.2"),
        (ETH0, "224.0.0.22"),
    ] {
        add_neighbour(&mut host, oif, address, NeighbourState::Permanent);
    }
    add_neighbour(&mut host, ETH0, "10.0.0.8", NeighbourState::NoArp);
    if let Some(neighbour) = host
        .neighbours
        .get_mut(&(ETH0, "10.0.0.8".parse().unwrap()))
    {
        neighbour.mac = Some([0; 6]);
    }
    let network = network(&host);
    assert!(
        network.hops.iter().all(|hop| hop.macs.is_none()),
        "{network:#?}"
    );
    assert_eq!(hop(&network, "10.0.0.2").unwrap().kind, HopKind::Local);
}

#[test]
fn a_gateway_has_macs_when_it_is_resolved_and_the_same_hop_when_not() {
    let mut host = host();
    via(&mut host, "0.0.0.0/0", 0, ETH0, "10.0.0.1");
    let mut table = HopTable::new();
    let settings = AttachSettings::default();
    let now = Instant::now();
    let before = compute(&host, &mut table, &settings, now);
    let unresolved = hop(&before, "192.0.2.1").unwrap();
    assert_eq!((unresolved.macs, unresolved.on_link), (None, false));
    assert_eq!(unresolved.gateway, Some([10, 0, 0, 1].into()));
    assert_eq!(
        before.neighbour_for([192, 0, 2, 1].into()),
        Some((ETH0, [10, 0, 0, 1].into()))
    );
    assert_eq!(
        before.neighbour_for([10, 0, 0, 9].into()),
        Some((ETH0, [10, 0, 0, 9].into()))
    );
    assert_eq!(before.neighbour_for([10, 0, 0, 2].into()), None);

    add_neighbour(&mut host, ETH0, "10.0.0.1", NeighbourState::Reachable);
    let after = compute(&host, &mut table, &settings, now + Duration::from_secs(1));
    let resolved = hop(&after, "192.0.2.1").unwrap();
    assert_eq!(resolved.macs, Some(([6, 0, 0, 0, 0, 1], MAC0)));
    assert_eq!(resolved.id, unresolved.id);
    // The gateway as a destination is a hop of its own: other routes may come to differ from it.
    assert_ne!(hop(&after, "10.0.0.1").unwrap().id, resolved.id);
}

#[test]
fn the_source_is_the_routes_else_that_of_the_gateways_subnet_else_the_first() {
    let mut host = host();
    add_address(&mut host, ETH0, "172.16.0.2/24", 0);
    via(&mut host, "198.51.100.0/24", 0, ETH0, "172.16.0.1");
    via(&mut host, "203.0.113.0/24", 0, ETH0, "10.0.0.1");
    via(&mut host, "192.0.2.0/24", 0, ETH0, "10.0.0.1");
    let named = RouteKey {
        table: TABLE_MAIN,
        destination: "192.0.2.0/24".parse().unwrap(),
        tos: 0,
        metric: 0,
    };
    if let Some(entry) = host.routes.get_mut(&named).and_then(|all| all.first_mut()) {
        entry.source = Some([10, 1, 0, 2].into());
    }
    let network = network(&host);
    assert_eq!(source(hop(&network, "198.51.100.1")), "172.16.0.2");
    assert_eq!(source(hop(&network, "203.0.113.1")), "10.0.0.2");
    assert_eq!(source(hop(&network, "192.0.2.1")), "10.1.0.2");
    assert_ne!(
        hop(&network, "192.0.2.1").unwrap().id,
        hop(&network, "203.0.113.1").unwrap().id,
        "the same gateway with another source is another hop"
    );
}

#[test]
fn the_lower_metric_wins_unless_its_interface_is_down() {
    let mut host = host();
    via(&mut host, "10.9.0.0/16", 100, ETH1, "10.1.0.1");
    via(&mut host, "10.9.0.0/16", 50, ETH0, "10.0.0.1");
    assert_eq!(hop(&network(&host), "10.9.0.1").unwrap().oif, ETH0);
    if let Some(link) = host.links.get_mut(&ETH0) {
        link.up = false;
    }
    let network = network(&host);
    assert_eq!(hop(&network, "10.9.0.1").unwrap().oif, ETH1);
    assert_eq!(hop(&network, "10.0.0.9"), None, "its subnet is gone too");
    assert_eq!(
        hop(&network, "10.0.0.2").unwrap().kind,
        HopKind::Local,
        "its address is not"
    );
}

#[test]
fn of_several_next_hops_the_first_that_lives_is_taken() {
    let mut host = host();
    let mut multipath = entry(RouteKind::Unicast, ETH0, Some("10.0.0.1"));
    multipath.next_hops.push(next_hop(ETH1, Some("10.1.0.1")));
    add_route(&mut host, TABLE_MAIN, "10.9.0.0/16", 0, multipath.clone());
    assert_eq!(hop(&network(&host), "10.9.0.1").unwrap().oif, ETH0);

    multipath.next_hops[0].dead = true;
    host.routes
        .retain(|key, _| key.destination.prefix_len() != 16);
    add_route(&mut host, TABLE_MAIN, "10.9.0.0/16", 0, multipath.clone());
    assert_eq!(hop(&network(&host), "10.9.0.1").unwrap().oif, ETH1);

    multipath.next_hops[1].dead = true;
    host.routes
        .retain(|key, _| key.destination.prefix_len() != 16);
    add_route(&mut host, TABLE_MAIN, "10.9.0.0/16", 0, multipath);
    assert_eq!(hop(&network(&host), "10.9.0.1"), None);
}

#[test]
fn routes_that_refuse_lead_nowhere_and_hide_what_is_behind_them() {
    let mut host = host();
    via(&mut host, "0.0.0.0/0", 0, ETH0, "10.0.0.1");
    for (prefix, kind) in [
        ("10.20.0.0/16", RouteKind::Blackhole),
        ("10.21.0.0/16", RouteKind::Unreachable),
        ("10.22.0.0/16", RouteKind::Prohibit),
        ("10.23.0.0/16", RouteKind::Throw),
    ] {
        add_route(&mut host, TABLE_MAIN, prefix, 0, entry(kind, 0, None));
    }
    let mut tunnel = entry(RouteKind::Unicast, ETH0, Some("10.0.0.1"));
    tunnel.next_hops[0].encapsulated = true;
    add_route(&mut host, TABLE_MAIN, "10.24.0.0/16", 0, tunnel);
    let network = network(&host);
    for address in [
        "10.20.0.1",
        "10.21.0.1",
        "10.22.0.1",
        "10.23.0.1",
        "10.24.0.1",
        "10.0.0.255",
    ] {
        let hop = hop(&network, address).unwrap();
        assert_eq!(
            (hop.kind, hop.macs),
            (HopKind::Blackhole, None),
            "{address}"
        );
    }
    assert_eq!(hop(&network, "10.25.0.1").unwrap().kind, HopKind::Forward);
}

#[test]
fn a_table_that_comes_first_ends_the_walk_for_longer_prefixes_too() {
    let mut host = host();
    // Inside 127.0.0.0/8, which the local table answers for; a default route in main hides the table default.
    via(&mut host, "127.5.0.0/16", 0, ETH0, "10.0.0.1");
    via(&mut host, "0.0.0.0/0", 0, ETH0, "10.0.0.1");
    let other = entry(RouteKind::Unicast, ETH1, Some("10.1.0.1"));
    add_route(&mut host, TABLE_DEFAULT, "10.9.0.0/16", 0, other.clone());
    // A table that no default rule names, and a route for one type of service.
    add_route(&mut host, 100, "10.8.0.0/16", 0, other.clone());
    let key = RouteKey {
        table: TABLE_MAIN,
        destination: "10.7.0.0/16".parse().unwrap(),
        tos: 0x10,
        metric: 0,
    };
    host.routes.insert(key, vec![other]);
    let network = network(&host);
    assert_eq!(hop(&network, "127.5.0.1").unwrap().kind, HopKind::Local);
    for address in ["10.9.0.1", "10.8.0.1", "10.7.0.1"] {
        assert_eq!(hop(&network, address).unwrap().oif, ETH0, "{address}");
    }
}

#[test]
fn a_route_to_one_address_on_the_link_takes_its_neighbours_macs() {
    let mut host = host();
    add_link(&mut host, 7, "veth7", attach::ARPHRD_ETHER);
    add_route(
        &mut host,
        TABLE_MAIN,
        "10.77.0.5/32",
        0,
        entry(RouteKind::Unicast, 7, None),
    );
    add_neighbour(&mut host, 7, "10.77.0.5", NeighbourState::Permanent);
    let hop = hop(&network(&host), "10.77.0.5").unwrap();
    assert_eq!(hop.macs, Some(([6, 0, 0, 0, 0, 5], [2, 0, 0, 0, 0, 7])));
    assert_eq!(hop.source, Some([10, 0, 0, 2].into()), "borrowed from eth0");
}

#[test]
fn a_link_without_ethernet_headers_has_no_macs() {
    let mut host = host();
    add_link(&mut host, 8, "tun0", 0xfffe);
    let entry = entry(RouteKind::Unicast, 8, None);
    add_route(&mut host, TABLE_MAIN, "10.88.0.0/24", 0, entry);
    add_neighbour(&mut host, 8, "10.88.0.5", NeighbourState::NoArp);
    let network = network(&host);
    let hop = hop(&network, "10.88.0.5").unwrap();
    assert_eq!((hop.oif, hop.macs), (8, None));
    assert!(!network.interface(8).unwrap().attach);
    assert!(network.interface(ETH0).unwrap().attach);
    assert_eq!(
        network.interface(ETH0).unwrap().primary,
        Some([10, 0, 0, 2].into())
    );
}

#[test]
fn a_route_may_have_an_mtu_of_its_own() {
    let mut host = host();
    let mut narrow = entry(RouteKind::Unicast, ETH0, Some("10.0.0.1"));
    narrow.mtu = Some(1400);
    add_route(&mut host, TABLE_MAIN, "10.9.0.0/16", 0, narrow);
    via(&mut host, "0.0.0.0/0", 0, ETH0, "10.0.0.1");
    let network = network(&host);
    assert_eq!(hop(&network, "10.9.0.1").unwrap().mtu, 1400);
    assert_eq!(hop(&network, "192.0.2.1").unwrap().mtu, 1500);
}

#[test]
fn ids_survive_what_does_not_concern_them() {
    let mut host = host();
    let mut table = HopTable::new();
    let settings = AttachSettings::default();
    let now = Instant::now();
    let before = compute(&host, &mut table, &settings, now);
    add_link(&mut host, 4, "eth2", attach::ARPHRD_ETHER);
    via(&mut host, "10.9.0.0/16", 0, ETH0, "10.0.0.1");
    add_neighbour(&mut host, ETH0, "10.0.0.9", NeighbourState::Reachable);
    let after = compute(&host, &mut table, &settings, now);
    for hop in &before.hops {
        assert_eq!(after.hop(hop.id), Some(hop));
    }
    assert_eq!(after.hops.len(), before.hops.len() + 2);
}

/// [`host`] with a bridge br0 10.5.0.1/24 and its port, whose other end is in another namespace; there is 10.5.0.9.
fn bridged() -> Snapshot {
    let mut host = host();
    add_link(&mut host, BR0, "br0", attach::ARPHRD_ETHER);
    add_link(&mut host, PORT, "port", attach::ARPHRD_ETHER);
    host.links.get_mut(&BR0).unwrap().kind = LinkKind::Bridge { filters: false };
    let port = host.links.get_mut(&PORT).unwrap();
    port.master = Some(BR0);
    port.forwards = true;
    port.kind = LinkKind::Veth;
    port.peer_namespace = Some(3);
    add_address(&mut host, BR0, "10.5.0.1/24", 0);
    let connected = entry(RouteKind::Unicast, BR0, None);
    add_route(&mut host, TABLE_MAIN, "10.5.0.0/24", 0, connected);
    add_neighbour(&mut host, BR0, "10.5.0.9", NeighbourState::Reachable);
    host.forwarding.insert((BR0, [6, 0, 0, 0, 0, 9]), PORT);
    host
}

const BR0: u32 = 4;
const PORT: u32 = 5;

#[test]
fn a_neighbour_behind_a_bridge_has_its_port() {
    let ways = |change: &dyn Fn(&mut Snapshot)| {
        let mut host = bridged();
        change(&mut host);
        let hop = hop(&network(&host), "10.5.0.9").unwrap();
        assert_eq!(hop.oif, BR0);
        (hop.port, hop.leads_out)
    };
    let change = |ifindex, change: fn(&mut Link)| {
        ways(&move |host| change(host.links.get_mut(&ifindex).unwrap()))
    };
    assert_eq!(ways(&|_| {}), (Some(PORT), true));
    assert_eq!(
        change(PORT, |port| port.peer_namespace = None),
        (Some(PORT), false),
        "its other end is here"
    );
    let bridge = (None, false);
    assert_eq!(ways(&|host| host.forwarding.clear()), bridge, "not learned");
    assert_eq!(change(PORT, |port| port.forwards = false), bridge);
    assert_eq!(change(PORT, |port| port.up = false), bridge);
    assert_eq!(change(PORT, |port| port.master = None), bridge);
    assert_eq!(
        change(BR0, |bridge| bridge.kind =
            LinkKind::Bridge { filters: true }),
        bridge,
        "VLANs decide"
    );
    let unknown = ways(&|host| {
        let neighbour = host.neighbours.values_mut().next().unwrap();
        neighbour.state = NeighbourState::Failed;
    });
    assert_eq!(unknown, bridge, "the kernel has to find the neighbour");
}

#[test]
fn a_veth_without_a_bridge_leads_out_too() {
    let mut host = host();
    add_neighbour(&mut host, ETH0, "10.0.0.9", NeighbourState::Reachable);
    assert!(!hop(&network(&host), "10.0.0.9").unwrap().leads_out);
    let eth0 = host.links.get_mut(&ETH0).unwrap();
    (eth0.kind, eth0.peer_namespace) = (LinkKind::Veth, Some(1));
    let neighbour = hop(&network(&host), "10.0.0.9").unwrap();
    assert_eq!((neighbour.port, neighbour.leads_out), (None, true));
    let subnet = hop(&network(&host), "10.0.0.8").unwrap();
    assert!(!subnet.leads_out, "nobody knows who is there");
}
