//! Services and real servers, as the daemon changes them.

use std::vec::Vec;

use super::Memory;
use crate::abi::{
    ANSWER, AVAILABLE, Address, Be16, Be32, Cursor, KIND_FWMARK, METHOD_MASQUERADE, SCHEDULER_RR,
    SCHEDULER_WRR, SCOPE_FWMARKS, SCOPE_PORT_ZERO, SOURCE_NAT, Server, ServerStats, Service,
    ServiceKey, Shared, Tick,
};

/// A virtual service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceSpec<A> {
    /// How it is found. The scope is filled in.
    pub key: ServiceKey<A>,
    /// `SCHEDULER_…`.
    pub scheduler: u8,
    /// Whether the source address is translated too.
    pub source_nat: bool,
    /// To which; the default for the address of the hop.
    pub nat_address: A,
    /// Whether bpvs answers for the service address.
    pub answer: bool,
    /// Seconds after which an idle TCP and an idle UDP connection expires; 0: the scope's setting.
    pub timeouts: (u32, u32),
}

impl<A: Address> ServiceSpec<A> {
    /// Round robin at this address, port and protocol.
    pub fn address(protocol: u8, address: A, port: u16) -> Self {
        let key = ServiceKey {
            address,
            port: Be16::new(port),
            protocol,
            ..ServiceKey::default()
        };
        let nat_address = A::default();
        Self {
            key,
            scheduler: SCHEDULER_RR,
            source_nat: false,
            nat_address,
            answer: false,
            timeouts: (0, 0),
        }
    }

    /// Round robin for packets with this mark.
    pub fn fwmark(mark: u32) -> Self {
        Self {
            key: ServiceKey::fwmark(0, mark),
            ..Self::address(0, A::default(), 0)
        }
    }
}

/// A real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerSpec<A> {
    /// Its address.
    pub address: A,
    /// Its port; 0 keeps the packet's.
    pub port: u16,
    /// Its weight.
    pub weight: u32,
}

pub(super) fn no_service() -> Service {
    Service {
        cursor: Shared::new(0),
        head: Shared::new(0),
        wrr_start: Shared::new(0),
        wrr_step: Shared::new(0),
        scheduler: Shared::new(0),
        flags: Shared::new(0),
        kind: Shared::new(0),
        pad: 0,
        nat_address: Shared::new([Be32::ZERO; 4]),
        tcp_timeout: Shared::new(0),
        udp_timeout: Shared::new(0),
        tcp_seconds: Shared::new(0),
        udp_seconds: Shared::new(0),
        buckets: Shared::new(0),
        netmask: Shared::new([Be32::ZERO; 4]),
        persistence: Shared::new(0),
        persistence_seconds: Shared::new(0),
        mark: Shared::new(0),
        port: Shared::new(Be16::ZERO),
        pad2: 0,
        pad3: [0; 8],
    }
}

pub(super) fn no_server() -> Server {
    Server {
        address: Shared::new([Be32::ZERO; 4]),
        port: Shared::new(Be16::ZERO),
        method: Shared::new(0),
        flags: Shared::new(0),
        service: Shared::new(0),
        next: Shared::new(0),
        weight: Shared::new(0),
        upper_threshold: Shared::new(0),
        lower_threshold: Shared::new(0),
        last_weight: Shared::new(0),
        pad: [0; 5],
        active: Shared::new(0),
        total: Shared::new(0),
        templates: Shared::new(0),
        overload: Shared::new(0),
        pad2: [0; 12],
    }
}

impl<A: Address> Memory<A> {
    /// Adds a service; gives its index, or `None` if there is no room.
    pub fn add_service(&mut self, spec: &ServiceSpec<A>) -> Option<u32> {
        let used = |index: &u32| self.service_keys.values().any(|other| other == index);
        let index = (1..self.services.len() as u32).find(|index| !used(index))?;
        let key = ServiceKey {
            scope: self.id,
            ..spec.key
        };
        let service = &self.services[index as usize];
        service.cursor.store(0);
        service.head.store(0);
        service.wrr_start.store(0);
        service.wrr_step.store(1);
        service.scheduler.store(spec.scheduler);
        service.kind.store(key.kind);
        service.port.store(key.port);
        service.mark.store(key.mark());
        let answer = if spec.answer { ANSWER } else { 0 };
        service
            .flags
            .store(answer | if spec.source_nat { SOURCE_NAT } else { 0 });
        service.nat_address.store(spec.nat_address.words());
        let (tcp, udp) = spec.timeouts;
        service.tcp_timeout.store(Tick::from_secs(tcp).0);
        service.udp_timeout.store(Tick::from_secs(udp).0);
        service.tcp_seconds.store(tcp);
        service.udp_seconds.store(udp);
        self.service_keys.insert(key, index);
        if spec.answer {
            self.set_answer(key.address, true);
        }
        self.set_service_flags();
        Some(index)
    }

