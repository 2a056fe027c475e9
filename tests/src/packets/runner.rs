//! What carries out a case, and the comparison that all runners share.

use std::fmt;

use lb_common::{
    abi::{ServerStats, Word},
    host::Bytes,
    verdict::{Action, Reason},
};

use super::{
    case::{Case, Change, Check, Expected, Flow, Input, Output, Step},
    world::World,
};

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What is done with it. A runner that sees only "redirected" gives [`Action::Transmit`] and says so by
    /// [`Runner::tells_redirects_apart`].
    pub action: Action,
    /// By which interface, if the runner can see that.
    pub ifindex: Option<u32>,
    /// The one counter that moved.
    pub reason: Reason,
    /// How many bytes were counted under it.
    pub counted: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The counters of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets and bytes.
    pub stats: ServerStats,
    /// Active connections.
    pub active: u32,
    /// All connections.
    pub total: u32,
    /// Persistence templates that name it.
    pub templates: u32,
}

/// One way to run the pipeline over a case's tables.
pub trait Runner {
    /// Its name in the summary.
    fn name(&self) -> &'static str;

    /// Why it cannot run a case; `None`: it can. All runners but the host's give [`Case::host_only`] here.
    fn refuses(&self, case: &Case) -> Option<&'static str>;

    /// Whether it can see by which of the ways a redirected packet leaves.
    fn tells_redirects_apart(&self) -> bool;

    /// Sets up fresh tables.
    ///
    /// # Errors
    /// In words, why it could not.
    fn begin(&mut self, world: &World) -> Result<(), String>;

    /// Handles a packet.
    ///
    /// # Errors
    /// In words: it could not be handled, or not exactly one reason was counted.
    fn packet(&mut self, packet: &Bytes) -> Result<Seen, String>;

    /// Lets seconds pass, or makes everything that much older.
    ///
    /// # Errors
    /// In words, why it could not.
    fn wait(&mut self, seconds: u32) -> Result<(), String>;

    /// Makes a change.
    ///
    /// # Errors
    /// In words, why it could not.
    fn change(&mut self, change: &Change) -> Result<(), String>;

    /// The counters of all real servers, by their number.
    ///
    /// # Errors
    /// In words, why it could not.
    fn counts(&self) -> Result<Vec<Counts>, String>;

    /// The word of a connection's forward entry, and the seconds until it expires.
    ///
    /// # Errors
    /// In words, why it could not.
    fn connection(&self, flow: &Flow) -> Result<Option<(Word, u32)>, String>;

    /// Entries in the connection table.
    ///
    /// # Errors
    /// In words, why it could not.
    fn entries(&self) -> Result<usize, String>;

    /// Checks what must hold for the tables whenever no packet is under way.
    ///
    /// # Errors
    /// In words, what does not hold.
    fn audit(&self) -> Result<(), String>;
}

/// How a runner did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Cases that passed.
    pub passed: usize,
    /// Packets in them.
    pub packets: usize,
    /// Cases that the runner cannot run, and why.
    pub refused: Vec<(String, &'static str)>,
    /// Cases that failed, and how.
    pub failed: Vec<(String, String)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            packets,
            refused,
            failed,
        } = self;
        write!(
            f,
            "{passed} cases with {packets} packets passed, {} failed",
            failed.len()
        )?;
        if !refused.is_empty() {
            write!(f, ", {} cannot run here", refused.len())?;
        }
        for (sentence, fault) in failed {
            write!(f, "\n- {sentence}\n  {fault}")?;
        }
        Ok(())
    }
}

/// Runs every case that the runner can run.
pub fn run_all<R: Runner>(runner: &mut R, cases: &[Case]) -> Summary {
    let mut summary = Summary::default();
    for case in cases {
        if let Some(reason) = runner.refuses(case) {
            summary.refused.push((case.sentence.clone(), reason));
            continue;
        }
        match run(runner, case) {
            Ok(packets) => {
                summary.passed += 1;
                summary.packets += packets;
            }
            Err(fault) => summary.failed.push((case.sentence.clone(), fault)),
        }
    }
    summary
}

/// Runs one case; gives the number of packets in it.
///
/// # Errors
/// The first thing that is not as the case says.
pub fn run<R: Runner>(runner: &mut R, case: &Case) -> Result<usize, String> {
    runner.begin(&case.world)?;
    let mut outputs: Vec<Vec<u8>> = Vec::new();
    for (number, step) in (1..).zip(&case.steps) {
        let at = |fault: String| format!("step {number}: {fault}");
        match step {
            Step::Packet(input, expected) => {
                let packet = match input {
                    Input::Packet(packet) => packet.clone(),
                    Input::After(build) => build(&outputs),
                };
                let before = runner.counts().map_err(at)?;
                let seen = runner.packet(&packet).map_err(at)?;
                outputs.push(seen.bytes.clone());
                compare(runner, &packet, &seen, expected, &outputs).map_err(at)?;
                counted(&packet, &seen, &before, &runner.counts().map_err(at)?).map_err(at)?;
            }
            Step::Wait(seconds) => runner.wait(*seconds).map_err(at)?,
            Step::Change(change) => runner.change(change).map_err(at)?,
            Step::Check(check) => look(runner, check).map_err(at)?,
        }
        runner.audit().map_err(at)?;
    }
    Ok(outputs.len())
}

