//! `cargo xtask bench`: builds what is measured and becomes the measurement.

use std::{os::unix::process::CommandExt as _, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo::Cargo, console::note, guests, machine, setup, test, toolchain::Search};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How many rounds [default: 15; of instructions, which repeat, 5].
    #[arg(long)]
    rounds: Option<u32>,
    /// Milliseconds for each workload of each opponent in each round.
    #[arg(long, default_value_t = 300)]
    time: u64,
    /// The report as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Count instructions instead of time, in guests with kernels of Debian's.
    #[arg(long)]
    instructions: bool,
    /// Only time each program by itself: nanoseconds of a packet, without the kernel around it.
    #[arg(long, conflicts_with_all = ["instructions", "only"])]
    programs: bool,
    /// Every figure that there is: also instructions, and what `lab scale` measures. Takes hours.
    #[arg(long, conflicts_with_all = ["instructions", "programs", "only", "json"])]
    all: bool,
    /// Instructions: on which kernels.
    #[arg(long, value_name = "KERNEL", value_delimiter = ',', default_values_t = ["6.1".to_owned(), "6.12".to_owned()])]
    kernels: Vec<String>,
    /// Only ways whose name (with - for spaces) contains this, and what they are compared with.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Rounds of what is timed, and of what is counted.
const ROUNDS: u32 = 15;
const COUNTED: u32 = 5;

/// How long counting may take on one kernel.
const COUNTING: Duration = Duration::from_secs(60 * 60);

/// Makes sure of the tools, builds, and measures; report and plot go to target/bench.
///
/// # Errors
///
/// When not root, or when a step before the measurement fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    machine::has_root_mount()?;
    setup::run()?;
    if !machine::is_root() {
        bail!("the benchmark makes network namespaces and loads eBPF programs: run it as root");
    }
    setup::for_bench();
    note("bench: building bpvs and lab (the first time takes some minutes)");
    test::release_build(&Cargo::find(&Search::here(&machine::root()))?)?;

    let rounds = |usual| {
        let rounds = arguments.rounds.unwrap_or(usual);
        ["--rounds".to_owned(), rounds.to_string()]
    };
    let mut options = Vec::new();
    if arguments.json {
        options.push("--json".to_owned());
    }
    if let Some(only) = &arguments.only {
        options.extend(["--only".to_owned(), only.clone()]);
    }
    if arguments.instructions || arguments.all {
        let options = [options.as_slice(), &rounds(COUNTED)].concat();
        guests::count_instructions(&arguments.kernels, &options, COUNTING)?;
    }
    if arguments.instructions {
        return Ok(());
    }
    options.extend(rounds(ROUNDS));
    for (asked, option) in [(arguments.programs, "--programs"), (arguments.all, "--all")] {
        if asked {
            options.push(option.to_owned());
        }
    }
    let mut lab = Command::new(machine::release("lab"));
    lab.arg("bench").arg("--bpvs").arg(machine::release("bpvs"));
    lab.args(options);
    lab.arg("--time").arg(arguments.time.to_string());
    lab.arg("--out").arg(machine::target().join("bench"));
    // In our place, not as our child: an interrupt reaches the lab itself, which then cleans up.
    Err(lab.exec()).context("cannot start target/release/lab")
}
