//! Persistence and what becomes of connections when their server goes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::setup::{ECHO, Setup, UDP, same};
use super::{Case, Context, case};
use crate::client;
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "persistence/template",
        "a template that is not listed, is lost with the daemon, or outlives its time and keeps its server's place",
        template,
    ),
    case(
        "persistence/removed-server",
        "expire_nodest_conn that leaves connections or templates of a server that was removed, or takes others along",
        removed_server,
    ),
];

fn entries(setup: &Setup, template: bool) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_json::from_str(&setup.bpvs("conns --json")?)?;
    let is_one = |entry: &Value| entry["template"].as_bool().unwrap_or(false);
    Ok(all
        .into_iter()
        .filter(|entry| is_one(entry) == template)
        .collect())
}

/// PersistConn of a service's servers, together.
fn persistent(setup: &Setup, key: &str) -> Result<u64> {
    let listing: Value = serde_json::from_str(&setup.bpvs("list --json")?)?;
    let services = listing["services"].as_array().into_iter().flatten();
    let service = services
        .into_iter()
        .find(|service| service["address"] == key)
        .with_context(|| format!("no {key}"))?;
    let servers = service["servers"].as_array().into_iter().flatten();
    Ok(servers
        .filter_map(|server| server["persistent"].as_u64())
        .sum())
}

/// Waits until this holds.
fn until(
    what: &str,
    at_most: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        ensure!(
            start.elapsed() < patient(at_most),
            "{what}: not after {:?}",
            patient(at_most)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(start.elapsed())
}

fn template(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let udp = format!("udp:{UDP}");
    setup.bpvs("settings set timeouts.udp=1s")?;
    setup.bpvs(&format!("service edit {udp} --persistent=10m"))?;
    let ask = || client::who_udp(&setup.net.client, at(UDP));
    let first = ask()?;
    for _ in 0..5 {
        same("the server of the same client", &ask()?, &first)?;
    }
    let other = setup.net.add_client(&setup.lab)?;
    until(
        "the attachment to a new client's interface",
        Duration::from_secs(10),
        || Ok(setup.bpvs("status")?.contains("eth1")),
    )?;
    let second = client::who_udp(&other, at(UDP))?;
    ensure!(second != first, "two clients in turn got the same server");

    same("templates", &entries(&setup, true)?.len(), &2)?;
    same("PersistConn", &persistent(&setup, &udp)?, &2)?;
    let shown = setup.bpvs("conns")?;
    let line = shown
        .lines()
        .find(|line| line.contains(" 10.0.0.2:0 "))
        .with_context(|| format!("no template of the client in\n{shown}"))?;
    ensure!(
        line.starts_with("UDP 09:") && line.contains("ASSURED") && line.contains(UDP),
        "{line}"
    );

    // Without a daemon it leads on, and the next one takes it up.
    setup.daemon.kill()?;
    same("the server without a daemon", &ask()?, &first)?;
    setup.daemon.run()?;
    same("the server with the next daemon", &ask()?, &first)?;
    same(
        "templates after the kill",
        &entries(&setup, true)?.len(),
        &2,
    )?;
    same("PersistConn after the kill", &persistent(&setup, &udp)?, &2)?;

    // Its server goes: it leads elsewhere.
    let last = first.trim_start_matches("rs").parse::<u8>()?;
    setup.bpvs(&format!("server remove {udp} 10.0.1.1{last}:9000"))?;
    let third = ask()?;
    ensure!(
        third != first,
        "a server that was removed still gets new connections"
    );

    // Its time goes by: it is forgotten.
    setup.bpvs("service add udp:10.0.0.100:10 --persistent=3s")?;
    setup.bpvs("server add udp:10.0.0.100:10 10.0.1.12:9000")?;
    let begun = Instant::now();
    client::who_udp(&setup.net.client, at("10.0.0.100:10"))?;
    same(
        "PersistConn of the other service",
        &persistent(&setup, "udp:10.0.0.100:10")?,
        &1,
    )?;
    until("the end of a template", Duration::from_secs(10), || {
        Ok(persistent(&setup, "udp:10.0.0.100:10")? == 0)
    })?;
    let took = begun.elapsed();
    ensure!(
        took > Duration::from_secs(3),
        "a template of 3 s was gone after {took:?}"
    );
    same("templates of the other", &persistent(&setup, &udp)?, &2)?;
    context.note(format!(
        "a template of 3 s was gone after {:.1} s",
        took.as_secs_f32()
    ));
    Ok(())
}

fn removed_server(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let echo = format!("tcp:{ECHO}");
    setup.bpvs("settings set expire_nodest_conn=1")?;
    setup.bpvs(&format!("service edit {echo} --persistent=5m --netmask 0"))?;
    let begin = |count: u32| {
        let load = Load::new(Kind::Long, at(ECHO))
            .clients(count)
            .endless(Duration::from_secs(20))
            .pause(Duration::from_millis(100));
        load.start(&setup.net.client)
    };
    let long = begin(10)?;
    long.wait_for(20)?;
    let all = entries(&setup, false)?;
    same("connections", &all.len(), &10)?;
    let server = all[0]["server"].as_str().context("no server")?.to_owned();
    ensure!(
        all.iter().all(|entry| entry["server"] == server),
        "one client, two servers: {all:?}"
    );
    same("templates", &entries(&setup, true)?.len(), &1)?;

    setup.bpvs(&format!("server remove {echo} {server}"))?;
    let took = until("the end of its connections", Duration::from_secs(2), || {
        let there = entries(&setup, false)?;
        Ok(!there.iter().any(|entry| entry["server"] == server)
            && entries(&setup, true)?.is_empty())
    })?;
    // What they send now begins nowhere: it is no SYN.
    let report = long.stop()?;
    ensure!(
        !report.failed.is_empty(),
        "connections to a removed server went on: {report:?}"
    );

    // New ones go to the other server, and stay when this one comes and goes again.
    let load = begin(5)?;
    load.wait_for(20)?;
    setup.bpvs(&format!("server add {echo} {server}"))?;
    setup.bpvs(&format!("server remove {echo} {server}"))?;
    load.wait_for(50)?;
    load.stop()?.all_answered()?;
    context.note(format!(
        "connections and template were gone after {} ms",
        took.as_millis()
    ));
    Ok(())
}
