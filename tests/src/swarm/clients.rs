//! Clients' addresses, kept through the mesh of published ports.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::checks::{self, PORT, TCP, UDP};
use super::cluster::Cluster;
use super::scenes::{all_good, load, none_failed};
use crate::client;
use crate::demo::Transcript;
use crate::host::Host;

/// The host outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 254);

/// Lengths of datagrams, all of which fit into the network between the nodes.
const DATAGRAMS: [usize; 3] = [0, 512, 1392];

/// More than fits into one segment of any size.
const LARGE: u64 = 3_000_000;

pub(super) fn play(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let manager = &cluster.nodes[0];
    out.heading("As IPVS has it: tasks see the sandbox of the node that was asked");
    for (node, port) in published(cluster) {
        let seen = seen(&cluster.outside, node, port)?;
        out.answer(&format!("{node}:{port}: {seen:?}"));
        ensure!(
            !seen.values().any(|client| *client == OUTSIDE),
            "kept unasked: {seen:?}"
        );
    }

    out.heading("By label: they see who asks, on the node that was asked and on the other");
    let command =
        "service update --quiet --detach --container-label-add bpvs.client-address=keep-all web";
    out.prompt("n1", format_args!("docker {command}"));
    manager.docker(command)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.updated("web")?;
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    kept(cluster)?;
    show(out, cluster)?;
    everything(out, cluster)?;
    same_port(out, cluster)?;

    out.heading("Rolling restart under load");
    let loads = load(cluster)?;
    manager.docker("service update --quiet --detach --force --update-delay 1s web")?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.updated("web")?;
    cluster.running("web", 2)?;
    none_failed(out, loads)?;
    cluster.followed("web", 2)?;
    kept(cluster)?;

    out.heading("Without the daemons, for longer than what they know of neighbours is trusted");
    for daemon in &cluster.daemons {
        daemon.kill()?;
    }
    std::thread::sleep(Duration::from_secs(6));
    kept(cluster)?;
    for daemon in &cluster.daemons {
        daemon.run()?;
    }
    cluster.followed("web", 2)?;
    kept(cluster)?;

    let listen_at = |port: u16| {
        let program = format!("/task {port}");
        let words = ["service", "update", "--quiet", "--detach", "--args"];
        manager.docker_words(&[&words[..], &[program.as_str(), "web"]].concat())
    };
    out.heading(
        "A refused connection is refused at once: what a task's kernel says comes back, too",
    );
    listen_at(81)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.updated("web")?;
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    for node in &cluster.nodes {
        let to = SocketAddrV4::new(node.address, TCP);
        cluster.until("it is refused", || {
            let outcomes = (0..4).map(|_| client::connect_result(&cluster.outside, to));
            let outcomes: Vec<_> = outcomes.collect::<Result<_>>()?;
            let refused = |outcome: &std::io::Result<()>| {
                matches!(outcome, Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
            };
            Ok(outcomes.iter().all(refused))
        })?;
    }
    listen_at(80)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.updated("web")?;
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    kept(cluster)?;

    out.heading("The fallback: containers on n2 look back (rp_filter 1)");
    let sandbox = Host::at(
        "ingress",
        &cluster.nodes[1].sandboxes().join("ingress_sbox"),
    )?;
    sandbox.sysctl("net.ipv4.conf.default.rp_filter", "1")?;
    translated(out, cluster)?;
    sandbox.sysctl("net.ipv4.conf.default.rp_filter", "0")?;
    cluster.until("addresses are kept again", || kept(cluster).map(|()| true))?;

    out.heading("The fallback: bpvs keeps none on n2");
    let daemon = &cluster.daemons[1];
    daemon.bpvs(daemon.host(), "down")?;
    ensure!(daemon.ended(Duration::from_secs(5))?, "the daemon goes on");
    for port in [TCP, UDP] {
        cluster.until("n1 translates", || {
            Ok(seen(&cluster.outside, cluster.nodes[0].address, port)?
                .values()
                .all(|client| *client != OUTSIDE))
        })?;
    }
    let problem = cluster.daemons[0].bpvs(cluster.daemons[0].host(), "swarm")?;
    ensure!(
        problem.contains("does not answer"),
        "it is not told: {problem}"
    );
    Ok(())
}

/// Everything that has to work whoever is seen.
fn everything(out: &Transcript, cluster: &Cluster) -> Result<()> {
    all_good(out, &checks::all(cluster, cluster.address("web")?))?;
    for node in &cluster.nodes {
        let to = SocketAddrV4::new(node.address, TCP);
        for _ in 0..2 {
            client::download(&cluster.outside, to, LARGE)?;
            client::upload(&cluster.outside, to, LARGE)?;
        }
        out.result(
            true,
            &format!("{LARGE} bytes from both tasks and to both through {to}"),
        );
    }
    for (node, length) in cluster
        .nodes
        .iter()
        .flat_map(|node| DATAGRAMS.map(|n| (node, n)))
    {
        let (to, text) = (SocketAddrV4::new(node.address, UDP), "d".repeat(length));
        for _ in 0..2 {
            let answer = client::ask_udp(&cluster.outside, to, &text)?;
            ensure!(
                answer.ends_with(&text),
                "{length} bytes to {to} came back as {answer}"
            );
        }
    }
    out.result(true, &format!("datagrams of {DATAGRAMS:?} bytes"));
    // The client's own port is on its way twice.
    let seen = client::get(
        &cluster.probes[0],
        SocketAddrV4::new(cluster.address("web")?, PORT),
        "/client",
    )?;
    ensure!(!seen.contains("you are 192.168"), "{seen}");
    Ok(())
}

/// A client's port may have two nodes at its other ends: the same task then has two connections, told apart by their ports.
fn same_port(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let nodes: Vec<SocketAddrV4> = cluster
        .nodes
        .iter()
        .map(|node| SocketAddrV4::new(node.address, TCP))
        .collect();
    let mut at_one_task = 0;
    for number in 0..6_u16 {
        let local = SocketAddrV4::new(OUTSIDE, 31_000 + number);
        let mut open = cluster.outside.run(|| -> Result<Vec<TcpStream>> {
            nodes
                .iter()
                .map(|node| client::connect_from(local, *node))
                .collect()
        })??;
        let mut said = Vec::new();
        for stream in &mut open {
            said.push(ask_client(stream)?);
        }
        ensure!(
            said.iter().all(|(_, client)| *client.ip() == OUTSIDE),
            "from {local}: {said:?}"
        );
        ensure!(
            said.iter().any(|(_, client)| client.port() == local.port()),
            "nobody sees the port: {said:?}"
        );
        if said[0].0 == said[1].0 {
            at_one_task += 1;
            ensure!(said[0].1 != said[1].1, "two are one: {said:?}");
        }
        // Else the two nodes' turns would stay as they are to each other.
        if number % 2 == 0 {
            client::who(&cluster.outside, nodes[1])?;
        }
    }
    ensure!(
        at_one_task > 0,
        "no task was asked through both nodes at once"
    );
    out.result(
        true,
        &format!("a port for both nodes at once: {at_one_task} of 6 times at one task"),
    );
    Ok(())
}

/// The task at the other end, and whom it sees.
fn ask_client(stream: &mut TcpStream) -> Result<(String, SocketAddrV4)> {
    stream.write_all(b"GET /client HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parsed(answer.lines().last().unwrap_or_default())
}

/// `I'm NAME, you are ADDRESS:PORT`.
pub(super) fn parsed(said: &str) -> Result<(String, SocketAddrV4)> {
    let strange = || format!("a strange answer: {said}");
    let rest = said.strip_prefix("I'm ").with_context(strange)?;
    let (name, client) = rest.split_once(", you are ").with_context(strange)?;
    Ok((name.to_owned(), client.parse()?))
}

fn show(out: &Transcript, cluster: &Cluster) -> Result<()> {
    for (node, daemon) in cluster.nodes.iter().zip(&cluster.daemons) {
        let to = SocketAddrV4::new(node.address, TCP);
        out.prompt(
            "outside",
            format_args!("curl http://{to}/client, four times"),
        );
        let seen = seen(&cluster.outside, node.address, TCP)?;
        out.answer(&format!("{seen:?}"));
        let sandbox = Host::at("ingress", &node.sandboxes().join("ingress_sbox"))?;
        for host in [daemon.host(), &sandbox] {
            out.prompt(
                node.host.name(),
                format_args!("bpvs list, in {}", host.name()),
            );
            out.answer(&daemon.bpvs(host, "list")?);
        }
    }
    Ok(())
}

/// Both tasks are asked through both nodes, and see the client itself.
fn kept(cluster: &Cluster) -> Result<()> {
    for (node, port) in published(cluster) {
        cluster.until(&format!("tasks behind {node}:{port} see who asks"), || {
            let seen = seen(&cluster.outside, node, port)?;
            ensure!(seen.len() == 2, "not in turn: {seen:?}");
            Ok(seen.values().all(|client| *client == OUTSIDE))
        })?;
    }
    Ok(())
}

/// All tasks are reached through both nodes, and none sees the client.
fn translated(out: &Transcript, cluster: &Cluster) -> Result<()> {
    for (node, port) in published(cluster) {
        cluster.until(
            &format!("tasks behind {node}:{port} see the sandbox"),
            || {
                let seen = seen(&cluster.outside, node, port)?;
                ensure!(seen.len() == 2, "not in turn: {seen:?}");
                Ok(seen.values().all(|client| *client != OUTSIDE))
            },
        )?;
    }
    for daemon in &cluster.daemons {
        let said = daemon.bpvs(daemon.host(), "swarm")?;
        ensure!(
            said.contains("addresses are translated"),
            "it is not told: {said}"
        );
        out.answer(said.lines().nth(1).unwrap_or_default());
    }
    Ok(())
}

/// The nodes with each of their published ports.
fn published(cluster: &Cluster) -> impl Iterator<Item = (Ipv4Addr, u16)> {
    let nodes = cluster.nodes.iter().map(|node| node.address);
    nodes.flat_map(|node| [(node, TCP), (node, UDP)])
}

/// What the tasks saw of four requests: the client's address by the task's name.
fn seen(from: &Host, node: Ipv4Addr, port: u16) -> Result<BTreeMap<String, Ipv4Addr>> {
    let mut all = BTreeMap::new();
    let to = SocketAddrV4::new(node, port);
    for _ in 0..4 {
        let said = match port {
            UDP => client::ask_udp(from, to, "client")?,
            _ => client::get(from, to, "/client")?,
        };
        let (name, client) = parsed(&said)?;
        let before = all.insert(name.clone(), *client.ip());
        ensure!(
            before.is_none_or(|before| before == *client.ip()),
            "{name} saw both {before:?} and {client}"
        );
    }
    Ok(all)
}
