//! A real Docker Swarm: two engines on this machine, each in a network namespace of its own, joined by a wire.
//!
//! Everything runs inside a world of its own ([`contained`]): `lab demo --swarm` and the cases `swarm/…` start this
//! program once more in there, with the name of a [`Scene`].

mod checks;
mod clients;
mod cluster;
mod compare;
mod contained;
mod cost;
mod node;
mod questions;
mod rest;
mod scenes;
mod streams;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

pub use contained::remove_cgroups;
pub use node::missing;

use crate::demo::Transcript;
use crate::lab::Lab;

/// What is to be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// What fails without bpvs, and works with it: for people to read.
    Demo,
    /// Every way to reach a service.
    Addresses,
    /// Services that change, under which dockerd takes things away.
    Churn,
    /// Rolling updates and a node that is drained, under load.
    Update,
    /// A task that is killed.
    Kill,
    /// Clients' addresses, kept through the mesh of published ports.
    Clients,
    /// Connections that are idle or half closed, and ports that are published by the node itself.
    Streams,
    /// A connection that is idle for longer than IPVS would remember it.
    Idle,
    /// Labels.
    Labels,
    /// bpvs dies, is started anew, and goes.
    Restart,
    /// The same by the kernel's IPVS and by bpvs.
    Compare,
    /// Many services, and nothing to do.
    Rest,
}

impl Scene {
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Options of the program that runs inside.
#[derive(Debug, clap::Args)]
pub struct Inside {
    scene: Scene,
    /// What the names of the engines' cgroups begin with.
    #[arg(long)]
    cgroup: String,
    /// The bpvs program.
    #[arg(long)]
    bpvs: std::path::PathBuf,
    /// No colour.
    #[arg(long)]
    plain: bool,
    /// How many rounds of what is done again and again.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// What is compared are instructions, in a guest whose clock counts them.
    #[arg(long)]
    instructions: bool,
    /// Where a comparison goes for programs to read.
    #[arg(long)]
    report: Option<std::path::PathBuf>,
}

/// Options of a comparison with the kernel's IPVS.
#[derive(Debug, clap::Args)]
pub struct Comparison {
    /// How many rolling updates with each.
    #[arg(long, default_value_t = 1)]
    updates: u32,
    /// Count the instructions of a request instead; in a guest whose clock does so.
    #[arg(long)]
    instructions: bool,
    /// Only the comparison, as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// The bpvs program [default: env BPVS, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    bpvs: Option<std::path::PathBuf>,
}

/// Plays the same Swarm by the kernel's IPVS and by bpvs.
///
/// # Errors
/// It cannot be played here, what they do differs, or bpvs fails a request.
pub fn compare(options: &Comparison) -> Result<()> {
    if let Some(program) = missing() {
        bail!("there is no {program}: `cargo xtask setup` installs it");
    }
    let lab = Lab::new()?;
    // The lab's own folder is hidden inside.
    let report = std::env::temp_dir().join(format!("{}.json", lab.name()));
    let bpvs = crate::daemon::find_bpvs(options.bpvs.clone())?;
    let (scene, bpvs) = (Scene::Compare.name(), bpvs.display().to_string());
    let updates = options.updates.to_string();
    let mut arguments = vec![scene.as_str(), "--bpvs", &bpvs, "--rounds", &updates];
    let path = report.display().to_string();
    arguments.extend(["--report", &path]);
    if options.instructions {
        arguments.push("--instructions");
    }
    let played = contained::run(&lab, &arguments, options.json);
    let written = std::fs::read_to_string(&report);
    let _ = std::fs::remove_file(&report);
    let (status, said) = played?;
    if options.json
        && let Ok(written) = written
    {
        print!("{written}");
    }
    if !status.success() {
        bail!("{status}; {}", said.trim_end());
    }
    Ok(())
}

/// Plays a scene and shows it.
///
/// # Errors
/// It cannot be played here, or failed.
pub fn demo(bpvs: &Path, plain: bool) -> Result<()> {
    if let Some(program) = missing() {
        bail!(
            "there is no {program}: `cargo xtask setup` installs it, or on Debian: apt-get install docker.io"
        );
    }
    let lab = Lab::new()?;
    let (scene, bpvs) = (Scene::Demo.name(), bpvs.display().to_string());
    let mut arguments = vec![scene.as_str(), "--bpvs", &bpvs];
    if plain {
        arguments.push("--plain");
    }
    match contained::run(&lab, &arguments, false)?.0 {
        status if status.success() => Ok(()),
        status => bail!("the demo ended with {status}"),
    }
}

/// Plays a scene in silence, and says what it said.
///
/// # Errors
/// It cannot be started, or failed.
pub fn play(lab: &Lab, bpvs: &Path, scene: Scene, rounds: u32) -> Result<String> {
    let (scene, bpvs, rounds) = (scene.name(), bpvs.display().to_string(), rounds.to_string());
    let arguments = [&scene, "--bpvs", &bpvs, "--plain", "--rounds", &rounds];
    let (status, said) = contained::run(lab, &arguments, true)?;
    if status.success() {
        Ok(said)
    } else {
        bail!("{status}; it said:\n{}", said.trim_end())
    }
}

/// The inside: process 1 of its world.
///
/// # Errors
/// The scene failed.
pub fn inside(options: &Inside) -> Result<ExitCode> {
    contained::enter()?;
    let out = Transcript::new(options.plain);
    scenes::play(&out, options)?;
    Ok(ExitCode::SUCCESS)
}
