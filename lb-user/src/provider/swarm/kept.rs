//! What is to be served where clients' addresses are kept; see [`super::clients`]. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::clients::{PROBE, Reach, alias};
use super::datagrams::Datagrams;
use super::docker::BRIDGE;
use super::plan::{insert, key, said};
use super::seen::{Balancer, Network, Task};
use crate::model::{
    AddressFamily, ForwardingMethod, MarkRule, MarkValue, Protocol, Scheduler, Server, Service,
    ServiceKey, SourceNat, Table,
};

/// The mark of what tasks answer past their sandbox: "bpvs", that no one else has it.
const ANSWERS: u32 = u32::from_be_bytes(*b"bpvs");

/// How long a question to another node is remembered.
const ASKED: Duration = Duration::from_secs(5);

/// The network of published ports as one of its nodes sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mesh<'a> {
    /// The network.
    pub(super) network: &'a Network,
    /// What can be done.
    pub(super) reach: &'a Reach,
    /// The node's own sandbox.
    own: Balancer,
}

impl<'a> Mesh<'a> {
    /// None where the network does not say whose sandbox is this node's.
    pub(super) fn new(network: &'a Network, reach: &'a Reach) -> Option<Self> {
        let mut balancers = network.balancers.iter();
        let own = balancers.find(|there| Some(there.address) == network.balancer)?;
        Some(Self {
            network,
            reach,
            own: *own,
        })
    }

