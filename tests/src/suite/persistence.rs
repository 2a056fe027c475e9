//! Persistence and what becomes of connections when their server goes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
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
    case(
        "persistence/kills-among-templates",
        "a daemon's end that loses a template, a count or a threshold while templates come and go",
        kills_among_templates,
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
    // What they send now, each after its pause, begins nowhere: it is no SYN.
    std::thread::sleep(Duration::from_millis(500));
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

/// Clients that keep asking, and so must stay where they are; and as many new ones in between, each time.
const REGULARS: u8 = 20;

/// Who answers a datagram from this address of the calling thread's namespace.
fn who_from(source: Ipv4Addr) -> Result<String> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(at(UDP))?;
    socket.set_read_timeout(Some(patient(Duration::from_secs(2))))?;
    socket.send(b"who")?;
    let mut answer = [0; 512];
    let length = socket
        .recv(&mut answer)
        .with_context(|| format!("no answer to {source}"))?;
    let said = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(said
        .split_once(':')
        .map_or(said.as_str(), |(who, _)| who)
        .to_owned())
}

/// Asks round after round, and fails when a regular is led elsewhere.
fn ask_until(stop: &AtomicBool, asked: &AtomicU32) -> Result<()> {
    let (mut known, mut newcomers) = (BTreeMap::new(), 0_u16);
    while !stop.load(Ordering::Relaxed) {
        for number in 1..=REGULARS {
            let regular = Ipv4Addr::new(10, 0, 4, number);
            let who = who_from(regular)?;
            let first = known.entry(regular).or_insert_with(|| who.clone());
            ensure!(
                *first == who,
                "{regular} was with {first}, and is with {who}"
            );
            newcomers = (newcomers + 1) % 500;
            let [high, low] = newcomers.to_be_bytes();
            who_from(Ipv4Addr::new(10, 0, 5 + high, low.max(1)))?;
            asked.fetch_add(2, Ordering::Relaxed);
        }
    }
    let servers: std::collections::BTreeSet<_> = known.values().collect();
    ensure!(servers.len() == 3, "all regulars are with {servers:?}");
    Ok(())
}

fn kills_among_templates(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let udp = format!("udp:{UDP}");
    setup.bpvs("settings set timeouts.udp=1s")?;
    setup.bpvs(&format!("service edit {udp} --persistent=3s"))?;
    for number in 1..=3 {
        setup.bpvs(&format!(
            "server edit {udp} 10.0.1.1{number}:9000 --upper-threshold 100000 --lower-threshold 10"
        ))?;
    }
    // The client answers to two whole networks.
    setup.net.client.ip("route add local 10.0.4.0/22 dev lo")?;
    setup
        .net
        .director
        .ip("route add 10.0.4.0/22 via 10.0.0.2")?;
    until(
        "the route to the client's networks",
        Duration::from_secs(5),
        || {
            let asked = setup
                .net
                .client
                .run(|| who_from(Ipv4Addr::new(10, 0, 4, 100)))?;
            Ok(asked.is_ok())
        },
    )?;

    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let (told, counter) = (Arc::clone(&stop), Arc::clone(&asked));
    let clients = setup
        .net
        .client
        .spawn("clients", move || ask_until(&told, &counter))?;
    let go_on = || {
        let begun = asked.load(Ordering::Relaxed);
        until("200 more answers", Duration::from_secs(20), || {
            Ok(clients.is_finished() || asked.load(Ordering::Relaxed) >= begun + 200)
        })
    };
    for round in 0..4 {
        go_on()?;
        // As a kill, and as an upgrade does it.
        if round % 2 == 0 {
            setup.daemon.kill()?;
        } else {
            setup.daemon.stop()?;
        }
        go_on()?;
        setup.daemon.run()?;
    }
    go_on()?;
    stop.store(true, Ordering::Relaxed);
    let ended = clients
        .join()
        .map_err(|_| anyhow!("the clients panicked"))?;
    ended??;

    // All that came has gone, counts too.
    until("the end of all templates", Duration::from_secs(15), || {
        Ok(entries(&setup, true)?.is_empty() && entries(&setup, false)?.is_empty())
    })?;
    until("no count left", Duration::from_secs(5), || {
        let listing: Value = serde_json::from_str(&setup.bpvs("list --json")?)?;
        let services = listing["services"].as_array().into_iter().flatten();
        let mut servers =
            services.flat_map(|service| service["servers"].as_array().into_iter().flatten());
        Ok(servers.all(|server| {
            ["active", "inactive", "persistent"]
                .iter()
                .all(|count| server[*count].as_u64() == Some(0))
        }))
    })?;
    context.note(format!(
        "{} answers through two kills and two orderly ends",
        asked.load(Ordering::Relaxed)
    ));
    Ok(())
}
