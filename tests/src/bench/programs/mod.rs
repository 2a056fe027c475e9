//! `lab bench --programs`: nanoseconds of a packet in each program by itself, without the kernel around it.
//!
//! The programs are those that a daemon has loaded and pinned, with its tables; their connections were made by running the
//! same programs on the packets that make them. `BPF_PROG_TEST_RUN` runs them, behind a program that writes the packet anew
//! ([`restorer`]); what that costs in front of a program that does nothing is subtracted, each time anew. The time is the
//! thread's own processor time, so that what others do meanwhile is not in it, but for what they do to the caches.

pub mod packets;
pub mod report;
pub mod restorer;
pub mod sockets;
pub mod stand;

use std::path::Path;

use anyhow::{Context as _, Result};

use self::packets::Kind;
pub use self::report::Report;
use self::restorer::Order;
use self::stand::{Stand, Subject, Timed};
use crate::bench::instructions::COUNTED;
use crate::bench::kernel::Hook;
use crate::lab::Lab;

/// What stands in the state of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flows {
    /// So many open ones, in this order.
    Open(u64, Order),
    /// New ones, each with one packet; the handshake is completed between rounds.
    New,
    /// New ones, which nobody completes: each takes the place of an older one.
    Flood,
    /// The packet has none.
    None,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    kind: Kind,
    flows: Flows,
    subject: Subject,
    /// Nanoseconds at most, in XDP.
    goal: Option<f64>,
}

const fn case(name: &'static str, kind: Kind, flows: Flows, goal: Option<f64>) -> Case {
    Case {
        name,
        kind,
        flows,
        subject: Subject::Bpvs,
        goal,
    }
}

/// Only the look-up of the connection: what of the row above is the table's.
const fn look_up(name: &'static str, flows: Flows) -> Case {
    Case {
        name,
        kind: Kind::Ack,
        flows,
        subject: Subject::LookUp,
        goal: None,
    }
}

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const ONE: Flows = Flows::Open(1, Order::Turn);
const SOME: Flows = Flows::Open(K, Order::Turn);
const MANY: Flows = Flows::Open(64 * K, Order::Turn);
const MANY_RANDOM: Flows = Flows::Open(64 * K, Order::Random);
const ALL: Flows = Flows::Open(M, Order::Turn);
const ALL_RANDOM: Flows = Flows::Open(M, Order::Random);

/// Rows of a bpvs as it comes, for each hook. Floods are timed behind the others, for they fill what those need.
const CASES: [Case; 18] = [
    case("TCP data, 1 connection", Kind::Ack, ONE, Some(60.0)),
    look_up("  the look-up alone, 1", ONE),
    case("TCP data, 1 K connections", Kind::Ack, SOME, None),
    look_up("  the look-up alone, 1 K", SOME),
    case("TCP data, 64 K connections", Kind::Ack, MANY, Some(80.0)),
    look_up("  the look-up alone, 64 K", MANY),
    case(
        "TCP data, 64 K in random order",
        Kind::Ack,
        MANY_RANDOM,
        Some(80.0),
    ),
    look_up("  the look-up alone, 64 K random", MANY_RANDOM),
    case("TCP answer, 1 connection", Kind::Answer, ONE, Some(60.0)),
    case(
        "TCP answer, 64 K connections",
        Kind::Answer,
        MANY,
        Some(80.0),
    ),
    case("UDP, 1 connection", Kind::Datagram, ONE, Some(60.0)),
    case(
        "UDP answer, 1 connection",
        Kind::DatagramBack,
        ONE,
        Some(60.0),
    ),
    case("TCP, new connection", Kind::Syn, Flows::New, None),
    case("UDP, new connection", Kind::Datagram, Flows::New, None),
    case(
        "TCP, flood of SYNs, table full",
        Kind::Syn,
        Flows::Flood,
        None,
    ),
    case("no service", Kind::Other, Flows::None, None),
    case(
        "another protocol, passes by",
        Kind::Protocol,
        Flows::None,
        None,
    ),
    case("IPv6, passes by", Kind::Ipv6, Flows::None, None),
];

/// Rows of one with room for so many.
const LARGE: [Case; 4] = [
    case("TCP data, 1 M connections", Kind::Ack, ALL, None),
    look_up("  the look-up alone, 1 M", ALL),
    case(
        "TCP data, 1 M in random order",
        Kind::Ack,
        ALL_RANDOM,
        Some(200.0),
    ),
    look_up("  the look-up alone, 1 M random", ALL_RANDOM),
];
/// The room.
const ROOM: [&str; 2] = ["--connections", "1048576"];

