//! The scenes: each on a Swarm of its own.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::checks::{self, Check, PORT, TCP};
use super::cluster::{Cluster, IMAGE};
use super::{Inside, Scene};
use crate::client;
use crate::demo::Transcript;
use crate::lab::Lab;
use crate::load::{Kind, Load, Running};
use crate::slow::patient;

/// How long a load may take at most.
const AT_MOST: Duration = Duration::from_secs(600);

/// How many lines of each daemon's log are shown when a scene fails.
const LINES: usize = 40;

pub(super) fn play(out: &Transcript, options: &Inside) -> Result<()> {
    let mut cluster = up(out, &options.cgroup)?;
    let played = act_out(out, options, &mut cluster);
    if played.is_err() {
        for daemon in &cluster.daemons {
            out.remark(&format!(
                "{}: the daemon's last lines",
                daemon.host().name()
            ));
            out.answer(&daemon.log_tail(LINES));
        }
        return played;
    }
    match options.scene {
        Scene::Demo | Scene::Addresses => gone(out, cluster),
        _ => Ok(()),
    }
}

fn act_out(out: &Transcript, options: &Inside, cluster: &mut Cluster) -> Result<()> {
    let bpvs = options.bpvs.as_path();
    match options.scene {
        Scene::Demo => {
            without(out, cluster)?;
            start(out, cluster, bpvs)?;
            addresses(out, cluster)?;
            show(out, cluster)?;
            update(out, cluster, options.rounds)
        }
        Scene::Addresses => {
            without(out, cluster)?;
            start(out, cluster, bpvs)?;
            addresses(out, cluster)
        }
        Scene::Churn => {
            start(out, cluster, bpvs)?;
            churn(out, cluster)
        }
        Scene::Update => {
            start(out, cluster, bpvs)?;
            update(out, cluster, options.rounds)?;
            drain(out, cluster)
        }
        Scene::Kill => {
            start(out, cluster, bpvs)?;
            kill(out, cluster)
        }
        Scene::Clients => {
            start(out, cluster, bpvs)?;
            super::clients::play(out, cluster)
        }
        Scene::Streams => {
            start(out, cluster, bpvs)?;
            super::streams::play(out, cluster)
        }
        Scene::Idle => {
            start(out, cluster, bpvs)?;
            super::streams::idle(out, cluster)
        }
        Scene::Labels => {
            start(out, cluster, bpvs)?;
            labels(out, cluster)
        }
        Scene::Rest => super::rest::play(out, cluster, options),
        Scene::Compare => super::compare::play(out, cluster, options),
        Scene::Restart => {
            start(out, cluster, bpvs)?;
            restart(out, cluster)
        }
    }
}

fn up(out: &Transcript, cgroup: &str) -> Result<Cluster> {
    out.heading("A Docker Swarm: two engines, each in a network namespace of its own");
    let begin = Instant::now();
    let mut cluster = Cluster::build(Lab::new()?, cgroup)?;
    let manager = &cluster.nodes[0];
    out.prompt("n1", "docker node ls");
    let format =
        "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.EngineVersion}}";
    out.answer(&manager.docker_words(&["node", "ls", "--format", format])?);
    out.prompt(
        "n1",
        cluster.create("web", "--publish 8080:80 --publish 8081:80/udp …"),
    );
    cluster.serve()?;
    let manager = &cluster.nodes[0];
    out.prompt("n1", "docker service ps web");
    let format = "{{.Name}} on {{.Node}}: {{.CurrentState}}";
    out.answer(&manager.docker_words(&["service", "ps", "web", "--format", format])?);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ipvs = if Path::new("/proc/net/ip_vs").exists() {
        "has IPVS"
    } else {
        "has no IPVS"
    };
    out.remark(&format!(
        "up after {:.1} s; Linux {} {ipvs}",
        begin.elapsed().as_secs_f32(),
        kernel.trim()
    ));
    Ok(cluster)
}

