//! `lab bench --alone`: instructions a packet of the director alone, in a guest that is nothing else. Its two interfaces are
//! virtio's, and their far ends are outside ([`super::far_end`]).
//!
//! A thread turns round in a loop whenever there is nothing else to do, so that the processor never rests and its clock, which
//! counts instructions, never waits. What the loop does not get while packets come is what they take, with interrupts and all;
//! how fast it turns while none come is measured before, ticks of the kernel's included.

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::net::if_::if_nametoindex;
use serde_json::{Value, json};

use super::directors::{by_xdp_on, mac as director_mac, run as run_on};
use super::far_end::{MACS, Order, WORDS};
use super::instruction::*;
use super::instructions::COUNTED;
use super::kernel::{self, Hook, Statistics};
use super::opponents::last_line;
use super::spent::Spent;
use super::statistics::{median, quantile};
use super::workloads::DATAGRAMS;
use crate::daemon::Daemon;
use crate::host::{Host, finish, tool};
use crate::lab::Lab;
use crate::topology::director::{DIRECTOR, DIRECTOR_INSIDE, SERVICE, server_address};
use crate::wire::{Wire, mac};

/// Its interfaces, towards clients and towards real servers.
const INTERFACES: [&str; 2] = ["eth0", "eth1"];
/// The ethertype of IPv4, and what XDP answers to let a packet pass.
const IPV4: [u8; 2] = [8, 0];
const XDP_PASS: i32 = 2;
/// Packets of one look, and how many of them come at once.
const PACKETS: u32 = 2048;
const BURST: u32 = 64;
/// How long an answer of the far end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the director does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Routing,
    TcRedirect,
    XdpRedirect,
    Iptables,
    Ipvs,
    Tc,
    Xdp,
}

impl Work {
    const ALL: [Self; 7] = [
        Self::Routing,
        Self::TcRedirect,
        Self::XdpRedirect,
        Self::Iptables,
        Self::Ipvs,
        Self::Tc,
        Self::Xdp,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Routing => "plain routing",
            Self::TcRedirect => "TC redirect, no NAT",
            Self::XdpRedirect => "XDP redirect, no NAT",
            Self::Iptables => "iptables DNAT",
            Self::Ipvs => "IPVS NAT",
            Self::Tc => "bpvs TC NAT",
            Self::Xdp => "bpvs XDP NAT",
        }
    }

    /// Whether nothing is translated.
    const fn asks_server(self) -> bool {
        matches!(self, Self::Routing | Self::TcRedirect | Self::XdpRedirect)
    }

    /// Of what IPVS takes, at most.
    const fn goal(self) -> Option<f64> {
        match self {
            Self::Tc => Some(0.6),
            Self::Xdp => Some(0.3),
            _ => None,
        }
    }
}

/// Counts, and gives the report.
///
/// # Errors
///
/// Where it is not in such a guest, or packets get lost.
pub fn run(rounds: u32, bpvs: &Path) -> Result<Report> {
    if !Path::new(COUNTED).exists() {
        bail!(
            "the clock here does not count instructions: `cargo xtask bench --instructions` starts the guest"
        );
    }
    let modules = ["-a", "-q", "virtio_net", "ip_vs", "ip_vs_rr"];
    let _ = tool("modprobe").args(modules).status();
    let mut report = Report {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        rounds,
        rows: Vec::new(),
        absent: Vec::new(),
    };
    let spinner = Spinner::start();
    for work in Work::ALL {
        eprintln!("alone: {}", work.name());
        let lab = Lab::new()?;
        match measure(&lab, work, rounds, bpvs, &spinner) {
            Ok(counted) => report.rows.push((work, counted)),
            Err(error) if matches!(work, Work::Routing | Work::Tc) => return Err(error),
            Err(error) => report.absent.push((work.name(), last_line(&error))),
        }
    }
    Ok(report)
}

