//! `cargo xtask demo`: builds what the demo needs and becomes it.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo::Cargo, console::note, guests, machine, setup, test, toolchain::Search};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Serve a real Docker Swarm of two engines instead of plain namespaces.
    #[arg(long, conflicts_with = "keep")]
    swarm: bool,
    /// With it: have the same Swarm balanced by the kernel's IPVS, too, and compare; in a guest, whose kernel has one.
    #[arg(long, requires = "swarm")]
    compare: bool,
    /// With that: how many rolling updates under load.
    #[arg(long, default_value_t = 1, requires = "compare")]
    updates: u32,
    /// Instead of answers compare the instructions of a request.
    #[arg(long, requires = "compare")]
    instructions: bool,
    /// Leave the lab standing, and say how to enter each of its hosts.
    #[arg(long)]
    keep: bool,
    /// No colour and no cursor movement.
    #[arg(long)]
    plain: bool,
}

/// Makes sure of the tools, builds, and runs the demo in this process's place.
///
/// # Errors
///
/// When not root, or when a step before the demo fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    machine::has_root_mount()?;
    setup::run()?;
    if !machine::is_root() {
        bail!("the demo makes network namespaces and loads eBPF programs: run it as root");
    }
    note("demo: building bpvs and lab (the first time takes some minutes)");
    test::release_build(&Cargo::find(&Search::here(&machine::root()))?)?;

    if arguments.compare {
        return guests::compare_swarm(arguments.updates, arguments.instructions);
    }
    let mut lab = Command::new(machine::release("lab"));
    lab.arg("demo").arg("--bpvs").arg(machine::release("bpvs"));
    if arguments.keep {
        lab.arg("--keep");
    }
    if arguments.swarm {
        lab.arg("--swarm");
    }
    if arguments.plain {
        lab.arg("--plain");
    }
    // In our place, not as our child: an interrupt reaches the lab itself, which then cleans up.
    Err(lab.exec()).context("cannot start target/release/lab")
}
