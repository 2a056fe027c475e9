//! The cargo that builds the workspace.
//!
//! xtask is content with an old one; aya is not. Where the compiler on `PATH` is too old, the
//! distribution's newer one, which `cargo xtask setup` brings, builds the rest.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    machine,
    toolchain::{self, OLDEST_RUSTC, Search, Version},
};

/// A cargo whose compiler is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cargo {
    program: PathBuf,
    /// Set where the compiler is not the one that `program` would take by itself.
    rustc: Option<PathBuf>,
}

impl Cargo {
    /// The one on `PATH` if it is new enough, else the distribution's.
    ///
    /// # Errors
    ///
    /// When neither is.
    pub(crate) fn find(search: &Search) -> Result<Self> {
        let on_path = search.on_path("rustc").next();
        if let (Some(rustc), Some(program)) = (&on_path, search.on_path("cargo").next()) {
            if is_new(toolchain::rustc_version(rustc)) {
                return Ok(Self {
                    program,
                    rustc: None,
                });
            }
        }
        let program = search.system_rustc.with_file_name("cargo");
        if program.is_file() && is_new(toolchain::rustc_version(&search.system_rustc)) {
            return Ok(Self {
                program,
                rustc: Some(search.system_rustc.clone()),
            });
        }
        bail!("no rustc {OLDEST_RUSTC} or newer, with its cargo, on PATH or in /usr/bin")
    }

    /// A command in the workspace.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(machine::root());
        if let Some(rustc) = &self.rustc {
            command
                .env("RUSTC", rustc)
                .env("RUSTDOC", rustc.with_file_name("rustdoc"));
        }
        command
    }

    /// One of cargo's own side programs, `fmt` or `clippy`, if this toolchain has it.
    pub(crate) fn side_command(&self, name: &str) -> Option<Command> {
        let mut command = match &self.rustc {
            None => self.command(&[name]),
            // Called by its own name: cargo would look in rustup's folder first.
            Some(rustc) => {
                let mut command = Command::new(rustc.with_file_name(format!("cargo-{name}")));
                command
                    .arg(name)
                    .env("CARGO", &self.program)
                    .env("RUSTC", rustc);
                command.current_dir(machine::root());
                command
            }
        };
        let mut asked = Command::new(command.get_program());
        asked.args(command.get_args()).arg("--version");
        asked
            .current_dir(machine::root())
            .stdin(std::process::Stdio::null());
        let answered = asked.output().is_ok_and(|output| output.status.success());
        command.stdin(std::process::Stdio::null());
        answered.then_some(command)
    }

    /// Where it is.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

fn is_new(version: Option<Version>) -> bool {
    version.is_some_and(|version| version >= OLDEST_RUSTC)
}