/// What was counted of one way.
#[derive(Debug)]
struct Counted {
    /// Instructions a packet, of each round.
    values: Vec<f64>,
    /// Of them those of bpvs' program, by the kernel's count and with its looks at the clock.
    program: Option<f64>,
}

fn measure(lab: &Lab, work: Work, rounds: u32, bpvs: &Path, spinner: &Spinner) -> Result<Counted> {
    let director = lab.host("director")?;
    for interface in INTERFACES {
        let line = format!("link set {interface} netns {}", director.namespace());
        let mut ip = tool("ip");
        finish(ip.args(line.split_whitespace()).stdin(Stdio::null()))?;
    }
    let counted = count(lab, &director, work, rounds, bpvs, spinner);
    // By themselves they come back only some time after the namespace has gone.
    for interface in INTERFACES {
        director.ip(&format!("link set {interface} netns 1"))?;
    }
    counted
}

fn count(
    lab: &Lab,
    director: &Host,
    work: Work,
    rounds: u32,
    bpvs: &Path,
    spinner: &Spinner,
) -> Result<Counted> {
    for (interface, address) in INTERFACES.iter().zip([DIRECTOR, DIRECTOR_INSIDE]) {
        director.ip(&format!("address add {address}/24 dev {interface}"))?;
        director.ip(&format!("link set {interface} up"))?;
    }
    let daemon = set_up(lab, director, work, bpvs)?;
    let _links = if work == Work::XdpRedirect {
        redirect(director)?
    } else {
        Vec::new()
    };
    let target = if work.asks_server() {
        server_address(1)
    } else {
        SERVICE
    };
    let wire = Wire::of_kind(director, INTERFACES[0], WORDS)?;
    let own = mac(director, INTERFACES[0])?;
    let order = |count, burst| -> Result<()> {
        let order = Order {
            count,
            burst,
            target,
        };
        wire.send(&order.frame(own))?;
        let answer = wire.next(PATIENCE, |seen| seen.bytes.get(..6) == Some(&own[..]))?;
        let answer = answer.context("the far end does not answer")?;
        let arrived = Order::arrived(&answer.bytes);
        ensure!(
            arrived == Some(count),
            "of {count} packets {arrived:?} arrived"
        );
        Ok(())
    };
    // Finds the neighbours; what waits for them does not get lost as long as it is little.
    order(1, 1)?;
    if work == Work::Xdp {
        let daemon = daemon.as_ref().context("no daemon")?;
        daemon.bpvs(director, "settings set xdp=eth0,eth1")?;
        by_xdp_on(director, daemon, &INTERFACES)?;
    }
    // Time for the daemon to see them, too.
    std::thread::sleep(Duration::from_secs(3));
    order(PACKETS, BURST)?;
    let mut values = Vec::new();
    for _ in 0..rounds {
        let idle = spinner.rate(|| {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        })?;
        let mut took = 0.0;
        let busy = spinner.turns_and_time(|| order(PACKETS, BURST))?;
        took += busy.1 - busy.0 / idle;
        values.push(took / f64::from(PACKETS));
    }
    let Some(daemon) = daemon else {
        return Ok(Counted {
            values,
            program: None,
        });
    };
    let name = if work == Work::Xdp {
        "xdp_prog_"
    } else {
        "ingress_prog_"
    };
    let pins = daemon.pins()?;
    let pin = pins.iter().find(|pin| pin.contains(name));
    let pin = daemon.bpf_folder().join(pin.context("no pinned program")?);
    let on = Statistics::on()?;
    let before = Spent::of(&pin)?;
    order(PACKETS, BURST)?;
    let program = Some(Spent::of(&pin)?.since(before).each());
    drop(on);
    daemon.bpvs(director, "down")?;
    Ok(Counted { values, program })
}

