//! Many services: what a change costs must not depend on what else there is.
//!
//! What is compared is work, not time: bytes that the daemon writes, and its processor time for the same changes, both
//! with one service and with many.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::setup::Setup;
use super::{Case, Context, case};
use crate::daemon::Daemon;
use crate::scale::control::{changes, file, lines, restore, work};
use crate::topology::director::Options;

pub(super) const CASES: &[Case] = &[
    case(
        "scale/one-change",
        "a change of one service that looks at all of them",
        one_change,
    ),
    case(
        "scale/restore",
        "ipvsadm -R that needs more for each line, the more lines there are",
        restore_lines,
    ),
    case(
        "scale/all-anew",
        "a table that cannot take the place of one that was removed just now, though there is room; or more than there is room for",
        all_anew,
    ),
];

/// How many others there are.
const SERVICES: u32 = 1500;
const SERVERS: u32 = 4;
/// The service that is changed.
const ONE: &str = "10.0.0.100:80";
const CHANGES: u32 = 200;
/// How much more processor time the same work may take where there is more in every cache; one that looks at all services
/// takes tens of times as much.
const MORE: f64 = 4.0;
/// What a busy machine adds to the least of some times, in µs. A look at all services takes ten times as long.
const NOISE: f64 = 100.0;

/// What the daemon has written so far, to files and sockets.
fn written(setup: &Setup) -> Result<u64> {
    let process = setup.daemon.process().context("the daemon does not run")?;
    let text = fs::read_to_string(format!("/proc/{}/io", process.pid))?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar:"));
    Ok(line.context("the kernel counts no bytes")?.trim().parse()?)
}

/// Bytes and processor time (µs) of one change; the least of some times, for others use the processor too.
fn costs(setup: &Setup, change: impl Fn() -> Result<()>) -> Result<(u64, f64)> {
    let (mut bytes, mut time) = (u64::MAX, f64::MAX);
    for _ in 0..5 {
        let before = written(setup)?;
        let spent = work(&setup.daemon, &change)?;
        bytes = bytes.min((written(setup)? - before) / u64::from(CHANGES));
        time = time.min(spent * 1e6 / f64::from(CHANGES));
    }
    Ok((bytes, time))
}

fn one_change(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    let director = &setup.net.director;
    setup.bpvs(&format!("service add tcp:{ONE}"))?;
    let path = setup.lab.folder().join("changes");
    let batch = || restore(&setup.daemon, director, &path, &changes(ONE, CHANGES));
    // Each by itself, as commands of their own are: fewer, for each is a process.
    let single = || -> Result<()> {
        (0..CHANGES / 20).try_for_each(|_| {
            setup.bpvs(&format!("server add tcp:{ONE} 10.15.0.1:80"))?;
            setup.bpvs(&format!("server remove tcp:{ONE} 10.15.0.1:80"))?;
            Ok(())
        })
    };
    batch()?;
    let before = [costs(&setup, batch)?, costs(&setup, single)?];
    setup
        .daemon
        .apply(director, "many.toml", &file(SERVICES, SERVERS))?;
    let after = [costs(&setup, batch)?, costs(&setup, single)?];
    for (what, (before, after)) in ["in a batch", "alone"]
        .into_iter()
        .zip(before.into_iter().zip(after))
    {
        context.note(format!(
            "{what}: {} bytes and {:.0} µs, among {SERVICES} services {} bytes and {:.0} µs",
            before.0, before.1, after.0, after.1
        ));
        ensure!(
            after.0 <= before.0 + before.0 / 4,
            "{what} a change writes {} bytes, and {} among {SERVICES} services",
            before.0,
            after.0
        );
        ensure!(
            after.1 <= before.1 * MORE + NOISE,
            "{what} a change takes {:.0} µs, and {:.0} µs among {SERVICES} services",
            before.1,
            after.1
        );
    }
    Ok(())
}

fn all_anew(context: &Context) -> Result<()> {
    /// Three quarters of what there is room for.
    const MANY: u32 = 75;
    let lab = context.lab()?;
    let host = lab.host("director")?;
    let room = ["--services", "100", "--servers", "400"];
    let daemon = Daemon::start(&lab, &context.bpvs()?, &host, &room)?;
    let path = lab.folder().join("lines");
    let text = lines(4 * MANY, SERVERS);
    let all: Vec<&str> = text.lines().collect();
    let parts = all.chunks((MANY * (1 + SERVERS)) as usize);
    // Other services and servers each time, at once.
    for part in parts {
        daemon.bpvs(&host, "ipvsadm -C")?;
        restore(&daemon, &host, &path, &(part.join("\n") + "\n"))?;
        let listed = daemon.bpvs(&host, "ipvsadm -Sn")?.lines().count();
        ensure!(listed == part.len(), "{listed} lines of {}", part.len());
    }
    let error = restore(&daemon, &host, &path, &lines(MANY, SERVERS));
    let error = format!("{:#}", error.err().context("more than there is room for")?);
    ensure!(
        error.contains("no room for more services: the limit is 100"),
        "{error}"
    );
    daemon.stop()
}

fn restore_lines(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    let director = &setup.net.director;
    let path = setup.lab.folder().join("lines");
    let cost = |services: u32| -> Result<f64> {
        let text = lines(services, SERVERS);
        let mut least = f64::MAX;
        for _ in 0..3 {
            let spent = work(&setup.daemon, || {
                restore(&setup.daemon, director, &path, &text)
            })?;
            least = least.min(spent * 1e6 / f64::from(services * (SERVERS + 1)));
            setup.bpvs("ipvsadm -C")?;
        }
        Ok(least)
    };
    let (few, many) = (cost(SERVICES / 15)?, cost(SERVICES)?);
    context.note(format!("{few:.0} µs a line, of many {many:.0} µs"));
    ensure!(
        many <= few * MORE + NOISE,
        "a line takes {few:.0} µs, and {many:.0} µs where there are many"
    );
    Ok(())
}
