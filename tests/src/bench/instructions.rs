//! `lab bench --instructions`: what each way costs in instructions, in a guest whose clock counts them.
//!
//! A busy machine changes nothing in them, so that a few runs say what thousands of milliseconds cannot. The guest has one
//! processor, and one thread is client and server: nothing waits for anybody, and all that happens between two looks at the
//! clock is work for the packets. What a cache or a mispredicted branch costs is not in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::generator;
use super::kernel::Statistics;
use super::opponents::{Absent, Group, Opponent, Way};
use super::shares::{Programs, Shares};
use super::statistics::{least, median, quantile};
use super::workloads::{LONG, PATIENCE, SHORT, SMALL};
use crate::host::{tool, write_sysctl};
use crate::lab::Lab;

/// Where a guest says that its clock counts instructions.
pub const COUNTED: &str = "/run/guest/counted";

/// What is counted; how often at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    Packet,
    Request,
    Connection,
}

impl Figure {
    const ALL: [Self; 3] = [Self::Packet, Self::Request, Self::Connection];

    /// The generator stands behind a cable, and not on the director.
    fn of(way: Way) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |figure| !way.is_local() || *figure != Self::Packet)
    }

    fn names() -> [&'static str; 3] {
        Self::ALL.map(Self::name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Packet => "a packet",
            Self::Request => "a request",
            Self::Connection => "a connection",
        }
    }

    /// Few at a time: whatever else the guest does once in a while only adds, so that the least of the rounds has none of it.
    const fn count(self) -> u32 {
        match self {
            Self::Packet => 1500,
            Self::Request => 400,
            Self::Connection => 80,
        }
    }
}

/// Counts, and gives the report.
///
/// # Errors
///
/// Where the clock does not count instructions, an opponent that must be there cannot be set up, or packets get lost.
pub fn run(rounds: u32, only: Option<&str>, bpvs: &Path) -> Result<Report> {
    if !Path::new(COUNTED).exists() {
        bail!(
            "the clock here does not count instructions: run it in a guest, by `cargo xtask bench --instructions`"
        );
    }
    generator::load()?;
    // A kernel without them lacks opponents, and says so of each.
    let _ = tool("modprobe")
        .args(["-a", "-q", "ip_vs", "ip_vs_rr", "xt_ipvs"])
        .status();
    // The generator may be ahead of what the kernel does with its packets.
    write_sysctl("net.core.netdev_max_backlog", "100000")?;
    let lab = Lab::new()?;
    let (opponents, absent) = Opponent::all(&lab, bpvs, &Group::ALL, only)?;
    let mut report = Report {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        rounds,
        absent,
        values: BTreeMap::new(),
        shares: Shares::default(),
    };
    let mut ready = Vec::new();
    for opponent in opponents {
        eprintln!("{}", opponent.way.name());
        let ends = Ends::new(&opponent).with_context(|| opponent.way.name())?;
        ready.push((opponent, ends));
    }
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for (opponent, ends) in &ready {
            for figure in Figure::of(opponent.way) {
                let value = count(opponent, ends, figure)
                    .with_context(|| format!("{}, {}", opponent.way.name(), figure.name()))?;
                // The first one brings code and tables into being.
                if round > 0 {
                    report
                        .values
                        .entry((figure, opponent.way))
                        .or_default()
                        .push(value);
                }
            }
        }
    }
    watch(&ready, &mut report.shares)?;
    Ok(report)
}

/// How often the programs are watched; by itself, for the kernel's count costs instructions, too.
const WATCHED: u32 = 3;

/// Which part of it all is that of the programs.
fn watch(ready: &[(Opponent, Ends)], shares: &mut Shares) -> Result<()> {
    let _on = Statistics::on()?;
    for (opponent, ends) in ready {
        let programs = Programs::of(opponent)?;
        for figure in Figure::of(opponent.way) {
            for _ in 0..WATCHED {
                let work = || count(opponent, ends, figure);
                shares.watch(opponent.way, &programs, figure.name(), figure.count(), work)?;
            }
        }
    }
    Ok(())
}

/// Who listens on the real server.
struct Ends {
    short: TcpListener,
    long: TcpListener,
}

impl Ends {
    fn new(opponent: &Opponent) -> Result<Self> {
        let server = &opponent.net.servers[0];
        let listen = |port| -> Result<TcpListener> {
            Ok(server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??)
        };
        let ends = Self {
            short: listen(SHORT)?,
            long: listen(LONG)?,
        };
        generator::discard(opponent)?;
        // Neighbours are found by the first connection; without it the generator's packets would wait for them.
        count(opponent, &ends, Figure::Connection)?;
        Ok(ends)
    }
}

fn count(opponent: &Opponent, ends: &Ends, figure: Figure) -> Result<f64> {
    let (client, target) = (opponent.client(), opponent.way.target());
    let count = figure.count();
    match figure {
        Figure::Packet => generator::send(opponent, count),
        Figure::Request => {
            client.run(|| requests(SocketAddrV4::new(target, LONG), &ends.long, count))?
        }
        Figure::Connection => {
            client.run(|| connections(SocketAddrV4::new(target, SHORT), &ends.short, count))?
        }
    }
}

fn requests(target: SocketAddrV4, listener: &TcpListener, count: u32) -> Result<f64> {
    let mut pair = Pair::open(target, listener)?;
    pair.exchange()?;
    each(count, || pair.exchange())
}

