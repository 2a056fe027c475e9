//! Many services: loading them, changing one of them, listing them, and what the daemon needs for it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Options;
use super::report::Report;
use super::usage;
use crate::daemon::Daemon;
use crate::host::{Host, finish};
use crate::lab::Lab;
use crate::load::{Kind, Load};
use crate::topology::at;
use crate::topology::director::{Director, Options as Network, server_address};

/// Changes of one service among the others, to measure one.
const CHANGES: u32 = 400;
/// The service whose packets must not be lost meanwhile.
const OTHERS: &str = "10.0.0.100:9";
/// How long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(10);

/// The address and port of a service, by its number.
pub(super) fn service(number: u32) -> String {
    let [.., b, c, d] = (number + 1).to_be_bytes();
    format!("10.{}.{c}.{d}:80", 128 + b)
}

/// A real server's, by its number in the service.
fn server(number: u32, place: u32) -> String {
    let [.., c, d] = (number % 16_000).to_be_bytes();
    format!("10.{}.{c}.{d}:80", 16 + place)
}

/// A file with so many services of so many real servers.
pub fn file(services: u32, servers: u32) -> String {
    let mut text = String::new();
    for number in 0..services {
        let _ = writeln!(
            text,
            "[[service]]\naddress = \"tcp:{}\"\nscheduler = \"rr\"",
            service(number)
        );
        for place in 0..servers {
            let _ = writeln!(
                text,
                "  [[service.server]]\n  address = \"{}\"",
                server(number, place)
            );
        }
    }
    text
}

/// The same as lines of `ipvsadm --save`.
pub fn lines(services: u32, servers: u32) -> String {
    let mut text = String::new();
    for number in 0..services {
        let own = service(number);
        let _ = writeln!(text, "-A -t {own} -s rr");
        for place in 0..servers {
            let _ = writeln!(text, "-a -t {own} -r {} -m -w 1", server(number, place));
        }
    }
    text
}

/// Lines that change one service again and again: a real server comes and goes.
pub fn changes(service: &str, count: u32) -> String {
    let pair = format!("-a -t {service} -r 10.15.0.1:80 -m\n-d -t {service} -r 10.15.0.1:80\n");
    pair.repeat(count as usize / 2)
}

/// Gives lines to `ipvsadm --restore`.
pub fn restore(daemon: &Daemon, host: &Host, file: &Path, text: &str) -> Result<()> {
    File::create(file)?.write_all(text.as_bytes())?;
    let mut command = daemon.command(host, &["ipvsadm", "--restore"]);
    command.stdin(Stdio::from(File::open(file)?));
    finish(&mut command).map(drop).context("ipvsadm --restore")
}

