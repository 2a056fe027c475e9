//! Runs scripts on both sides, step by step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::compare::{Judgement, compare};
use super::names::abbreviated;
use super::side::{COUNTERS, Implementation, Outcome, Side};
use super::step::{Kind, Show, Step, Way};
use crate::lab::Lab;

/// How long both sides get until they show the same: counts lag behind expiry by up to 2 s.
const SETTLE: Duration = Duration::from_millis(3000);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// How long a removal may go on behind its step: with `expire_nodest_conn` the kernel lets a worker
/// end the connections of what was removed, and one that a SYN takes the place of goes with the next
/// tick of its clock.
const REMOVAL: Duration = Duration::from_millis(60);

/// The flag of a segment that opens a connection.
const SYN: u8 = 2;

/// A script with a name.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// How a script went.
#[derive(Debug, Default)]
pub struct Report {
    /// How many steps were taken.
    pub steps: usize,
    /// How many of them sent a frame.
    pub packets: usize,
    /// How many frames came out, of both sides.
    pub frames: usize,
    /// The steps at which both sides differ (counted from 1), and how.
    pub differences: Vec<(usize, String)>,
    /// How often each exception was needed.
    pub exceptions: BTreeMap<&'static str, usize>,
    /// How often it had to be looked again until both showed the same.
    pub looks: usize,
    /// The step that one side cannot do yet, and what is missing for it: there the script ended.
    pub missing: Option<(usize, String)>,
}

/// What is compared to what.
#[derive(Debug)]
pub struct Bench {
    /// Both implementations; the first is the one that is right.
    pub implementations: [Implementation; 2],
    /// How many differences end a script.
    pub patience: usize,
    /// Leave the network of a script that differs standing.
    pub keep: bool,
}

impl Bench {
    /// Runs a script on a new network.
    pub fn run(&self, script: &Script) -> Result<Report> {
        let lab = Lab::new()?;
        let mut sides = Side::build(&lab, &self.implementations)?;
        let mut report = Report::default();
        let mut mode = Mode::default();
        for (number, step) in (1..).zip(&script.steps) {
            let id = u16::try_from(number % 60_000)? + 1;
            mode.loosely |= *step == Step::Loosely;
            mode.expires |= matches!(step, Step::Setting(name, _) if name == "expire_nodest_conn");
            self.step(&mut sides, step, (number, id, mode), &mut report)
                .with_context(|| format!("{}, step {number}: {step}", script.name))?;
            if report.missing.is_some() || report.differences.len() >= self.patience {
                break;
            }
        }
        if self.keep && !report.differences.is_empty() {
            lab.keep();
            eprint!("{}", crate::cli::how_to_enter(&lab));
        } else {
            sides.iter().try_for_each(Side::clear)?;
        }
        Ok(report)
    }

    fn step(
        &self,
        sides: &mut [Side],
        step: &Step,
        (number, id, mode): (usize, u16, Mode),
        report: &mut Report,
    ) -> Result<()> {
        match step {
            Step::Wait(seconds) => std::thread::sleep(Duration::from_secs(u64::from(*seconds))),
            Step::Show(Show::Stats | Show::Rate) => std::thread::sleep(COUNTERS),
            _ => {}
        }
        let deadline = Instant::now() + SETTLE;
        let names = [sides[0].name(), sides[1].name()];
        report.steps += 1;
        loop {
            let outcomes = [sides[0].carry_out(step, id)?, sides[1].carry_out(step, id)?];
            for outcome in &outcomes {
                if let Outcome::Frames(frames) = outcome {
                    report.frames += frames.len();
                }
            }
            report.packets += usize::from(matches!(step, Step::Packet(_)));
            if removes(step, mode) {
                std::thread::sleep(REMOVAL);
            }
            match compare(step, names, [&outcomes[0], &outcomes[1]], mode.loosely) {
                Judgement::Same => {}
                Judgement::Excepted(name) => *report.exceptions.entry(name).or_default() += 1,
                Judgement::Missing(what) => report.missing = Some((number, what)),
                Judgement::Differ(_) if may_settle(step) && Instant::now() < deadline => {
                    report.looks += 1;
                    std::thread::sleep(LOOK);
                    continue;
                }
                Judgement::Differ(text) => report.differences.push((number, text)),
            }
            return Ok(());
        }
    }
}

/// What earlier steps have asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Mode {
    /// Both sides may differ where they draw.
    loosely: bool,
    /// Any packet of a client may end a connection (`expire_nodest_conn`).
    expires: bool,
}

/// Whether it removes a service, a real server, or maybe a connection.
fn removes(step: &Step, mode: Mode) -> bool {
    match step {
        Step::Ipvsadm(words) => words
            .first()
            .is_some_and(|word| ["-d", "-D", "-C"].contains(&word.as_str())),
        Step::Packet(packet) => {
            packet.way == Way::Request
                && (mode.expires || matches!(packet.kind, Kind::Tcp(flags) if flags & SYN != 0))
        }
        _ => false,
    }
}

/// Whether looking again, which changes nothing, may show what lagged behind.
fn may_settle(step: &Step) -> bool {
    matches!(step, Step::Show(show) if !matches!(show, Show::Save | Show::Timeouts))
}

impl Bench {
    /// Runs a script on the second side alone and prints what comes out.
    pub fn show(&self, script: &Script) -> Result<()> {
        let lab = Lab::new()?;
        let mut sides = Side::build(&lab, &self.implementations[1..])?;
        let side = &mut sides[0];
        println!("# {}", script.name);
        for (number, step) in (1..).zip(&script.steps) {
            println!("{step}");
            match step {
                Step::Wait(seconds) => std::thread::sleep(Duration::from_secs(u64::from(*seconds))),
                Step::Show(Show::Stats | Show::Rate) => std::thread::sleep(COUNTERS),
                _ => {}
            }
            let id = u16::try_from(number % 60_000)? + 1;
            match side.carry_out(step, id)? {
                Outcome::Frames(frames) if frames.is_empty() => println!("    (nothing came out)"),
                Outcome::Frames(frames) => {
                    frames.iter().for_each(|frame| println!("    {frame}"));
                }
                Outcome::Said(said) => {
                    let text = format!("{}{}", said.output, said.error);
                    abbreviated(&text)
                        .lines()
                        .filter(|line| !line.starts_with("IP") && !line.starts_with("Prot"))
                        .for_each(|line| println!("    {line}"));
                }
                Outcome::NotSent => println!("    (no request to answer)"),
                Outcome::Done | Outcome::Missing(_) => {}
            }
        }
        side.clear()
    }
}