/// Shows checks, and says how many failed.
fn shown(out: &Transcript, checks: &[Check]) -> usize {
    for check in checks {
        let what = &check.what;
        match &check.outcome {
            Ok(answer) => out.result(true, &format!("ok    {what}: {answer}")),
            Err(error) => {
                let (time, error) = (check.time(), error.root_cause());
                out.result(false, &format!("FAIL  {what}: {error} (at {time})"));
            }
        }
    }
    checks.iter().filter(|check| check.outcome.is_err()).count()
}

pub(super) fn all_good(out: &Transcript, checks: &[Check]) -> Result<()> {
    let failed = shown(out, checks);
    ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    Ok(())
}

fn without(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("Without bpvs: tasks are reached, services are not");
    all_good(out, &checks::tasks(cluster, &cluster.tasks("web")?))?;
    if Path::new("/proc/net/ip_vs").exists() {
        out.remark("this kernel has IPVS: services are reached, and bpvs takes over");
        return Ok(());
    }
    let checks = checks::nothing(cluster, cluster.address("web")?);
    let failed = shown(out, &checks);
    ensure!(
        failed == checks.len(),
        "something answers where nothing should"
    );
    Ok(())
}

pub(super) fn start(out: &Transcript, cluster: &mut Cluster, bpvs: &Path) -> Result<()> {
    out.heading("bpvs on each node");
    let begin = Instant::now();
    for node in &cluster.nodes {
        out.prompt(
            node.host.name(),
            format!("bpvs run --swarm={}", node.socket()),
        );
    }
    cluster.start_bpvs(bpvs)?;
    cluster.followed("web", 2)?;
    out.remark(&format!(
        "ready and serving after {:.2} s",
        begin.elapsed().as_secs_f32()
    ));
    Ok(())
}

fn addresses(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("With bpvs: the service address, from a container on each node; published ports, from everywhere");
    all_good(out, &checks::all(cluster, cluster.address("web")?))
}

fn show(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("What bpvs knows, and what it serves");
    for daemon in &cluster.daemons {
        out.prompt(daemon.host().name(), "bpvs swarm");
        out.answer(&daemon.bpvs(daemon.host(), "swarm")?);
    }
    let daemon = &cluster.daemons[1];
    out.prompt(daemon.host().name(), "bpvs list");
    out.answer(&daemon.bpvs(daemon.host(), "list")?);
    Ok(())
}

/// Clients from a container and from outside, with and without keep-alive.
pub(super) fn load(cluster: &Cluster) -> Result<Vec<(&'static str, Running)>> {
    let address = SocketAddrV4::new(cluster.address("web")?, PORT);
    let published = SocketAddrV4::new(cluster.nodes[1].address, TCP);
    let pause = patient(Duration::from_millis(10));
    let short = |to| {
        Load::new(Kind::Short, to)
            .clients(4)
            .endless(AT_MOST)
            .pause(pause)
    };
    let keep = Load::new(Kind::KeepAlive { requests: 20 }, address)
        .clients(4)
        .endless(AT_MOST)
        .pause(pause);
    let loads = vec![
        (
            "a container on n1, a connection for each request",
            short(address).start(&cluster.probes[0])?,
        ),
        (
            "a container on n2, 20 requests a connection",
            keep.start(&cluster.probes[1])?,
        ),
        (
            "outside, through n2's published port",
            short(published).start(&cluster.outside)?,
        ),
    ];
    loads.iter().try_for_each(|(_, load)| load.wait_for(100))?;
    Ok(loads)
}

