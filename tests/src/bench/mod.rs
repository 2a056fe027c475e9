//! `lab bench`: bpvs against other ways through a director, in one run, round by round.
//!
//! Each opponent ([`opponents`]) has a network of its own, all stand at once, and each round measures all of them
//! ([`workloads`]) in another order. What is said is the median of the rounds' ratios to plain routing with its bounds
//! ([`statistics`]): the machine may be busy and its clock uneven, for all alike. docs/benchmarks.md says how to read it.

pub mod alone;
pub mod canvas;
pub mod cost;
pub mod directors;
pub mod far_end;
pub mod generator;
pub mod instruction;
pub mod instructions;
pub mod kernel;
pub mod opponents;
pub mod plot;
pub mod programs;
pub mod report;
pub mod shares;
pub mod spent;
pub mod statistics;
pub mod workloads;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser};
use serde_json::Value;

use crate::daemon::find_bpvs;
use crate::lab::Lab;
use opponents::{Group, Opponent, last_line};
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
    /// Time each program by itself instead: nanoseconds of a packet, without the kernel around it.
    #[arg(long, conflicts_with = "instructions")]
    programs: bool,
    /// Count the instructions of a director alone; in a guest with cables of its own.
    #[arg(long, conflicts_with_all = ["instructions", "programs"])]
    alone: bool,
    /// Also what `lab scale` measures: many services, many connections, idle cost, load time, memory.
    #[arg(long, conflicts_with_all = ["instructions", "programs", "only", "json"])]
    all: bool,
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
        return show(options, [(report.json(), &report)]);
    }
    if options.alone {
        let report = alone::run(options.rounds, &bpvs)?;
        return show(options, [(report.json(), &report)]);
    }
    if options.programs {
        let report = programs::run(options.rounds, &bpvs)?;
        save_programs(options, &report)?;
        return show(options, [(report.json(), &report)]);
    }
    let mut report = Report::new(options.rounds, options.time);
    // A choice among opponents is none among programs.
    let mut programs = None;
    if options.only.is_none() {
        match programs::run(options.rounds, &bpvs) {
            Ok(measured) => {
                save_programs(options, &measured)?;
                programs = Some(measured);
            }
            // On a kernel without what they need the others are measured all the same.
            Err(error) => {
                report.add_absent(vec![("programs by themselves", last_line(&error))]);
            }
        }
    }
    for group in Group::ALL {
        measure_group(options, group, &bpvs, &mut report)?;
    }
    if let Some(folder) = &options.out {
        report.save(folder)?;
    }
    if options.json {
        let mut json = report.json();
        json["programs"] = programs.map_or(Value::Null, |programs| programs.json());
        println!("{json:#}");
        return Ok(());
    }
    print!("{report}");
    if let Some(programs) = programs {
        println!("\n== programs by themselves ==\n{programs}");
    }
    if options.all {
        println!("\n== many services and connections; idle cost, load time, memory ==");
        let bpvs = bpvs.as_os_str();
        let scale = ["scale".as_ref(), "--bpvs".as_ref(), bpvs];
        return crate::scale::run(&Scale::try_parse_from(scale)?.options);
    }
    eprintln!(
        "not in this report: instructions (`cargo xtask bench --instructions`), and idle cost, load time, memory and a \
         million connections (`cargo xtask bench --all`, or `lab scale`)"
    );
    Ok(())
}

fn save_programs(options: &Options, report: &programs::Report) -> Result<()> {
    let Some(folder) = &options.out else {
        return Ok(());
    };
    report::write(folder, "programs.json", format!("{:#}\n", report.json()))
}

/// `lab scale` as it comes.
#[derive(Debug, Parser)]
struct Scale {
    #[command(flatten)]
    options: crate::scale::Options,
}

/// Prints reports as they are wanted.
fn show<'r, R: fmt::Display + 'r>(
    options: &Options,
    reports: impl IntoIterator<Item = (Value, &'r R)>,
) -> Result<()> {
    for (json, report) in reports {
        if options.json {
            println!("{json:#}");
        } else {
            print!("{report}");
        }
    }
    Ok(())
}

/// All opponents of one network, on a lab of their own.
fn measure_group(options: &Options, group: Group, bpvs: &Path, report: &mut Report) -> Result<()> {
    let lab = Lab::new()?;
    let (there, absent) = Opponent::all(&lab, bpvs, &[group], options.only.as_deref())?;
    report.add_absent(absent);
    let mut opponents = Vec::new();
    for opponent in there {
        let server = Server::start(&opponent.net.servers[0])?;
        opponents.push((opponent, server));
    }
    if opponents.is_empty() {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..opponents.len()).collect();
    for round in 1..=options.rounds {
        eprintln!("{}: round {round} of {}", group.name(), options.rounds);
        // No opponent always comes after the same one.
        fastrand::shuffle(&mut order);
        for &index in &order {
            let (opponent, server) = &opponents[index];
            let figures = measure(opponent, server, Duration::from_millis(options.time))
                .with_context(|| opponent.way.name())?;
            report.add(opponent.way, FIGURES.into_iter().zip(figures));
        }
    }
    Ok(())
}