fn compare<R: Runner>(
    runner: &R,
    packet: &Bytes,
    seen: &Seen,
    expected: &Expected,
    outputs: &[Vec<u8>],
) -> Result<(), String> {
    let redirected = |action| !matches!(action, Action::Pass | Action::Drop);
    let same_action = if runner.tells_redirects_apart() {
        seen.action == expected.action
    } else {
        seen.action == expected.action || redirected(seen.action) && redirected(expected.action)
    };
    if !same_action
        || seen.reason != expected.reason
        || seen.ifindex.is_some_and(|it| it != expected.ifindex)
    {
        return Err(format!(
            "expected {:?} {} {}, saw {:?} {:?} {}",
            expected.action,
            expected.ifindex,
            expected.reason.name(),
            seen.action,
            seen.ifindex,
            seen.reason.name(),
        ));
    }
    if seen.counted != packet.data.len() as u64 {
        return Err(format!(
            "{} bytes were counted of {}",
            seen.counted,
            packet.data.len()
        ));
    }
    match &expected.output {
        Output::Same => same(&packet.data, &seen.bytes),
        Output::Bytes(bytes) => same(bytes, &seen.bytes),
        Output::Any => Ok(()),
        Output::Check(check) => check(outputs),
    }
}

/// Whether two packets are the same; else where they differ.
///
/// # Errors
/// The first differing offset, and both packets.
pub fn same(expected: &[u8], seen: &[u8]) -> Result<(), String> {
    if expected == seen {
        return Ok(());
    }
    let at = expected
        .iter()
        .zip(seen)
        .take_while(|(a, b)| a == b)
        .count();
    Err(format!(
        "bytes differ at {at}:\n  expected {}\n  saw      {}",
        hex(expected),
        hex(seen)
    ))
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes
        .chunks(2)
        .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    words.join(" ")
}

/// The law of the counters: a packet that follows a connection moves one real server's counters of its
/// direction, by one packet and its bytes from the IP header on; every other packet moves none.
fn counted(packet: &Bytes, seen: &Seen, before: &[Counts], after: &[Counts]) -> Result<(), String> {
    let word = |at: usize| {
        packet
            .data
            .get(at..at + 2)
            .map_or(0, |it| u64::from(it[0]) << 8 | u64::from(it[1]))
    };
    let length = match word(14 + 2) {
        0 => (packet.data.len() as u64).saturating_sub(14),
        total => total,
    };
    let mut moved = ServerStats::default();
    for (before, after) in before.iter().zip(after) {
        let (before, after) = (&before.stats, &after.stats);
        moved.conns = moved
            .conns
            .wrapping_add(after.conns.wrapping_sub(before.conns));
        moved.in_packets = moved
            .in_packets
            .wrapping_add(after.in_packets.wrapping_sub(before.in_packets));
        moved.out_packets = moved
            .out_packets
            .wrapping_add(after.out_packets.wrapping_sub(before.out_packets));
        moved.in_bytes = moved
            .in_bytes
            .wrapping_add(after.in_bytes.wrapping_sub(before.in_bytes));
        moved.out_bytes = moved
            .out_bytes
            .wrapping_add(after.out_bytes.wrapping_sub(before.out_bytes));
    }
    let inwards = ServerStats {
        in_packets: 1,
        in_bytes: length,
        ..ServerStats::default()
    };
    let outwards = ServerStats {
        out_packets: 1,
        out_bytes: length,
        ..ServerStats::default()
    };
    let conns = moved.conns;
    let packets = ServerStats { conns: 0, ..moved };
    let lawful = match seen.reason {
        Reason::Forwarded => packets == inwards && conns <= 1,
        Reason::Replied => packets == outwards && conns == 0,
        // One from the client's side may open its connection (`schedule_icmp`).
        Reason::IcmpRelated => {
            packets == inwards && conns <= 1 || packets == outwards && conns == 0
        }
        // Made perhaps, and then the packet could not leave: a client's is counted, a real server's is not.
        Reason::TimeExceeded | Reason::TooBig | Reason::NoRoute => {
            (packets == ServerStats::default() || packets == inwards) && conns <= 1
        }
        _ => moved == ServerStats::default(),
    };
    if lawful {
        Ok(())
    } else {
        Err(format!(
            "{} moved the counters by {moved:?}",
            seen.reason.name()
        ))
    }
}

fn look<R: Runner>(runner: &R, check: &Check) -> Result<(), String> {
    let said = match check {
        Check::State(flow, state, seconds) => match runner.connection(flow)? {
            Some((word, left)) if word.state() == *state && left.abs_diff(*seconds) <= 1 => {
                return Ok(());
            }
            Some((word, left)) => format!("state {}, {left} s left", word.state()),
            None => "no such connection".to_owned(),
        },
        Check::Gone(flow) => match runner.connection(flow)? {
            None => return Ok(()),
            Some((word, _)) => format!("state {}", word.state()),
        },
        Check::Counts(server, active, inactive) => {
            let counts = runner.counts()?.get(*server).copied().unwrap_or_default();
            if (counts.active, counts.total) == (*active, active + inactive) {
                return Ok(());
            }
            format!("active {}, all {}", counts.active, counts.total)
        }
        Check::Stats(server, stats) => {
            let counts = runner.counts()?.get(*server).copied().unwrap_or_default();
            if counts.stats == *stats {
                return Ok(());
            }
            format!("{:?}", counts.stats)
        }
        Check::Templates(server, templates) => {
            let counts = runner.counts()?.get(*server).copied().unwrap_or_default();
            if counts.templates == *templates {
                return Ok(());
            }
            format!("{} templates", counts.templates)
        }
        Check::Entries(entries) => {
            let found = runner.entries()?;
            if found == *entries {
                return Ok(());
            }
            format!("{found} entries")
        }
    };
    Err(format!("{check:?}: {said}"))
}
