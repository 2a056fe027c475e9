//! What dockerd knows, in our words.
//!
//! A network that is inspected verbosely lists the services on it, on workers as on managers. Traps, all met: the ports
//! in it are sentences, and say no protocol; `<nil>` stands for no address; the group without a name is that of plain
//! containers; tasks come in another order every time; a service without a running task is not there.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::model::Protocol;

/// Labels of whatever has some.
pub(super) type Labels = BTreeMap<String, String>;

/// What a node's dockerd knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// The overlay networks that the node knows, by name.
    pub(super) networks: Vec<Network>,
    /// The node's own bridge.
    pub(super) bridge: Bridge,
    /// What only managers know.
    pub(super) managed: Option<Managed>,
    /// Labels of the node's own containers, by the name of their service.
    pub(super) containers: BTreeMap<String, Labels>,
}

/// The node's own bridge, on which each of its containers has an address, too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bridge {
    /// The address of the sandbox of published ports.
    pub(super) gateway: Option<Ipv4Addr>,
    /// The node's own address.
    pub(super) node: Option<Ipv4Addr>,
    /// Those of containers, by their ids.
    pub(super) containers: BTreeMap<String, Ipv4Addr>,
}

/// What only managers know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Managed {
    /// The services by name.
    pub(super) services: BTreeMap<String, Specified>,
    /// The ids of all tasks that are meant to run.
    pub(super) running: Vec<String>,
}

/// A service as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Specified {
    /// Its labels.
    pub(super) labels: Labels,
    /// The protocols of its published ports.
    pub(super) published: Vec<(Protocol, u16)>,
}

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// Whether it carries published ports.
    pub(super) ingress: bool,
    /// Its labels.
    pub(super) labels: Labels,
    /// The address of the load balancer's sandbox on this node, if there is one.
    pub(super) balancer: Option<Ipv4Addr>,
    /// Its subnet.
    pub(super) subnet: Option<Ipv4Net>,
    /// The addresses of this node's containers in it, by their ids.
    pub(super) here: BTreeMap<String, Ipv4Addr>,
    /// The load balancers' sandboxes of all nodes, this one's too: only of the network that carries published ports, and
    /// where the engine says it (see [`super::far`]).
    pub(super) balancers: Vec<Balancer>,
    /// The services on it that have a service address, by name.
    pub(super) services: Vec<Service>,
}

/// A load balancer's sandbox of some node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Balancer {
    /// Its address in the network.
    pub(super) address: Ipv4Addr,
    /// The address of its node.
    pub(super) node: Ipv4Addr,
}

/// A service on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Its name.
    pub(super) name: String,
    /// Its service address in the network.
    pub(super) address: Ipv4Addr,
    /// Its published ports, each with the task's own.
    pub(super) published: Vec<Published>,
    /// Its tasks, by address.
    pub(super) tasks: Vec<Task>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Published {
    /// The port that the nodes have for it.
    pub(super) port: u16,
    /// The port at which the task listens.
    pub(super) target: u16,
}

/// A task's end in a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task {
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// Its name, the same in all networks; the last part is its id.
    pub(super) name: String,
    /// The address of its node.
    pub(super) node: Option<Ipv4Addr>,
}

impl Task {
    /// Its id.
    pub(super) fn id(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(self.name.as_str(), |(_, id)| id)
    }
}

/// A service in a network as dockerd writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    #[serde(rename = "VIP", default)]
    address: String,
    #[serde(default)]
    ports: Option<Vec<String>>,
    #[serde(default)]
    tasks: Option<Vec<WrittenTask>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenTask {
    #[serde(default)]
    name: String,
    #[serde(rename = "EndpointIP", default)]
    address: String,
    #[serde(default)]
    info: Option<HashMap<String, String>>,
}

/// What the sandboxes of published ports are called among the plain containers of a network's services.
const INGRESS_ENDPOINT: &str = "ingress-endpoint";

/// The key of the sandbox of published ports among the containers of a network.
const INGRESS_BALANCER: &str = "ingress-sbox";

