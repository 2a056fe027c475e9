//! Services with servers, and sockets that ask for them.

use lb_common::{
    abi::{Address as _, Be16, V4},
    host::{Capacity, HopSpec, Memory, ServerSpec, ServiceSpec},
    socket::{self, Answer, Asked, Direct, Kind},
    tables::Tables as _,
};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SERVICE: V4 = V4::new([10, 0, 0, 100]);
pub(crate) const LOCALHOST: V4 = V4::new([127, 0, 0, 1]);
pub(crate) const SCOPE: u32 = 3;

pub(crate) fn server(number: u8) -> V4 {
    V4::new([10, 0, 1, 10 + number])
}

/// A service at 10.0.0.100:80 of this protocol, with servers of these weights.
pub(crate) struct World {
    pub(crate) memory: Memory<V4>,
    pub(crate) service: u32,
    pub(crate) servers: Vec<u32>,
}

impl World {
    pub(crate) fn new(protocol: u8, weights: &[u32]) -> Self {
        Self::with(
            ServiceSpec::address(protocol, SERVICE, 80),
            weights,
            Capacity::default(),
        )
    }

    pub(crate) fn with(spec: ServiceSpec<V4>, weights: &[u32], capacity: Capacity) -> Self {
        let mut memory = Memory::new(SCOPE, capacity);
        memory.set_hop(
            1,
            &HopSpec {
                address: V4::new([10, 0, 0, 1]).words(),
                ..HopSpec::forward(7, [2; 6], [4; 6])
            },
        );
        memory.set_hop(2, &HopSpec::local());
        memory.set_route(V4::default(), 0, 1);
        memory.set_route(SERVICE, 32, 2);
        memory.set_socket_hook(true);
        let service = memory.add_service(&spec).expect("room for a service");
        let servers = (1..)
            .zip(weights)
            .map(|(number, weight)| {
                let spec = ServerSpec {
                    address: server(number),
                    port: 8000,
                    weight: *weight,
                };
                memory
                    .add_server(service, &spec)
                    .expect("room for a server")
            })
            .collect();
        Self {
            memory,
            service,
            servers,
        }
    }

    pub(crate) fn connect(&self, asked: &Asked<V4>) -> Answer<V4> {
        let answer = socket::connect(&self.memory, asked, &mut Direct::new(&self.memory));
        self.memory.audit().expect("the tables are sound");
        answer
    }

    pub(crate) fn send(&self, asked: &Asked<V4>) -> Answer<V4> {
        let answer = socket::send(&self.memory, asked, &mut Direct::new(&self.memory));
        self.memory.audit().expect("the tables are sound");
        answer
    }

    pub(crate) fn release(&self, cookie: u64) {
        socket::release(&self.memory, cookie);
        self.memory.audit().expect("the tables are sound");
    }

    /// Active and all connections of a server.
    pub(crate) fn counts(&self, index: usize) -> (u32, u32) {
        let server = self.memory.server(self.servers[index]).expect("a server");
        (server.active.load(), server.total.load())
    }
}

pub(crate) fn asked(protocol: u8, cookie: u64) -> Asked<V4> {
    Asked {
        cookie,
        address: SERVICE,
        source: V4::default(),
        port: Be16::new(80),
        sport: Be16::ZERO,
        mark: 0,
        protocol,
    }
}

pub(crate) fn led_to(number: u8) -> Answer<V4> {
    Answer {
        kind: Kind::Lead,
        address: server(number),
        port: Be16::new(8000),
    }
}

pub(crate) fn left() -> Answer<V4> {
    Answer {
        kind: Kind::Leave,
        address: V4::default(),
        port: Be16::ZERO,
    }
}

pub(crate) const ASKED: (V4, Be16) = (SERVICE, Be16::new(80));
