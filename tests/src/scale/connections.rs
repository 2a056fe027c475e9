//! Many connections: what a packet costs among them, what the sweep costs, and what they take.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Options;
use super::control::{self, work};
use super::flows::{CLIENTS, Sender, Server};
use super::report::Report;
use super::usage::{self, Map};
use crate::daemon::Daemon;
use crate::lab::Lab;
use crate::topology::at;
use crate::topology::director::{CLIENT, Director, Options as Network, server_address};

/// Connections of the one that is compared to.
const FEW: u32 = 1000;
/// Those that end soon, to see how soon they are no longer counted.
const BRIEF: u32 = 500;
/// Where the flows go, and the ones that end soon.
const SERVICE: &str = "10.0.0.100:5000";
const BRIEF_SERVICE: &str = "10.0.0.100:5001";
const PORT: u16 = 5000;
/// How long the sweep is watched.
const SWEEP: Duration = Duration::from_secs(20);
/// `BPF_MAP_TYPE_HASH`.
const HASH: u64 = 1;

/// A director with a service, and who asks and answers there.
struct Stand {
    net: Director,
    daemon: Daemon,
    sender: Sender,
    server: Server,
}

impl Stand {
    fn build(lab: &Lab, prefix: &str, bpvs: &Path, arguments: &[&str]) -> Result<Self> {
        let network = Network {
            servers: 1,
            prefix: prefix.into(),
            ..Network::default()
        };
        let net = Director::build(lab, &network)?;
        net.director
            .ip(&format!("route add {CLIENTS} via {CLIENT}"))?;
        let server = Server::start(&net.servers[0], PORT)?;
        let sender = Sender::new(&net.client, at(SERVICE))?;
        let daemon = Daemon::start(lab, bpvs, &net.director, arguments)?;
        let stand = Self {
            net,
            daemon,
            sender,
            server,
        };
        stand.add(SERVICE, "")?;
        Ok(stand)
    }

    fn add(&self, service: &str, options: &str) -> Result<()> {
        let own = server_address(1);
        self.bpvs(&format!("service add udp:{service} {options}"))?;
        self.bpvs(&format!("server add udp:{service} {own}:{PORT}"))?;
        Ok(())
    }

    fn bpvs(&self, arguments: &str) -> Result<String> {
        self.daemon.bpvs(&self.net.director, arguments)
    }

    /// How many connections a service is said to have.
    fn counted(&self, service: &str) -> Result<u64> {
        let listing: Value = serde_json::from_str(&self.bpvs("list --json")?)?;
        let address = format!("udp:{service}");
        let services = listing["services"].as_array().into_iter().flatten();
        services
            .filter(|there| there["address"] == address.as_str())
            .flat_map(|there| there["servers"].as_array().into_iter().flatten())
            .map(|server| {
                let inactive = server["inactive"].as_u64();
                inactive.with_context(|| format!("no count in {server}"))
            })
            .sum()
    }

    fn map(&self, is_it: impl Fn(&Map) -> bool) -> Result<Map> {
        let process = self.daemon.process().context("the daemon does not run")?;
        let maps = usage::maps(process)?.into_iter().filter(is_it);
        maps.max_by_key(|map| map.entries)
            .context("the daemon has no such map open")
    }
}

/// Measures what a packet costs in two stands, in turn, and adds how much more it costs in the second: the median of the
/// rounds.
fn compare(
    options: &Options,
    (few, few_flows): (&Stand, u32),
    (many, many_flows): (&Stand, u32),
) -> Result<f64> {
    let time = Duration::from_millis(options.time);
    let mut ratios = Vec::new();
    for round in 0..options.rounds {
        let one = || few.sender.flood(few_flows, &few.server, time);
        let other = || many.sender.flood(many_flows, &many.server, time);
        // None always comes after the other.
        let (few, many) = if round % 2 == 0 {
            let few = one()?;
            (few, other()?)
        } else {
            let many = other()?;
            (one()?, many)
        };
        ratios.push(few / many);
    }
    ratios.sort_by(f64::total_cmp);
    Ok(ratios[ratios.len() / 2])
}

