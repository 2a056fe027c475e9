//! The demo: two nodes joined by an overlay network, with everything that Docker Swarm asks of IPVS
//! done by bpvs, live.
//!
//! It shows real commands and real answers, checks them, and fails when one is not as it should be.

mod cluster;
mod load;
mod transcript;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::cluster::{Cluster, PUBLISHED, UDP_PORT, WEB_PORT};
pub(crate) use self::transcript::Transcript;
use crate::client;
use crate::host::Host;
use crate::lab::Lab;
use crate::load::{Kind, Load};
use crate::topology::two_nodes::{OUTSIDE, SERVICE};

/// Runs the demo. With `keep` the network is left standing at its end.
pub fn run(bpvs: &Path, keep: bool, plain: bool) -> Result<()> {
    let begin = Instant::now();
    let out = Transcript::new(plain);
    let lab = Lab::new()?;
    if keep {
        lab.keep();
    }
    let mut cluster = network(&out, lab)?;
    services(&out, &mut cluster, bpvs)?;
    in_turn(&out, &cluster)?;
    ping_and_udp(&out, &cluster)?;
    published(&out, &cluster)?;
    load::scale(&out, &mut cluster)?;
    no_task(&out, &cluster)?;
    tables(&out, &cluster)?;
    load::kill(&out, &mut cluster)?;
    if keep {
        kept(&out, &cluster, bpvs);
        return Ok(());
    }
    out.heading("Clean-up");
    let lab = cluster.lab.name().to_owned();
    drop(cluster);
    let left = crate::state::namespaces(&lab).len();
    out.result(
        left == 0,
        &format!(
            "{left} namespaces left; the whole demo took {:.1} s",
            begin.elapsed().as_secs_f32()
        ),
    );
    Ok(())
}

