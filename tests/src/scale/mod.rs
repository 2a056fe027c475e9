//! `lab scale`: how bpvs does with many services and many connections, each figure beside its goal.
//!
//! Work is told as processor time of the daemon, which a busy machine changes little, and only what somebody waits for as
//! time. What is compared is measured in turn, round by round ([`connections`]). docs/scale.md says how to read it.

pub mod connections;
pub mod control;
pub mod flows;
pub mod report;
pub mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::daemon::find_bpvs;
use crate::lab::Lab;
use report::Report;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// How many services.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    services: u32,
    /// How many real servers each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    servers: u32,
    /// How many connections.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=8_000_000))]
    connections: u32,
    /// Rounds where two are compared.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds of each in a round.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    time: u64,
    /// Only these: `scopes`, `services`, `connections`.
    #[arg(long, value_name = "PART", value_parser = PARTS)]
    only: Vec<String>,
    /// The report as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// The bpvs program [default: env BPVS, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    bpvs: Option<PathBuf>,
}

/// The parts of a run.
const PARTS: [&str; 3] = ["scopes", "services", "connections"];

/// Measures, and prints the report.
///
/// # Errors
///
/// A network cannot be set up, or what is measured does not work. A goal that is missed is no error.
pub fn run(options: &Options) -> Result<()> {
    let bpvs = find_bpvs(options.bpvs.clone())?;
    let mut report = Report::default();
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|it| it == part);
    // A lab for each part: what one leaves running must not be measured with the next.
    if wanted("scopes") {
        control::scopes(&Lab::new()?, &bpvs, &mut report)?;
    }
    if wanted("services") {
        control::measure(&Lab::new()?, options, &bpvs, &mut report)?;
    }
    if wanted("connections") {
        connections::measure(&Lab::new()?, options, &bpvs, &mut report)?;
    }
    if options.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}
