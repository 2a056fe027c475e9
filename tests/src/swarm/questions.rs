//! Everything that is asked of a Swarm's service, and answers in words that are the same for whoever balances it: who
//! answered in which turn, and whom the tasks saw.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};

use super::checks::{self, Check, PORT, TCP, UDP};
use super::clients::parsed;
use super::cluster::{Cluster, SERVICE};
use crate::client;
use crate::host::Host;
use crate::load::Failure;

/// Requests of one question.
const REQUESTS: usize = 6;
/// A port of the service address at which no task listens, published though it is.
const NOBODYS: u16 = TCP;

/// How a request goes.
#[derive(Debug, Clone, Copy)]
enum By {
    Tcp,
    Udp,
}

/// All questions with their answers.
pub(super) fn all(cluster: &Cluster) -> Result<Vec<Check>> {
    let service = cluster.address(SERVICE)?;
    let mut checks = Vec::new();
    let mut ask = |what: String, outcome| checks.push(Check::new(what, outcome));
    let web = SocketAddrV4::new(service, PORT);
    for (node, probe) in cluster.nodes.iter().zip(&cluster.probes) {
        let from = probe.name();
        ask(
            format!("{from}: the name {SERVICE}"),
            resolved(probe, SERVICE),
        );
        ask(
            format!("{from}: the name tasks.{SERVICE}"),
            resolved_tasks(cluster, probe),
        );
        ask(format!("{from} -> tcp {web}"), turns(probe, By::Tcp, web));
        ask(format!("{from} -> udp {web}"), turns(probe, By::Udp, web));
        ask(
            format!("{from} -> {web}, one connection"),
            checks::keep_alive(probe, web),
        );
        ask(
            format!("{from} -> ping {service}"),
            checks::pinged(probe, service),
        );
        let nobodys = SocketAddrV4::new(service, NOBODYS);
        ask(
            format!("{from} -> tcp {nobodys}, where nobody listens"),
            turns(probe, By::Tcp, nobodys),
        );
        let task = node.container(&cluster.task_on(node)?)?;
        ask(
            format!("the task on {} -> its own service, tcp", node.host.name()),
            turns(&task, By::Tcp, web),
        );
        ask(
            format!("the task on {} -> its own service, udp", node.host.name()),
            turns(&task, By::Udp, web),
        );
    }
    let from = [&cluster.outside].into_iter().chain(&cluster.probes);
    let from: Vec<&Host> = from.collect();
    for node in &cluster.nodes {
        let itself = [Ipv4Addr::LOCALHOST, node.address].map(|address| (&node.host, address));
        let others = from.iter().map(|from| (*from, node.address));
        for (from, address) in others.chain(itself) {
            for (by, name, port) in [(By::Tcp, "tcp", TCP), (By::Udp, "udp", UDP)] {
                let to = SocketAddrV4::new(address, port);
                ask(
                    format!("{} -> published {name} {to}", from.name()),
                    turns(from, by, to),
                );
            }
        }
    }
    Ok(checks)
}

/// What came of each request in turn: `abab: a, b; they saw 10.0.1.5`. Who began is all the same, and so are the tasks'
/// names: those of an update are others.
fn turns(from: &Host, by: By, to: SocketAddrV4) -> Result<String> {
    let (mut order, mut names) = (String::new(), Vec::new());
    let (mut clients, mut failures) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..REQUESTS {
        let said = match by {
            By::Tcp => client::get(from, to, "/client"),
            By::Udp => client::ask_udp(from, to, "client"),
        };
        match said.and_then(|said| parsed(&said)) {
            Ok((name, client)) => {
                let index = names.iter().position(|known| *known == name);
                let index = index.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                order.extend(('a'..='z').nth(index));
                clients.insert(*client.ip());
            }
            Err(error) => {
                order.push('!');
                failures.insert(reason(&error));
            }
        }
    }
    if names.is_empty() {
        let failures: Vec<String> = failures.into_iter().collect();
        return Ok(format!("nobody: {}", failures.join(", ")));
    }
    let clients: Vec<String> = clients.iter().map(ToString::to_string).collect();
    let mut said = format!("{order}, from {}", clients.join(", "));
    for failure in failures {
        said += &format!(", ! {failure}");
    }
    Ok(said)
}

/// Why a request failed, without numbers that are other ones each time.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => Failure::from(error).to_string(),
        None => error.root_cause().to_string(),
    }
}

/// The addresses of a name, as the container's resolver has them.
fn resolved(from: &Host, name: &str) -> Result<String> {
    let found = from.run(|| lookup(name))??;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    Ok(found.join(", "))
}

/// The same of the tasks, who have other addresses after each update.
fn resolved_tasks(cluster: &Cluster, from: &Host) -> Result<String> {
    let found = from.run(|| lookup(&format!("tasks.{SERVICE}")))??;
    let tasks: BTreeSet<Ipv4Addr> = cluster.tasks(SERVICE)?.into_iter().collect();
    ensure!(found == tasks, "{found:?} instead of {tasks:?}");
    Ok(format!("its {} tasks", tasks.len()))
}

/// Asks the resolver that Docker has in every container, by one datagram (RFC 1035).
fn lookup(name: &str) -> Result<BTreeSet<Ipv4Addr>> {
    const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let answer = client::exchange(RESOLVER, &question)?;
    let mut rest = answer.get(question.len()..).context("a short answer")?;
    // Each record has the name once more, whole or as a reference to the first, and ends with four bytes.
    let mut found = BTreeSet::new();
    while !rest.is_empty() {
        let name = match rest[0] {
            0xc0.. => 2,
            _ => rest.iter().position(|byte| *byte == 0).context("no name")? + 1,
        };
        let record = rest.get(name..name + 14).context("a short record")?;
        ensure!(
            record[..4] == [0, 1, 0, 1] && record[8..10] == [0, 4],
            "a strange answer: {record:?}"
        );
        found.insert(Ipv4Addr::new(
            record[10], record[11], record[12], record[13],
        ));
        rest = &rest[name + 14..];
    }
    ensure!(!found.is_empty(), "no address");
    Ok(found)
}
