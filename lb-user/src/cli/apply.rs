//! `bpvs apply`.

use std::io::{self, Write};

use super::args::ApplyArgs;
use super::output::Output;
use super::{CliError, Context};
use crate::api::client::Client;
use crate::api::wire;
use crate::config;
use crate::net::NetNs;

pub(super) async fn apply(
    context: &Context,
    args: &ApplyArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let config = config::load(&args.file)?;
    let mut namespaces = vec![context.namespace()?];
    let mut scopes = Vec::new();
    for scope in &config.scopes {
        let netns = NetNs::open(&scope.netns)?;
        scopes.push(wire::ApplyScope {
            netns: scope.netns.clone(),
            descriptor: namespaces.len(),
            declared: (&scope.declared).into(),
        });
        namespaces.push(netns);
    }
    let request = wire::Apply {
        here: (&config.here).into(),
        scopes,
        dry_run: args.dry_run,
    };
    let passed: Vec<&NetNs> = namespaces.iter().collect();
    let changes = Client::connect(&context.socket(), &passed)
        .await?
        .apply(&request)
        .await?;
    if changes.is_empty() {
        // It is no data: whoever reads stdout finds nothing, which is right.
        let _ = writeln!(io::stderr(), "nothing to change");
        return Ok(());
    }
    output.text(&rendered(&changes))
}

/// The changes of the scope at hand first, those of others below their names.
pub(super) fn rendered(changes: &[wire::ScopeChanges]) -> String {
    let mut text = String::new();
    for scope in changes {
        let indent = match &scope.netns {
            Some(netns) => {
                text.push_str(&format!("scope {netns}:\n"));
                "  "
            }
            None => "",
        };
        for change in &scope.changes {
            text.push_str(&format!("{indent}{change}\n"));
        }
    }
    text
}
