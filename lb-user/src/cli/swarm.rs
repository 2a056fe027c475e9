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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_served_and_what_is_wrong() {
        let task = |last: u8, leaving| wire::SwarmTask {
            name: format!("web.{last}"),
            address: Ipv4Addr::new(10, 0, 1, last),
            node: Some(Ipv4Addr::new(192, 168, 77, 1)),
            leaving,
        };
        let network = wire::SwarmNetwork {
            name: "ov".into(),
            id: "i8ay".into(),
            sandbox: Some("/run/docker/netns/lb_i8ay".into()),
            address: Some(Ipv4Addr::new(10, 0, 1, 6)),
            services: vec![wire::SwarmService {
                name: "web".into(),
                address: Ipv4Addr::new(10, 0, 1, 2),
                published: vec![8080, 8081],
                tasks: vec![task(3, false), task(4, true)],
            }],
        };
        let elsewhere = wire::SwarmNetwork {
            name: "other".into(),
            sandbox: None,
            address: None,
            services: Vec::new(),
            ..network.clone()
        };
        let swarm = wire::Swarm {
            docker: "unix:///d.sock".into(),
            manager: false,
            networks: vec![network, elsewhere],
            problems: vec!["web: label bpvs.x means nothing".into()],
        };
        assert_eq!(
            rendered(&swarm),
            "\
unix:///d.sock (worker)
  does not work: web: label bpvs.x means nothing
network ov: served in /run/docker/netns/lb_i8ay, from 10.0.1.6
  web at 10.0.1.2, published at 8080, 8081
    10.0.1.3 web.3 on 192.168.77.1
    10.0.1.4 web.4 on 192.168.77.1, about to go
network other: no container on this node, nothing to serve
"
        );
    }
}