/// A network that was inspected verbosely. None where it is not an overlay of a Swarm.
pub(super) fn network(inspected: bollard::models::NetworkInspect) -> Option<Network> {
    if inspected.driver.as_deref() != Some("overlay") || inspected.scope.as_deref() != Some("swarm")
    {
        return None;
    }
    let (id, name) = (inspected.id?, inspected.name?);
    let ingress = inspected.ingress.unwrap_or(false);
    let balancer = if ingress {
        INGRESS_BALANCER.to_owned()
    } else {
        format!("lb-{name}")
    };
    let mut here = addresses(inspected.containers);
    let balancer = here.remove(&balancer);
    let written = inspected.services.unwrap_or_default();
    let plain = ingress.then(|| written.get("")).flatten();
    let balancers = plain.map(balancers).unwrap_or_default();
    let configured = inspected.ipam.and_then(|ipam| ipam.config);
    let mut subnets = configured
        .into_iter()
        .flatten()
        .filter_map(|config| config.subnet);
    let subnet = subnets.find_map(|subnet| subnet.parse().ok());
    let mut services: Vec<Service> = written
        .into_iter()
        .filter_map(|(name, written)| service(name, written))
        .collect();
    services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Some(Network {
        id,
        name,
        ingress,
        labels: inspected.labels.unwrap_or_default().into_iter().collect(),
        balancer,
        subnet,
        here,
        balancers,
        services,
    })
}

/// The node's bridge, from its inspection.
pub(super) fn bridge(inspected: bollard::models::NetworkInspect) -> Bridge {
    let mut containers = addresses(inspected.containers);
    let configured = inspected.ipam.and_then(|ipam| ipam.config);
    let mut gateways = configured
        .into_iter()
        .flatten()
        .filter_map(|config| config.gateway);
    Bridge {
        gateway: containers.remove(INGRESS_BALANCER),
        node: gateways.find_map(|gateway| gateway.parse().ok()),
        containers,
    }
}

/// Addresses by the keys of the containers that have them.
fn addresses(
    containers: Option<HashMap<String, bollard::models::EndpointResource>>,
) -> BTreeMap<String, Ipv4Addr> {
    let containers = containers.into_iter().flatten();
    containers
        .filter_map(|(id, endpoint)| Some((id, address_of(&endpoint)?)))
        .collect()
}

fn address_of(endpoint: &bollard::models::EndpointResource) -> Option<Ipv4Addr> {
    let address = endpoint.ipv4_address.as_deref()?;
    address.split('/').next()?.parse().ok()
}

/// None where it has no service address: a group of plain containers, or a service that resolves to its tasks.
fn service(name: String, written: serde_json::Value) -> Option<Service> {
    let written: Written = serde_json::from_value(written).ok()?;
    if name.is_empty() {
        return None;
    }
    let address = written.address.parse().ok()?;
    let mut tasks: Vec<Task> = written
        .tasks
        .unwrap_or_default()
        .into_iter()
        .filter_map(task)
        .collect();
    tasks.sort_unstable();
    // One that is being replaced can be there twice.
    tasks.dedup_by_key(|task| task.address);
    let ports = written.ports.unwrap_or_default();
    let mut published: Vec<Published> = ports.iter().filter_map(|text| port(text)).collect();
    published.sort_unstable();
    published.dedup();
    Some(Service {
        name,
        address,
        published,
        tasks,
    })
}

fn balancers(plain: &serde_json::Value) -> Vec<Balancer> {
    let written = Written::deserialize(plain)
        .ok()
        .and_then(|plain| plain.tasks);
    let ends = written.into_iter().flatten().filter_map(task);
    let mut balancers: Vec<Balancer> = ends
        .filter(|end| end.name == INGRESS_ENDPOINT)
        .filter_map(|end| {
            let (address, node) = (end.address, end.node?);
            Some(Balancer { address, node })
        })
        .collect();
    balancers.sort_unstable();
    balancers
}

fn task(written: WrittenTask) -> Option<Task> {
    Some(Task {
        address: written.address.parse().ok()?,
        name: written.name,
        node: written
            .info
            .and_then(|info| info.get("Host IP")?.parse().ok()),
    })
}

/// Reads `Target: 80, Publish: 8080`. A port that is published on the task's node alone says 0 here.
fn port(text: &str) -> Option<Published> {
    let (target, publish) = text.split_once(',')?;
    let number = |text: &str, word: &str| {
        let (name, number) = text.split_once(':')?;
        (name.trim() == word).then(|| number.trim().parse::<u16>().ok())?
    };
    let published = Published {
        port: number(publish, "Publish")?,
        target: number(target, "Target")?,
    };
    (published.port != 0).then_some(published)
}

#[cfg(test)]
#[path = "seen_tests.rs"]
pub(super) mod tests;