fn set_up(lab: &Lab, director: &Host, work: Work, bpvs: &Path) -> Result<Option<Daemon>> {
    let server = server_address(1);
    if !matches!(work, Work::Tc | Work::Xdp) {
        director.sysctl("net.ipv4.ip_forward", "1")?;
    }
    match work {
        Work::Routing | Work::XdpRedirect => {}
        Work::TcRedirect => {
            let [_, out] = INTERFACES;
            let (source, destination) = (director_mac(director, out)?, text(MACS[1]));
            run_on(director, "tc", "qdisc add dev eth0 clsact")?;
            let line = format!(
                "filter add dev eth0 ingress protocol ip flower dst_ip {server}/32 \
                 action skbmod set smac {source} set dmac {destination} pipe \
                 action mirred egress redirect dev {out}"
            );
            run_on(director, "tc", &line)?;
        }
        Work::Iptables => {
            let rule =
                format!("-t nat -A PREROUTING -d {SERVICE} -j DNAT --to-destination {server}");
            run_on(director, "iptables", &rule)?;
        }
        Work::Ipvs => {
            director.ip(&format!("address add {SERVICE}/32 dev lo"))?;
            let service = format!("-u {SERVICE}:{DATAGRAMS}");
            run_on(director, "ipvsadm", &format!("-A {service} -s rr"))?;
            let line = format!("-a {service} -r {server}:{DATAGRAMS} -m");
            run_on(director, "ipvsadm", &line)?;
        }
        Work::Tc | Work::Xdp => {
            let daemon = Daemon::start(lab, bpvs, director, &[])?;
            let service = format!("udp:{SERVICE}:{DATAGRAMS}");
            daemon.bpvs(director, &format!("service add {service} --scheduler rr"))?;
            let line = format!("server add {service} {server}:{DATAGRAMS}");
            daemon.bpvs(director, &line)?;
            return Ok(Some(daemon));
        }
    }
    Ok(None)
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// XDP that sends every IPv4 packet on by the other interface: the room that XDP gives.
fn redirect(director: &Host) -> Result<Vec<OwnedFd>> {
    let own = mac(director, INTERFACES[1])?;
    director.run(|| {
        let [from, to] = INTERFACES.map(if_nametoindex);
        let (from, to) = (from?, to?);
        let mut head = [0; 16];
        head[..6].copy_from_slice(&MACS[1]);
        head[6..12].copy_from_slice(&own);
        head[12..14].copy_from_slice(&IPV4);
        let first = u64::from_ne_bytes(head[..8].try_into()?);
        let second = u32::from_ne_bytes(head[8..12].try_into()?);
        let kind = u16::from_ne_bytes(IPV4);
        let (data, data_end) = ends(Hook::Xdp);
        let mut code = vec![
            op(LOAD_32, 7, 1, data, 0),
            op(LOAD_32, 8, 1, data_end, 0),
            op(MOV, 2, 7, 0, 0),
            op(ADD_IMM, 2, 0, 0, 34),
            // Both jump to the last two.
            op(IF_GREATER, 2, 8, 10, 0),
            op(LOAD_16, 3, 7, 12, 0),
            op(IF_NOT_IMM, 3, 0, 8, kind.into()),
        ];
        load(&mut code, 1, 0, first);
        code.extend([
            op(STORE_64, 7, 1, 0, 0),
            op(STORE_IMM_32, 7, 0, 8, second.cast_signed()),
            op(MOV_IMM, 1, 0, 0, to.cast_signed()),
            op(MOV_IMM, 2, 0, 0, 0),
            op(CALL, 0, 0, 0, REDIRECT),
            op(EXIT, 0, 0, 0, 0),
            op(MOV_IMM, 0, 0, 0, XDP_PASS),
            op(EXIT, 0, 0, 0, 0),
        ]);
        // The driver takes what is redirected to it only where it has a program itself.
        let passes = kernel::load(
            Hook::Xdp,
            &[op(MOV_IMM, 0, 0, 0, XDP_PASS), op(EXIT, 0, 0, 0, 0)],
        )?;
        Ok(vec![
            kernel::attach_xdp(&kernel::load(Hook::Xdp, &code)?, from)?,
            kernel::attach_xdp(&passes, to)?,
        ])
    })?
}

/// The thread that has what nobody else wants.
struct Spinner {
    turns: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Spinner {
    fn start() -> Self {
        let spinner = Self {
            turns: Arc::default(),
            over: Arc::default(),
        };
        let (turns, over) = (Arc::clone(&spinner.turns), Arc::clone(&spinner.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        spinner
    }

    /// Turns, and nanoseconds, that pass while this is done.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn turns_and_time(&self, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
        let (before, begun) = (self.turns.load(Ordering::Relaxed), Instant::now());
        work()?;
        let (time, after) = (begun.elapsed(), self.turns.load(Ordering::Relaxed));
        Ok(((after - before) as f64, time.as_secs_f64() * 1e9))
    }

    /// Turns a nanosecond.
    fn rate(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let (turns, time) = self.turns_and_time(work)?;
        Ok(turns / time)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// All that was counted.
#[derive(Debug)]
pub struct Report {
    kernel: String,
    rounds: u32,
    rows: Vec<(Work, Counted)>,
    absent: Vec<(&'static str, String)>,
}

impl Report {
    /// To the kernel's IPVS, where that is there.
    fn ratio(&self, values: &[f64]) -> Option<f64> {
        let (_, theirs) = self.rows.iter().find(|(work, _)| *work == Work::Ipvs)?;
        Some(median(values) / median(&theirs.values))
    }

    /// Everything, each round's values too.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(work, Counted { values, program })| {
            json!({
                "way": work.name(),
                "median": median(values),
                "rounds": values,
                "ratio": self.ratio(values),
                "goal": work.goal(),
                "program": program,
            })
        });
        json!({
            "unit": "instructions a packet, the director alone",
            "kernel": self.kernel,
            "rounds": self.rounds,
            "absent": self.absent.iter().map(|(way, reason)| json!({ "way": way, "reason": reason })).collect::<Vec<_>>(),
            "ways": rows.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "instructions a packet of the director alone, virtio-net, median of {} rounds, kernel {}",
            self.rounds, self.kernel
        )?;
        for (way, reason) in &self.absent {
            writeln!(f, "absent: {way}: {reason}")?;
        }
        writeln!(
            f,
            "{:22} {:>9} {:>20}  {:>12}  to IPVS NAT  goal",
            "", "a packet", "middle half", "its program"
        )?;
        for (work, Counted { values, program }) in &self.rows {
            let half = format!(
                "{:.0} to {:.0}",
                quantile(values, 0.25),
                quantile(values, 0.75)
            );
            let ratio = self
                .ratio(values)
                .map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let program = program.map_or(String::new(), |each| format!("{each:.0}"));
            let goal = work.goal().map_or(String::new(), |goal| format!("{goal}"));
            let line = format!(
                "{:22} {:>9.0} {half:>20}  {program:>12}  {ratio:>11}  {goal}",
                work.name(),
                median(values)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loop_does_not_get_is_work() {
        let spinner = Spinner::start();
        while spinner.turns.load(Ordering::Relaxed) == 0 {}
        let nap = || {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        };
        assert!(spinner.rate(nap).unwrap() > 0.0);
    }

    #[test]
    fn ratios_are_to_ipvs() {
        let row = |work, values: &[f64]| {
            let counted = Counted {
                values: values.to_vec(),
                program: None,
            };
            (work, counted)
        };
        let report = Report {
            kernel: "6.1".into(),
            rounds: 3,
            rows: vec![
                row(Work::Ipvs, &[4000.0; 3]),
                row(Work::Xdp, &[1000.0, 1000.0, 9000.0]),
            ],
            absent: Vec::new(),
        };
        assert!(report.to_string().contains("0.25  0.3"), "{report}");
        assert_eq!(report.json()["ways"][1]["ratio"], 0.25);
    }
}
