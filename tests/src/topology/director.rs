//! A director between a client and real servers:
//!
//! ```text
//! client 10.0.0.2 ── eth0 10.0.0.1 director br0 10.0.1.1 ── rs1 10.0.1.11, rs2 10.0.1.12, …
//! ```
//!
//! Client and servers have the director as their default route; it does not forward (`ip_forward`
//! is 0) unless asked to.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::Result;

use crate::host::Host;
use crate::lab::Lab;
use crate::task::{Ports, Task};

/// How the network is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many real servers.
    pub servers: u8,
    /// Whether the director forwards what is not for it.
    pub forward: bool,
    /// An address for the director's loopback interface, as IPVS wants it for a service. None: the
    /// service has to be answered for.
    pub own: Option<Ipv4Addr>,
    /// MTU between director and servers, in bytes.
    pub server_mtu: u32,
    /// Prefix of the names of hosts and tasks, for several such networks in one lab.
    pub prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: 2,
            forward: false,
            own: Some(SERVICE),
            server_mtu: 1500,
            prefix: String::new(),
        }
    }
}

/// The service address of the cases; in the client's subnet.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The director's address on the client's side.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The director's address on the servers' side.
pub const DIRECTOR_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The network; tasks are named as their hosts: `rs1`, `rs2`, …
#[derive(Debug)]
pub struct Director {
    /// Where requests come from.
    pub client: Host,
    /// Where bpvs works.
    pub director: Host,
    /// The real servers' hosts.
    pub servers: Vec<Host>,
    /// Their processes.
    pub tasks: Vec<Task>,
    prefix: String,
}

/// The address of real server `number`, counted from 1.
pub fn server_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 10 + number)
}

impl Director {
    /// Builds the network and starts a task on each server.
    pub fn build(lab: &Lab, options: &Options) -> Result<Self> {
        let prefix = &options.prefix;
        let mut names = vec![format!("{prefix}client"), format!("{prefix}director")];
        names.extend((1..=options.servers).map(|number| format!("{prefix}rs{number}")));
        let hosts = lab.hosts(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let [client, director, servers @ ..] = &hosts[..] else {
            unreachable!("two hosts at least were asked for")
        };
        let mut net = lab.wiring();
        net.veth(director, "eth0", client, "eth0")
            .bridge(director, "br0");
        net.address(client, "eth0", &format!("{CLIENT}/24"))
            .route(client, &format!("default via {DIRECTOR}"));
        net.address(director, "eth0", &format!("{DIRECTOR}/24"))
            .address(director, "br0", &format!("{DIRECTOR_INSIDE}/24"));
        if let Some(own) = options.own {
            net.address(director, "lo", &format!("{own}/32"));
        }
        if options.forward {
            net.sysctl(director, "net.ipv4.ip_forward", "1");
        }
        let mut built = Self {
            client: client.clone(),
            director: director.clone(),
            servers: Vec::new(),
            tasks: Vec::new(),
            prefix: prefix.clone(),
        };
        for (host, number) in servers.iter().zip(1..) {
            wire_server(&mut net, director, host, number, options.server_mtu);
        }
        net.apply()?;
        built.servers = servers.to_vec();
        let tasks: Vec<(&Host, &str)> = built
            .servers
            .iter()
            .map(|host| (host, host.name()))
            .collect();
        built.tasks = Task::start_all(lab, &tasks, &Ports::default())?;
        Ok(built)
    }

    /// Takes real server `number` (counted from 1) away and makes it anew: the same address and
    /// name, another interface and MAC address.
    pub fn recreate_server(&mut self, lab: &Lab, number: u8) -> Result<()> {
        let index = usize::from(number) - 1;
        // The cable goes first: with its namespace it would go a moment later, and its name be
        // taken until then.
        self.director.ip(&format!("link delete rs{number}"))?;
        self.tasks[index].kill()?;
        lab.remove_host(self.servers[index].clone())?;
        let host = lab.host(&format!("{}rs{number}", self.prefix))?;
        let mut net = lab.wiring();
        wire_server(&mut net, &self.director, &host, number, 1500);
        net.apply()?;
        self.tasks[index] = Task::start(lab, &host, host.name(), &Ports::default())?;
        // A host that has come up says something, by which the director's kernel learns its new Ethernet address: one
        // that is silent is only looked for again when its old address counts as reachable no longer, up to 45 s later.
        host.run(|| {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(b"here I am", "10.0.1.1:9")
        })??;
        self.servers[index] = host;
        Ok(())
    }

    /// Adds one more client, on an interface of its own: 10.0.2.2, with the director as its default
    /// route.
    pub fn add_client(&self, lab: &Lab) -> Result<Host> {
        let host = lab.host(&format!("{}other-client", self.prefix))?;
        let mut net = lab.wiring();
        net.veth(&self.director, "eth1", &host, "eth0").address(
            &self.director,
            "eth1",
            "10.0.2.1/24",
        );
        net.address(&host, "eth0", "10.0.2.2/24")
            .route(&host, "default via 10.0.2.1")
            .apply()?;
        Ok(host)
    }

    /// Adds one more real server and starts its task; its number, counted from 1.
    pub fn add_server(&mut self, lab: &Lab) -> Result<u8> {
        let number = u8::try_from(self.servers.len())? + 1;
        let host = lab.host(&format!("{}rs{number}", self.prefix))?;
        let mut net = lab.wiring();
        wire_server(&mut net, &self.director, &host, number, 1500);
        net.apply()?;
        self.tasks
            .push(Task::start(lab, &host, host.name(), &Ports::default())?);
        self.servers.push(host);
        Ok(number)
    }
}

fn wire_server(
    net: &mut crate::wiring::Wiring,
    director: &Host,
    host: &Host,
    number: u8,
    mtu: u32,
) {
    let port = format!("rs{number}");
    net.veth(director, &port, host, "eth0")
        .port(director, "br0", &port);
    if mtu != 1500 {
        net.mtu(director, &port, mtu)
            .mtu(host, "eth0", mtu)
            .mtu(director, "br0", mtu);
    }
    net.address(host, "eth0", &format!("{}/24", server_address(number)))
        .route(host, &format!("default via {DIRECTOR_INSIDE}"));
}
