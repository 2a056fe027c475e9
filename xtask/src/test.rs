//! `cargo xtask test`: every check there is, in the order of their price.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::{
    bpf_stats,
    cargo::Cargo,
    console, guests, lint, machine, setup,
    stage::{Outcome, Stages},
    toolchain::Search,
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave out the stages that need root, and do not count that as a failure.
    #[arg(long)]
    no_root: bool,
    /// Run the long cases of the end-to-end suite too.
    #[arg(long)]
    long: bool,
    /// Run the end-to-end suite and the verifier on kernels 6.1 and 6.12 too, in QEMU guests (about
    /// half an hour; twice that where the processor does not help).
    #[arg(long)]
    guests: bool,
    /// Of all stages, run only the guests' and what they need.
    #[arg(long, conflicts_with_all = ["no_root", "long"])]
    only_guests: bool,
}

/// Runs the stages and prints the table on standard output.
///
/// # Errors
///
/// When a stage failed, or was left out for want of root without having been told to.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if machine::is_root() && !arguments.no_root {
        machine::has_root_mount()?;
    }
    let mut stages = Stages::default();
    stages.run("setup", || setup::run().map(|()| Outcome::Passed));
    if stages.passed("setup") {
        let cargo = Cargo::find(&Search::here(&machine::root()))?;
        if arguments.only_guests {
            only_guests(&mut stages, &cargo);
        } else {
            without_root(&mut stages, &cargo);
            with_root(&mut stages, &cargo, arguments);
        }
    }
    print!("{}", stages.summary());

    if stages.failed() > 0 {
        bail!("{} of the stages failed", stages.failed());
    }
    if !machine::is_root() && !arguments.no_root {
        bail!("stages that need root were left out\nhint: --no-root if that is what you want");
    }
    Ok(())
}

fn without_root(stages: &mut Stages, cargo: &Cargo) {
    stages.run("format", || {
        side(
            cargo,
            "fmt",
            "rustfmt",
            "rustfmt-web",
            &["--all", "--check"],
        )
    });
    stages.run("house rules", || lint::run().map(|()| Outcome::Passed));
    stages.run("programs", programs);
    stages.run_after("programs", "clippy", || {
        let arguments = [
            "--workspace",
            "--exclude",
            "lb-ebpf",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ];
        side(cargo, "clippy", "clippy", "rust-web-clippy", &arguments)
    });
    stages.run_after("programs", "unit tests", || {
        let packages = [
            "--package",
            "lb-common",
            "--package",
            "lb-user",
            "--package",
            "xtask",
        ];
        cargo_run(cargo, &[&["test", "--quiet"], &packages[..]].concat())
    });
}

fn with_root(stages: &mut Stages, cargo: &Cargo, arguments: &Arguments) {
    let reason = match (arguments.no_root, machine::is_root()) {
        (true, _) => Some("--no-root"),
        (false, false) => Some("needs root"),
        (false, true) => None,
    };
    if let Some(reason) = reason {
        for name in ["packets", "end to end", "verifier"] {
            stages.leave_out(name, reason);
        }
        guests::leave_out_brief(stages, reason);
        if arguments.guests {
            guests::leave_out(stages, reason);
        }
        return;
    }
    stages.run("release build", || {
        tested_build(cargo).map(|()| Outcome::Passed)
    });
    stages.run_after("release build", "packets", || {
        cargo_run(cargo, &["test", "--quiet", "--package", "lab"])
    });
    stages.run_after("release build", "end to end", || {
        let mut lab = Command::new(machine::release("lab"));
        lab.arg("test").current_dir(machine::root());
        if arguments.long {
            lab.arg("--long");
        }
        console::run(&mut lab).map(|()| Outcome::Passed)
    });
    stages.run_after("release build", "verifier", bpf_stats::stage);
    if stages.passed("release build") {
        guests::brief(stages);
    }
    if arguments.guests && stages.passed("release build") {
        guests::run(stages);
    }
}

fn only_guests(stages: &mut Stages, cargo: &Cargo) {
    if !machine::is_root() {
        return guests::leave_out(stages, "needs root");
    }
    stages.run("release build", || {
        tested_build(cargo).map(|()| Outcome::Passed)
    });
    if stages.passed("release build") {
        guests::run(stages);
    }
}

/// Builds the two programs that demo and suites run.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn release_build(cargo: &Cargo) -> Result<()> {
    let packages = ["--package", "lb-user", "--package", "lab"];
    console::run(&mut cargo.command(&[&["build", "--release"], &packages[..]].concat()))
}

/// As [`release_build`], with the hooks by which the suite has the daemon die at every step of a change.
///
/// # Errors
///
/// When the build fails.
fn tested_build(cargo: &Cargo) -> Result<()> {
    let packages = [
        "--package",
        "lb-user",
        "--package",
        "lab",
        "--features",
        "lb-user/faults",
    ];
    console::run(&mut cargo.command(&[&["build", "--release"], &packages[..]].concat()))
}

/// Builds the programs as lb-user's build script does, where a warning would be seen by nobody.
fn programs() -> Result<Outcome> {
    let root = machine::root();
    let toolchain = Search::here(&root)
        .toolchain()
        .map_err(|missing| anyhow!("{missing}"))?;
    let mut build = toolchain.build_command(&root, &machine::target().join("bpf"));
    let output = build
        .stderr(Stdio::piped())
        .output()
        .context("cannot start the build")?;
    let said = String::from_utf8_lossy(&output.stderr);
    eprint!("{said}");
    Ok(
        match (
            output.status.success(),
            said.lines().any(|line| line.starts_with("warning:")),
        ) {
            (true, false) => Outcome::Passed,
            (true, true) => Outcome::Failed("lb-ebpf builds with warnings".to_owned()),
            (false, _) => Outcome::Failed("lb-ebpf does not build".to_owned()),
        },
    )
}

fn cargo_run(cargo: &Cargo, arguments: &[&str]) -> Result<Outcome> {
    console::run(&mut cargo.command(arguments)).map(|()| Outcome::Passed)
}

/// Runs `cargo fmt` or `cargo clippy`, which not every toolchain has: rustup has them as a
/// component, Debian as a package.
fn side(
    cargo: &Cargo,
    name: &str,
    component: &str,
    package: &str,
    arguments: &[&str],
) -> Result<Outcome> {
    let Some(mut command) = cargo.side_command(name) else {
        return Ok(Outcome::LeftOut(format!(
            "no `cargo {name}` (rustup component add {component}, or Debian's {package})"
        )));
    };
    console::run(command.args(arguments)).map(|()| Outcome::Passed)
}
