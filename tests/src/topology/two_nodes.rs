//! Two nodes of a Docker Swarm, as dockerd leaves them on a kernel without IPVS, in namespaces:
//!
//! ```text
//! outside 192.168.77.254 ─┬─ wire ─┬─ node1 192.168.77.1          node2 192.168.77.2
//!                         └────────┘
//! on each node:
//!   node           eth0; gwbridge 172.18.0.1/16
//!   ingress        Docker's ingress_sbox: eth0 10.0.0.2 (node2: .3) in the ingress network, eth1 172.18.0.2, default via the node
//!   lb             Docker's lb_<network>: eth0 10.0.1.5 (node2: .6) in the user's network, nothing else
//!   net-ingress    bridge br0 and vxlan0 (4096) of the ingress network 10.0.0.0/24
//!   net-ov         bridge br0 and vxlan0 (4097) of the user's network 10.0.1.0/24
//!   client         eth0 10.0.1.100 (node2: .101) in the user's network
//!   web.N          a task: eth0 10.0.0.(10+N), eth1 10.0.1.(10+N), eth2 172.18.0.(10+N), default via the node
//! ```
//!
//! Nothing forwards (`ip_forward` is 0 everywhere), nobody has the service addresses, and ARP for
//! an address without an endpoint never leaves a node: the VXLAN interfaces answer it from fixed
//! entries.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::docker_mac;
use crate::host::Host;
use crate::lab::Lab;
use crate::task::{Ports, Task};
use crate::wiring::{Vxlan, Wiring};

/// MTU of everything in an overlay network, in bytes.
pub const OVERLAY_MTU: u32 = 1450;
/// The service address of `web` in the user's network.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
/// The outside host's address.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 254);
/// The ingress sandbox's address on its node's bridge, the same on every node.
pub const INGRESS_GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);

/// One of the two networks that span the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Carries published ports: 10.0.0.0/24, VXLAN 4096.
    Ingress,
    /// The user's: 10.0.1.0/24, VXLAN 4097.
    User,
}

impl Network {
    fn id(self) -> u32 {
        match self {
            Self::Ingress => 4096,
            Self::User => 4097,
        }
    }

    fn address(self, last: u8) -> Ipv4Addr {
        match self {
            Self::Ingress => Ipv4Addr::new(10, 0, 0, last),
            Self::User => Ipv4Addr::new(10, 0, 1, last),
        }
    }
}

/// One node and its sandboxes.
#[derive(Debug)]
pub struct Node {
    /// The node itself.
    pub host: Host,
    /// Its address on the wire.
    pub address: Ipv4Addr,
    /// The sandbox through which published ports come in.
    pub ingress: Host,
    /// Address of that sandbox in the ingress network: what a task sees as the client of a
    /// published port.
    pub ingress_address: Ipv4Addr,
    /// The sandbox that balances within the user's network.
    pub balancer: Host,
    /// Address of that sandbox in the user's network: what a task sees as the client of the service
    /// address.
    pub balancer_address: Ipv4Addr,
    /// A container in the user's network.
    pub client: Host,
    /// Bridge and VXLAN of the ingress network.
    pub net_ingress: Host,
    /// Bridge and VXLAN of the user's network.
    pub net_user: Host,
}

impl Node {
    fn sandbox(&self, network: Network) -> &Host {
        match network {
            Network::Ingress => &self.net_ingress,
            Network::User => &self.net_user,
        }
    }
}

/// A task and where it is.
#[derive(Debug)]
pub struct Placed {
    /// Its process.
    pub task: Task,
    /// Its host.
    pub host: Host,
    /// Index of its node.
    pub node: usize,
    /// Its address in the ingress network.
    pub ingress: Ipv4Addr,
    /// Its address in the user's network.
    pub user: Ipv4Addr,
}

/// The two nodes.
#[derive(Debug)]
pub struct TwoNodes {
    /// A host on the wire that is no node.
    pub outside: Host,
    /// node1 and node2.
    pub nodes: Vec<Node>,
    /// The tasks of `web`, in the order in which they were added.
    pub tasks: Vec<Placed>,
    lab: Lab,
    added: u8,
}

/// Hosts of one node, in this order.
const SANDBOXES: [&str; 6] = ["", "-ingress", "-lb", "-client", "-net-ingress", "-net-ov"];

