//! What bpvs says of itself: counters, connections, their number and their end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::setup::{ECHO, Setup, UDP, WEB, same};
use super::{Case, Context, case, long_case};
use crate::load::{Kind, Load};
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "counters/exact",
        "a packet that is counted twice, on a port and on its bridge, or not at all",
        exact,
    ),
    case(
        "counters/connections",
        "connections that are counted wrongly while open, or stay counted when closed",
        connections,
    ),
    case(
        "counters/udp-expires",
        "UDP entries that outlive their timeout",
        udp_expires,
    ),
    long_case(
        "counters/no-leak",
        "an entry that is left for good after any of many connections",
        no_leak,
    ),
];

/// The service `key` of a listing.
fn service<'a>(listing: &'a Value, key: &str) -> Result<&'a Value> {
    let services = listing["services"]
        .as_array()
        .context("a listing without services")?;
    services
        .iter()
        .find(|service| service["address"] == key)
        .with_context(|| format!("no {key} in {listing}"))
}

/// The sum of one figure over a service's servers.
fn over_servers(service: &Value, figure: impl Fn(&Value) -> Option<u64>) -> u64 {
    service["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(figure)
        .sum()
}

fn listing(setup: &Setup) -> Result<Value> {
    Ok(serde_json::from_str(&setup.bpvs("list --json")?)?)
}

fn entries(setup: &Setup) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&setup.bpvs("conns --json")?)?)
}

fn exact(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let report = Load::new(Kind::Udp { fresh: false }, at(UDP))
        .clients(1)
        .count(100)
        .run(&setup.net.client)?;
    report.all_answered()?;
    Load::new(Kind::Short, at(WEB))
        .clients(4)
        .count(60)
        .run(&setup.net.client)?
        .all_answered()?;
    let listing = listing(&setup)?;
    let udp = service(&listing, &format!("udp:{UDP}"))?;
    for of in [
        udp,
        udp["servers"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["counters"]["in_packets"] != 0)
            .unwrap_or(udp),
    ] {
        let counters = &of["counters"];
        same("datagrams in", &counters["in_packets"], &100.into())?;
        same("datagrams out", &counters["out_packets"], &100.into())?;
        same("connections", &counters["connections"], &1.into())?;
        // Lengths as IPVS counts them, from the IP header on: "client 0 turn N" and "I'm rsX client
        // 0 turn N".
        let texts: u64 = (1..=100)
            .map(|turn| format!("client 0 turn {turn}").len() as u64)
            .sum();
        same(
            "bytes in",
            &counters["in_bytes"],
            &(texts + 100 * 28).into(),
        )?;
        same(
            "bytes out",
            &counters["out_bytes"],
            &(texts + 100 * (28 + "I'm rs1 ".len() as u64)).into(),
        )?;
    }
    let web = service(&listing, &format!("tcp:{WEB}"))?;
    same(
        "connections of the service",
        &web["counters"]["connections"],
        &60.into(),
    )?;
    same(
        "of its servers",
        &over_servers(web, |server| server["counters"]["connections"].as_u64()),
        &60,
    )?;
    let packets = |figure: &str| web["counters"][figure].as_u64().unwrap_or(0);
    // Each connection: at least SYN, ACK, request, FIN one way and SYN-ACK, answer, FIN the other;
    // at most a few ACKs more.
    for figure in ["in_packets", "out_packets"] {
        ensure!(
            (3 * 60..10 * 60).contains(&packets(figure)),
            "{figure} of 60 short connections: {}",
            packets(figure)
        );
    }
    Ok(())
}

fn connections(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let long = Load::new(Kind::Long, at(ECHO))
        .clients(30)
        .endless(Duration::from_secs(20))
        .pause(Duration::from_millis(100));
    let long = long.start(&setup.net.client)?;
    long.wait_for(60)?;
    let open = listing(&setup)?;
    let echo = service(&open, &format!("tcp:{ECHO}"))?;
    same(
        "active",
        &over_servers(echo, |server| server["active"].as_u64()),
        &30,
    )?;
    same(
        "inactive",
        &over_servers(echo, |server| server["inactive"].as_u64()),
        &0,
    )?;
    let established = entries(&setup)?
        .iter()
        .filter(|entry| entry["state"] == "ESTABLISHED")
        .count();
    same("entries that are established", &established, &30)?;
    long.stop()?.all_answered()?;
    // Counts may lag by at most two seconds.
    std::thread::sleep(Duration::from_secs(2));
    let closed = listing(&setup)?;
    let echo = service(&closed, &format!("tcp:{ECHO}"))?;
    same(
        "active when closed",
        &over_servers(echo, |server| server["active"].as_u64()),
        &0,
    )?;
    same(
        "inactive when closed",
        &over_servers(echo, |server| server["inactive"].as_u64()),
        &30,
    )
}

/// Waits until there is no entry any more.
fn until_none(setup: &Setup, at_most: Duration) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let left = entries(setup)?;
        if left.is_empty() {
            break;
        }
        ensure!(
            start.elapsed() < at_most,
            "{} entries after {at_most:?}, the first: {}",
            left.len(),
            left[0]
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let gone = start.elapsed();
    // The counts may lag an expiry by two seconds.
    let counted = || -> Result<u64> {
        let listing = listing(setup)?;
        let services = listing["services"].as_array().into_iter().flatten();
        Ok(services
            .map(|service| {
                over_servers(service, |server| {
                    Some(server["active"].as_u64()? + server["inactive"].as_u64()?)
                })
            })
            .sum())
    };
    while counted()? != 0 && start.elapsed() < gone + Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    same("connections counted when there is none", &counted()?, &0)?;
    Ok(gone)
}

const SHORT_TIMEOUTS: &str =
    "[settings]\ntimeouts = { tcp = \"15m\", tcp-fin = \"2s\", udp = \"2s\" }\n";

fn udp_expires(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    setup
        .daemon
        .apply(&setup.net.director, "timeouts.toml", SHORT_TIMEOUTS)?;
    Load::new(Kind::Udp { fresh: true }, at(UDP))
        .clients(4)
        .count(200)
        .run(&setup.net.client)?
        .all_answered()?;
    ensure!(
        entries(&setup)?.len() >= 150,
        "of 200 UDP connections a moment ago only {} are there",
        entries(&setup)?.len()
    );
    let took = until_none(&setup, Duration::from_secs(10))?;
    context.note(format!(
        "timeout 2 s; the last of 200 entries was gone {:.1} s after the last datagram",
        took.as_secs_f32()
    ));
    Ok(())
}

fn no_leak(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    setup
        .daemon
        .apply(&setup.net.director, "timeouts.toml", SHORT_TIMEOUTS)?;
    for (kind, to) in [
        (Kind::Short, WEB),
        (Kind::KeepAlive { requests: 10 }, WEB),
        (Kind::Long, ECHO),
        (Kind::Udp { fresh: true }, UDP),
    ] {
        Load::new(kind, at(to))
            .clients(8)
            .count(2000)
            .run(&setup.net.client)?
            .all_answered()?;
    }
    // The longest wait of a connection that was closed in good order is IPVS's TIME_WAIT.
    let took = until_none(&setup, Duration::from_secs(140))?;
    context.note(format!(
        "the last entry was gone after {:.0} s",
        took.as_secs_f32()
    ));
    Ok(())
}
