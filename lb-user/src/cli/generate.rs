//! `bpvs completions` and `bpvs man`: made from the grammar itself.

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use super::CliError;
use super::args::Cli;
use super::output::Output;

pub(super) fn completions(
    shell: clap_complete::Shell,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bpvs", &mut script);
    output.bytes(&script)
}

/// One page for bpvs and one for each command.
pub(super) fn man(dir: &Path) -> Result<(), CliError> {
    let write = || {
        fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    write().map_err(|error| CliError::failed(format!("cannot write to {}: {error}", dir.display())))
}
