//! `bpvs mark`.

use hyper::Method;

use super::args::{MarkArgs, MarkCommand};
use super::output::Output;
use super::{CliError, Context};
use crate::api::wire;
use crate::model::MarkRule;

pub(super) async fn mark(
    context: &Context,
    command: MarkCommand,
    output: &mut Output,
) -> Result<(), CliError> {
    match command {
        MarkCommand::Add(args) => change(context, Method::POST, args).await,
        MarkCommand::Remove(args) => change(context, Method::DELETE, args).await,
        MarkCommand::List(args) => {
            let listing: wire::Listing = context.client().await?.get("/v1/table").await?;
            if args.json {
                return output.json(&listing.marks);
            }
            output.text(&rendered(&listing.marks))
        }
    }
}

async fn change(context: &Context, method: Method, args: MarkArgs) -> Result<(), CliError> {
    let mut rule = MarkRule::new(args.mark);
    rule.interface = args.interface;
    rule.source = args.source;
    rule.destination = args.destination;
    rule.protocol = args.protocol;
    rule.ports = args.ports.map(|ports| ports.0);
    let rule = rule.checked().map_err(|error| CliError::usage(&error))?;
    Ok(context
        .client()
        .await?
        .change(method, "/v1/marks", &wire::MarkRule::from(&rule))
        .await?)
}

/// One rule a line, as `mark add` takes it.
pub(super) fn rendered(rules: &[wire::MarkRule]) -> String {
    let mut text = String::new();
    for rule in rules {
        text.push_str(&format!("--mark {}", rule.mark));
        let fields = [
            ("interface", &rule.interface),
            ("source", &rule.source),
            ("destination", &rule.destination),
            ("protocol", &rule.protocol),
            ("ports", &rule.ports),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                text.push_str(&format!(" --{name} {value}"));
            }
        }
        text.push('\n');
    }
    text
}
