//! What each scope is to serve, worked out from what dockerd knows. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::labels::{self, Wishes};
use super::node::Node;
use super::seen::{Network, Seen, Service as SeenService};
use crate::control::Declared;
use crate::model::{
    ForwardingMethod, ModelError, Protocol, Scheduler, Server, Service, ServiceKey, Setting,
    Settings, SourceNat, Table,
};

/// A scope that the provider has something to say about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The node itself.
    Node,
    /// The sandbox of the network with this id.
    Sandbox(String),
}

/// All that there is to know.
#[derive(Debug)]
pub(super) struct Input<'a> {
    /// What dockerd knows.
    pub(super) seen: &'a Seen,
    /// The networks, by id, whose sandboxes are there.
    pub(super) sandboxes: &'a BTreeSet<String>,
    /// The names of the tasks that are about to go.
    pub(super) leaving: &'a BTreeSet<String>,
    /// The node.
    pub(super) node: &'a Node,
    /// How long idle TCP connections are remembered where no label says otherwise.
    pub(super) tcp_timeout: Duration,
}

/// What is to be served.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What each scope is to serve.
    pub(super) scopes: Vec<(Place, Declared)>,
    /// What is wrong or cannot be served.
    pub(super) problems: Vec<String>,
}

/// Works it out.
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut node = Table::new();
    for network in &input.seen.networks {
        let (Some(balancer), true) = (network.balancer, input.sandboxes.contains(&network.id))
        else {
            continue;
        };
        let mut table = Table::new();
        if let Err(error) = table.set_settings(settings()) {
            plan.problems.push(error.to_string());
        }
        for service in &network.services {
            let (wishes, wrong) = wishes(input, network, service);
            let made = Maker {
                input,
                service,
                wishes,
                balancer,
            }
            .add(&mut table, network.ingress.then_some(&mut node));
            for problem in wrong.into_iter().chain(made.err()) {
                let problem = format!("{}: {problem}", service.name);
                // Once, and not for each network.
                if !plan.problems.contains(&problem) {
                    plan.problems.push(problem);
                }
            }
        }
        let place = Place::Sandbox(network.id.clone());
        plan.scopes.push((place, declared(table, true)));
    }
    plan.scopes.insert(0, (Place::Node, declared(node, false)));
    plan
}

fn declared(table: Table, has_settings: bool) -> Declared {
    Declared {
        table,
        has_settings,
    }
}

/// Of a sandbox: who holds a connection to a task that is gone hears it, instead of waiting for nobody.
fn settings() -> Settings {
    let mut settings = Settings::default();
    for setting in [Setting::ExpireNodestConn, Setting::ExpireQuiescentTemplate] {
        // 1 is in the range of both.
        let _ = settings.set(setting, 1);
    }
    settings
}

/// What labels say of a service: its own, then its local containers', then its network's.
fn wishes(input: &Input<'_>, network: &Network, service: &SeenService) -> (Wishes, Vec<String>) {
    let managed = input.seen.managed.as_ref();
    let own = managed
        .and_then(|managed| managed.services.get(&service.name))
        .map(|specified| &specified.labels);
    let containers = input.seen.containers.get(&service.name);
    let all: Vec<_> = own
        .into_iter()
        .chain(containers)
        .chain([&network.labels])
        .collect();
    labels::read(&all, input.tcp_timeout)
}

/// Makes the virtual services of one service of the Swarm on one network.
struct Maker<'a> {
    input: &'a Input<'a>,
    service: &'a SeenService,
    wishes: Wishes,
    /// The sandbox's own address in the network.
    balancer: Ipv4Addr,
}

impl Maker<'_> {
    /// `node` is given for the network of published ports.
    fn add(&self, table: &mut Table, node: Option<&mut Table>) -> Result<(), String> {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut service = self.to_tasks(protocol, self.service.address, 0)?;
            service.answer = true;
            insert(table, service)?;
        }
        let (Some(node), Some(gateway)) = (node, self.input.seen.gateway) else {
            return Ok(());
        };
        let mut later = None;
        for (protocol, port) in self.published() {
            if protocol == Protocol::Sctp {
                later = Some(format!("published port {port}/sctp: SCTP comes later"));
                continue;
            }
            insert(table, self.to_tasks(protocol, gateway, port)?)?;
            for address in &self.input.node.addresses {
                let mut service =
                    Service::new(key(protocol, *address, port)?, Scheduler::default());
                self.common(&mut service);
                // Of all addresses one has it; which, is all the same.
                service.loopback = true;
                service
                    .servers
                    .push(server(&service.key, gateway, port, 1)?);
                insert(node, service)?;
            }
        }
        later.map_or(Ok(()), Err)
    }

    /// The published ports with their protocols: both, where nobody says which.
    fn published(&self) -> Vec<(Protocol, u16)> {
        let managed = self.input.seen.managed.as_ref();
        if let Some(specified) =
            managed.and_then(|managed| managed.services.get(&self.service.name))
        {
            let listed = |port: &u16| self.service.published.iter().any(|p| p.port == *port);
            let all = specified.published.iter().copied();
            return all.filter(|(_, port)| listed(port)).collect();
        }
        let ports = self
            .service
            .published
            .iter()
            .map(|published| published.port);
        ports
            .flat_map(|port| {
                let protocols = self.input.node.protocols(port);
                protocols.into_iter().map(move |protocol| (protocol, port))
            })
            .collect()
    }

    /// A virtual service whose real servers are the tasks, at the port that the packets have.
    fn to_tasks(
        &self,
        protocol: Protocol,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Service, String> {
        let mut service = Service::new(key(protocol, address, port)?, self.wishes.scheduler);
        service.scheduler_flags = self.wishes.flags;
        service.persistence = self.wishes.persistence;
        service.source_nat = SourceNat::Address(IpAddr::V4(self.balancer));
        self.common(&mut service);
        let tasks = &self.service.tasks;
        let leaving = |name: &String| self.input.leaving.contains(name);
        // With nobody to take over, the last ones serve to the end.
        let all_leave = tasks.iter().all(|task| leaving(&task.name));
        for task in tasks {
            let weight = u32::from(all_leave || !leaving(&task.name));
            service
                .servers
                .push(server(&service.key, task.address, 0, weight)?);
        }
        service.checked().map_err(said)
    }

    fn common(&self, service: &mut Service) {
        service.timeouts = self.wishes.timeouts;
        // Beside IPVS the segments of connections that it has must reach it.
        service.reset = service.key.takes(Protocol::Tcp) && !self.input.node.ipvs;
    }
}

fn key(protocol: Protocol, address: Ipv4Addr, port: u16) -> Result<ServiceKey, String> {
    ServiceKey::address(protocol, SocketAddr::new(address.into(), port)).map_err(said)
}

fn server(key: &ServiceKey, address: Ipv4Addr, port: u16, weight: u32) -> Result<Server, String> {
    let socket = SocketAddr::new(address.into(), port);
    Server::new(key, socket, weight, ForwardingMethod::default()).map_err(said)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where an error is turned into words"
)]
fn said(error: ModelError) -> String {
    error.to_string()
}

fn insert(table: &mut Table, service: Service) -> Result<(), String> {
    table
        .add_service(service)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
