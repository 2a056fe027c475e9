//! The differential suite: the same commands and the same packets, to the kernel's IPVS and to
//! bpvs, side by side, and everything that can be seen is compared.
//!
//! A [`step`] is a command, a packet, a wait or a look. A script of steps is carried out on two
//! [`side`]s with the same addresses; packets are raw frames at the far ends of the directors'
//! cables ([`wire`], [`frames`]), so nothing else is on the way and each frame that comes out
//! ([`observe`]) is the doing of one step. [`compare`] tells whether both did the same; where they
//! are known not to, [`exceptions`] says so. Scripts are written by hand ([`scenarios`]) or made at
//! random from a seed ([`generate`]), and made shorter where they differ ([`shrink`]).
//!
//! It needs a kernel with IPVS, and `ipvsadm`.

pub mod compare;
pub mod exceptions;
pub mod frames;
pub mod generate;
pub mod names;
pub mod observe;
pub mod run;
pub mod scenarios;
pub mod shrink;
pub mod side;
pub mod step;
pub mod translate;
pub mod wire;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::daemon::{Daemon, find_bpvs};
use crate::host::tool;
use crate::lab::Lab;
use run::{Bench, Report, Script};
use side::Implementation;

/// What to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Random scripts for these seeds, as 1..20 [default: 1..20 where nothing else is asked for]
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// How many steps a random script has
    #[arg(long, value_name = "N", default_value_t = 120)]
    steps: usize,
    /// Of what random scripts may be made
    #[arg(long, value_name = "NAME", default_value = "all", value_parser = generate::Profile::named)]
    profile: generate::Profile,
    /// Run the script in this file
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Run only written scripts whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only print the scripts
    #[arg(long)]
    print: bool,
    /// Show what the kernel does, or bpvs (any kernel will do for that), step by step, and compare nothing
    #[arg(long, value_name = "WHOSE", num_args = 0..=1, require_equals = true, default_missing_value = "ipvs")]
    show: Option<Shown>,
    /// Compare the kernel's IPVS with itself: whatever differs is a mistake of the suite
    #[arg(long)]
    itself: bool,
    /// Have bpvs handle in XDP what it can (Linux 6.3 and later)
    #[arg(long)]
    xdp: bool,
    /// Count what bpvs does not have yet as a difference
    #[arg(long)]
    strict: bool,
    /// Do not make a script that differs shorter
    #[arg(long)]
    no_shrink: bool,
    /// How many differences end a script
    #[arg(long, value_name = "N", default_value_t = 1)]
    patience: usize,
    /// Leave the network of a script that differs standing
    #[arg(long)]
    keep: bool,
    /// The bpvs program [default: env BPVS, or the one beside this program]
    #[arg(long, value_name = "PATH")]
    bpvs: Option<PathBuf>,
}

/// Whose doing is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shown {
    /// The kernel's IPVS.
    Ipvs,
    /// bpvs.
    Bpvs,
}

impl Options {
    /// Whether nothing is to be run.
    pub fn only_prints(&self) -> bool {
        self.print
    }
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    match text.split_once("..") {
        Some((first, last)) => Ok(number(first)?..=number(last.trim_start_matches('='))?),
        None => number(text).map(|seed| seed..=seed),
    }
}