fn connections(target: SocketAddrV4, listener: &TcpListener, count: u32) -> Result<f64> {
    each(count, || {
        let mut pair = Pair::open(target, listener)?;
        pair.exchange()?;
        pair.close()
    })
}

/// Nanoseconds of the clock for each.
fn each(count: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..count {
        work()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

/// Both ends of a connection through the director, in one hand.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open(target: SocketAddrV4, listener: &TcpListener) -> Result<Self> {
        let client = TcpStream::connect_timeout(&target.into(), PATIENCE)
            .with_context(|| format!("cannot connect to {target}"))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
        }
        Ok(Self { client, server })
    }

    fn exchange(&mut self) -> Result<()> {
        let mut buffer = [0; SMALL];
        self.client.write_all(&buffer)?;
        self.server.read_exact(&mut buffer)?;
        self.server.write_all(&buffer)?;
        self.client.read_exact(&mut buffer)?;
        Ok(())
    }

    /// The server closes first, and the connection rests on its side.
    fn close(mut self) -> Result<()> {
        drop(self.server);
        ensure!(
            self.client.read(&mut [0; SMALL])? == 0,
            "more than the answer came"
        );
        Ok(())
    }
}

/// All that was counted.
#[derive(Debug)]
pub struct Report {
    kernel: String,
    rounds: u32,
    absent: Vec<Absent>,
    values: BTreeMap<(Figure, Way), Vec<f64>>,
    shares: Shares,
}

impl Report {
    fn of(&self, figure: Figure, way: Way) -> &[f64] {
        self.values.get(&(figure, way)).map_or(&[], Vec::as_slice)
    }

    fn ways(&self) -> impl Iterator<Item = Way> {
        Way::ALL.into_iter().filter(|way| {
            Figure::ALL
                .iter()
                .any(|figure| !self.of(*figure, *way).is_empty())
        })
    }

    /// How far the middle half of the rounds is apart, as a share of the median.
    fn spread(values: &[f64]) -> f64 {
        (quantile(values, 0.75) - quantile(values, 0.25)) / median(values).max(1.0)
    }

    /// Everything, each round's values too.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = Figure::ALL
            .into_iter()
            .map(|figure| {
                let ways: Vec<Value> = self
                    .ways()
                    .filter(|way| !self.of(figure, *way).is_empty())
                    .map(|way| {
                        let values = self.of(figure, way);
                        json!({
                            "way": way.name(),
                            "least": least(values),
                            "rounds": values,
                            "ratio": least(values) / least(self.of(figure, way.base())),
                        })
                    })
                    .collect();
                json!({ "figure": figure.name(), "ways": ways })
            })
            .collect();
        json!({
            "unit": "instructions",
            "kernel": self.kernel,
            "rounds": self.rounds,
            "absent": self.absent.iter().map(|(way, reason)| json!({ "way": way, "reason": reason })).collect::<Vec<_>>(),
            "figures": figures,
            "programs": self.shares.json(&Figure::names()),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "instructions, the least of {} rounds, kernel {}",
            self.rounds, self.kernel
        )?;
        for (way, reason) in &self.absent {
            writeln!(f, "absent: {way}: {reason}")?;
        }
        write!(f, "{:22}", "")?;
        for figure in Figure::ALL {
            write!(f, " {:>13} {:>6}", figure.name(), "ratio")?;
        }
        writeln!(f)?;
        let mut widest: f64 = 0.0;
        for way in self.ways() {
            write!(f, "{:22}", way.name())?;
            for figure in Figure::ALL {
                let values = self.of(figure, way);
                if values.is_empty() {
                    write!(f, " {:>13} {:>6}", "", "")?;
                    continue;
                }
                let base = least(self.of(figure, way.base()));
                widest = widest.max(Self::spread(values));
                write!(f, " {:>13.0} {:>6.2}", least(values), least(values) / base)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "ratios are to plain routing in the same network; the middle half of a figure's rounds is {:.1} % apart at most",
            widest * 100.0
        )?;
        self.shares.table(f, &Figure::names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_compares_with_the_same_network() {
        let mut report = Report {
            kernel: "6.1".into(),
            rounds: 3,
            absent: vec![("IPVS NAT", "this kernel has no IPVS".into())],
            values: BTreeMap::new(),
            shares: Shares::default(),
        };
        for figure in Figure::ALL {
            for (way, value) in [
                (Way::Plain, 8000.0),
                (Way::Bpvs, 6000.0),
                (Way::PlainCable, 4000.0),
                (Way::BpvsXdp, 1000.0),
            ] {
                // Most rounds are spoiled, each way's by something else.
                let values = vec![value * 1.7, value * 1.02, value, value * 1.02, value * 1.9];
                report.values.insert((figure, way), values);
            }
        }
        let text = report.to_string();
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(
            row("bpvs TC NAT").matches("6000   0.75").count(),
            3,
            "{text}"
        );
        assert_eq!(row("bpvs XDP").matches("1000   0.25").count(), 3, "{text}");
        assert!(
            text.contains("absent: IPVS NAT: this kernel has no IPVS"),
            "{text}"
        );
        assert!(text.contains("66.7 % apart"), "{text}");
        assert_eq!(report.json()["figures"][2]["ways"][3]["ratio"], 0.25);
    }
}
