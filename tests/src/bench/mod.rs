//! `lab bench`: bpvs against other ways through a director, in one run, round by round.
//!
//! Each opponent ([`opponents`]) has a network of its own, all stand at once, and each round measures all of them
//! ([`workloads`]) in another order. What is said is the median of the rounds' ratios to plain routing with its bounds
//! ([`statistics`]): the machine may be busy and its clock uneven, for all alike. docs/benchmarks.md says how to read it.

pub mod directors;
pub mod generator;
pub mod instructions;
pub mod opponents;
pub mod plot;
pub mod report;
pub mod statistics;
pub mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::daemon::find_bpvs;
use crate::lab::Lab;
use opponents::Opponent;
use report::Report;
use workloads::{FIGURES, Server, measure};

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=1000))]
    rounds: u32,
    /// Milliseconds for each workload of each opponent in each round.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    time: u64,
    /// Folder for report.json and the plots.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The report as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Count instructions instead of time; in a guest whose clock does so.
    #[arg(long)]
    instructions: bool,
    /// Only ways whose name (with - for spaces) contains this, and what they are compared with.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The bpvs program [default: env BPVS, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    bpvs: Option<PathBuf>,
}

/// Measures, and prints the report.
///
/// # Errors
///
/// Where an opponent cannot be set up, or one of its connections fails: a figure of a broken network is none.
pub fn run(options: &Options) -> Result<()> {
    let bpvs = find_bpvs(options.bpvs.clone())?;
    if options.instructions {
        let report = instructions::run(options.rounds, options.only.as_deref(), &bpvs)?;
        if options.json {
            println!("{:#}", report.json());
        } else {
            print!("{report}");
        }
        return Ok(());
    }
    let lab = Lab::new()?;
    let (there, absent) = Opponent::all(&lab, &bpvs, options.only.as_deref())?;
    let mut opponents = Vec::new();
    for opponent in there {
        let server = Server::start(&opponent.net.servers[0])?;
        opponents.push((opponent, server));
    }
    let mut report = Report::new(options.rounds, options.time, absent);
    let mut order: Vec<usize> = (0..opponents.len()).collect();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        // No opponent always comes after the same one.
        fastrand::shuffle(&mut order);
        for &index in &order {
            let (opponent, server) = &opponents[index];
            let figures = measure(opponent, server, Duration::from_millis(options.time))
                .with_context(|| opponent.way.name())?;
            report.add(opponent.way, FIGURES.into_iter().zip(figures));
        }
    }
    if let Some(folder) = &options.out {
        report.save(folder)?;
    }
    if options.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}
