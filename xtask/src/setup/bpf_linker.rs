//! Building bpf-linker.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    cargo::Cargo,
    console::{self, note},
    machine,
    toolchain::{LINKER_LLVM, LINKER_VERSION},
};

/// Builds it into `target/tools`, against Debian's LLVM.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn install(cargo: &Cargo) -> Result<()> {
    note("setup: building bpf-linker into target/tools (about half a minute)");
    let mut command = Command::new(cargo.program());
    command
        .args(arguments())
        .arg("--root")
        .arg(machine::root().join("target/tools"));
    for (name, value) in cargo.command(&[]).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    // Outside the workspace, whose target folder it need not share.
    command
        .current_dir("/")
        .env("LLVM_PREFIX", prefix())
        .env_remove("CARGO_TARGET_DIR");
    console::run(&mut command).context("bpf-linker could not be built")
}

/// The same as a line to type.
pub(crate) fn command_line(root: &Path) -> String {
    format!(
        "LLVM_PREFIX={} cargo {} --root {}",
        prefix(),
        arguments().join(" "),
        root.join("target/tools").display()
    )
}

fn prefix() -> String {
    format!("/usr/lib/llvm-{LINKER_LLVM}")
}

fn arguments() -> Vec<String> {
    let words = [
        "install",
        "--locked",
        "--force",
        "--no-default-features",
        "--features",
    ];
    let mut arguments: Vec<String> = words.map(str::to_owned).into();
    arguments.push(format!("llvm-{LINKER_LLVM}"));
    arguments.push(format!("bpf-linker@{LINKER_VERSION}"));
    arguments
}