    fn others(&self) -> impl Iterator<Item = Balancer> + use<'a> {
        let own = self.own.address;
        let all = self.network.balancers.iter().copied();
        all.filter(move |other| other.address != own)
    }

    pub(super) fn is_here(&self, task: &Task) -> bool {
        task.node == Some(self.own.node)
    }

    /// What this node calls a task of its own, where it has to.
    pub(super) fn own_alias(&self, task: &Task) -> Option<Ipv4Addr> {
        alias(self.network, self.own.address, task.address)
    }

    /// Has the clients' addresses kept for all tasks of a service that has them as its real servers; or for none, and why.
    /// Those that are called by alias are there twice: what they had before goes on.
    pub(super) fn keep(
        &self,
        service: &mut Service,
        tasks: &[Task],
        datagrams: Option<&Datagrams<'_>>,
    ) -> Result<(), String> {
        let there: Vec<(&Task, Result<Server, String>)> = tasks
            .iter()
            .filter(|task| datagrams.is_some() || !self.is_here(task))
            .map(|task| (task, self.by_alias(&service.key, task, datagrams)))
            .collect();
        let strict = "containers on this node drop what does not come from where they answer to \
                      (net.ipv4.conf.all.rp_filter or default.rp_filter is 1; 2 would do)";
        let mut early = Vec::new();
        let mut obstacle = self.reach.strict.then(|| strict.to_owned());
        for (task, server) in &there {
            let why = match (server, self.balancer_of(task)) {
                (Err(why), _) => Some(why.clone()),
                (Ok(_), Some(other)) if !self.reach.answering.contains(&other.address) => Some(
                    format!("node {} does not answer; bpvs keeps none there", other.node),
                ),
                _ => None,
            };
            obstacle = obstacle.or(why);
        }
        for (task, server) in there {
            let plain = |server: &&mut Server| server.address == IpAddr::V4(task.address);
            let plain = service.servers.iter_mut().find(plain);
            let (Some(plain), Ok(mut server)) = (plain, server) else {
                continue;
            };
            server.weight = plain.weight;
            if obstacle.is_some() {
                server.weight = 0;
            } else {
                plain.weight = 0;
                let is_known = match datagrams {
                    Some(way) if self.is_here(task) => way.end(self, task).is_some(),
                    _ => self.reach.answering.contains(&task.address),
                };
                if !is_known {
                    early.push(server);
                    continue;
                }
            }
            service.servers.push(server);
        }
        // Its own node does not know it yet: others take its part, if there are any.
        let nobody = service.servers.iter().all(|server| server.weight == 0);
        for server in early {
            let weight = if nobody { server.weight } else { 0 };
            service.servers.push(Server { weight, ..server });
        }
        match obstacle {
            Some(why) => Err(why),
            None => {
                service.source_nat = SourceNat::Off;
                service.clamp_mss = datagrams.is_none();
                Ok(())
            }
        }
    }

    fn balancer_of(&self, task: &Task) -> Option<Balancer> {
        self.others().find(|other| Some(other.node) == task.node)
    }

    fn by_alias(
        &self,
        key: &ServiceKey,
        task: &Task,
        datagrams: Option<&Datagrams<'_>>,
    ) -> Result<Server, String> {
        let via = match datagrams {
            Some(way) if self.is_here(task) => way.node,
            _ => {
                let other = self.balancer_of(task);
                other
                    .ok_or_else(|| format!("nobody says on which node {} is", task.name))?
                    .address
            }
        };
        let alias = self.own_alias(task).ok_or(
            "the network of published ports is too large; a subnet of /21 or smaller would do",
        )?;
        let mut server = masquerade(key, alias, 0)?;
        server.via = Some(via.into());
        Ok(server)
    }

    /// What other nodes call the tasks that are here, each by its own name, with all else as in `service`.
    pub(super) fn for_others(
        &self,
        service: &Service,
        tasks: &[Task],
        datagrams: Option<&Datagrams<'_>>,
    ) -> Vec<Service> {
        if self.reach.strict {
            return Vec::new();
        }
        let port = service.key.port().unwrap_or(0);
        let protocol = match datagrams {
            Some(_) => Protocol::Udp,
            None => Protocol::Tcp,
        };
        let here = tasks.iter().filter(|task| self.is_here(task));
        here.flat_map(|task| {
            self.others().filter_map(move |other| {
                let alias = alias(self.network, other.address, task.address)?;
                let mut called =
                    Service::new(key(protocol, alias, port).ok()?, Scheduler::default());
                let mut server = match datagrams {
                    Some(way) => {
                        // Else nobody would take them any further.
                        way.end(self, task)?;
                        let mut server = masquerade(&called.key, self.own_alias(task)?, 0).ok()?;
                        server.via = Some(way.node.into());
                        server
                    }
                    None => masquerade(&called.key, task.address, 0).ok()?,
                };
                server.return_via = Some(other.address.into());
                called.servers.push(server);
                called.timeouts = service.timeouts;
                called.reset = service.reset;
                called.clamp_mss = datagrams.is_none();
                Some(called)
            })
        })
        .collect()
    }

    /// The ends at which aliases of these tasks are: those of this node, and those of others with the sandbox that is asked.
    /// Each node's sandbox is one.
    pub(super) fn ends<'t>(&self, tasks: impl Iterator<Item = &'t Task>) -> Ends {
        let mut ends = Ends::default();
        ends.here.insert(self.own.address);
        let sandboxes = self.others().map(|other| (other.address, other.address));
        ends.elsewhere.extend(sandboxes);
        for task in tasks {
            if self.is_here(task) {
                ends.here.insert(task.address);
            } else if let Some(other) = self.balancer_of(task) {
                ends.elsewhere.insert(task.address, other.address);
            }
        }
        ends
    }

    /// By which nodes find out of each other whether they do their part.
    pub(super) fn probes(&self, table: &mut Table, ends: &Ends) -> Result<(), String> {
        for (end, sandbox) in &ends.elsewhere {
            let Some(alias) = alias(self.network, self.own.address, *end) else {
                continue;
            };
            let mut question = probe(*end)?;
            let mut server = masquerade(&question.key, alias, PROBE)?;
            server.via = Some((*sandbox).into());
            question.servers.push(server);
            insert(table, question)?;
        }
        if self.reach.strict {
            return Ok(());
        }
        for end in &ends.here {
            for other in self.others() {
                let Some(alias) = alias(self.network, other.address, *end) else {
                    continue;
                };
                let mut answer = probe(alias)?;
                let server = masquerade(&answer.key, other.address, PROBE)?;
                answer.servers.push(server);
                answer.source_nat = SourceNat::Address(self.own.address.into());
                insert(table, answer)?;
            }
        }
        Ok(())
    }

    /// Leads into the sandbox what tasks answer by their node's bridge. They send nothing else from such an address there.
    pub(super) fn relay(&self, node: &mut Table, gateway: Ipv4Addr) -> Result<(), String> {
        let Some(subnet) = self.network.subnet else {
            return Ok(());
        };
        let mut rule = MarkRule::new(MarkValue::new(ANSWERS, u32::MAX).map_err(said)?);
        rule.interface = Some(BRIDGE.into());
        rule.source = Some(IpNet::V4(subnet.trunc()));
        rule.protocol = Some(Protocol::Tcp);
        let mut marks = node.marks().to_vec();
        marks.push(rule.checked().map_err(said)?);
        node.set_marks(marks).map_err(|error| error.to_string())?;
        let key = ServiceKey::fwmark(ANSWERS, AddressFamily::V4).map_err(said)?;
        let mut service = Service::new(key, Scheduler::default());
        service.relay = true;
        service.socket = false;
        let to = SocketAddr::new(gateway.into(), 0);
        let server = Server::new(&key, to, 1, ForwardingMethod::Direct).map_err(said)?;
        service.servers.push(server);
        insert(node, service.checked().map_err(said)?)
    }
}

/// Where aliases are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ends {
    /// On this node.
    pub(super) here: BTreeSet<Ipv4Addr>,
    /// On others, each with the sandbox there.
    pub(super) elsewhere: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

fn probe(address: Ipv4Addr) -> Result<Service, String> {
    let mut service = Service::new(key(Protocol::Udp, address, PROBE)?, Scheduler::default());
    service.socket = false;
    service.timeouts.udp = Some(ASKED);
    Ok(service)
}

pub(super) fn masquerade(key: &ServiceKey, address: Ipv4Addr, port: u16) -> Result<Server, String> {
    let to = SocketAddr::new(address.into(), port);
    Server::new(key, to, 1, ForwardingMethod::Masquerade).map_err(said)
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