pub(super) fn none_failed(out: &Transcript, loads: Vec<(&'static str, Running)>) -> Result<()> {
    let mut failed = 0;
    for (what, load) in loads {
        let report = load.stop()?;
        failed += report.failures();
        out.result(report.failures() == 0, &format!("{what}: {report}"));
    }
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

fn update(out: &Transcript, cluster: &Cluster, rounds: u32) -> Result<()> {
    out.heading(&format!("{rounds} rolling updates under load"));
    let loads = load(cluster)?;
    updates(out, cluster, rounds)?;
    none_failed(out, loads)
}

/// So many, one after the other.
pub(super) fn updates(out: &Transcript, cluster: &Cluster, rounds: u32) -> Result<()> {
    for _ in 0..rounds {
        // The new task is on the node of the old one, which it has to leave first.
        let command = "service update --quiet --detach --force --update-delay 1s web";
        out.prompt("n1", format_args!("docker {command}"));
        cluster.nodes[0].docker(command)?;
        // The engine takes a moment to begin.
        std::thread::sleep(Duration::from_secs(1));
        cluster.updated("web")?;
        cluster.running("web", 2)?;
    }
    Ok(())
}

fn drain(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("A node is drained under load");
    let manager = &cluster.nodes[0];
    manager.docker("service update --quiet --detach --replicas-max-per-node 0 --replicas 4 web")?;
    cluster.running("web", 4)?;
    cluster.followed("web", 4)?;
    let loads = load(cluster)?;
    out.prompt("n1", "docker node update --availability drain n2");
    manager.docker("node update --availability drain n2")?;
    cluster.until("no task is on n2", || {
        let on = manager.docker_words(&[
            "service",
            "ps",
            "web",
            "--filter",
            "desired-state=running",
            "--format",
            "{{.Node}}",
        ])?;
        Ok(on.lines().all(|node| node == "n1"))
    })?;
    cluster.running("web", 4)?;
    std::thread::sleep(Duration::from_secs(4));
    none_failed(out, loads)?;
    manager.docker("node update --availability active n2")?;
    Ok(())
}

fn churn(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let manager = &cluster.nodes[0];
    let address = cluster.address("web")?;
    let node = SocketAddrV4::new(cluster.nodes[1].address, 8082);
    let answers = || Ok(client::who(&cluster.outside, node).is_ok());
    let act = |command: &str| -> Result<()> {
        out.prompt("n1", format_args!("docker {command}"));
        manager.docker(command).map(drop)
    };
    let settled = |tasks| -> Result<()> {
        cluster.running("web", tasks)?;
        cluster.followed("web", tasks)
    };
    let settled_update = || -> Result<()> {
        std::thread::sleep(Duration::from_secs(1));
        cluster.updated("web")?;
        settled(2)
    };

    out.heading("A port is published, and no longer");
    act("service update --quiet --detach --publish-add 8082:80 web")?;
    settled_update()?;
    cluster.until("8082 is answered", answers)?;
    all_good(out, &checks::all(cluster, address))?;
    // It goes by the task's port: 8080 goes, too.
    act("service update --quiet --detach --publish-rm 80 web")?;
    settled_update()?;
    cluster.until("8082 is not answered", || {
        answers().map(|answered| !answered)
    })?;
    let published = SocketAddrV4::new(cluster.nodes[0].address, TCP);
    let nobody = client::who(&cluster.outside, published);
    ensure!(nobody.is_err(), "{published} is answered by {nobody:?}");
    act("service update --quiet --detach --publish-add 8080:80 web")?;
    settled_update()?;
    cluster.until("8080 is answered", || {
        Ok(client::who(&cluster.outside, published).is_ok())
    })?;
    all_good(out, &checks::all(cluster, address))?;

    out.heading("A rolling restart");
    act("service update --quiet --detach --force web")?;
    settled_update()?;
    all_good(out, &checks::all(cluster, address))?;

    out.heading("No task, and two again");
    act("service scale --detach web=0")?;
    settled(0)?;
    let nobody = client::who(&cluster.probes[0], SocketAddrV4::new(address, PORT));
    ensure!(nobody.is_err(), "somebody answers for no task: {nobody:?}");
    act("service scale --detach web=2")?;
    settled(2)?;
    all_good(out, &checks::all(cluster, address))?;

    out.heading("The service is removed and made anew; another one is there");
    act("service rm web")?;
    cluster.followed("web", 0)?;
    act(&cluster.create(
        "web",
        "--replicas-max-per-node 1 --publish 8080:80 --publish 8081:80/udp",
    ))?;
    act(&cluster.create("api", "--replicas-max-per-node 1"))?;
    settled(2)?;
    cluster.running("api", 2)?;
    cluster.followed("api", 2)?;
    all_good(out, &checks::all(cluster, cluster.address("web")?))?;
    let other = client::who(
        &cluster.probes[0],
        SocketAddrV4::new(cluster.address("api")?, PORT),
    )?;
    ensure!(other.starts_with("api."), "{other} answers for api");

    out.heading("A service on two networks");
    act("network create --driver overlay --attachable second")?;
    act("service update --quiet --detach --network-add second web")?;
    settled_update()?;
    for (node, number) in cluster.nodes.iter().zip(1..) {
        node.docker(&format!(
            "run --detach --name second --network second {IMAGE}"
        ))?;
        let probe = node.container("second")?;
        let format = "{{range .Endpoint.VirtualIPs}}{{.Addr}}{{\"\\n\"}}{{end}}";
        let all = manager.docker_words(&["service", "inspect", "web", "--format", format])?;
        let addresses: Vec<std::net::Ipv4Addr> = all
            .lines()
            .filter_map(|line| line.split('/').next()?.parse().ok())
            .collect();
        ensure!(addresses.len() == 3, "web has the addresses {addresses:?}");
        let network = manager.docker_words(&[
            "network",
            "inspect",
            "second",
            "--format",
            "{{(index .IPAM.Config 0).Subnet}}",
        ])?;
        let prefix = network.rsplit_once('.').context("a strange network")?.0;
        let own = addresses
            .iter()
            .find(|address| address.to_string().starts_with(prefix))
            .context("no address on the second network")?;
        cluster.until(
            &format!("the second address is answered on n{number}"),
            || Ok(client::turns(&probe, SocketAddrV4::new(*own, PORT), 4)?.len() == 4),
        )?;
    }
    all_good(out, &checks::all(cluster, cluster.address("web")?))
}

fn kill(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("A task is killed");
    let address = SocketAddrV4::new(cluster.address("web")?, PORT);
    let connections = |count| {
        Load::new(Kind::KeepAlive { requests: 0 }, address)
            .clients(count)
            .endless(AT_MOST)
            .pause(Duration::from_millis(100))
            .start(&cluster.probes[0])
    };
    let load = connections(8)?;
    load.wait_for(80)?;
    let node = &cluster.nodes[1];
    let container = cluster.task_on(node)?;
    let begin = Instant::now();
    out.prompt("n2", format_args!("docker kill {container}"));
    node.docker(&format!("kill {container}"))?;
    cluster.followed("web", 1)?;
    out.remark(&format!(
        "out of all services {:.0} ms later",
        begin.elapsed().as_secs_f64() * 1000.0
    ));
    let during = client::turns(&cluster.probes[0], address, 8);
    out.result(during.is_ok(), &format!("new connections: {during:?}"));
    during?;
    load.wait_for(160)?;
    let report = load.stop()?;
    out.remark(&format!("8 clients with a connection each: {report}"));
    let lost: u64 = report.lost.values().sum();
    ensure!(lost > 0, "the killed task held no connection");
    ensure!(
        report.failures() <= lost,
        "more failed than there were connections to the killed task: {report}"
    );
    let silent = report
        .failed
        .get(&crate::load::Failure::Timeout)
        .copied()
        .unwrap_or(0);
    ensure!(silent == 0, "{silent} clients were left waiting: {report}");
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    all_good(out, &checks::all(cluster, cluster.address("web")?))
}

fn labels(out: &Transcript, cluster: &Cluster) -> Result<()> {
    out.heading("Labels");
    let manager = &cluster.nodes[0];
    let address = SocketAddrV4::new(cluster.address("web")?, PORT);
    let label = |name: &str| -> Result<()> {
        let command = format!("service update --quiet --detach --label-add {name} web");
        out.prompt("n1", format_args!("docker {command}"));
        manager.docker(&command).map(drop)
    };
    let daemon = &cluster.daemons[0];
    let sandbox = cluster.sandbox(0)?;
    let has = |word: &str| -> Result<bool> { Ok(daemon.bpvs(&sandbox, "list")?.contains(word)) };
    label("bpvs.scheduler=wlc")?;
    cluster.until("wlc is used on n1", || has("wlc"))?;
    label("bpvs.timeout=8h")?;
    cluster.until("8 h are remembered on n1", || {
        Ok(daemon.bpvs(&sandbox, "list --json")?.contains("8h"))
    })?;
    label("bpvs.persistent=300")?;
    cluster.until("web is persistent on n1", || has("persistent"))?;
    let turns = client::turns(&cluster.probes[0], address, 6)?;
    ensure!(
        turns.iter().all(|name| *name == turns[0]),
        "a persistent service's answers come from {turns:?}"
    );
    out.result(true, &format!("{} of {}", turns.len(), turns[0]));
    label("bpvs.scheduler=best")?;
    cluster.until("a wrong label is told", || {
        Ok(daemon
            .bpvs(daemon.host(), "swarm")?
            .contains("bpvs.scheduler=best"))
    })?;
    out.prompt("n1", "bpvs swarm");
    out.answer(&daemon.bpvs(daemon.host(), "swarm")?);
    Ok(())
}

fn restart(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let address = cluster.address("web")?;
    out.heading("bpvs is killed under load, and another one takes up");
    let loads = load(cluster)?;
    for daemon in &cluster.daemons {
        daemon.kill()?;
    }
    loads.iter().try_for_each(|(_, load)| load.wait_for(200))?;
    for daemon in &cluster.daemons {
        daemon.run()?;
    }
    cluster.followed("web", 2)?;
    loads.iter().try_for_each(|(_, load)| load.wait_for(200))?;
    none_failed(out, loads)?;
    out.heading("Without the daemon everything is answered; and with a new one");
    for daemon in &cluster.daemons {
        daemon.kill()?;
    }
    all_good(out, &checks::all(cluster, address))?;
    for daemon in &cluster.daemons {
        daemon.run()?;
    }
    cluster.followed("web", 2)?;
    all_good(out, &checks::all(cluster, address))?;
    out.heading("The engine of n2 is restarted, with all of its containers");
    cluster.nodes[1].restart(&cluster.lab)?;
    // On a worker the network is there only once the node has joined again.
    cluster.until("the probe on n2 is started", || {
        cluster.nodes[1].docker("start probe").map(|_| true)
    })?;
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    let probe = cluster.nodes[1].container("probe")?;
    let to = SocketAddrV4::new(address, PORT);
    cluster.until("the service is answered on n2", || {
        Ok(client::turns(&probe, to, 6)?.len() == 6)
    })?;
    all_good(out, &checks::published_at(cluster, 1, &[&cluster.outside]))?;
    out.heading("bpvs down: nothing is left of it");
    for daemon in &cluster.daemons {
        daemon.bpvs(daemon.host(), "down")?;
        ensure!(daemon.ended(Duration::from_secs(5))?, "the daemon goes on");
        let pins = daemon.pins()?;
        ensure!(pins.is_empty(), "pins are left: {pins:?}");
    }
    if !Path::new("/proc/net/ip_vs").exists() {
        let checks = checks::nothing(cluster, address);
        ensure!(
            shown(out, &checks) == checks.len(),
            "something answers where nothing should"
        );
    }
    Ok(())
}

/// All that was made goes.
fn gone(out: &Transcript, cluster: Cluster) -> Result<()> {
    out.heading("Clean-up");
    for daemon in &cluster.daemons {
        out.prompt(daemon.host().name(), "bpvs down");
        daemon.bpvs(daemon.host(), "down")?;
    }
    drop(cluster);
    out.remark("engines, containers and networks end with the namespaces in which they ran");
    Ok(())
}
