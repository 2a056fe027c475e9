//! Against a real kernel, in namespaces of the tests' own.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::test_namespace::{TestNamespace, is_root};
use super::*;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pair of namespaces joined by a veth: "eth0" 10.0.0.1/24 in the first, "eth0" 10.0.0.2/24 in the second.
fn pair() -> (TestNamespace, TestNamespace) {
    let (one, two) = (TestNamespace::new(), TestNamespace::new());
    one.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        two.name
    ));
    for (netns, last) in [(&one, 1), (&two, 2)] {
        netns.ip("link set lo up");
        netns.ip(&format!("addr add 10.0.0.{last}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    (one, two)
}

async fn wait_for(
    watch: &mut Watch,
    what: &str,
    wanted: impl Fn(&Network) -> bool,
) -> Arc<Network> {
    let wait = async {
        loop {
            let network = watch.changed().await.unwrap();
            if wanted(&network) {
                return network;
            }
        }
    };
    match timeout(PATIENCE, wait).await {
        Ok(network) => network,
        Err(_) => panic!("{what} did not come; there is {:#?}", watch.current()),
    }
}

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
    assert_eq!(kind("br0"), LinkKind::Bridge);
    assert_eq!(kind("vxlan0"), LinkKind::Vxlan { vni: Some(4097) });
    assert_eq!(kind("mac0"), LinkKind::Macvlan);
    let named = |name| snapshot.link_named(name).unwrap();
    assert!(named("lo").loopback);
    assert_eq!(named("port0").master, Some(named("br0").ifindex));
    assert_eq!(named("mac0").peer, Some(named("eth0").ifindex));
    assert!(named("eth0").peer_namespace.is_some());
    assert!(named("port0").peer_namespace.is_none());
    assert!(named("eth0").up && !named("port0").up);
    let inside = super::snapshot(&two.netns).await.unwrap();
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

/// The kernel is asked for its way to each address, and ours must be the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_the_flat_table_agrees_with_the_kernel() {
    if !is_root("root_the_flat_table_agrees_with_the_kernel") {
        return;
    }
    let (one, _two) = pair();
    for command in [
        "link add eth1 type veth peer name far1",
        "link add eth2 type veth peer name far2",
        "addr add 172.16.0.2/24 dev eth0",
        "addr add 10.0.0.7/25 dev eth0",
        "addr add 169.254.3.3/16 dev eth1 scope link",
        "addr add 10.1.0.2/24 dev eth1",
        "addr add 10.2.0.2/24 dev eth1 noprefixroute",
        "addr add 192.168.9.1 peer 192.168.9.2 dev eth1",
        "link set far1 up",
        "link set far2 up",
        "link set eth1 up",
        "link set eth2 up",
        "route add 10.2.0.0/24 dev eth1",
        "route add 10.3.0.0/24 dev eth2",
        "route add 10.4.0.0/16 via 172.16.0.1",
        "route add 10.5.0.0/16 via 10.0.0.2 src 10.0.0.7",
        "route add 10.6.0.0/16 via 10.1.0.1 metric 20",
        "route add 10.6.0.0/16 via 10.0.0.2 metric 30",
        "route add 10.7.0.0/16 via 192.168.9.2",
        "route add 10.9.0.0/16 via inet6 fe80::9 dev eth1",
        "route add 10.10.0.0/16 via 10.66.66.66 dev eth0 onlink",
        "route add local 10.11.0.0/16 dev lo",
        "route add blackhole 10.12.0.0/16",
        "route add unreachable 10.13.0.0/16",
        "route add prohibit 10.14.0.0/16",
        "route add 10.12.5.0/24 via 10.0.0.2",
        "route add 10.15.0.0/16 via 10.0.0.2 table 100",
        "route add 10.16.0.0/16 via 10.0.0.2 table default",
        "route append 10.17.0.0/16 via 10.0.0.2",
        "route append 10.17.0.0/16 via 10.0.0.3",
        "route prepend 10.17.0.0/16 via 10.0.0.4",
        "route add 10.18.0.0/16 via 10.0.0.5 tos 0x20",
        "route add 10.18.0.0/16 via 10.0.0.6",
        "nexthop add id 1 via 10.0.0.2 dev eth0",
        "nexthop add id 2 via 10.1.0.1 dev eth1",
        "route add 10.19.0.0/16 nhid 1",
        "route add 10.20.0.0/16 nhid 2",
        "nexthop replace id 1 via 10.0.0.3 dev eth0",
        "addr del 172.16.0.2/24 dev eth0",
        "addr del 10.0.0.1/24 dev eth0",
    ] {
        one.ip(command);
    }
    let mut asked: Vec<IpAddr> = (0..=21)
        .flat_map(|second| [5, 66].map(|third| IpAddr::from([10, second, third, 9])))
        .collect();
    for more in [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.7",
        "10.0.0.255",
        "10.1.0.2",
        "10.1.0.255",
        "10.1.0.77",
        "10.2.0.2",
        "10.2.0.77",
        "10.3.0.77",
        "127.0.0.1",
        "127.1.2.3",
        "169.254.3.3",
        "169.254.9.9",
        "172.16.0.2",
        "172.16.0.9",
        "192.168.9.1",
        "192.168.9.2",
        "192.0.2.1",
    ] {
        asked.push(address(more));
    }
    // First as read, then as events make it: each has to agree.
    let mut watch = watch(&one.netns, WatchOptions::default()).await.unwrap();
    let network = wait_for(&mut watch, "the first value", |_| true).await;
    let differing = differences(&one, &network, &asked);
    assert!(differing.is_empty(), "as read: {differing:#?}");

    // Changes of routes alone, which events must tell in full, and then what is only found by reading again.
    let dumps = watch.counters().dumps;
    for (commands, may_read) in [
        (
            &[
                "route add default via 10.0.0.2",
                "route replace 10.17.0.0/16 via 10.0.0.8",
                "route append 10.17.0.0/16 via 10.0.0.9",
                "route del 10.17.0.0/16 via 10.0.0.2",
                "route del 10.17.0.0/16 via 10.0.0.8",
                "route change 10.4.0.0/16 via 10.1.0.3",
                "addr add 10.22.0.1/24 dev eth1",
            ][..],
            false,
        ),
        (
            &[
                "addr del 10.1.0.2/24 dev eth1",
                "addr add 10.1.0.3/24 dev eth1",
                "link set eth2 down",
                "addr add 10.23.0.1/24 dev eth2",
                "link set eth2 up",
            ][..],
            true,
        ),
        (&["nexthop replace id 2 via 10.1.0.8 dev eth1"][..], true),
        (&["nexthop del id 1"][..], true),
    ] {
        for command in commands {
            one.ip(command);
        }
        // By rounds and not by the clock: one round takes seconds in an emulated guest.
        let mut rounds = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let differing = differences(&one, &watch.current(), &asked);
            if differing.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 20, "after events: {differing:#?}");
        }
        assert!(may_read || watch.counters().dumps == dumps);
    }
}

