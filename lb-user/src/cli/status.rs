//! `bpvs status`.

use std::time::Duration;

use super::output::Output;
use super::{CliError, Context};
use crate::api::client::Client;
use crate::api::wire;
use crate::model::format_duration;

pub(super) async fn status(
    context: &Context,
    json: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    // It is about all namespaces.
    let status: wire::Status = Client::connect(&context.socket(), &[])
        .await?
        .get("/v1/status")
        .await?;
    if json {
        return output.json(&status);
    }
    output.text(&rendered(&status))
}

pub(super) fn rendered(status: &wire::Status) -> String {
    let count = |number: usize, noun: &str| {
        format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
    };
    let uptime = format_duration(Duration::from_secs(status.uptime));
    let mut text = format!(
        "bpvs {}, process {}, up {uptime}\n",
        status.version, status.pid
    );
    for scope in &status.scopes {
        text.push_str(&format!(
            "scope {} in {}: {}, {}, {}",
            scope.id,
            scope.netns,
            count(scope.services, "service"),
            count(scope.servers, "server"),
            count(scope.marks, "mark rule")
        ));
        if scope.interfaces.is_empty() {
            text.push_str("; not attached\n");
        } else {
            text.push_str(&format!("; attached to {}\n", attached(scope)));
        }
        for path in &scope.paths {
            if let Some(note) = &path.note {
                let kind = if path.path == "xdp" { "XDP" } else { "no XDP" };
                text.push_str(&format!("  {}: {kind}: {note}\n", path.interface));
            }
        }
        for problem in &scope.problems {
            text.push_str(&format!("  does not work: {problem}\n"));
        }
        if !scope.taken_from_file.is_empty() {
            text.push_str(
                "  commands changed what the file had declared; applying it again would do:\n",
            );
            for change in &scope.taken_from_file {
                text.push_str(&format!("    {change}\n"));
            }
        }
    }
    if status.scopes.is_empty() {
        text.push_str("no scopes: nothing is served yet\n");
    }
    match &status.socket_hook_problem {
        None => text.push_str("socket hook: attached\n"),
        Some(problem) => text.push_str(&format!(
            "socket hook: off, local sockets are not led to servers: {problem}\n"
        )),
    }
    let wire::Sweep {
        runs,
        deleted,
        failed,
    } = status.sweep;
    text.push_str(&format!(
        "sweeps: {runs}, {deleted} expired connections removed"
    ));
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    text.push('\n');
    text
}

/// The interfaces, and which of them have XDP.
fn attached(scope: &wire::ScopeStatus) -> String {
    let by_xdp = |name: &String| {
        scope
            .paths
            .iter()
            .any(|path| path.interface == *name && path.path == "xdp")
    };
    let all: Vec<String> = scope
        .interfaces
        .iter()
        .map(|name| format!("{name}{}", if by_xdp(name) { " (XDP)" } else { "" }))
        .collect();
    all.join(", ")
}