fn network(out: &Transcript, lab: Lab) -> Result<Cluster> {
    out.heading("Two nodes, joined by an overlay network as Docker sets it up");
    let start = Instant::now();
    let mut cluster = Cluster::build(lab)?;
    cluster.nodes.add_tasks(&[0, 1, 0])?;
    let took = start.elapsed();
    out.answer(&format!("outside {OUTSIDE}, on one wire with the nodes"));
    for (index, node) in cluster.nodes.nodes.iter().enumerate() {
        let tasks = cluster
            .nodes
            .tasks
            .iter()
            .filter(|placed| placed.node == index);
        let tasks: Vec<String> = tasks
            .map(|placed| format!("{} {}", placed.task.name(), placed.user))
            .collect();
        out.answer(&format!(
            "{} {}: {}",
            node.host.name(),
            node.address,
            tasks.join(", ")
        ));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ipvs = if Path::new("/proc/net/ip_vs").exists() {
        "has IPVS, which is not used"
    } else {
        "has no IPVS"
    };
    let hosts = cluster.lab.all_hosts().len();
    out.remark(&format!(
        "{hosts} network namespaces, VXLAN 4096 and 4097, built in {:.2} s; Linux {} {ipvs}",
        took.as_secs_f32(),
        release.trim()
    ));
    let nobody = client::connect_result(
        &cluster.nodes.nodes[0].client,
        (SERVICE, WEB_PORT).into_socket(),
    )?;
    out.remark(&format!(
        "Nobody has the address of the service web yet: {SERVICE} is {}",
        if nobody.is_err() {
            "not reached"
        } else {
            "reached?"
        }
    ));
    ensure!(nobody.is_err(), "{SERVICE} answers before bpvs has started");
    Ok(cluster)
}

fn services(out: &Transcript, cluster: &mut Cluster, bpvs: &Path) -> Result<()> {
    out.heading("A daemon on each node, and one file that says what it balances");
    let start = Instant::now();
    cluster.start_daemons(bpvs)?;
    out.remark(&format!(
        "two daemons (bpvs run), ready in {:.2} s",
        start.elapsed().as_secs_f32()
    ));
    for (index, (node, daemon)) in cluster.nodes.nodes.iter().zip(&cluster.daemons).enumerate() {
        let text = cluster.file(node)?;
        let file = format!("{}.toml", node.host.name());
        if index == 0 {
            out.prompt(node.host.name(), format_args!("cat {file}"));
            out.answer(&text);
        }
        out.prompt(node.host.name(), format_args!("bpvs apply {file}"));
        let said = daemon.apply(&node.host, &file, &text)?;
        if index == 0 {
            out.answer(&said);
        } else {
            out.remark("the same with its own addresses");
        }
    }
    Ok(())
}

fn in_turn(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("The service address, six times: the tasks answer in turn");
    let host = &cluster.nodes.nodes[0].client;
    let got: Vec<String> = (0..6)
        .map(|_| fetch(out, "client", host, &format!("{SERVICE}/")))
        .collect::<Result<_>>()?;
    let want: Vec<String> = [3, 2, 1, 3, 2, 1]
        .map(|number| format!("I'm web.{number}"))
        .into();
    ensure!(got == want, "not in turn: {}", got.join(", "));
    out.remark("newest task first, as IPVS's rr has it");
    Ok(())
}

fn ping_and_udp(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("The address answers a ping, and has a UDP service");
    let host = &cluster.nodes.nodes[0].client;
    out.prompt("client", format_args!("lab ping {SERVICE}"));
    let took = host
        .run(|| crate::icmp::ping_here(SERVICE, client::patience()))??
        .context("no answer to a ping")?;
    out.answer(&format!(
        "answer from {SERVICE} after {:.2} ms",
        took.as_secs_f64() * 1000.0
    ));
    for _ in 0..3 {
        out.prompt("client", format_args!("lab udp {SERVICE}:{UDP_PORT} hello"));
        out.answer(&client::ask_udp(
            host,
            (SERVICE, UDP_PORT).into_socket(),
            "hello",
        )?);
    }
    Ok(())
}

fn published(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading(&format!(
        "The published port, {PUBLISHED} -> 8000, from outside through either node"
    ));
    for node in &cluster.nodes.nodes {
        for _ in 0..3 {
            let said = fetch(
                out,
                "outside",
                &cluster.nodes.outside,
                &format!("{}:{PUBLISHED}/client", node.address),
            )?;
            ensure!(
                said.contains(&format!("you are {}:", node.ingress_address)),
                "the task saw another client: {said}"
            );
        }
    }
    out.remark("the client that a task sees is the ingress sandbox of the node that was asked, as in a Swarm with IPVS");
    Ok(())
}

fn no_task(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes.nodes[1];
    ensure!(
        cluster.nodes.tasks.iter().all(|placed| placed.node == 0),
        "node2 still has a task"
    );
    out.heading("node2 has no task any more, and serves the published port all the same");
    for _ in 0..2 {
        fetch(
            out,
            "outside",
            &cluster.nodes.outside,
            &format!("{}:{PUBLISHED}/client", node.address),
        )?;
    }
    Ok(())
}

fn tables(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("What the tables say, while six clients are connected");
    let six = Load::new(
        Kind::KeepAlive { requests: 0 },
        (SERVICE, WEB_PORT).into_socket(),
    )
    .clients(6)
    .endless(AT_MOST);
    let six = six
        .pause(Duration::from_millis(50))
        .start(&cluster.nodes.nodes[0].client)?;
    six.wait_for(12)?;
    let (node, daemon) = (&cluster.nodes.nodes[0], &cluster.daemons[0]);
    for (scope, command) in [
        (&node.balancer, "list"),
        (&node.ingress, "list"),
        (&node.host, "list"),
        (&node.balancer, "conns"),
    ] {
        out.prompt(
            "node1",
            format_args!("bpvs --netns {} {command}", scope.namespace()),
        );
        out.beginning(&daemon.bpvs(scope, command)?, 12);
    }
    six.stop()?.all_answered()
}

fn kept(out: &Transcript, cluster: &Cluster, bpvs: &Path) {
    out.heading("Left standing");
    out.answer(&crate::cli::how_to_enter(&cluster.lab));
    for (node, daemon) in cluster.nodes.nodes.iter().zip(&cluster.daemons) {
        let scope = node.balancer.namespace();
        out.answer(&format!(
            "{}: {} --run-dir {} --netns {scope} list",
            node.host.name(),
            bpvs.display(),
            daemon.run_folder().display()
        ));
    }
    out.remark("take it away with: lab clean");
}

/// Fetches a page with curl where that is installed, else with the lab's own client; shows both
/// command and answer.
fn fetch(out: &Transcript, name: &str, host: &Host, target: &str) -> Result<String> {
    let seconds = client::patience().as_secs().to_string();
    let said = match host
        .command("curl")
        .args(["-sS", "--max-time", &seconds, &format!("http://{target}")])
        .output()
    {
        Ok(output) => {
            out.prompt(name, format_args!("curl http://{target}"));
            if !output.status.success() {
                bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
            }
            String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned()
        }
        Err(_) => {
            out.prompt(name, format_args!("lab get {target}"));
            let (address, path) = target.split_once('/').unwrap_or((target, ""));
            let address = address.parse().or_else(|_| {
                address
                    .parse()
                    .map(|address| (address, WEB_PORT).into_socket())
            })?;
            client::get(host, address, &format!("/{path}"))?
        }
    };
    out.answer(&said);
    Ok(said)
}

/// An address and a port as one; saves a long name in every second line above.
trait IntoSocket {
    fn into_socket(self) -> std::net::SocketAddrV4;
}

impl IntoSocket for (std::net::Ipv4Addr, u16) {
    fn into_socket(self) -> std::net::SocketAddrV4 {
        std::net::SocketAddrV4::new(self.0, self.1)
    }
}

/// How long a load of the demo may run at most.
const AT_MOST: Duration = Duration::from_secs(40);
