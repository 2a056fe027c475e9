//! The lab itself, without bpvs: that its networks carry traffic, that its load notices what goes
//! wrong, and that nothing of it is left.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::setup::{in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::icmp::{Listener, ping};
use crate::load::{Failure, Kind, Load};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::{CLIENT, Director, Options, server_address};
use crate::topology::one_arm::OneArm;
use crate::topology::scopes;
use crate::topology::two_nodes::TwoNodes;
use crate::{Lab, state};

pub(super) const CASES: &[Case] = &[
    case(
        "lab/director",
        "a director network that does not carry traffic when it forwards",
        director,
    ),
    case(
        "lab/one-arm",
        "a one-arm network that does not carry traffic",
        one_arm,
    ),
    case(
        "lab/two-nodes",
        "an overlay network without a way between its nodes",
        two_nodes,
    ),
    case(
        "lab/five-scopes",
        "networks of the same lab that are joined by mistake",
        five_scopes,
    ),
    case(
        "lab/mtu",
        "a smaller MTU that the case on MTU would not meet",
        mtu,
    ),
    case(
        "lab/killed-task",
        "load that does not notice a server that dies",
        killed_task,
    ),
    case(
        "lab/drain",
        "a server that loses requests by itself when it is told to finish",
        drain,
    ),
    case(
        "lab/leaves-nothing",
        "a namespace, mount or process that outlives its lab",
        leaves_nothing,
    ),
];

fn director(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = Director::build(
        &lab,
        &Options {
            forward: true,
            ..Options::default()
        },
    )?;
    let (web, echo, udp) = (
        at("10.0.1.11:8000"),
        at("10.0.1.11:7000"),
        at("10.0.1.11:9000"),
    );
    Load::new(Kind::Short, web)
        .count(300)
        .run(&net.client)?
        .all_answered()?;
    Load::new(Kind::KeepAlive { requests: 10 }, web)
        .count(300)
        .run(&net.client)?
        .all_answered()?;
    Load::new(Kind::Long, echo)
        .clients(20)
        .count(200)
        .run(&net.client)?
        .all_answered()?;
    Load::new(Kind::Udp { fresh: true }, udp)
        .count(300)
        .run(&net.client)?
        .all_answered()?;
    Load::new(Kind::Udp { fresh: false }, udp)
        .count(300)
        .run(&net.client)?
        .all_answered()?;
    client::download(&net.client, web, 32 << 20)?;
    client::upload(&net.client, web, 32 << 20)?;
    client::ask_udp_unchecked(&net.client, udp, "no checksum")?;
    let long: String = ('a'..='z').cycle().take(9000).collect();
    ensure!(
        client::ask_udp(&net.client, udp, &long)?.ends_with(&long),
        "9000 bytes came back changed"
    );
    let seen = client::get(&net.client, web, "/client")?;
    ensure!(
        seen.starts_with(&format!("I'm rs1, you are {CLIENT}:")),
        "the server sees {seen}"
    );
    ensure!(
        ping(&net.client, server_address(2), client::patience())?.is_some(),
        "no ping"
    );
    let nobody = Load::new(Kind::Short, at("10.0.1.11:8001"))
        .count(4)
        .run(&net.client)?;
    same(
        "connects to a closed port",
        &nobody.failed.get(&Failure::Refused),
        &Some(&4),
    )
}

fn one_arm(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = OneArm::build(&lab, 3)?;
    for number in 1..=3 {
        same(
            "who",
            &client::who(
                &net.director,
                (server_address(number).to_string() + ":8000").parse()?,
            )?,
            &format!("rs{number}"),
        )?;
    }
    Ok(())
}

fn two_nodes(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let mut nodes = TwoNodes::build(&lab)?;
    nodes.add_tasks(&[0, 1])?;
    nodes.add_tasks(&[1])?;
    for node in &nodes.nodes {
        let turns: Vec<String> = (11..14)
            .map(|last| client::who(&node.client, at(&format!("10.0.1.{last}:8000"))))
            .collect::<Result<_>>()?;
        in_turn(&turns, &["web.1", "web.2", "web.3"])?;
        let turns: Vec<String> = (11..14)
            .map(|last| client::who(&node.ingress, at(&format!("10.0.0.{last}:8000"))))
            .collect::<Result<_>>()?;
        in_turn(&turns, &["web.1", "web.2", "web.3"])?;
        for last in 11..14 {
            client::upload(&node.client, at(&format!("10.0.1.{last}:8000")), 4 << 20)?;
            client::ask_udp(&node.balancer, at(&format!("10.0.1.{last}:9000")), "hello")?;
        }
        ensure!(
            ping(&nodes.outside, node.address, client::patience())?.is_some(),
            "no ping from outside"
        );
        let nobody = ping(
            &node.client,
            Ipv4Addr::new(10, 0, 1, 2),
            Duration::from_millis(200),
        )?;
        ensure!(nobody.is_none(), "somebody has the service address");
    }
    nodes.remove_task("web.2")?;
    let gone = client::who(&nodes.nodes[0].client, at("10.0.1.12:8000"));
    ensure!(gone.is_err(), "a removed task still answers");
    Ok(())
}