/// Where [`Network::lookup`] and `ip route get` differ, in words.
fn differences(test: &TestNamespace, network: &Network, asked: &[IpAddr]) -> Vec<String> {
    let name = |oif| network.interface(oif).unwrap().name.clone();
    asked
        .iter()
        .filter_map(|asked| {
            let kernel = match test.ip_output(&format!("route get {asked}")) {
                None => "nowhere".to_owned(),
                Some(text) if text.starts_with("local ") => "here".to_owned(),
                Some(text) if text.starts_with("broadcast ") => "nowhere".to_owned(),
                Some(text) => {
                    let words: Vec<_> = text.split_whitespace().collect();
                    let after = |word| {
                        let place = words.iter().position(|known| *known == word)?;
                        match words[place + 1] {
                            "inet6" => words.get(place + 2).copied(),
                            value => Some(value),
                        }
                    };
                    format!(
                        "{} via {:?} from {:?}",
                        after("dev").unwrap(),
                        after("via"),
                        after("src")
                    )
                }
            };
            let ours = match network.lookup(*asked) {
                None => "nowhere".to_owned(),
                Some(hop) => match hop.kind {
                    HopKind::Blackhole => "nowhere".to_owned(),
                    HopKind::Local => "here".to_owned(),
                    HopKind::Forward => {
                        let text = |address: Option<IpAddr>| address.map(|a| a.to_string());
                        format!(
                            "{} via {:?} from {:?}",
                            name(hop.oif),
                            text(hop.gateway).as_deref(),
                            text(hop.source).as_deref()
                        )
                    }
                },
            };
            (kernel != ours).then(|| format!("{asked}: the kernel goes {kernel}, we go {ours}"))
        })
        .collect()
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

#[tokio::test]
async fn root_changes_come_through() {
    if !is_root("root_changes_come_through") {
        return;
    }
    let (one, _two) = pair();
    let mut watch = watch(&one.netns, WatchOptions::default()).await.unwrap();
    let first = wait_for(&mut watch, "the first value", |_| true).await;
    let subnet = *first.lookup(address("10.0.0.2")).unwrap();
    assert!(subnet.macs.is_none() && subnet.on_link);

    one.ip("link add late type veth peer name late1");
    wait_for(&mut watch, "a new interface", |network| {
        network
            .interfaces
            .iter()
            .any(|interface| interface.name == "late" && interface.attach)
    })
    .await;

    one.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud reachable");
    let resolved = wait_for(&mut watch, "the neighbour", |network| {
        network.lookup(address("10.0.0.2")).unwrap().macs.is_some()
    })
    .await;
    assert_ne!(resolved.lookup(address("10.0.0.2")).unwrap().id, subnet.id);
    assert!(
        resolved.hop(subnet.id).is_some(),
        "the subnet's keeps its id"
    );

    one.ip("neigh change 10.0.0.2 dev eth0 nud failed");
    wait_for(&mut watch, "the neighbour's failure", |network| {
        network.lookup(address("10.0.0.2")).unwrap().id == subnet.id
    })
    .await;

    let dumps = watch.counters().dumps;
    one.ip("route add 10.9.0.0/16 via 10.0.0.2");
    wait_for(&mut watch, "a route", |network| {
        network.lookup(address("10.9.0.1")).is_some()
    })
    .await;
    one.ip("route replace 10.9.0.0/16 via 10.0.0.3");
    wait_for(&mut watch, "its replacement", |network| {
        network.lookup(address("10.9.0.1")).unwrap().gateway == Some(address("10.0.0.3"))
    })
    .await;
    one.ip("route del 10.9.0.0/16");
    wait_for(&mut watch, "its deletion", |network| {
        network.lookup(address("10.9.0.1")).is_none()
    })
    .await;
    // The new interface may have had its second look at the routes meanwhile, no more.
    assert!(
        watch.counters().dumps <= dumps + 2,
        "{:?}",
        watch.counters()
    );

    one.ip("route add 10.9.0.0/16 via 10.0.0.2 src 10.0.0.1");
    one.ip("addr add 10.0.7.1/24 dev eth0");
    one.ip("addr del 10.0.0.1/24 dev eth0");
    wait_for(
        &mut watch,
        "the end of what an address carried",
        |network| {
            network.lookup(address("10.0.0.2")).is_none()
                && network.lookup(address("10.9.0.1")).is_none()
                && network.lookup(address("10.0.7.9")).is_some()
        },
    )
    .await;

    one.ip("link set eth0 down");
    wait_for(&mut watch, "an interface going down", |network| {
        network.lookup(address("10.0.7.9")).is_none()
    })
    .await;
    one.ip("link set eth0 up");
    wait_for(&mut watch, "an interface coming up", |network| {
        network.lookup(address("10.0.7.9")).is_some()
    })
    .await;
    one.ip("link del eth0");
    wait_for(&mut watch, "the end of an interface", |network| {
        network.interfaces.iter().all(|known| known.name != "eth0")
            && network.lookup(address("10.0.7.9")).is_none()
            && network.lookup(address("10.0.7.1")).is_none()
    })
    .await;
    // What events made of it is what a fresh look finds.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fresh = snapshot(&one.netns).await.unwrap();
    let fresh = hops::compute(
        &fresh,
        &mut HopTable::restore(watch.hop_ids()),
        &AttachSettings::default(),
        std::time::Instant::now(),
    );
    assert_eq!(*watch.current(), fresh);
}

#[tokio::test]
async fn root_many_routes_are_read_once() {
    if !is_root("root_many_routes_are_read_once") {
        return;
    }
    let (one, _two) = pair();
    let mut routes = String::new();
    for number in 0..4000 {
        let (high, low) = (number / 256, number % 256);
        writeln!(routes, "route add 172.{high}.{low}.0/24 via 10.0.0.2").unwrap();
    }
    one.ip_batch(&routes);
    let mut watch = watch(&one.netns, WatchOptions::default()).await.unwrap();
    let before = wait_for(&mut watch, "the first value", |_| true).await;
    assert!(before.routes.len() > 4000);
    assert!(before.hops.len() < 10, "they share their hop");
    let dumps = watch.counters().dumps;

    let mut neighbours = String::new();
    for number in 3..203 {
        writeln!(
            neighbours,
            "neigh replace 10.0.0.{number} lladdr 02:00:00:00:00:{number:02x} dev eth0 nud reachable"
        )
        .unwrap();
    }
    one.ip_batch(&neighbours);
    one.ip_batch("route del 172.3.3.0/24\nroute add 172.250.0.0/16 via 10.0.0.2\n");
    wait_for(&mut watch, "the changes", |network| {
        network.lookup(address("172.3.3.3")).is_none()
            && network.lookup(address("172.250.1.1")).is_some()
            && network
                .lookup(address("10.0.0.202"))
                .unwrap()
                .macs
                .is_some()
    })
    .await;
    let counters = watch.counters();
    assert_eq!(counters.dumps, dumps, "{counters:?}");
    assert!(counters.events >= 202, "{counters:?}");
    assert!(
        counters.published < 100,
        "bursts are put together: {counters:?}"
    );
}

/// On one thread, so that the watch cannot read while the test blocks and its queue overflows.
#[tokio::test(flavor = "current_thread")]
async fn root_lost_events_are_made_up_for() {
    if !is_root("root_lost_events_are_made_up_for") {
        return;
    }
    let (one, _two) = pair();
    let options = WatchOptions {
        queue: 4096,
        ..WatchOptions::default()
    };
    let mut watch = watch(&one.netns, options).await.unwrap();
    wait_for(&mut watch, "the first value", |_| true).await;
    let mut routes = String::new();
    for number in 0..2000 {
        let (high, low) = (number / 256, number % 256);
        writeln!(routes, "route add 172.{high}.{low}.0/24 via 10.0.0.2").unwrap();
    }
    one.ip_batch(&routes);
    let network = wait_for(&mut watch, "all routes", |network| {
        network.routes.len() > 2000
    })
    .await;
    assert!(network.lookup(address("172.7.207.1")).is_some());
    assert!(watch.counters().losses > 0, "{:?}", watch.counters());
}

#[tokio::test]
async fn root_a_watch_ends_when_dropped_and_outlives_the_name() {
    if !is_root("root_a_watch_ends_when_dropped_and_outlives_the_name") {
        return;
    }
    let (one, two) = pair();
    let mut watch = watch(&one.netns, WatchOptions::default()).await.unwrap();
    wait_for(&mut watch, "the first value", |_| true).await;
    let held = one.netns.try_clone().unwrap();
    drop(one);
    // The name is gone, the namespace is not; the far end of the veth is.
    two.ip("link del eth0");
    wait_for(&mut watch, "the end of the link", |network| {
        network.interfaces.iter().all(|known| known.name != "eth0")
    })
    .await;
    drop(watch);
    drop(held);
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

#[tokio::test]
async fn root_neighbours_are_kept_and_given_up() {
    if !is_root("root_neighbours_are_kept_and_given_up") {
        return;
    }
    let (one, _two) = pair();
    let fix = || {
        one.ip("neigh replace 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
        one.ip("neigh replace 10.0.0.78 lladdr 02:00:00:00:00:78 dev eth0 extern_learn");
    };
    fix();
    let eth0 = snapshot(&one.netns)
        .await
        .unwrap()
        .link_named("eth0")
        .unwrap()
        .ifindex;
    let key = |text| (eth0, address(text));
    let wanted = BTreeSet::from([
        key("10.0.0.2"),
        key("10.0.0.99"),
        key("10.0.0.77"),
        key("10.0.0.78"),
        (9999, address("10.0.0.2")),
    ]);
    let fixed_before = fixed(&one).await;

    let mut keeper = NeighbourKeeper::open(&one.netns).await.unwrap();
    assert_eq!(keeper.mode(), KeepingMode::Unknown);
    let report = keeper.keep(&wanted).await.unwrap();
    assert_eq!((report.added, report.left_alone), (2, 2), "{report:?}");
    assert_eq!(report.failed.len(), 1, "there is no interface 9999");
    assert_eq!(keeper.mode(), KeepingMode::Managed);
    assert_eq!(
        keeper.made().collect::<BTreeSet<_>>(),
        BTreeSet::from([key("10.0.0.2"), key("10.0.0.99")])
    );

    // Nobody sends to it, and still it becomes resolved.
    let start = Instant::now();
    let resolved = loop {
        let neighbour = snapshot(&one.netns).await.unwrap().neighbours[&key("10.0.0.2")];
        if neighbour.usable_mac().is_some() {
            break neighbour;
        }
        assert!(start.elapsed() < PATIENCE, "{neighbour:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(resolved.managed);

    // A second call finds nothing to do; after the interface went down and up, it makes them anew.
    let report = keeper.keep(&wanted).await.unwrap();
    assert_eq!((report.added, report.removed), (0, 0), "{report:?}");
    one.ip("link set eth0 down");
    one.ip("link set eth0 up");
    fix();
    let swept = snapshot(&one.netns).await.unwrap();
    assert!(!swept.neighbours.contains_key(&key("10.0.0.2")));
    keeper.keep(&wanted).await.unwrap();
    let again = snapshot(&one.netns).await.unwrap();
    assert!(again.neighbours[&key("10.0.0.2")].managed);

    // A keeper of a later process knows them, and takes away what nobody wants any more.
    drop(keeper);
    let mut later = NeighbourKeeper::open(&one.netns).await.unwrap();
    assert_eq!(later.made().count(), 2);
    let fewer = BTreeSet::from([key("10.0.0.2")]);
    let report = later.keep(&fewer).await.unwrap();
    assert_eq!((report.added, report.removed), (0, 1), "{report:?}");
    let left = snapshot(&one.netns).await.unwrap();
    assert!(!left.neighbours.contains_key(&key("10.0.0.99")));

    let report = later.release().await.unwrap();
    assert_eq!(report.removed, 1, "{report:?}");
    assert_eq!(later.made().count(), 0);
    let left = snapshot(&one.netns).await.unwrap();
    assert!(!left.neighbours.contains_key(&key("10.0.0.2")));
    assert_eq!(fixed(&one).await, fixed_before, "not ours to touch");
}

/// The two entries that the test set on purpose.
async fn fixed(test: &TestNamespace) -> Vec<Neighbour> {
    snapshot(&test.netns)
        .await
        .unwrap()
        .neighbours
        .into_iter()
        .filter(|((_, known), _)| [address("10.0.0.77"), address("10.0.0.78")].contains(known))
        .map(|(_, neighbour)| neighbour)
        .collect()
}
