//! The network that the cases take place in, as data: each runner sets it up in its own way.
//!
//! ```text
//! CLIENT ── FRONT [director] BACK ── SERVERS
//! ROUTER ──┘                      └─ GATEWAY ── FAR_SERVER
//! ```

use lb_common::{
    abi::{Address, Be32, ServiceKey, V4},
    host::{Capacity, HopSpec, MarkRule, Memory, ServerSpec, ServiceSpec},
};

use super::packet::{Body, Frame, Ip, Ip4, Mac};

/// A host on one of the two links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its address.
    pub ip: Ip4,
    /// Its Ethernet address: the gateway's, if it is behind one.
    pub mac: Mac,
    /// Index of the hop to it.
    pub hop: u32,
}

/// The interface towards clients.
pub const FRONT: u32 = 11;
/// The interface towards real servers.
pub const BACK: u32 = 12;
/// Ethernet address of [`FRONT`].
pub const FRONT_MAC: Mac = [0x02, 0, 0, 0, 0, 0x11];
/// Ethernet address of [`BACK`].
pub const BACK_MAC: Mac = [0x02, 0, 0, 0, 0, 0x12];
/// The director's address on [`FRONT`].
pub const FRONT_IP: Ip4 = [192, 0, 2, 1];
/// The director's address on [`BACK`].
pub const BACK_IP: Ip4 = [10, 0, 1, 1];

/// A client next to [`FRONT`].
pub const CLIENT: Station = Station {
    ip: [192, 0, 2, 10],
    mac: [0x02, 0, 0, 0, 1, 0x10],
    hop: 1,
};
/// A client behind a router that is next to [`FRONT`].
pub const FAR_CLIENT: Station = Station {
    ip: [203, 0, 113, 7],
    mac: ROUTER.mac,
    hop: 2,
};
/// That router.
pub const ROUTER: Station = Station {
    ip: [192, 0, 2, 254],
    mac: [0x02, 0, 0, 0, 1, 0xfe],
    hop: 2,
};
/// Real servers next to [`BACK`].
pub const SERVERS: [Station; 3] = [
    Station {
        ip: [10, 0, 1, 11],
        mac: [0x02, 0, 0, 0, 2, 0x11],
        hop: 3,
    },
    Station {
        ip: [10, 0, 1, 12],
        mac: [0x02, 0, 0, 0, 2, 0x12],
        hop: 4,
    },
    Station {
        ip: [10, 0, 1, 13],
        mac: [0x02, 0, 0, 0, 2, 0x13],
        hop: 5,
    },
];
/// A gateway next to [`BACK`].
pub const GATEWAY: Station = Station {
    ip: [10, 0, 1, 254],
    mac: [0x02, 0, 0, 0, 2, 0xfe],
    hop: 6,
};
/// A real server behind it.
pub const FAR_SERVER: Station = Station {
    ip: [10, 9, 0, 1],
    mac: GATEWAY.mac,
    hop: 6,
};
/// The hop of addresses of this host.
pub const LOCAL: u32 = 7;
/// A hop that leads nowhere.
pub const NOWHERE: u32 = 8;

/// The service address.
pub const SERVICE: Ip4 = [10, 0, 0, 100];
/// Another one.
pub const OTHER_SERVICE: Ip4 = [10, 0, 0, 101];
/// The service port.
pub const PORT: u16 = 80;
/// The port that real servers listen on.
pub const SERVER_PORT: u16 = 8080;
/// The client's port.
pub const CLIENT_PORT: u16 = 40_000;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;

/// A service and its real servers.
#[derive(Clone, Debug)]
pub struct Service {
    /// The service.
    pub spec: ServiceSpec<V4>,
    /// Its real servers in the order in which they were added: the last is the newest.
    pub servers: Vec<ServerSpec<V4>>,
}

impl Service {
    /// Round robin over [`SERVERS`] on [`SERVER_PORT`].
    pub fn usual(protocol: u8) -> Self {
        let spec = ServiceSpec::address(protocol, V4::new(SERVICE), PORT);
        Self {
            spec,
            servers: SERVERS
                .iter()
                .map(|server| real(server, SERVER_PORT))
                .collect(),
        }
    }

    /// With these real servers instead.
    #[must_use]
    pub fn with(mut self, servers: &[(Station, u16, u32)]) -> Self {
        self.servers = servers
            .iter()
            .map(|(server, port, weight)| ServerSpec {
                weight: *weight,
                ..real(server, *port)
            })
            .collect();
        self
    }

    /// With another key.
    #[must_use]
    pub fn at(mut self, address: Ip4, port: u16) -> Self {
        let protocol = self.spec.key.protocol;
        self.spec.key = ServiceSpec::address(protocol, V4::new(address), port).key;
        self
    }

    /// For packets with this mark.
    #[must_use]
    pub fn marked(mut self, mark: u32) -> Self {
        self.spec.key = ServiceKey::fwmark(0, mark);
        self
    }

