//! Running other programs so that their output does not mix with ours: standard output is for
//! results, everything on the way goes to standard error.

use std::{
    io,
    os::fd::AsFd,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Says what is going on.
pub(crate) fn note(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs a command with its output on standard error.
///
/// # Errors
///
/// When it cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .context("standard error")?;
    let shown = show(command);
    let status = command
        .stdout(Stdio::from(stderr))
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
