//! What changes, and how it comes through.

use std::fmt::Write;
use std::time::Duration;

use super::super::*;
use super::{address, is_root, pair, wait_for};

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

    let sysctl = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 30000");
    one.netns.run_in(sysctl).unwrap().unwrap();
    one.ip("link set late1 up");
    wait_for(&mut watch, "the ports of sockets", |network| {
        network.local_ports == Some((20_000, 30_000))
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

/// A bridge's table is heard as it changes, and so is whether its port forwards.
#[tokio::test]
async fn root_the_port_of_a_bridge_comes_through() {
    if !is_root("root_the_port_of_a_bridge_comes_through") {
        return;
    }
    let (one, two) = pair();
    one.ip("link add br0 type bridge");
    one.ip(&format!(
        "link add port type veth peer name inner netns {}",
        two.name
    ));
    two.ip("link set inner up");
    one.ip("link set port master br0 up");
    one.ip("link set br0 up");
    one.ip("addr add 10.5.0.1/24 dev br0");
    one.ip("neigh add 10.5.0.9 lladdr 02:00:00:00:00:09 dev br0 nud permanent");
    let port = |network: &Network| network.lookup(address("10.5.0.9"))?.port;
    let mut watch = watch(&one.netns, WatchOptions::default()).await.unwrap();
    let first = wait_for(&mut watch, "the neighbour", |network| {
        network
            .lookup(address("10.5.0.9"))
            .is_some_and(|hop| hop.macs.is_some())
    })
    .await;
    assert_eq!(port(&first), None, "not learned yet");

    one.bridge("fdb add 02:00:00:00:00:09 dev port master static");
    let learned = wait_for(&mut watch, "the port", |network| port(network).is_some()).await;
    let hop = *learned.lookup(address("10.5.0.9")).unwrap();
    assert_eq!(
        learned.interface(hop.port.unwrap()).unwrap().name,
        "port",
        "{hop:?}"
    );
    assert!(hop.leads_out, "its other end is in another namespace");

    // Disabled: without spanning tree the kernel would at once let a blocked one forward again.
    one.bridge("link set dev port state 0");
    wait_for(&mut watch, "a port that does not forward", |network| {
        port(network).is_none()
    })
    .await;
    one.bridge("link set dev port state 3");
    wait_for(&mut watch, "a port that forwards", |network| {
        port(network).is_some()
    })
    .await;
    one.bridge("fdb del 02:00:00:00:00:09 dev port master");
    wait_for(&mut watch, "an address that is forgotten", |network| {
        port(network).is_none()
    })
    .await;
    one.bridge("fdb add 02:00:00:00:00:09 dev port master static");
    wait_for(&mut watch, "the port again", |network| {
        port(network).is_some()
    })
    .await;
    one.ip("link set port nomaster");
    wait_for(&mut watch, "a port that has left", |network| {
        port(network).is_none()
    })
    .await;
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
