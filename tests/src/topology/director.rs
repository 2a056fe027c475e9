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
use crate::wiring::Wiring;

/// What the director's interface on the client's side is: the one with its address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Front {
    /// The cable's end.
    #[default]
    Cable,
    /// A bridge, the cable a port of it.
    Bridge,
    /// A bond, the cable a port of it.
    Bond,
    /// A VLAN on the cable.
    Vlan,
    /// A VLAN on a bridge, the cable a port of the bridge.
    VlanOverBridge,
    /// A bridge, a VLAN on the cable a port of it.
    BridgeOverVlan,
    /// A bridge, a VXLAN that reaches the client over the cable a port of it.
    BridgeOverVxlan,
}

impl Front {
    /// The interface's name.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Cable => "eth0",
            Self::Bridge | Self::BridgeOverVlan | Self::BridgeOverVxlan => "br1",
            Self::Bond => "bond0",
            Self::Vlan => "eth0.7",
            Self::VlanOverBridge => "br1.7",
        }
    }

    /// Whether frames on the cable carry a tag.
    pub const fn is_tagged(self) -> bool {
        matches!(
            self,
            Self::Vlan | Self::VlanOverBridge | Self::BridgeOverVlan
        )
    }

    /// The interface on which the client has its address.
    const fn at_client(self) -> &'static str {
        match self {
            Self::Cable | Self::Bridge | Self::Bond => "eth0",
            Self::Vlan | Self::VlanOverBridge | Self::BridgeOverVlan => "eth0.7",
            Self::BridgeOverVxlan => "vxlan0",
        }
    }
}

/// How the network is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The director's interface on the client's side.
    pub front: Front,
    /// Whether director and servers speak over VLAN 8: the director's end is `br0.8`, on its bridge.
    pub back_vlan: bool,
    /// Whether each real server is on a cable of its own, whose end at the director is `rs1`, `rs2`, … with the director's
    /// address on it, or with `back_vlan` on its VLAN 8; instead of on the bridge.
    pub cables: bool,
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
            front: Front::Cable,
            back_vlan: false,
            cables: false,
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
    options: Options,
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
            .quiet_bridge(director, "br0");
        wire_front(&mut net, director, client, options.front);
        net.address(client, options.front.at_client(), &format!("{CLIENT}/24"))
            .route(client, &format!("default via {DIRECTOR}"));
        net.address(
            director,
            options.front.interface(),
            &format!("{DIRECTOR}/24"),
        );
        if !options.cables {
            if options.back_vlan {
                net.vlan(director, "br0", BACK_VLAN);
            }
            net.address(
                director,
                if options.back_vlan { "br0.8" } else { "br0" },
                &format!("{DIRECTOR_INSIDE}/24"),
            );
        }
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
            options: options.clone(),
        };
        for (host, number) in servers.iter().zip(1..) {
            wire_server(&mut net, director, host, number, options);
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
        let host = lab.host(&format!("{}rs{number}", self.options.prefix))?;
        let mut net = lab.wiring();
        wire_server(&mut net, &self.director, &host, number, &self.options);
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
        let host = lab.host(&format!("{}other-client", self.options.prefix))?;
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
        let host = lab.host(&format!("{}rs{number}", self.options.prefix))?;
        let mut net = lab.wiring();
        wire_server(&mut net, &self.director, &host, number, &self.options);
        net.apply()?;
        self.tasks
            .push(Task::start(lab, &host, host.name(), &Ports::default())?);
        self.servers.push(host);
        Ok(number)
    }
}

/// The VLAN on the client's side.
const FRONT_VLAN: u16 = 7;
/// The VLAN on the servers' side.
const BACK_VLAN: u16 = 8;

/// Everything between the cable to the client and the interfaces with the addresses.
fn wire_front(net: &mut Wiring, director: &Host, client: &Host, front: Front) {
    if front.is_tagged() {
        net.vlan(client, "eth0", FRONT_VLAN);
    }
    match front {
        Front::Cable => {}
        Front::Bridge => {
            net.quiet_bridge(director, "br1")
                .port(director, "br1", "eth0");
        }
        Front::Bond => {
            net.bond(director, "bond0").port(director, "bond0", "eth0");
        }
        Front::Vlan => {
            net.vlan(director, "eth0", FRONT_VLAN);
        }
        Front::VlanOverBridge => {
            net.quiet_bridge(director, "br1")
                .port(director, "br1", "eth0")
                .vlan(director, "br1", FRONT_VLAN);
        }
        Front::BridgeOverVlan => {
            net.quiet_bridge(director, "br1")
                .vlan(director, "eth0", FRONT_VLAN)
                .port(director, "br1", "eth0.7");
        }
        Front::BridgeOverVxlan => {
            for (host, own, other) in [
                (director, "192.168.77.1", "192.168.77.2"),
                (client, "192.168.77.2", "192.168.77.1"),
            ] {
                net.address(host, "eth0", &format!("{own}/24"))
                    .tunnel(host, "vxlan0", 42, other);
            }
            net.quiet_bridge(director, "br1")
                .port(director, "br1", "vxlan0");
        }
    }
}

fn wire_server(net: &mut Wiring, director: &Host, host: &Host, number: u8, options: &Options) {
    let mtu = options.server_mtu;
    let port = format!("rs{number}");
    net.veth(director, &port, host, "eth0");
    if options.cables {
        let mut own = port.clone();
        if options.back_vlan {
            net.vlan(director, &port, BACK_VLAN);
            own = format!("{port}.{BACK_VLAN}");
        }
        net.address(director, &own, &format!("{DIRECTOR_INSIDE}/32"))
            .route(
                director,
                &format!(
                    "{}/32 dev {own} src {DIRECTOR_INSIDE}",
                    server_address(number)
                ),
            );
    } else {
        net.port(director, "br0", &port);
    }
    let mut interface = "eth0";
    if options.back_vlan {
        net.vlan(host, "eth0", BACK_VLAN);
        interface = "eth0.8";
    }
    if mtu != 1500 {
        net.mtu(director, &port, mtu)
            .mtu(host, "eth0", mtu)
            .mtu(director, "br0", mtu);
    }
    net.address(host, interface, &format!("{}/24", server_address(number)))
        .route(host, &format!("default via {DIRECTOR_INSIDE}"));
}