impl TwoNodes {
    /// Builds nodes, networks and sandboxes, with no tasks.
    pub fn build(lab: &Lab) -> Result<Self> {
        let mut names: Vec<String> = vec!["wire".into(), "outside".into()];
        for number in 1..=2 {
            names.extend(SANDBOXES.map(|sandbox| format!("node{number}{sandbox}")));
        }
        let mut hosts = lab
            .hosts(&names.iter().map(String::as_str).collect::<Vec<_>>())?
            .into_iter();
        let mut next = move || hosts.next().context("a host that was not made");
        let (wire, outside) = (next()?, next()?);
        let mut net = lab.wiring();
        net.bridge(&wire, "br0")
            .veth(&wire, "outside", &outside, "eth0")
            .port(&wire, "br0", "outside");
        net.address(&outside, "eth0", &format!("{OUTSIDE}/24"));
        let mut nodes = Vec::new();
        for number in 1..=2 {
            nodes.push(Node {
                host: next()?,
                address: Ipv4Addr::new(192, 168, 77, number),
                ingress: next()?,
                ingress_address: Network::Ingress.address(1 + number),
                balancer: next()?,
                balancer_address: Network::User.address(4 + number),
                client: next()?,
                net_ingress: next()?,
                net_user: next()?,
            });
        }
        let built = Self {
            outside,
            nodes,
            tasks: Vec::new(),
            lab: lab.clone(),
            added: 0,
        };
        for (index, node) in built.nodes.iter().enumerate() {
            let port = format!("node{}", index + 1);
            net.veth(&wire, &port, &node.host, "eth0")
                .port(&wire, "br0", &port);
            net.address(&node.host, "eth0", &format!("{}/24", node.address));
            net.bridge(&node.host, "gwbridge")
                .address(&node.host, "gwbridge", "172.18.0.1/16");
            for network in [Network::Ingress, Network::User] {
                let sandbox = node.sandbox(network);
                net.bridge(sandbox, "br0").address(
                    sandbox,
                    "br0",
                    &format!("{}/24", network.address(1)),
                );
                net.vxlan(
                    &node.host,
                    sandbox,
                    Vxlan {
                        interface: "vxlan0",
                        id: network.id(),
                        mtu: OVERLAY_MTU,
                    },
                );
                net.port(sandbox, "br0", "vxlan0");
            }
            built.join(
                &mut net,
                &node.ingress,
                "eth0",
                Network::Ingress,
                index,
                node.ingress_address,
            );
            built.gateway(&mut net, &node.ingress, "eth1", index, INGRESS_GATEWAY);
            built.join(
                &mut net,
                &node.balancer,
                "eth0",
                Network::User,
                index,
                node.balancer_address,
            );
            let client = Network::User.address(100 + u8::try_from(index)?);
            built.join(&mut net, &node.client, "eth0", Network::User, index, client);
        }
        net.apply()?;
        Ok(built)
    }

    /// Starts one task of `web` on each of these nodes (by index) and returns their numbers,
    /// counted from 1.
    pub fn add_tasks(&mut self, nodes: &[usize]) -> Result<Vec<u8>> {
        let numbers: Vec<u8> = (self.added + 1..).take(nodes.len()).collect();
        let names: Vec<String> = numbers
            .iter()
            .map(|number| format!("web.{number}"))
            .collect();
        let hosts = self
            .lab
            .hosts(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut net = self.lab.wiring();
        for ((host, &number), &node) in hosts.iter().zip(&numbers).zip(nodes) {
            self.join(
                &mut net,
                host,
                "eth0",
                Network::Ingress,
                node,
                Network::Ingress.address(10 + number),
            );
            self.join(
                &mut net,
                host,
                "eth1",
                Network::User,
                node,
                Network::User.address(10 + number),
            );
            self.gateway(
                &mut net,
                host,
                "eth2",
                node,
                Ipv4Addr::new(172, 18, 0, 10 + number),
            );
        }
        net.apply()?;
        let starting: Vec<(&Host, &str)> = hosts.iter().map(|host| (host, host.name())).collect();
        let tasks = Task::start_all(&self.lab, &starting, &Ports::default())?;
        for (((task, host), &number), &node) in
            tasks.into_iter().zip(hosts).zip(&numbers).zip(nodes)
        {
            let (ingress, user) = (
                Network::Ingress.address(10 + number),
                Network::User.address(10 + number),
            );
            self.tasks.push(Placed {
                task,
                host,
                node,
                ingress,
                user,
            });
        }
        self.added += u8::try_from(nodes.len())?;
        Ok(numbers)
    }

    /// Takes a task's container away, as Docker does when the task has ended.
    pub fn remove_task(&mut self, name: &str) -> Result<()> {
        let index = self
            .tasks
            .iter()
            .position(|placed| placed.task.name() == name)
            .with_context(|| format!("there is no task {name}"))?;
        let placed = self.tasks.remove(index);
        drop(placed.task);
        self.lab.remove_host(placed.host)
    }

    /// The task called `name`.
    pub fn task(&mut self, name: &str) -> Result<&mut Placed> {
        self.tasks
            .iter_mut()
            .find(|placed| placed.task.name() == name)
            .with_context(|| format!("there is no task {name}"))
    }

    /// Makes `host` an endpoint of an overlay network: a cable into the bridge of its node, and
    /// fixed entries for it on the other nodes.
    fn join(
        &self,
        net: &mut Wiring,
        host: &Host,
        interface: &str,
        network: Network,
        node: usize,
        address: Ipv4Addr,
    ) {
        let mac = docker_mac(address);
        let sandbox = self.nodes[node].sandbox(network);
        let port = format!("veth{}", address.octets()[3]);
        net.veth(sandbox, &port, host, interface)
            .port(sandbox, "br0", &port)
            .mtu(sandbox, &port, OVERLAY_MTU);
        net.mac(host, interface, &mac)
            .mtu(host, interface, OVERLAY_MTU)
            .address(host, interface, &format!("{address}/24"));
        for other in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != node)
            .map(|(_, other)| other)
        {
            let there = self.nodes[node].address.to_string();
            net.remote_endpoint(
                other.sandbox(network),
                "vxlan0",
                &address.to_string(),
                &mac,
                &there,
            );
        }
    }

    /// Joins `host` to its node's own bridge, which is its way out.
    fn gateway(
        &self,
        net: &mut Wiring,
        host: &Host,
        interface: &str,
        node: usize,
        address: Ipv4Addr,
    ) {
        let port = format!("gw{}", address.octets()[3]);
        let node = &self.nodes[node].host;
        net.veth(node, &port, host, interface)
            .port(node, "gwbridge", &port);
        net.mac(host, interface, &docker_mac(address)).address(
            host,
            interface,
            &format!("{address}/16"),
        );
        net.route(host, "default via 172.18.0.1");
    }
}
