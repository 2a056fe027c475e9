//! Namespaces and what is read from them once.

use std::collections::BTreeSet;

use super::super::*;
use super::{TestNamespace, address, is_root, pair};

#[test]
fn root_a_namespace_is_entered_and_left() {
    if !is_root("root_a_namespace_is_entered_and_left") {
        return;
    }
    let test = TestNamespace::new();
    let here = NetNs::current().unwrap();
    let inside = test.netns.run_in(|| NetNs::current().unwrap()).unwrap();
    assert_eq!(inside, test.netns);
    assert_ne!(inside, here);
    assert_eq!(NetNs::current().unwrap(), here, "the caller did not move");

    let cookie = test.netns.cookie().unwrap();
    assert!(cookie.is_some(), "kernels from 5.14 have cookies");
    assert_eq!(inside.cookie().unwrap(), cookie);
    assert_ne!(here.cookie().unwrap(), cookie);

    let sent = NetNs::from_fd(test.netns.try_clone().unwrap().into()).unwrap();
    assert_eq!(sent.id(), test.netns.id());
    assert_eq!(test.netns.to_string(), test.name);

    let panic = std::panic::catch_unwind(|| test.netns.run_in(|| panic!("inside")));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"inside"));
}

#[tokio::test]
async fn root_a_snapshot_has_what_was_set_up() {
    if !is_root("root_a_snapshot_has_what_was_set_up") {
        return;
    }
    let (one, two) = pair();
    one.ip("link add br0 type bridge");
    one.ip("link add port0 type veth peer name port1");
    one.ip("link set port0 master br0");
    one.ip("link add vxlan0 type vxlan id 4097 dstport 4789 local 10.0.0.1");
    one.ip("link add mac0 link eth0 type macvlan");
    one.ip("link set br0 up");
    one.ip("addr add 10.5.0.1/24 dev br0");
    one.ip("addr add 10.5.0.3/24 dev br0");
    one.ip("route add 10.9.0.0/16 via 10.0.0.2 metric 7 mtu 1400");
    one.ip("route add blackhole 10.66.0.0/16");
    one.ip("route add default nexthop via 10.0.0.2 nexthop via 10.5.0.9");
    one.ip("neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
    one.ip("neigh add 10.0.0.78 lladdr 02:00:00:00:00:78 dev eth0 extern_learn");

    let snapshot = snapshot(&one.netns).await.unwrap();
    let kind = |name| snapshot.link_named(name).unwrap().kind.clone();
    assert_eq!(kind("lo"), LinkKind::Physical);
    assert_eq!(kind("eth0"), LinkKind::Veth);
    assert_eq!(kind("br0"), LinkKind::Bridge { filters: false });
    assert_eq!(kind("vxlan0"), LinkKind::Vxlan { vni: Some(4097) });
    assert_eq!(kind("mac0"), LinkKind::Macvlan);
    let named = |name| snapshot.link_named(name).unwrap();
    assert!(named("lo").loopback);
    assert_eq!(named("port0").master, Some(named("br0").ifindex));
    assert_eq!(named("mac0").peer, Some(named("eth0").ifindex));
    assert!(named("eth0").peer_namespace.is_some());
    assert!(named("port0").peer_namespace.is_none());
    assert!(named("eth0").up && !named("port0").up);
    let inside = super::super::snapshot(&two.netns).await.unwrap();
    assert_eq!(
        named("eth0").peer,
        Some(inside.link_named("eth0").unwrap().ifindex)
    );
    assert!(snapshot.policy.is_default(), "{:?}", snapshot.policy);
    let secondary: Vec<_> = snapshot
        .addresses
        .iter()
        .filter(|address| address.secondary)
        .map(|address| address.local)
        .collect();
    assert_eq!(secondary, [address("10.5.0.3")]);

    let network = hops::compute(
        &snapshot,
        &mut HopTable::new(),
        &AttachSettings::default(),
        std::time::Instant::now(),
    );
    let attached: Vec<_> = network
        .interfaces
        .iter()
        .filter(|interface| interface.attach)
        .map(|interface| interface.name.as_str())
        .collect();
    assert_eq!(
        BTreeSet::from_iter(attached),
        BTreeSet::from(["br0", "eth0", "mac0", "port1", "vxlan0"])
    );
    let far = network.lookup(address("10.9.1.1")).unwrap();
    assert_eq!((far.mtu, far.gateway), (1400, Some(address("10.0.0.2"))));
    assert_eq!(far.source, Some(address("10.0.0.1")));
    let multipath = network.lookup(address("192.0.2.1")).unwrap();
    assert_eq!(multipath.gateway, Some(address("10.0.0.2")));
    let kind_of = |text| network.lookup(address(text)).unwrap().kind;
    assert_eq!(kind_of("10.66.0.1"), HopKind::Blackhole);
    assert_eq!(kind_of("10.0.0.255"), HopKind::Blackhole);
    assert_eq!(kind_of("10.5.0.3"), HopKind::Local);
    assert_eq!(kind_of("127.3.2.1"), HopKind::Local);
    for (neighbour, last) in [("10.0.0.77", 0x77), ("10.0.0.78", 0x78)] {
        let hop = network.lookup(address(neighbour)).unwrap();
        assert_eq!(hop.macs.unwrap().0, [2, 0, 0, 0, 0, last]);
    }
}

/// Kinds that not every kernel has: what it has is read as what it is.
#[tokio::test]
async fn root_rarer_links_are_read_too() {
    if !is_root("root_rarer_links_are_read_too") {
        return;
    }
    let (one, _two) = pair();
    for (command, name, kind, attached) in [
        ("tuntap add tun0 mode tun", "tun0", LinkKind::Tun, false),
        ("tuntap add tap0 mode tap", "tap0", LinkKind::Tun, true),
        (
            "link add link eth0 name eth0.7 type vlan id 7",
            "eth0.7",
            LinkKind::Vlan { id: 7 },
            true,
        ),
        ("link add bond9 type bond", "bond9", LinkKind::Bond, true),
        (
            "link add vrf9 type vrf table 9",
            "vrf9",
            LinkKind::Vrf,
            false,
        ),
        ("link add dum9 type dummy", "dum9", LinkKind::Dummy, false),
        (
            "link add ipv9 link eth0 type ipvlan mode l2",
            "ipv9",
            LinkKind::Ipvlan,
            true,
        ),
        ("link add ifb9 type ifb", "ifb9", LinkKind::Ifb, false),
        (
            "link add nk9 type netkit mode l2 peer name nk8",
            "nk9",
            LinkKind::Netkit,
            true,
        ),
        (
            "link add ipip9 type ipip local 10.0.0.1 remote 10.0.0.2",
            "ipip9",
            LinkKind::Other("ipip".to_owned()),
            false,
        ),
    ] {
        if one.ip_output(command).is_none() {
            eprintln!("root_rarer_links_are_read_too: this kernel has no {name}");
            continue;
        }
        let snapshot = snapshot(&one.netns).await.unwrap();
        let link = snapshot.link_named(name).unwrap();
        assert_eq!(link.kind, kind);
        let decision = attach::decide(link, &snapshot.links, &AttachSettings::default());
        assert_eq!(decision.attach, attached, "{name}: {}", decision.reason);
    }
}

#[test]
fn root_ends_of_tunnels_are_read_with_their_hosts() {
    if !is_root("root_ends_of_tunnels_are_read_with_their_hosts") {
        return;
    }
    let (one, _two) = pair();
    for command in [
        "link add vxlan0 type vxlan id 7 dstport 4789 dev eth0",
        "link set vxlan0 up",
        "neigh replace 10.9.0.3 lladdr 02:42:0a:00:00:03 dev vxlan0 nud permanent",
        "neigh replace 10.9.0.4 lladdr 02:42:0a:00:00:04 dev vxlan0 nud permanent",
        // A neighbour without a tunnel, and one of another interface.
        "neigh replace 10.9.0.5 lladdr 02:42:0a:00:00:05 dev vxlan0 nud permanent",
        "neigh replace 10.0.0.9 lladdr 02:42:0a:00:00:03 dev eth0 nud permanent",
    ] {
        one.ip(command);
    }
    one.bridge("fdb replace 02:42:0a:00:00:03 dev vxlan0 dst 10.0.0.2 self permanent");
    one.bridge("fdb replace 02:42:0a:00:00:04 dev vxlan0 dst 10.0.0.2 self permanent");
    let ends = tunnel::far_ends(&one.netns).unwrap();
    let at = |last| std::net::Ipv4Addr::new(10, 9, 0, last);
    let host = std::net::Ipv4Addr::new(10, 0, 0, 2);
    assert_eq!(ends, [(at(3), host), (at(4), host)].into());
}

#[tokio::test]
async fn root_rules_beside_the_default_ones_are_seen() {
    if !is_root("root_rules_beside_the_default_ones_are_seen") {
        return;
    }
    let test = TestNamespace::new();
    test.ip("rule add fwmark 7 table 100");
    let policy = snapshot(&test.netns).await.unwrap().policy;
    assert_eq!((policy.others, policy.is_default()), (1, false));
    assert_eq!(policy.default_rules, [true; 3]);
}
