//! `bpvs swarm`.

use super::output::Output;
use super::{CliError, Context};
use crate::api::client::Client;
use crate::api::wire;

pub(super) async fn swarm(
    context: &Context,
    json: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let swarm: wire::Swarm = Client::connect(&context.socket(), &[])
        .await?
        .get("/v1/swarm")
        .await?;
    if json {
        return output.json(&swarm);
    }
    output.text(&rendered(&swarm))
}

pub(super) fn rendered(swarm: &wire::Swarm) -> String {
    let role = if swarm.manager { "manager" } else { "worker" };
    let mut text = format!("{} ({role})\n", swarm.docker);
    for problem in &swarm.problems {
        text.push_str(&format!("  does not work: {problem}\n"));
    }
    if swarm.networks.is_empty() {
        text.push_str("no overlay networks: nothing is served yet\n");
    }
    for network in &swarm.networks {
        text.push_str(&format!("network {}", network.name));
        match (&network.sandbox, network.address) {
            (Some(sandbox), Some(address)) => {
                text.push_str(&format!(": served in {sandbox}, from {address}\n"));
            }
            _ => text.push_str(": no container on this node, nothing to serve\n"),
        }
        for service in &network.services {
            text.push_str(&format!("  {} at {}", service.name, service.address));
            if !service.published.is_empty() {
                let ports: Vec<String> = service.published.iter().map(u16::to_string).collect();
                text.push_str(&format!(", published at {}", ports.join(", ")));
            }
            text.push('\n');
            for task in &service.tasks {
                let node = task.node.map(|node| format!(" on {node}"));
                let leaving = if task.leaving { ", about to go" } else { "" };
                text.push_str(&format!(
                    "    {} {}{}{leaving}\n",
                    task.address,
                    task.name,
                    node.unwrap_or_default()
                ));
            }
        }
    }
    text
}