fn five_scopes(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    for (network, number) in scopes::build(&lab, 5)?.iter().zip(1..) {
        same(
            "who",
            &client::who(&network.director, at("10.0.1.12:8000"))?,
            &format!("s{number}-rs2"),
        )?;
    }
    Ok(())
}

fn mtu(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = Director::build(
        &lab,
        &Options {
            forward: true,
            ..Options::default()
        },
    )?;
    let listener = Listener::open(&net.client)?;
    net.director.ip("link set br0 mtu 1300")?;
    client::upload(&net.client, at("10.0.1.11:8000"), 4 << 20)?;
    let needed = listener
        .next(client::patience(), |message| message.mtu().is_some())?
        .context("no \"fragmentation needed\"")?;
    same("the MTU in it", &needed.mtu(), &Some(1300))?;
    same(
        "the packet inside",
        &needed.inner(),
        &Some((CLIENT, server_address(1))),
    )
}

fn killed_task(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let mut net = Director::build(
        &lab,
        &Options {
            forward: true,
            ..Options::default()
        },
    )?;
    // Half of a client's round is the answer, the other half the pause.
    let half = patient(Duration::from_millis(30));
    let load = Load {
        retry_refused: true,
        ..Load::new(Kind::KeepAlive { requests: 0 }, at("10.0.1.11:8000"))
    };
    let load = load
        .path(&format!("/slow?ms={}", half.as_millis()))
        .clients(20)
        .pause(half)
        .endless(Duration::from_secs(20));
    let load = load.start(&net.client)?;
    // Two and a half rounds: half of the clients wait for an answer.
    load.wait_for(50)?;
    net.tasks.remove(0).kill()?;
    let task = crate::task::Task::start(
        &lab,
        &net.servers[0],
        "rs1-again",
        &crate::task::Ports::default(),
    )?;
    load.wait_for(60)?;
    let report = load.stop()?;
    same("connections lost", &report.lost.get("rs1"), &Some(&20))?;
    ensure!(
        (1..20).contains(&report.failures()),
        "not some but not all of 20 failed: {report}"
    );
    ensure!(
        report.by_task.contains_key(task.name()),
        "nobody went on: {report}"
    );
    Ok(())
}

fn drain(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let mut net = Director::build(
        &lab,
        &Options {
            forward: true,
            ..Options::default()
        },
    )?;
    // Well above what a busy scheduler makes of a sleep.
    let half = patient(Duration::from_millis(250));
    let keep = Load::new(Kind::KeepAlive { requests: 0 }, at("10.0.1.11:8000"))
        .path(&format!("/slow?ms={}", 2 * half.as_millis()))
        .clients(10)
        .count(10);
    let keep = keep.start(&net.client)?;
    keep.wait_begun(10)?;
    std::thread::sleep(half);
    // Each client has one request under way; all are answered, and each answer ends its connection.
    net.tasks[0].drain(Duration::from_secs(3))?;
    keep.wait()?.all_answered()
}

fn leaves_nothing(_: &Context) -> Result<()> {
    let before = (mounts()?, crate::netns::names());
    let lab = Lab::new()?;
    let name = lab.name().to_owned();
    let mut nodes = TwoNodes::build(&lab)?;
    nodes.add_tasks(&[0, 1])?;
    ensure!(
        !state::namespaces(&name).is_empty() && !state::processes(&name).is_empty(),
        "the lab has no namespace or no process"
    );
    drop(nodes);
    drop(lab);
    ensure!(
        state::namespaces(&name).is_empty(),
        "namespaces are left: {:?}",
        state::namespaces(&name)
    );
    ensure!(!state::folder(&name).exists(), "its folder is left");
    // Other labs may come and go meanwhile, so only what bears this lab's name counts.
    let own = |names: &[String]| names.iter().filter(|line| line.contains(&name)).count();
    same("mounts", &own(&mounts()?), &own(&before.0))?;
    same("namespaces", &own(&crate::netns::names()), &own(&before.1))
}

fn mounts() -> Result<Vec<String>> {
    Ok(std::fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .map(str::to_owned)
        .collect())
}