    /// Translating the source as well; to the address of the hop, if this one is zero.
    #[must_use]
    pub fn source_nat(mut self, address: Ip4) -> Self {
        self.spec.source_nat = true;
        self.spec.nat_address = V4::new(address);
        self
    }

    /// With idle timeouts of its own, in seconds: TCP, UDP.
    #[must_use]
    pub fn timeouts(mut self, tcp: u32, udp: u32) -> Self {
        self.spec.timeouts = (tcp, udp);
        self
    }

    /// With another scheduler.
    #[must_use]
    pub fn scheduled(mut self, scheduler: u8) -> Self {
        self.spec.scheduler = scheduler;
        self
    }

    /// With more flags (`SCHEDULER_FLAG_…`).
    #[must_use]
    pub fn flagged(mut self, flags: u8) -> Self {
        self.spec.flags = flags;
        self
    }
}

/// A real server of weight 1.
pub fn real(station: &Station, port: u16) -> ServerSpec<V4> {
    ServerSpec {
        address: V4::new(station.ip),
        port,
        weight: 1,
    }
}

/// Everything that the tables say before the first packet.
#[derive(Clone, Debug)]
pub struct World {
    /// Interface index, Ethernet address, IPv4 address.
    pub interfaces: Vec<(u32, Mac, Ip4)>,
    /// Hops by index.
    pub hops: Vec<(u32, HopSpec)>,
    /// Network, prefix length, hop.
    pub routes: Vec<(Ip4, u8, u32)>,
    /// Services; their real servers are numbered through from 0 in this order.
    pub services: Vec<Service>,
    /// Mark rules in their order.
    pub marks: Vec<MarkRule<V4>>,
    /// Addresses that are answered for.
    pub answers: Vec<Ip4>,
    /// More flags of the scope (`SCOPE_…`).
    pub flags: u32,
    /// Timeouts in seconds: TCP established, TCP closing, UDP; 0 for IPVS's default.
    pub timeouts: (u32, u32, u32),
    /// Ports that sockets get by themselves, first and last; zeros for none.
    pub local_ports: (u16, u16),
    /// How much fits.
    pub capacity: Capacity,
}

/// The Ethernet address of an interface of the director.
pub fn mac_of(ifindex: u32) -> Option<Mac> {
    match ifindex {
        FRONT => Some(FRONT_MAC),
        BACK => Some(BACK_MAC),
        _ => None,
    }
}

impl World {
    /// Writes it into fresh tables. Gives the indices of the services and of the real servers, by their number.
    ///
    /// # Errors
    /// It does not fit.
    pub fn set_up(&self, memory: &mut Memory<V4>) -> Result<(Vec<u32>, Vec<u32>), String> {
        for (ifindex, mac, address) in &self.interfaces {
            memory.set_interface(*ifindex, *mac, Be32::from_octets(*address));
        }
        for (index, hop) in &self.hops {
            memory.set_hop(*index, hop);
        }
        for (network, prefix, hop) in &self.routes {
            memory.set_route(V4::new(*network), *prefix, *hop);
        }
        let (mut services, mut servers) = (Vec::new(), Vec::new());
        for service in &self.services {
            let index = memory
                .add_service(&service.spec)
                .ok_or("no room for a service")?;
            services.push(index);
            for server in &service.servers {
                servers.push(
                    memory
                        .add_server(index, server)
                        .ok_or("no room for a real server")?,
                );
            }
        }
        if !memory.set_mark_rules(&self.marks) {
            return Err("too many shapes".to_owned());
        }
        for address in &self.answers {
            memory.set_answer(V4::new(*address), true);
        }
        memory.set_flag(self.flags, true);
        let (tcp, tcp_fin, udp) = self.timeouts;
        memory.set_timeouts(tcp, tcp_fin, udp);
        let (first, last) = self.local_ports;
        memory.set_local_ports(first, last);
        Ok((services, servers))
    }

    /// The network above, without services.
    pub fn empty() -> Self {
        let forward = |station: &Station, oif, own: Mac, address: Ip4, on_link| HopSpec {
            on_link,
            address: V4::new(address).words(),
            ..HopSpec::forward(oif, station.mac, own)
        };
        let front = |station, on_link| forward(station, FRONT, FRONT_MAC, FRONT_IP, on_link);
        let back = |station, on_link| forward(station, BACK, BACK_MAC, BACK_IP, on_link);
        let mut hops = vec![
            (CLIENT.hop, front(&CLIENT, true)),
            (ROUTER.hop, front(&ROUTER, false)),
        ];
        hops.extend(
            SERVERS
                .iter()
                .map(|server| (server.hop, back(server, true))),
        );
        hops.push((GATEWAY.hop, back(&GATEWAY, false)));
        hops.push((LOCAL, HopSpec::local()));
        hops.push((NOWHERE, HopSpec::blackhole()));
        let mut routes = vec![
            ([0; 4], 0, ROUTER.hop),
            (CLIENT.ip, 32, CLIENT.hop),
            (FAR_SERVER.ip, 16, GATEWAY.hop),
        ];
        routes.extend(SERVERS.iter().map(|server| (server.ip, 32, server.hop)));
        routes.extend([(FRONT_IP, 32, LOCAL), (BACK_IP, 32, LOCAL)]);
        Self {
            interfaces: vec![(FRONT, FRONT_MAC, FRONT_IP), (BACK, BACK_MAC, BACK_IP)],
            hops,
            routes,
            services: Vec::new(),
            marks: Vec::new(),
            answers: Vec::new(),
            flags: 0,
            timeouts: (0, 0, 0),
            local_ports: (0, 0),
            capacity: Capacity::default(),
        }
    }