    /// Removes a service and its real servers; connections keep their entries.
    pub fn remove_service(&mut self, index: u32) {
        for server in self.servers_of(index) {
            self.remove_server(server);
        }
        self.service_keys.retain(|_, other| *other != index);
        self.set_service_flags();
    }

    /// Adds a real server at the head of its service's list; gives its index, or `None` if there is no room.
    pub fn add_server(&mut self, service_index: u32, spec: &ServerSpec<A>) -> Option<u32> {
        let index = (1..self.servers.len()).find(|index| {
            // An index is free once no connection is left of whoever had it.
            let server = &self.servers[*index];
            server.flags.load() & AVAILABLE == 0
                && server.total.load() == 0
                && server.templates.load() == 0
        })?;
        let (server, service) = (&self.servers[index], &self.services[service_index as usize]);
        server.address.store(spec.address.words());
        server.port.store(Be16::new(spec.port));
        server.method.store(METHOD_MASQUERADE);
        server.service.store(service_index);
        server.weight.store(spec.weight);
        server.active.store(0);
        server.overload.store(0);
        server.last_weight.store(spec.weight);
        server.next.store(service.head.load());
        server.flags.store(AVAILABLE);
        service.head.store(index as u32);
        self.stats.borrow_mut()[index] = ServerStats::default();
        self.weights_changed(service_index);
        Some(index as u32)
    }

    /// Changes a weight.
    pub fn set_weight(&mut self, server: u32, weight: u32) {
        let server = &self.servers[server as usize];
        server.weight.store(weight);
        let service = server.service.load();
        self.weights_changed(service);
    }

    /// Takes a real server out of its service's list. A cursor that stands on it steps back to the one
    /// before it (`ip_vs_rr_del_dest`); its connections keep pointing to it.
    pub fn remove_server(&mut self, server: u32) {
        let removed = &self.servers[server as usize];
        let service_index = removed.service.load();
        let service = &self.services[service_index as usize];
        let list = self.servers_of(service_index);
        let Some(place) = list.iter().position(|other| *other == server) else {
            return;
        };
        let before = place.checked_sub(1).map(|place| list[place]);
        removed.flags.store(removed.flags.load() & !AVAILABLE);
        match before {
            Some(before) => self.servers[before as usize]
                .next
                .store(removed.next.load()),
            None => service.head.store(removed.next.load()),
        }
        let cursor = Cursor::from_word(service.cursor.load());
        if cursor.server == server {
            service.cursor.store(
                Cursor {
                    server: before.unwrap_or(0),
                    ..cursor
                }
                .word(),
            );
        }
        self.weights_changed(service_index);
    }

    /// The real servers of a service, newest first.
    pub fn servers_of(&self, service: u32) -> Vec<u32> {
        let mut list = Vec::new();
        let mut at = self.services[service as usize].head.load();
        while at != 0 {
            list.push(at);
            at = self.servers[at as usize].next.load();
        }
        list
    }

    /// The list or a weight of a service has changed: `ip_vs_wrr_dest_changed`. The walk begins again at the
    /// head of the list, the bar stays where it can.
    fn weights_changed(&self, service_index: u32) {
        let service = &self.services[service_index as usize];
        let weights: Vec<u32> = self
            .servers_of(service_index)
            .iter()
            .map(|server| self.servers[*server as usize].weight.load())
            .collect();
        let step = weights
            .iter()
            .copied()
            .filter(|weight| *weight > 0)
            .reduce(gcd)
            .unwrap_or(1);
        let start = weights
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
            .saturating_sub(step - 1);
        service.wrr_step.store(step);
        service.wrr_start.store(start);
        if service.scheduler.load() != SCHEDULER_WRR {
            return;
        }
        let bar = Cursor::from_word(service.cursor.load()).weight;
        let bar = if bar > start || bar == 0 {
            start
        } else if step > 1 {
            bar / step * step + 1
        } else {
            bar
        };
        service.cursor.store(
            Cursor {
                server: 0,
                weight: bar,
            }
            .word(),
        );
    }

    fn set_service_flags(&mut self) {
        let (mut marks, mut port_zero) = (false, false);
        for key in self.service_keys.keys() {
            marks |= key.kind == KIND_FWMARK;
            port_zero |= key.kind != KIND_FWMARK && key.port == Be16::ZERO;
        }
        self.set_flag(SCOPE_FWMARKS, marks);
        self.set_flag(SCOPE_PORT_ZERO, port_zero);
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
