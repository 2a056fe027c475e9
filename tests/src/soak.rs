//! `lab soak`: load without a break for minutes or hours, while the daemon is killed, files are applied and real servers
//! come and go. At the end no request may have failed, no entry be left in the table, and the daemon have grown no larger.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::daemon::{Daemon, find_bpvs};
use crate::lab::Lab;
use crate::load::{Kind, Load, Running};
use crate::offload::like_a_wire;
use crate::scale::usage::{self, Map};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::{Director, Options as Network, server_address};

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// For how long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// With XDP on all interfaces (Linux 6.3 and later): each real server is on a cable of its own.
    #[arg(long)]
    xdp: bool,
    /// The bpvs program [default: env BPVS, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    bpvs: Option<PathBuf>,
}

const SERVERS: u8 = 4;
const WEB: &str = "10.0.0.100:80";
const ECHO: &str = "10.0.0.100:7";
const UDP: &str = "10.0.0.100:9";
/// How long what is over stays in the table at most: `TIME_WAIT`, and a sweep of the whole table.
const OVER: Duration = Duration::from_secs(150);
/// How long a server may take to finish what it has.
const DRAIN: Duration = Duration::from_secs(60);
/// How much more memory a daemon may take at the end than one of the same age took in the beginning, MiB.
const GROWTH: f64 = 2.0;
/// `BPF_MAP_TYPE_HASH`.
const HASH: u64 = 1;

/// The loads, with what their clients do.
struct Loads(Vec<(&'static str, Running)>);

impl Loads {
    fn start(net: &Director, time: Duration) -> Result<Self> {
        let load = |kind, to| Load::new(kind, at(to)).endless(time);
        let loads = [
            (
                "short",
                load(Kind::Short, WEB)
                    .clients(4)
                    .pause(Duration::from_millis(1)),
            ),
            (
                "keep-alive",
                load(Kind::KeepAlive { requests: 500 }, WEB).clients(4),
            ),
            (
                "long",
                load(Kind::Long, ECHO)
                    .clients(100)
                    .pause(Duration::from_millis(100)),
            ),
            (
                "UDP",
                load(Kind::Udp { fresh: false }, UDP)
                    .clients(2)
                    .pause(Duration::from_millis(2)),
            ),
            (
                "new UDP",
                load(Kind::Udp { fresh: true }, UDP)
                    .clients(2)
                    .pause(Duration::from_millis(5)),
            ),
        ];
        let started = loads
            .into_iter()
            .map(|(name, load)| Ok((name, load.start(&net.client)?)));
        Ok(Self(started.collect::<Result<_>>()?))
    }

    /// Waits until each has got on.
    fn get_on(&self) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|(name, load)| load.wait_for(20).context(*name))
    }

    fn done(&self) -> u64 {
        self.0.iter().map(|(_, load)| load.done()).sum()
    }

    /// Ends them. Every request must have been answered.
    fn stop(self) -> Result<()> {
        let mut lost = String::new();
        for (name, load) in self.0 {
            let report = load.stop()?;
            println!("{name}: {report}");
            if let Err(error) = report.all_answered() {
                let _ = writeln!(lost, "{name}: {error}");
            }
        }
        ensure!(lost.is_empty(), "requests failed:\n{lost}");
        Ok(())
    }
}

struct Soak {
    net: Director,
    daemon: Daemon,
    xdp: bool,
    rounds: u64,
    kills: u64,
    applies: u64,
    removals: u64,
    /// Memory of each daemon before it was killed, MiB.
    memory: Vec<f64>,
}

