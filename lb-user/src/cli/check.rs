//! `bpvs check`.

use super::CliError;
use super::args::CheckArgs;
use super::output::Output;
use crate::config;
use crate::control::Declared;

pub(super) fn check(args: &CheckArgs, output: &mut Output) -> Result<(), CliError> {
    let config = config::load(&args.file)?;
    let mut text = format!("{}: right: {}\n", args.file.display(), counts(&config.here));
    for scope in &config.scopes {
        text.push_str(&format!(
            "  scope {}: {}\n",
            scope.netns,
            counts(&scope.declared)
        ));
    }
    output.text(&text)
}

fn counts(declared: &Declared) -> String {
    let servers: usize = declared
        .table
        .services()
        .map(|service| service.servers.len())
        .sum();
    let count = |number: usize, noun: &str| {
        format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
    };
    format!(
        "{}, {}, {}",
        count(declared.table.services().len(), "service"),
        count(servers, "server"),
        count(declared.table.marks().len(), "mark rule")
    )
}