/// Measures all of it.
pub(super) fn measure(
    lab: &Lab,
    options: &Options,
    bpvs: &Path,
    report: &mut Report,
) -> Result<()> {
    let few = Stand::build(lab, "few-", bpvs, &[])?;
    few.sender.open(0..FEW, &few.server)?;
    let count = options.connections;
    let (room, rooms) = (
        (count + BRIEF).to_string(),
        (options.services + 100).to_string(),
    );
    let many = Stand::build(
        lab,
        "more-",
        bpvs,
        &["--connections", &room, "--services", &rooms],
    )?;

    // Many services first, while both have as many connections.
    many.sender.open(0..FEW, &many.server)?;
    let file = control::file(options.services, 1);
    many.daemon.apply(&many.net.director, "many.toml", &file)?;
    let ratio = compare(options, (&few, FEW), (&many, FEW))?;
    report.add(
        format!("a packet, {} services to 1", options.services),
        ratio,
        "times",
        Some(1.1),
    );

    let is_table = |map: &Map| map.kind == HASH;
    let before = many.map(is_table)?.memory;
    let empty = few.map(is_table)?;
    let begun = Instant::now();
    many.sender.open(FEW..count, &many.server)?;
    report.add(
        format!("opening {count} connections"),
        begun.elapsed().as_secs_f64(),
        "s",
        None,
    );
    let counted = many.counted(SERVICE)?;
    ensure!(
        counted >= u64::from(count) * 99 / 100,
        "of {count} connections there are {counted}"
    );
    let ratio = compare(options, (&few, FEW), (&many, count))?;
    report.add(
        format!("a packet, {count} connections to {FEW}"),
        ratio,
        "times",
        Some(1.5),
    );
    let table = many.map(is_table)?;
    let taken = table.memory.saturating_sub(before) as f64;
    report.add(
        "memory of a connection, both entries",
        taken / (counted.max(1) as f64),
        "bytes",
        Some(320.0),
    );
    report.add(
        "buckets of the table, for an entry that there is room for",
        empty.memory as f64 / empty.entries as f64,
        "bytes",
        Some(16.0),
    );

    let spent = work(&many.daemon, || {
        std::thread::sleep(SWEEP);
        Ok(())
    })?;
    report.add(
        format!("the daemon among {count} connections, sweeping"),
        100.0 * spent / SWEEP.as_secs_f64(),
        "% of a core",
        Some(3.0),
    );
    let late = lateness(&many, options)?;
    report.add(
        "connections that have ended are counted for",
        late,
        "s too long",
        Some(2.0),
    );
    for words in [&["ipvsadm", "-Lnc"][..], &["conns", "--json"]] {
        let mut command = many.daemon.command(&many.net.director, words);
        let begun = Instant::now();
        let status = command.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{words:?} ended with {status}");
        report.add(
            format!("bpvs {}, {count} connections", words.join(" ")),
            begun.elapsed().as_secs_f64(),
            "s",
            None,
        );
    }
    few.daemon.stop()?;
    many.daemon.stop()
}

/// For how long connections are counted that are over.
fn lateness(stand: &Stand, options: &Options) -> Result<f64> {
    let timeout = Duration::from_secs(20);
    stand.add(
        BRIEF_SERVICE,
        &format!("--udp-timeout {}s", timeout.as_secs()),
    )?;
    let sender = Sender::new(&stand.net.client, at(BRIEF_SERVICE))?;
    // Clients of their own: those of the others have connections with the same real server.
    let first = options.connections + 1;
    sender.open(first..first + BRIEF, &stand.server)?;
    let over = Instant::now() + timeout;
    ensure!(
        stand.counted(BRIEF_SERVICE)? > 0,
        "no connection is counted"
    );
    std::thread::sleep(over.saturating_duration_since(Instant::now()));
    while stand.counted(BRIEF_SERVICE)? > 0 {
        ensure!(
            over.elapsed() < Duration::from_secs(90),
            "they are counted for ever"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(over.elapsed().as_secs_f64())
}