/// Prints a line. Nobody reading any more is no failure: namespaces still have to go.
macro_rules! say {
    ($($argument:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

/// Runs what was asked for; whether both sides did the same everywhere.
///
/// # Errors
///
/// Where the kernel has no IPVS, or the suite itself fails.
pub fn run(options: &Options) -> Result<bool> {
    let scripts = scripts(options)?;
    if options.print {
        for script in &scripts {
            say!("# {}", script.name);
            script.steps.iter().for_each(|step| say!("{step}"));
        }
        return Ok(true);
    }
    if options.show != Some(Shown::Bpvs) {
        load_ipvs()?;
    }
    let lab = Lab::new()?;
    let second = if options.itself || options.show == Some(Shown::Ipvs) {
        Implementation::Kernel
    } else {
        let host = lab.host("daemon")?;
        let program = find_bpvs(options.bpvs.clone())?;
        Implementation::bpvs(Daemon::start(&lab, &program, &host, &[])?, options.xdp)
    };
    pin()?;
    let bench = Bench {
        implementations: [Implementation::Kernel, second],
        patience: options.patience,
        keep: options.keep,
    };
    if options.show.is_some() {
        return scripts
            .iter()
            .try_for_each(|script| bench.show(script))
            .map(|()| true);
    }
    let mut total = Total::default();
    for script in &scripts {
        let start = Instant::now();
        let mut report = bench.run(script)?;
        if !report.differences.is_empty()
            && let Some(again) = goes_through(&bench, script)?
        {
            total.once(script, &report);
            report = again;
        }
        let took = start.elapsed().as_secs_f32();
        total.add(script, &report, took, options.strict);
        if let (Some((number, _)), false) = (report.differences.first(), options.no_shrink) {
            let short = shrink::shrink(&bench, script, *number)?;
            say!("    the shortest script that differs:");
            short.steps.iter().for_each(|step| say!("      {step}"));
        }
    }
    Ok(total.say())
}

/// How often a script that differed must go through, one time after the other, to be believed.
const AGAIN: usize = 3;

/// The last report of a script that goes through again and again.
fn goes_through(bench: &Bench, script: &Script) -> Result<Option<Report>> {
    let mut last = None;
    for _ in 0..AGAIN {
        let report = bench.run(script)?;
        if !report.differences.is_empty() {
            return Ok(None);
        }
        last = Some(report);
    }
    Ok(last)
}

fn scripts(options: &Options) -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    if let Some(path) = &options.script {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let steps = step::parse(&text).with_context(|| path.display().to_string())?;
        let name = path.display().to_string();
        scripts.push(Script { name, steps });
    }
    let random_only = options.seeds.is_some() && options.only.is_none();
    if options.script.is_none() && !random_only {
        scripts.extend(scenarios::all()?.into_iter().filter(|script| {
            let only = options.only.as_ref();
            only.is_none_or(|text| script.name.contains(text.as_str()))
        }));
    }
    let usual = options.script.is_none() && options.only.is_none();
    if let Some(seeds) = options.seeds.clone().or(usual.then_some(1..=20)) {
        scripts.extend(seeds.map(|seed| options.profile.script(seed, options.steps)));
    }
    if scripts.is_empty() {
        bail!("no script has such a name");
    }
    Ok(scripts)
}

/// The settings of IPVS are there only once its module is.
fn load_ipvs() -> Result<()> {
    for module in ["ip_vs", "cls_flower", "act_skbedit"] {
        // Built in, or absent: what follows tells.
        let _ = tool("modprobe").args(["-q", module]).status();
    }
    if !std::path::Path::new("/proc/net/ip_vs").exists() {
        bail!("this kernel has no IPVS (see CONTRIBUTING.md for how to run this in a guest)");
    }
    Ok(())
}

/// Keeps this thread on one processor; [`wire::Wire`] says why.
fn pin() -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(0)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .context("cannot stay on one processor")
}

/// What came of all scripts.
#[derive(Default)]
struct Total {
    same: usize,
    differ: Vec<String>,
    /// Those that differed once and then did not any more: said, and not counted as a failure.
    once: Vec<String>,
    missing: BTreeMap<String, usize>,
    exceptions: BTreeMap<&'static str, usize>,
    steps: usize,
    packets: usize,
    frames: usize,
    looks: usize,
    took: f32,
}

impl Total {
    /// A script has differed, and goes through when it is run again.
    fn once(&mut self, script: &Script, report: &Report) {
        say!("once   {:40} and not again in {AGAIN} runs:", script.name);
        for (number, text) in &report.differences {
            say!("    step {number}: {}\n{text}", script.steps[number - 1]);
        }
        self.once.push(script.name.clone());
    }

    fn add(&mut self, script: &Script, report: &Report, took: f32, strict: bool) {
        let name = &script.name;
        self.steps += report.steps;
        self.packets += report.packets;
        self.frames += report.frames;
        self.looks += report.looks;
        self.took += took;
        for (exception, count) in &report.exceptions {
            *self.exceptions.entry(exception).or_default() += count;
        }
        let figures = format!("{:5} steps {took:6.2} s", report.steps);
        if !report.differences.is_empty() {
            say!("DIFFER {name:40} {figures}");
            for (number, text) in &report.differences {
                say!("    step {number}: {}\n{text}", script.steps[number - 1]);
            }
            self.differ.push(name.clone());
        } else if let Some((number, what)) = &report.missing {
            say!("left   {name:40} {figures}  at step {number}, for want of: {what}");
            if strict {
                self.differ.push(name.clone());
            }
            *self.missing.entry(what.clone()).or_default() += 1;
        } else {
            say!("same   {name:40} {figures}");
            self.same += 1;
        }
    }

    fn say(&self) -> bool {
        let left: usize = self.missing.values().sum();
        say!(
            "\n{} the same, {} differ, {left} left; {} steps, {} packets in, {} frames out in {:.1} s; \
             looked again {} times",
            self.same,
            self.differ.len(),
            self.steps,
            self.packets,
            self.frames,
            self.took,
            self.looks
        );
        for (what, count) in &self.missing {
            say!("left: {count} for want of {what}");
        }
        for (name, count) in &self.exceptions {
            let known = exceptions::ALL.iter().find(|known| known.name == *name);
            let reason = known.map_or("", |known| known.reason);
            say!("excepted: {count} times {name}: {reason}");
        }
        for name in &self.once {
            say!("differed once: {name}");
        }
        for name in &self.differ {
            say!("failed: {name}");
        }
        self.differ.is_empty() && self.same > 0
    }
}
