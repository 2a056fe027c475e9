//! Several namespaces with the same addresses in each, one daemon.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use lb_common::host::Capacity;

use super::setup::{ECHO, WEB, add_services, in_turn};
use super::{Case, Context, case};
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::{at, scopes};
use crate::{bpf, client};

pub(super) const CASES: &[Case] = &[
    case(
        "scopes/five",
        "a connection or a service of one namespace that is met in another",
        five,
    ),
    case(
        "scopes/own-namespace",
        "a command without --netns that acts on another namespace than its own",
        own_namespace,
    ),
];

const COUNT: u8 = 5;

/// How long the verifier takes for the largest program, here and now.
fn verification() -> Result<Duration> {
    let mut object = bpf::load(Capacity::default())?;
    let begun = Instant::now();
    bpf::program(&mut object, "tc_ingress")?;
    Ok(begun.elapsed())
}

fn five(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let networks = scopes::build(&lab, COUNT)?;
    let daemon = context.daemon(&lab, &networks[0].director)?;
    let mut took = Vec::new();
    for network in &networks {
        let start = Instant::now();
        daemon.bpvs(
            &network.director,
            "service add tcp:10.0.0.200:80 --scheduler rr",
        )?;
        took.push(start.elapsed());
        add_services(&daemon, &network.director, 2, "")?;
    }
    for (network, number) in networks.iter().zip(1..) {
        let (one, two) = (format!("s{number}-rs1"), format!("s{number}-rs2"));
        in_turn(
            &client::turns(&network.client, at(WEB), 3)?,
            &[&two, &one, &two],
        )
        .with_context(|| format!("scope {number}"))?;
    }
    let shortest = took.iter().min().copied().unwrap_or_default();
    let longest = took.iter().max().copied().unwrap_or_default();
    context.note(format!(
        "the first service of a scope took {:.0} to {:.0} ms",
        shortest.as_secs_f64() * 1000.0,
        longest.as_secs_f64() * 1000.0
    ));
    // The shortest: what else the machine does at the time may make any of them longer. And never less than a few times what
    // the verifier takes for one program at this moment, which it has to do for each scope.
    let verified = verification()?;
    ensure!(
        shortest < patient(Duration::from_millis(500)).max(3 * verified),
        "adding a scope took {shortest:?} at least, and verifying a program {verified:?}"
    );
    // All at once: the very same client and server addresses in each.
    let loads: Vec<_> = networks
        .iter()
        .flat_map(|network| {
            let short = Load::new(Kind::Short, at(WEB))
                .clients(3)
                .count(200)
                .start(&network.client);
            let long = Load::new(Kind::Long, at(ECHO))
                .clients(5)
                .count(200)
                .pause(Duration::from_millis(10))
                .start(&network.client);
            [short, long]
        })
        .collect::<Result<_>>()?;
    for (index, load) in loads.into_iter().enumerate() {
        let report = load.wait()?;
        report.all_answered()?;
        let prefix = format!("s{}-", index / 2 + 1);
        ensure!(
            report.by_task.keys().all(|task| task.starts_with(&prefix)),
            "scope {prefix} was answered from another: {report}"
        );
    }
    daemon.bpvs(&networks[1].director, &format!("service remove tcp:{WEB}"))?;
    ensure!(
        client::connect_result(&networks[1].client, at(WEB))?.is_err(),
        "the removed service still answers"
    );
    client::who(&networks[0].client, at(WEB))?;
    client::who(&networks[2].client, at(WEB)).map(drop)
}

fn own_namespace(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let networks = scopes::build(&lab, 2)?;
    let daemon = context.daemon(&lab, &networks[0].director)?;
    let other = &networks[1].director;
    let program = context.bpvs()?;
    let run = |arguments: &[&str]| -> Result<()> {
        let folder = daemon.run_folder();
        let program = program.to_string_lossy();
        let folder = folder.to_string_lossy();
        // Once by a plain setns, and once as people do it, with a mount namespace of its own.
        other
            .output(&program, &[&["--run-dir", &folder], arguments].concat())
            .map(drop)
    };
    run(&["service", "add", "tcp:10.0.0.100:80", "--scheduler", "rr"])?;
    run(&["server", "add", "tcp:10.0.0.100:80", "10.0.1.11:8000"])?;
    let folder = daemon.run_folder();
    let exec = crate::host::finish(
        crate::host::tool("ip")
            .args(["netns", "exec", other.namespace()])
            .arg(&program)
            .arg("--run-dir")
            .arg(&folder)
            .args(["server", "add", "tcp:10.0.0.100:80", "10.0.1.12:8000"]),
    );
    exec.context("by ip netns exec")?;
    in_turn(
        &client::turns(&networks[1].client, at(WEB), 2)?,
        &["s2-rs2", "s2-rs1"],
    )?;
    ensure!(
        client::connect_result(&networks[0].client, at(WEB))?.is_err(),
        "the daemon's own namespace got the service"
    );
    Ok(())
}
