//! Our flat table against the kernel's own answers.

use std::net::IpAddr;
use std::time::Duration;

use super::super::*;
use super::{TestNamespace, address, is_root, pair, wait_for};

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
