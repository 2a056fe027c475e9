//! `bpvs settings`.

use hyper::Method;

use super::args::{SettingsArgs, SettingsCommand};
use super::output::Output;
use super::{CliError, Context};
use crate::api::wire;
use crate::model::ModelError;

pub(super) async fn settings(
    context: &Context,
    args: SettingsArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    match args.command {
        None => {
            let all = read(context).await?;
            if args.json {
                output.json(&all)
            } else {
                output.text(&rendered(&all))
            }
        }
        Some(SettingsCommand::Get { names, json }) => {
            let all = read(context).await?;
            let wanted = names
                .iter()
                .map(|name| {
                    let found = all.iter().find(|setting| setting.name == *name);
                    found
                        .cloned()
                        .ok_or_else(|| CliError::usage(&ModelError::Setting(name.clone())))
                })
                .collect::<Result<Vec<_>, _>>()?;
            match wanted.as_slice() {
                _ if json || args.json => output.json(&wanted),
                [one] => output.text(&format!("{}\n", one.value)),
                several => {
                    let line =
                        |setting: &wire::Setting| format!("{} = {}\n", setting.name, setting.value);
                    output.text(&several.iter().map(line).collect::<String>())
                }
            }
        }
        Some(SettingsCommand::Set { assignments }) => {
            let edit: wire::SettingsEdit = assignments.into_iter().collect();
            context
                .client()
                .await?
                .change(Method::PATCH, "/v1/settings", &edit)
                .await?;
            Ok(())
        }
    }
}

async fn read(context: &Context) -> Result<Vec<wire::Setting>, CliError> {
    Ok(context.client().await?.get("/v1/settings").await?)
}

/// One a line, and behind it what it would be, or why it can be nothing else.
fn rendered(settings: &[wire::Setting]) -> String {
    let mut text = String::new();
    for setting in settings {
        let given = format!("{} = {}", setting.name, setting.value);
        let note = match &setting.fixed {
            Some(reason) => format!("fixed: {reason}"),
            None if setting.value != setting.default => {
                format!("{} unless set", setting.default)
            }
            None => String::new(),
        };
        text.push_str(format!("{given:<34}{note}").trim_end());
        text.push('\n');
    }
    text
}