/// What is applied: services that stay, and some that come and go.
fn file(round: u64, xdp: bool) -> String {
    let mut text = String::from("[settings]\ntimeouts = { udp = \"10s\" }\n");
    if xdp {
        let cables = (1..=SERVERS).map(|number| format!(", \"rs{number}\""));
        let _ = writeln!(text, "xdp = [\"eth0\"{}]", cables.collect::<String>());
    }
    let stay = [
        ("tcp", WEB, 8000, "wlc"),
        ("tcp", ECHO, 7000, "rr"),
        ("udp", UDP, 9000, "rr"),
    ];
    for (protocol, address, port, scheduler) in stay {
        let _ = writeln!(
            text,
            "[[service]]\naddress = \"{protocol}:{address}\"\nscheduler = \"{scheduler}\""
        );
        for number in 1..=SERVERS {
            let weight = 1 + (round + u64::from(number)) % 5;
            let server = server_address(number);
            let _ = writeln!(
                text,
                "  [[service.server]]\n  address = \"{server}:{port}\"\n  weight = {weight}"
            );
        }
    }
    for place in 0..round % 50 {
        let port = 10_000 + (round * 37 + place) % 1000;
        let server = server_address(1);
        let _ = writeln!(
            text,
            "[[service]]\naddress = \"tcp:10.0.0.100:{port}\"\nserver = [{{ address = \"{server}:8000\" }}]"
        );
    }
    text
}

impl Soak {
    fn bpvs(&self, arguments: &str) -> Result<String> {
        self.daemon.bpvs(&self.net.director, arguments)
    }

    fn own_memory(&self) -> Result<f64> {
        usage::own_memory(self.daemon.process().context("the daemon does not run")?)
    }

    /// The table of connections, as the kernel accounts for it.
    fn table(&self) -> Result<Map> {
        let process = self.daemon.process().context("the daemon does not run")?;
        let maps = usage::maps(process)?.into_iter();
        let tables = maps.filter(|map| map.kind == HASH);
        tables
            .max_by_key(|map| map.entries)
            .context("the daemon has no table of connections open")
    }

    /// What a server, or all servers, count: active connections and all of them.
    fn counted(&self, only: Option<&str>) -> Result<(u64, u64)> {
        let listing: Value = serde_json::from_str(&self.bpvs("list --json")?)?;
        let services = listing["services"].as_array().into_iter().flatten();
        let servers = services.flat_map(|it| it["servers"].as_array().into_iter().flatten());
        let mut sum = (0, 0);
        for server in servers.filter(|it| only.is_none_or(|only| it["address"] == only)) {
            let [active, inactive] = ["active", "inactive"].map(|name| server[name].as_u64());
            let (active, inactive) = active.zip(inactive).context("a server without counts")?;
            sum = (sum.0 + active, sum.1 + active + inactive);
        }
        Ok(sum)
    }

