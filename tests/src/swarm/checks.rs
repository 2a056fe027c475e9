//! What a Swarm's services have to answer, from everywhere.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use super::cluster::Cluster;
use crate::client;
use crate::host::Host;
use crate::icmp::ping;
use crate::load::{Kind, Load};

/// Requests of one check: a third of a multiple of two, so that two tasks in turn answer half each.
const REQUESTS: usize = 6;

/// The port of the tasks.
pub(super) const PORT: u16 = 80;
/// Published ports.
pub(super) const TCP: u16 = 8080;
pub(super) const UDP: u16 = 8081;

/// One check and its outcome.
#[derive(Debug)]
pub(super) struct Check {
    /// From where, to what.
    pub(super) what: String,
    /// What was answered, or what went wrong.
    pub(super) outcome: Result<String>,
    /// When.
    at: SystemTime,
}

impl Check {
    pub(super) fn new(what: String, outcome: Result<String>) -> Self {
        let at = SystemTime::now();
        Self { what, outcome, at }
    }

    /// The time of day at which it ended (UTC), as the daemons' logs have it.
    pub(super) fn time(&self) -> String {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
    }
}

/// Everything that has to work: the service address from a container on each node, and the published ports from
/// outside and from containers, through each node.
pub(super) fn all(cluster: &Cluster, service: Ipv4Addr) -> Vec<Check> {
    let mut checks = addresses(cluster, service);
    checks.extend(published(cluster));
    checks
}

/// The service's address.
pub(super) fn addresses(cluster: &Cluster, service: Ipv4Addr) -> Vec<Check> {
    let mut checks = Vec::new();
    let to = SocketAddrV4::new(service, PORT);
    for probe in &cluster.probes {
        let mut check = |what: &str, outcome| {
            checks.push(Check::new(format!("{} -> {what}", probe.name()), outcome))
        };
        check(&format!("tcp {to}"), halves(|| client::who(probe, to)));
        check(&format!("udp {to}"), halves(|| client::who_udp(probe, to)));
        check(&format!("{to}, one connection"), keep_alive(probe, to));
        check(&format!("ping {service}"), pinged(probe, service));
        check("the client that a task sees", client(probe, to));
    }
    checks
}

/// The published ports.
pub(super) fn published(cluster: &Cluster) -> Vec<Check> {
    let from: Vec<&Host> = [&cluster.outside]
        .into_iter()
        .chain(&cluster.probes)
        .collect();
    let nodes = 0..cluster.nodes.len();
    let mut checks: Vec<Check> = nodes
        .flat_map(|node| published_at(cluster, node, &from))
        .collect();
    // The node itself, by any address that it has.
    for node in &cluster.nodes {
        for address in [Ipv4Addr::LOCALHOST, node.address] {
            let (host, to) = (&node.host, SocketAddrV4::new(address, TCP));
            let what = format!("{} itself -> published tcp {to}", host.name());
            checks.push(Check::new(what, halves(|| client::who(host, to))));
            let to = SocketAddrV4::new(address, UDP);
            let what = format!("{} itself -> published udp {to}", host.name());
            checks.push(Check::new(what, halves(|| client::who_udp(host, to))));
        }
    }
    checks
}

/// The published ports of one node.
pub(super) fn published_at(cluster: &Cluster, node: usize, from: &[&Host]) -> Vec<Check> {
    let mut checks = Vec::new();
    let address = cluster.nodes[node].address;
    let (tcp, udp) = (
        SocketAddrV4::new(address, TCP),
        SocketAddrV4::new(address, UDP),
    );
    for from in from {
        let what = format!("{} -> published tcp {tcp}", from.name());
        checks.push(Check::new(what, halves(|| client::who(from, tcp))));
        let what = format!("{} -> published udp {udp}", from.name());
        checks.push(Check::new(what, halves(|| client::who_udp(from, udp))));
    }
    checks
}

/// That nothing is answered without help. One request each, for each takes its time.
pub(super) fn nothing(cluster: &Cluster, service: Ipv4Addr) -> Vec<Check> {
    let mut checks = Vec::new();
    let (probe, to) = (&cluster.probes[0], SocketAddrV4::new(service, PORT));
    let what = format!("{} -> tcp {to}", probe.name());
    checks.push(Check::new(what, client::who(probe, to)));
    let what = format!("{} -> ping {service}", probe.name());
    checks.push(Check::new(what, pinged(probe, service)));
    let to = SocketAddrV4::new(cluster.nodes[1].address, TCP);
    let what = format!("{} -> published tcp {to}", cluster.outside.name());
    checks.push(Check::new(what, client::who(&cluster.outside, to)));
    checks
}

/// That the tasks themselves are reached, which needs no balancer.
pub(super) fn tasks(cluster: &Cluster, tasks: &[Ipv4Addr]) -> Vec<Check> {
    let mut checks = Vec::new();
    for probe in &cluster.probes {
        for task in tasks {
            let to = SocketAddrV4::new(*task, PORT);
            let what = format!("{} -> task {to}", probe.name());
            checks.push(Check::new(what, client::who(probe, to)));
        }
    }
    checks
}

/// Two tasks, in turn.
fn halves(mut ask: impl FnMut() -> Result<String>) -> Result<String> {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        *answers.entry(ask()?).or_default() += 1;
    }
    let said: Vec<String> = answers
        .iter()
        .map(|(name, times)| format!("{times} of {name}"))
        .collect();
    let said = said.join(", ");
    ensure!(
        answers.len() == 2 && answers.values().all(|times| *times == REQUESTS / 2),
        "not in turn: {said}"
    );
    Ok(said)
}

/// Several requests on one connection, all answered by one task.
pub(super) fn keep_alive(from: &Host, to: SocketAddrV4) -> Result<String> {
    let load = Load::new(Kind::KeepAlive { requests: 0 }, to)
        .clients(1)
        .count(REQUESTS as u64)
        .pause(Duration::from_millis(20));
    let report = load.run(from)?;
    ensure!(report.failures() == 0, "{report}");
    ensure!(report.connections == 1, "{report}");
    Ok(format!("{REQUESTS} answers"))
}

pub(super) fn pinged(from: &Host, to: Ipv4Addr) -> Result<String> {
    match ping(from, to, client::patience())? {
        Some(_) => Ok("answered".into()),
        None => bail!("no answer"),
    }
}

fn client(from: &Host, to: SocketAddrV4) -> Result<String> {
    let seen = client::get(from, to, "/client")?;
    let (_, seen) = seen.split_once("you are ").context("a strange answer")?;
    Ok(seen.to_owned())
}