    /// With a TCP and a UDP service on the same address and port, round robin over [`SERVERS`]. The TCP
    /// service's real servers are 0 to 2, the UDP service's 3 to 5.
    pub fn usual() -> Self {
        Self::empty()
            .service(Service::usual(TCP))
            .service(Service::usual(UDP))
    }

    /// One TCP and one UDP service with one real server each: 0 and 1, both at `SERVERS[0]`.
    pub fn single() -> Self {
        let only = [(SERVERS[0], SERVER_PORT, 1)];
        Self::empty()
            .service(Service::usual(TCP).with(&only))
            .service(Service::usual(UDP).with(&only))
    }

    /// With one service more.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// With all services translating the source.
    #[must_use]
    pub fn source_nat(mut self, address: Ip4) -> Self {
        self.services = self
            .services
            .into_iter()
            .map(|service| service.source_nat(address))
            .collect();
        self
    }

    /// With a hop changed.
    #[must_use]
    pub fn hop(mut self, index: u32, change: impl Fn(&mut HopSpec)) -> Self {
        self.hops
            .iter_mut()
            .filter(|(other, _)| *other == index)
            .for_each(|(_, hop)| change(hop));
        self
    }

    /// With one route more.
    #[must_use]
    pub fn route(mut self, network: Ip4, prefix: u8, hop: u32) -> Self {
        self.routes.push((network, prefix, hop));
        self
    }

    /// Without the route to this network.
    #[must_use]
    pub fn without_route(mut self, network: Ip4) -> Self {
        self.routes.retain(|(other, _, _)| *other != network);
        self
    }

    /// With mark rules.
    #[must_use]
    pub fn marks(mut self, rules: &[MarkRule<V4>]) -> Self {
        self.marks = rules.to_vec();
        self
    }

    /// Answering for an address.
    #[must_use]
    pub fn answering(mut self, address: Ip4) -> Self {
        self.answers.push(address);
        self
    }

    /// With this much room.
    #[must_use]
    pub fn room(mut self, entries: usize, half_open: u32, assured: u32) -> Self {
        self.capacity = Capacity {
            entries,
            half_open,
            assured,
            ..self.capacity
        };
        self
    }
}

/// A rule for all packets, to be narrowed down.
pub fn rule(mark: u32) -> MarkRule<V4> {
    MarkRule {
        mark,
        mask: u32::MAX,
        ..MarkRule::default()
    }
}

/// A packet of a client, as it arrives on [`FRONT`], for the usual service.
pub fn asks(client: &Station, body: Body) -> Frame {
    asks_at(client, SERVICE, body)
}

/// A packet of a client for another address.
pub fn asks_at(client: &Station, service: Ip4, body: Body) -> Frame {
    let ip = Ip::new(client.ip, service, body);
    Frame {
        to: FRONT_MAC,
        from: client.mac,
        tags: Vec::new(),
        ip,
        padding: 0,
    }
}

/// A packet of a real server, as it arrives on [`BACK`].
pub fn answers(server: &Station, to: Ip4, body: Body) -> Frame {
    let ip = Ip::new(server.ip, to, body);
    Frame {
        to: BACK_MAC,
        from: server.mac,
        tags: Vec::new(),
        ip,
        padding: 0,
    }
}

/// What leaves for a real server when the client sent this.
pub fn to_server(sent: &Frame, server: &Station) -> Frame {
    to_server_port(sent, server, SERVER_PORT)
}

/// What leaves for a real server on another port.
pub fn to_server_port(sent: &Frame, server: &Station, port: u16) -> Frame {
    sent.with(|frame| {
        (frame.to, frame.from) = (server.mac, BACK_MAC);
        frame.ip.dst = server.ip;
        frame.ip.ttl -= 1;
        *frame.ports().1 = port;
    })
}

/// What leaves for the client when the real server sent this.
pub fn to_client(sent: &Frame, client: &Station) -> Frame {
    sent.with(|frame| {
        (frame.to, frame.from) = (client.mac, FRONT_MAC);
        (frame.ip.src, frame.ip.dst) = (SERVICE, client.ip);
        frame.ip.ttl -= 1;
        *frame.ports().0 = PORT;
    })
}

/// An address as the tables have it.
pub fn words(address: Ip4) -> [Be32; 4] {
    V4::new(address).words()
}