/// Processor time that the daemon needs for something, in seconds.
pub fn work(daemon: &Daemon, act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let process = daemon.process().context("the daemon does not run")?;
    let before = usage::cpu(process)?;
    act()?;
    Ok((usage::cpu(process)? - before).as_secs_f64())
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn silently(mut command: Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Measures all of it.
pub(super) fn measure(
    lab: &Lab,
    options: &Options,
    bpvs: &Path,
    report: &mut Report,
) -> Result<()> {
    let network = Network {
        prefix: "many-".into(),
        ..Network::default()
    };
    let net = Director::build(lab, &network)?;
    let host = &net.director;
    let (services, servers) = (options.services, options.servers);
    let room = [
        "--services".to_owned(),
        (services + 1000).to_string(),
        "--servers".to_owned(),
        ((services + 1000) * servers.max(1)).to_string(),
    ];
    let daemon = Daemon::start(lab, bpvs, host, &room.each_ref().map(String::as_str))?;
    let process = || daemon.process().context("the daemon does not run");
    let idle = |daemon: &Daemon| -> Result<f64> {
        let spent = work(daemon, || {
            std::thread::sleep(IDLE);
            Ok(())
        })?;
        Ok(100.0 * spent / IDLE.as_secs_f64())
    };
    // What it loads ahead is over by then.
    std::thread::sleep(Duration::from_secs(3));
    report.add(
        "memory of the daemon itself, nothing served",
        usage::own_memory(process()?)?,
        "MiB",
        Some(20.0),
    );
    report.add(
        "a daemon that serves nothing",
        idle(&daemon)?,
        "% of a core",
        Some(0.5),
    );

    daemon.bpvs(host, &format!("service add udp:{OTHERS}"))?;
    for number in 1..=2 {
        let own = server_address(number);
        daemon.bpvs(host, &format!("server add udp:{OTHERS} {own}:9000"))?;
    }
    let folder = lab.folder();
    let one = service(services + 7);
    let change = |daemon: &Daemon| -> Result<f64> {
        let lines = changes(&one, CHANGES);
        let spent = work(daemon, || {
            restore(daemon, host, &folder.join("changes"), &lines)
        })?;
        Ok(spent * 1e6 / f64::from(CHANGES))
    };
    let alone = |daemon: &Daemon| -> Result<f64> {
        let commands = 20;
        let spent = work(daemon, || {
            (0..commands / 2).try_for_each(|_| {
                daemon.bpvs(host, &format!("server add tcp:{one} 10.15.0.1:80"))?;
                daemon.bpvs(host, &format!("server remove tcp:{one} 10.15.0.1:80"))?;
                Ok(())
            })
        })?;
        Ok(spent * 1e6 / f64::from(commands))
    };
    daemon.bpvs(host, &format!("service add tcp:{one}"))?;
    change(&daemon)?;
    let (few, few_alone) = (change(&daemon)?, alone(&daemon)?);

    let path = folder.join("many.toml");
    std::fs::write(&path, file(services, servers))?;
    let apply = || {
        daemon
            .bpvs(host, &format!("apply {}", path.display()))
            .map(drop)
    };
    let load = Load::new(Kind::Udp { fresh: false }, at(OTHERS))
        .clients(4)
        .pause(Duration::from_millis(1))
        .endless(Duration::from_secs(120))
        .start(&net.client)?;
    load.wait_for(100)?;
    let all = format!("{services} services of {servers}");
    report.add(
        format!("loading {all}: apply"),
        timed(apply)?,
        "s",
        Some(2.0),
    );
    let lost = load.stop()?;
    report.add(
        "packets of another service that were lost meanwhile",
        lost.failed.values().sum::<u64>() as f64,
        "",
        Some(0.0),
    );
    report.add(
        format!("memory of the daemon itself, {all}"),
        usage::own_memory(process()?)?,
        "MiB",
        None,
    );
    report.add(
        format!("the same file again, {all}"),
        timed(apply)?,
        "s",
        None,
    );
    let (many, many_alone) = (change(&daemon)?, alone(&daemon)?);
    report.add(
        "a change in a batch, nothing else there: work",
        few,
        "µs",
        None,
    );
    report.add(
        format!("a change in a batch, {all}: work"),
        many,
        "µs",
        None,
    );
    report.add("  the one to the other", many / few, "times", Some(1.5));
    report.add("a command, nothing else there: work", few_alone, "µs", None);
    report.add(format!("a command, {all}: work"), many_alone, "µs", None);
    report.add(
        "  the one to the other",
        many_alone / few_alone,
        "times",
        Some(1.5),
    );
    let some = service(services / 2);
    for words in [
        &["ipvsadm", "-Ln"][..],
        &["ipvsadm", "-Ln", "-t", &some],
        &["ipvsadm", "-Sn"],
        &["list", "--json"],
        &["stats"],
        &["status"],
    ] {
        let spent = timed(|| silently(daemon.command(host, words)))?;
        report.add(format!("bpvs {}, {all}", words.join(" ")), spent, "s", None);
    }
    report.add(format!("idle, {all}"), idle(&daemon)?, "% of a core", None);
    daemon.kill()?;
    report.add(
        format!("a new daemon takes up {all}"),
        timed(|| daemon.run())?,
        "s",
        None,
    );

    daemon.bpvs(host, "ipvsadm -C")?;
    let text = lines(services, servers);
    let count = f64::from(services) * f64::from(servers + 1);
    let begun = Instant::now();
    let spent = work(&daemon, || {
        restore(&daemon, host, &folder.join("lines"), &text)
    })?;
    report.add(
        format!("ipvsadm -R of {count} lines"),
        begun.elapsed().as_secs_f64(),
        "s",
        None,
    );
    report.add(
        "  the daemon's work for a line",
        spent * 1e6 / count,
        "µs",
        None,
    );
    daemon.stop()
}

/// The first service of a new scope, again and again.
pub(super) fn scopes(lab: &Lab, bpvs: &Path, report: &mut Report) -> Result<()> {
    let host = lab.host("scopes")?;
    let daemon = Daemon::start(lab, bpvs, &host, &[])?;
    let rounds = 5;
    for (what, pause, goal) in [
        (
            "the first service of a scope",
            Duration::from_secs(3),
            Some(100.0),
        ),
        ("the same right after another one", Duration::ZERO, None),
    ] {
        let mut spent = Vec::new();
        for round in 0..rounds {
            let name = format!("scope-{}-{round}", pause.as_secs());
            let scope = lab.host(&name)?;
            std::thread::sleep(pause);
            let add = || {
                daemon
                    .bpvs(&scope, "service add tcp:10.0.0.100:80")
                    .map(drop)
            };
            spent.push(timed(add)? * 1e3);
        }
        spent.sort_by(f64::total_cmp);
        report.add(what, spent[rounds / 2], "ms", goal);
        report.add("  at worst", spent[rounds - 1], "ms", goal);
    }
    daemon.stop()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn file_and_lines_say_the_same() {
        let services: BTreeSet<String> = (0..20_000).map(service).collect();
        assert_eq!(services.len(), 20_000);
        let servers: BTreeSet<String> = (0..10).map(|place| server(9_999, place)).collect();
        assert_eq!(servers.len(), 10);
        let (file, lines) = (file(3, 2), lines(3, 2));
        assert_eq!(file.matches("[[service]]").count(), 3);
        assert_eq!(lines.matches("-A ").count(), 3);
        for word in lines
            .split_whitespace()
            .filter(|word| word.ends_with(":80"))
        {
            assert!(file.contains(word), "{word}");
        }
        assert_eq!(changes("10.0.0.1:80", 400).lines().count(), 400);
    }
}
