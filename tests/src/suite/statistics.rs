//! What was counted, since when, and how fast.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::setup::{Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "statistics/carry",
        "counts that are lost or counted twice when a server goes, comes back, or the daemon dies in between",
        carry,
    ),
    case(
        "statistics/zero",
        "zeroing that forgets a part, or is forgotten by a restart",
        zero,
    ),
    case(
        "statistics/rates",
        "rates that are no averages of what passes, or do not end with it",
        rates,
    ),
];

fn stats(setup: &Setup) -> Result<Value> {
    Ok(serde_json::from_str(&setup.bpvs("stats --json")?)?)
}

fn service<'v>(stats: &'v Value, key: &str) -> Result<&'v Value> {
    stats["services"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|service| service["address"] == key)
        .with_context(|| format!("no {key} in {stats}"))
}

/// Connections of the UDP service, of its servers together, and of the scope.
fn connections(setup: &Setup) -> Result<(u64, u64, u64)> {
    let stats = stats(setup)?;
    let count = |of: &Value| of["counters"]["connections"].as_u64().unwrap_or(u64::MAX);
    let udp = service(&stats, &format!("udp:{UDP}"))?;
    let servers = udp["servers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(count)
        .sum();
    Ok((count(udp), servers, count(&stats)))
}

fn fresh(setup: &Setup, count: u64) -> Result<()> {
    Load::new(Kind::Udp { fresh: true }, at(UDP))
        .clients(4)
        .count(count)
        .run(&setup.net.client)?
        .all_answered()
}

/// Has entries of UDP gone soon after their last datagram.
const SHORT: &str = "settings set timeouts.udp=1s";

fn restart(setup: &Setup) -> Result<()> {
    setup.daemon.kill()?;
    setup.daemon.run()
}

fn carry(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    setup.bpvs(SHORT)?;
    fresh(&setup, 100)?;
    same(
        "service, servers, scope",
        &connections(&setup)?,
        &(100, 100, 100),
    )?;

    // A server goes while its connections live, and comes back: it brings its counts, and they count once.
    setup.bpvs(&format!("server remove udp:{UDP} 10.0.1.11:9000"))?;
    same("without a server", &connections(&setup)?, &(100, 50, 100))?;
    setup.bpvs(&format!("server add udp:{UDP} 10.0.1.11:9000"))?;
    same(
        "with the server again",
        &connections(&setup)?,
        &(100, 100, 100),
    )?;
    restart(&setup)?;
    same("after a kill", &connections(&setup)?, &(100, 100, 100))?;

    // It goes for good: once its connections have ended its place is free, and what it counted is carried.
    setup.bpvs(&format!("server remove udp:{UDP} 10.0.1.11:9000"))?;
    std::thread::sleep(patient(Duration::from_secs(5)));
    same(
        "long without the server",
        &connections(&setup)?,
        &(100, 50, 100),
    )?;
    restart(&setup)?;
    same("and after a kill", &connections(&setup)?, &(100, 50, 100))?;
    setup.bpvs(&format!("server add udp:{UDP} 10.0.1.11:9000"))?;
    same(
        "a new server begins at nothing",
        &connections(&setup)?,
        &(100, 50, 100),
    )?;
    fresh(&setup, 20)?;
    same("and counts", &connections(&setup)?, &(120, 70, 120))?;

    // A service that goes is carried by its scope; one that comes begins at nothing.
    setup.bpvs(&format!("service remove udp:{UDP}"))?;
    setup.bpvs(&format!("service add udp:{UDP} --scheduler rr"))?;
    same("a service anew", &connections(&setup)?, &(0, 0, 120))?;
    setup.bpvs(&format!("server add udp:{UDP} 10.0.1.12:9000"))?;
    fresh(&setup, 10)?;
    let (of_service, _, of_scope) = connections(&setup)?;
    same(
        "its connections, and those of the scope",
        &(of_service, of_scope),
        &(10, 130),
    )?;
    restart(&setup)?;
    let (of_service, _, of_scope) = connections(&setup)?;
    same("after a kill", &(of_service, of_scope), &(10, 130))
}

fn zero(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    fresh(&setup, 60)?;
    Load::new(Kind::Short, at(WEB))
        .clients(2)
        .count(10)
        .run(&setup.net.client)?
        .all_answered()?;
    same("before", &connections(&setup)?, &(60, 60, 70))?;
    setup.bpvs(&format!("zero udp:{UDP}"))?;
    // The scope's own counts are not the service's.
    same("of one service", &connections(&setup)?, &(0, 0, 70))?;
    let web = |setup: &Setup| -> Result<Value> {
        Ok(service(&stats(setup)?, &format!("tcp:{WEB}"))?["counters"].clone())
    };
    same("of the other", &web(&setup)?["connections"], &10.into())?;
    fresh(&setup, 6)?;
    same("counted since", &connections(&setup)?, &(6, 6, 76))?;
    restart(&setup)?;
    same("after a kill", &connections(&setup)?, &(6, 6, 76))?;
    setup.bpvs("zero")?;
    same("of everything", &connections(&setup)?, &(0, 0, 0))?;
    let counters = web(&setup)?;
    for figure in [
        "connections",
        "in_packets",
        "out_packets",
        "in_bytes",
        "out_bytes",
    ] {
        same(figure, &counters[figure], &0.into())?;
    }
    fresh(&setup, 3)?;
    restart(&setup)?;
    same("after another kill", &connections(&setup)?, &(3, 3, 3))?;
    ensure!(
        setup.bpvs("zero udp:10.0.0.100:10").is_err(),
        "a service that is not there was zeroed"
    );
    Ok(())
}

/// A figure of the UDP service, and of the scope.
fn figure(setup: &Setup, of: &str, name: &str) -> Result<(f64, f64)> {
    let stats = stats(setup)?;
    let udp = service(&stats, &format!("udp:{UDP}"))?;
    let read = |value: &Value| value[of][name].as_f64().context("no such figure");
    Ok((read(udp)?, read(&stats)?))
}

fn rates(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    // Four clients, each with a datagram every 20 ms: 200 a second, or what a busy machine makes of that.
    let load = Load::new(Kind::Udp { fresh: false }, at(UDP))
        .clients(4)
        .pause(Duration::from_millis(20))
        .endless(patient(Duration::from_secs(60)));
    let load = load.start(&setup.net.client)?;
    // The average is within a tenth of a steady rate after eight steps of two seconds.
    let mut measured = Vec::new();
    let mut before = 0.0;
    for _ in 0..5 {
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(4));
        let (packets, _) = figure(&setup, "counters", "in_packets")?;
        measured.push((packets - before) / start.elapsed().as_secs_f64());
        before = packets;
    }
    let (shown, of_scope) = figure(&setup, "rates", "in_packets")?;
    let (bytes, _) = figure(&setup, "rates", "in_bytes")?;
    let late = &measured[1..];
    let (least, most) = (
        late.iter().copied().fold(f64::INFINITY, f64::min),
        late.iter().copied().fold(0.0, f64::max),
    );
    ensure!(
        (0.75 * least..1.25 * most).contains(&shown),
        "{shown} a second are shown, {measured:?} were measured"
    );
    // "client 0 turn 1000" with its headers.
    let each = bytes / shown;
    ensure!(
        (40.0..60.0).contains(&each),
        "{each} bytes in each datagram"
    );
    ensure!(
        (of_scope - shown).abs() <= 2.0,
        "{of_scope} of the scope, {shown} of its only busy service"
    );
    let text = setup.bpvs("stats --rate")?;
    ensure!(text.contains("InPPS"), "no rates in\n{text}");

    // It ends, and the rate falls by a quarter every two seconds.
    load.stop()?.all_answered()?;
    std::thread::sleep(Duration::from_secs(8));
    let (fallen, _) = figure(&setup, "rates", "in_packets")?;
    ensure!(
        fallen < 0.6 * shown,
        "{fallen} a second 8 s after the last packet, {shown} before it"
    );
    setup.bpvs("zero")?;
    same(
        "the rate of what was zeroed",
        &figure(&setup, "rates", "in_packets")?,
        &(0.0, 0.0),
    )?;

    // Where none is computed there is none.
    let more = Load::new(Kind::Udp { fresh: false }, at(UDP)).count(500);
    setup.bpvs("settings set run_estimation=0")?;
    more.run(&setup.net.client)?.all_answered()?;
    std::thread::sleep(patient(Duration::from_secs(3)));
    same(
        "the rate with run_estimation 0",
        &figure(&setup, "rates", "in_packets")?,
        &(0.0, 0.0),
    )?;
    same(
        "the count with run_estimation 0",
        &figure(&setup, "counters", "in_packets")?,
        &(500.0, 500.0),
    )?;
    context.note(format!(
        "{shown:.0} a second shown, {least:.0} to {most:.0} measured"
    ));
    Ok(())
}
