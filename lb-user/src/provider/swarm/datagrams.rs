//! Clients' own addresses behind published UDP ports; see [`super::clients`]. Pure.
//!
//! A server that has its socket at no address of its own, as most have, answers from the address by which its kernel sends to
//! the client: that of its container on the node's bridge. An answer to what came in by the network of published ports would
//! be from where nobody has asked. So datagrams come in by the bridge, too, at the task's own port, as those of a container's
//! own published port do: the container answers from the address at which it was asked, and its node, which is its way out,
//! has the exchange in its own scope and takes the answer back. Only what it knows: what a task sends of its own accord from that
//! port goes where it is sent to.
//!
//! Between sandbox and node the task goes by the alias that the node's own sandbox has for it: the exchange is in both their
//! tables, each time under a name of its own.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::kept::{Mesh, masquerade};
use super::plan::{insert, key, said};
use super::seen::{Bridge, Service as SeenService, Task};
use crate::model::{
    AddressFamily, MarkRule, MarkValue, Protocol, Scheduler, Service, ServiceKey, Table,
};

/// The mark of what the node itself asks: "bp", and the port.
const OWN: u32 = u32::from_be_bytes([b'b', b'p', 0, 0]);

/// How datagrams of one published port come to the tasks of this node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagrams<'a> {
    bridge: &'a Bridge,
    service: &'a SeenService,
    port: u16,
    /// The port at which tasks listen.
    target: u16,
    /// The sandbox's address on the bridge.
    sandbox: Ipv4Addr,
    /// The node's.
    pub(super) node: Ipv4Addr,
}

impl<'a> Datagrams<'a> {
    /// None of it where the bridge is not known, or not at which port the tasks listen.
    pub(super) fn new(
        bridge: &'a Bridge,
        service: &'a SeenService,
        port: u16,
    ) -> Result<Option<Self>, String> {
        let unknown = "the node's own address on its bridge is not known";
        let (Some(sandbox), Some(node)) = (bridge.gateway, bridge.node) else {
            return Err(unknown.into());
        };
        let all = service.published.iter();
        let mut targets = all.filter(|published| published.port == port);
        let (Some(published), None) = (targets.next(), targets.next()) else {
            return Err(format!(
                "port {port} is published for several ports, and which is for UDP is not said"
            ));
        };
        Ok(Some(Self {
            bridge,
            service,
            port,
            target: published.target,
            sandbox,
            node,
        }))
    }

    /// Where a task of this node is on its bridge.
    pub(super) fn end(&self, mesh: &Mesh<'_>, task: &Task) -> Option<Ipv4Addr> {
        let mut here = mesh.network.here.iter();
        let (id, _) = here.find(|(_, address)| **address == task.address)?;
        self.bridge.containers.get(id).copied()
    }

    /// What the node itself asks, and its containers in its name, is translated: a task would answer the sandbox, which is its
    /// neighbour on the bridge, and not the node.
    pub(super) fn translate_own(
        &self,
        table: &mut Table,
        translated: &Service,
    ) -> Result<(), String> {
        let mark = OWN | u32::from(self.port);
        let mut rule = MarkRule::new(MarkValue::new(mark, u32::MAX).map_err(said)?);
        rule.source = Some(IpNet::from(IpAddr::V4(self.node)));
        rule.destination = Some(IpNet::from(IpAddr::V4(self.sandbox)));
        rule.protocol = Some(Protocol::Udp);
        rule.ports = Some(self.port..=self.port);
        let mut marks = table.marks().to_vec();
        marks.push(rule.checked().map_err(said)?);
        table.set_marks(marks).map_err(|error| error.to_string())?;
        let mut service = translated.clone();
        service.key = ServiceKey::fwmark(mark, AddressFamily::V4).map_err(said)?;
        insert(table, service.checked().map_err(said)?)
    }

    /// What the node has to serve: the tasks that are here, each by its alias, at its end and its own port.
    pub(super) fn services(&self, mesh: &Mesh<'_>, like: &Service) -> Vec<Service> {
        let tasks = self.service.tasks.iter();
        let here = tasks.filter(|task| !mesh.reach.strict && mesh.is_here(task));
        here.filter_map(|task| {
            let alias = key(Protocol::Udp, mesh.own_alias(task)?, self.port).ok()?;
            let mut service = Service::new(alias, Scheduler::default());
            let end = self.end(mesh, task)?;
            let mut server = masquerade(&service.key, end, self.target).ok()?;
            server.return_via = Some(self.sandbox.into());
            service.servers.push(server);
            service.timeouts = like.timeouts;
            service.socket = false;
            Some(service)
        })
        .collect()
    }
}