/// Packets of one look at a few connections; new connections of one look.
const PACKETS: u32 = 100_000;
const NEW: u32 = 1024;
/// Rounds at most: those new connections stay, and there is to be room for all.
const ROUNDS: u32 = 30;
/// Half-open connections that there is room for, and a few more.
const FULL: u32 = 80_000;

/// Times all programs, round by round.
///
/// # Errors
///
/// Where the director cannot be set up, or a program does not answer as it should.
pub fn run(rounds: u32, bpvs: &Path) -> Result<Report> {
    let rounds = rounds.min(ROUNDS);
    // Where the clock counts instructions there are no caches to be missed.
    let counted = Path::new(COUNTED).exists();
    let mut report = Report::new(rounds, counted);
    {
        let lab = Lab::new()?;
        let mut stand = Stand::build(&lab, bpvs, &[])?;
        let hooks = [Hook::Xdp, Hook::Tc];
        measure(&mut stand, &hooks, &CASES, rounds, &mut report)?;
        sockets::measure(&stand, rounds, &mut report)?;
        stand.daemon.stop()?;
    }
    if !counted {
        let lab = Lab::new()?;
        let mut stand = Stand::build(&lab, bpvs, &ROOM)?;
        measure(&mut stand, &[Hook::Xdp], &LARGE, rounds, &mut report)?;
        stand.daemon.stop()?;
    }
    Ok(report)
}

fn measure(
    stand: &mut Stand,
    hooks: &[Hook],
    cases: &[Case],
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let director = stand.net.director.clone();
    director.run(|| measure_here(stand, hooks, cases, rounds, report))?
}

fn measure_here(
    stand: &mut Stand,
    hooks: &[Hook],
    cases: &[Case],
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    super::workloads::pin(0);
    stand.settle()?;
    let most = cases.iter().filter_map(|case| match case.flows {
        Flows::Open(count, _) => Some(count),
        _ => None,
    });
    let most = most.max().unwrap_or(1);
    eprintln!("opening {most} connections");
    let tcp = stand.open(true, most)?;
    let udp = stand.open(false, 1)?;
    let mut rows = Vec::new();
    for &hook in hooks {
        for case in cases {
            let timed = stand.timed(hook, case.kind, case.subject)?;
            if let Flows::Open(count, order) = case.flows {
                let first = if is_tcp(case.kind) { tcp } else { udp };
                timed.flows(first, count, order)?;
            }
            rows.push((hook, case, timed));
        }
    }
    let has_floods = cases.iter().any(|case| case.flows == Flows::Flood);
    for floods in [false, true] {
        if floods && !has_floods {
            continue;
        }
        for round in 0..=rounds {
            eprintln!(
                "round {round} of {rounds}{}",
                if floods { ", floods" } else { "" }
            );
            for (hook, case, timed) in &rows {
                if (case.flows == Flows::Flood) != floods {
                    continue;
                }
                let value = look(stand, case, timed)
                    .with_context(|| format!("{}: {}", report::hook_name(*hook), case.name))?;
                // The first one brings code and tables into the caches.
                if round > 0 {
                    let goal = case
                        .goal
                        .filter(|_| *hook == Hook::Xdp && !report.counted());
                    report.add(*hook, case.name, goal, value);
                }
            }
        }
    }
    Ok(())
}

fn is_tcp(kind: Kind) -> bool {
    !matches!(kind, Kind::Datagram | Kind::DatagramBack)
}

/// One look at a row.
fn look(stand: &mut Stand, case: &Case, timed: &Timed) -> Result<f64> {
    match case.flows {
        Flows::None => timed.time(PACKETS),
        Flows::Open(count, _) => {
            // Each connection writes once a second that it is alive: not in what is timed, as it is not where packets
            // come without a pause.
            if case.subject == Subject::Bpvs {
                timed.pass(count as u32)?;
            }
            timed.time(PACKETS.max(count.min(256 * K) as u32))
        }
        Flows::New => {
            let (tcp, count) = (is_tcp(case.kind), NEW.into());
            let first = stand.fresh(tcp, count);
            timed.flows(first, count, Order::Turn)?;
            let value = timed.time(NEW)?;
            stand.complete(tcp, first, count)?;
            Ok(value)
        }
        Flows::Flood => {
            let tcp = is_tcp(case.kind);
            let first = stand.fresh(tcp, 2 * M);
            timed.flows(first, 2 * M, Order::Turn)?;
            timed.pass(FULL)?;
            timed.time(NEW)
        }
    }
}