    /// One round of everything.
    fn round(&mut self, loads: &Loads) -> Result<()> {
        self.rounds += 1;
        let next = |soak: &Self| {
            let name = format!("{}.toml", soak.rounds % 2);
            let text = file(soak.rounds, soak.xdp);
            soak.daemon
                .apply(&soak.net.director, &name, &text)
                .map(drop)
        };
        next(self).context("apply")?;
        self.applies += 1;
        loads.get_on()?;

        // A server goes when it has finished, and comes back.
        let number = 1 + (self.rounds % u64::from(SERVERS)) as u8;
        let server = format!("{}:8000", server_address(number));
        self.bpvs(&format!("server edit tcp:{WEB} {server} --weight 0"))?;
        let begun = Instant::now();
        while self.counted(Some(&server))?.0 > 0 {
            ensure!(
                begun.elapsed() < patient(DRAIN),
                "{server} does not finish: {:?}",
                self.counted(Some(&server))?
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        self.bpvs(&format!("server remove tcp:{WEB} {server}"))?;
        self.removals += 1;
        loads.get_on()?;
        self.bpvs(&format!("server add tcp:{WEB} {server}"))?;

        std::thread::sleep(Duration::from_secs(5));
        self.memory.push(self.own_memory()?);
        self.daemon.kill()?;
        self.kills += 1;
        loads.get_on()?;
        self.daemon.run()?;
        loads.get_on()
    }

    fn run(&mut self, minutes: u64) -> Result<()> {
        let time = Duration::from_secs(60 * minutes);
        let loads = Loads::start(&self.net, time + Duration::from_secs(600))?;
        let begun = Instant::now();
        let mut told = 0;
        while begun.elapsed() < time {
            self.round(&loads)?;
            let minute = begun.elapsed().as_secs() / 60;
            if minute > told {
                told = minute;
                println!(
                    "minute {minute}: {} requests; {} kills, {} applies, {} servers removed; daemon {:.1} MiB",
                    loads.done(),
                    self.kills,
                    self.applies,
                    self.removals,
                    self.memory.last().copied().unwrap_or_default(),
                );
            }
        }
        loads.stop()
    }

    /// Waits until nothing is left of what the load has made.
    fn empties(&self, before: Map) -> Result<()> {
        let begun = Instant::now();
        loop {
            let counted = self.counted(None)?.1;
            let table = self.table()?;
            if counted == 0 && table.memory <= before.memory {
                println!(
                    "the table is empty again after {} s",
                    begun.elapsed().as_secs()
                );
                return Ok(());
            }
            if begun.elapsed() > patient(OVER) {
                bail!(
                    "entries are left: {counted} connections are counted, and the table takes {} bytes, {} in the beginning",
                    table.memory,
                    before.memory
                );
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }
}

/// The median of the first and of the last few.
fn ends(memory: &[f64]) -> (f64, f64) {
    let median = |some: &[f64]| {
        let mut some = some.to_vec();
        some.sort_by(f64::total_cmp);
        some.get(some.len() / 2).copied().unwrap_or_default()
    };
    let few = memory.len().min(5);
    (
        median(&memory[..few]),
        median(&memory[memory.len() - few..]),
    )
}

/// Loads, kills and changes for as long as was asked for.
///
/// # Errors
///
/// A request failed, an entry was left, or the daemon grew.
pub fn run(options: &Options) -> Result<()> {
    let bpvs = find_bpvs(options.bpvs.clone())?;
    let lab = Lab::new()?;
    let network = Network {
        servers: SERVERS,
        cables: options.xdp,
        ..Network::default()
    };
    let net = Director::build(&lab, &network)?;
    if options.xdp {
        for host in std::iter::once(&net.client).chain(&net.servers) {
            like_a_wire(host, "eth0")?;
        }
    }
    // Room for what ends within two minutes.
    let daemon = Daemon::start(&lab, &bpvs, &net.director, &["--connections", "1000000"])?;
    daemon.apply(&net.director, "0.toml", &file(0, options.xdp))?;
    if options.xdp {
        let status: Value = serde_json::from_str(&daemon.bpvs(&net.director, "status --json")?)?;
        let paths = status["scopes"][0]["paths"]
            .as_array()
            .into_iter()
            .flatten();
        let by_xdp = paths.filter(|path| path["path"] == "xdp").count();
        ensure!(
            by_xdp == usize::from(SERVERS) + 1,
            "not all by XDP: {status}"
        );
    }
    let mut soak = Soak {
        net,
        daemon,
        xdp: options.xdp,
        rounds: 0,
        kills: 0,
        applies: 0,
        removals: 0,
        memory: Vec::new(),
    };
    let before = soak.table()?;
    if let Err(error) = soak.run(options.minutes) {
        eprintln!("the daemon said last:\n{}", soak.daemon.log_tail(20));
        return Err(error);
    }
    soak.empties(before)?;
    let (first, last) = ends(&soak.memory);
    println!("memory of the daemon: {first:.1} MiB in the beginning, {last:.1} MiB at the end");
    ensure!(
        last <= first + GROWTH,
        "the daemon has grown from {first:.1} to {last:.1} MiB"
    );
    soak.bpvs("down")?;
    println!(
        "{} min: {} kills, {} applies, {} servers removed; nothing lost, nothing left",
        options.minutes, soak.kills, soak.applies, soak.removals
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_grows_is_noticed() {
        let memory: Vec<f64> = (0..100)
            .map(|round| 10.0 + f64::from(round) / 10.0)
            .collect();
        let (first, last) = ends(&memory);
        assert!(last > first + GROWTH);
        assert_eq!(ends(&[7.0]), (7.0, 7.0));
        assert_eq!(ends(&[]), (0.0, 0.0));
    }

    #[test]
    fn each_file_differs_from_the_one_before() {
        for round in 0..200 {
            assert_ne!(file(round, false), file(round + 1, false));
        }
    }
}
