//! What each scope is to serve, worked out from what dockerd knows. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::clients::{ClientAddress, Reach};
use super::datagrams::Datagrams;
use super::kept::Mesh;
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
    /// What can be done to keep clients' addresses.
    pub(super) reach: &'a Reach,
    /// How long idle TCP connections are remembered where no label says otherwise.
    pub(super) tcp_timeout: Duration,
    /// What becomes of clients' addresses where no label says otherwise.
    pub(super) clients: ClientAddress,
}

/// The services of the network of published ports whose clients' addresses are to be kept.
fn kept<'s>(seen: &'s Seen, network: &'s Network, default: ClientAddress) -> Vec<&'s SeenService> {
    let all = network.services.iter().filter(|_| network.ingress);
    all.filter(|service| {
        let (wishes, _) = wishes(seen, network, service, Duration::ZERO, default);
        !service.published.is_empty() && wishes.clients != ClientAddress::Translate
    })
    .collect()
}

/// Whether any service's clients' addresses are to be kept.
pub(super) fn keeps(seen: &Seen, default: ClientAddress) -> bool {
    let mut networks = seen.networks.iter();
    networks.any(|network| !kept(seen, network, default).is_empty())
}

/// Whom to ask on other nodes whether clients' addresses can be kept; none where none are to be.
pub(super) fn to_ask(seen: &Seen, default: ClientAddress) -> Option<BTreeSet<Ipv4Addr>> {
    let network = seen.networks.iter().find(|network| network.ingress)?;
    let services = kept(seen, network, default);
    if services.is_empty() {
        return None;
    }
    let reach = Reach::default();
    let tasks = services.iter().flat_map(|service| &service.tasks);
    let ends = Mesh::new(network, &reach)?.ends(tasks);
    Some(ends.elsewhere.into_keys().collect())
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
        let kept = kept(input.seen, network, input.clients);
        let mesh = Mesh::new(network, input.reach).filter(|_| !kept.is_empty());
        if let (Some(mesh), Some(gateway)) = (mesh, input.seen.bridge.gateway) {
            let ends = mesh.ends(kept.iter().flat_map(|service| &service.tasks));
            let relayed = mesh.relay(&mut node, gateway);
            let made = relayed.and_then(|()| mesh.probes(&mut table, &ends));
            plan.problems.extend(made.err());
        }
        for service in &network.services {
            let (wishes, wrong) = wishes(
                input.seen,
                network,
                service,
                input.tcp_timeout,
                input.clients,
            );
            let made = Maker {
                input,
                service,
                wishes,
                balancer,
                mesh,
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
fn wishes(
    seen: &Seen,
    network: &Network,
    service: &SeenService,
    tcp_timeout: Duration,
    clients: ClientAddress,
) -> (Wishes, Vec<String>) {
    let managed = seen.managed.as_ref();
    let own = managed
        .and_then(|managed| managed.services.get(&service.name))
        .map(|specified| &specified.labels);
    let containers = seen.containers.get(&service.name);
    let all: Vec<_> = own
        .into_iter()
        .chain(containers)
        .chain([&network.labels])
        .collect();
    labels::read(&all, tcp_timeout, clients)
}

/// Makes the virtual services of one service of the Swarm on one network.
struct Maker<'a> {
    input: &'a Input<'a>,
    service: &'a SeenService,
    wishes: Wishes,
    /// The sandbox's own address in the network.
    balancer: Ipv4Addr,
    /// The network of published ports, if clients' addresses are kept there.
    mesh: Option<Mesh<'a>>,
}

impl Maker<'_> {
    /// `node` is given for the network of published ports.
    fn add(&self, table: &mut Table, node: Option<&mut Table>) -> Result<(), String> {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut service = self.to_tasks(protocol, self.service.address, 0)?;
            service.answer = true;
            insert(table, service)?;
        }
        let (Some(node), Some(gateway)) = (node, self.input.seen.bridge.gateway) else {
            return Ok(());
        };
        let mut later = None;
        for (protocol, port) in self.published() {
            if protocol == Protocol::Sctp {
                later = Some(format!("published port {port}/sctp: SCTP comes later"));
                continue;
            }
            let mut service = self.to_tasks(protocol, gateway, port)?;
            let keep = self.wishes.clients != ClientAddress::Translate;
            if let (Some(mesh), true) = (self.mesh, keep) {
                let way = match protocol {
                    Protocol::Udp => Datagrams::new(&self.input.seen.bridge, self.service, port),
                    _ => Ok(None),
                };
                let tasks = &self.service.tasks;
                let kept = way.and_then(|way| {
                    for service in mesh.for_others(&service, tasks, way.as_ref()) {
                        insert(table, service)?;
                    }
                    if let Some(way) = &way {
                        for service in way.services(&mesh, &service) {
                            insert(node, service)?;
                        }
                        // Another node may keep them of datagrams, too.
                        if self.wishes.clients != ClientAddress::KeepAll {
                            return Ok(());
                        }
                        way.translate_own(table, &service)?;
                    }
                    mesh.keep(&mut service, tasks, way.as_ref())
                });
                if let Err(why) = kept {
                    later = Some(format!("clients' addresses are translated: {why}"));
                }
            }
            insert(table, service.checked().map_err(said)?)?;
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

pub(super) fn key(protocol: Protocol, address: Ipv4Addr, port: u16) -> Result<ServiceKey, String> {
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
pub(super) fn said(error: ModelError) -> String {
    error.to_string()
}

pub(super) fn insert(table: &mut Table, service: Service) -> Result<(), String> {
    table
        .add_service(service)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
