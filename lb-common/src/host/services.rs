//! Services and real servers, as the daemon changes them.

use std::vec::Vec;

use super::Memory;
use crate::abi::{
    ANSWER, AVAILABLE, Address, Be16, Be32, Buckets, Cursor, KIND_FWMARK, METHOD_MASQUERADE,
    PERSISTENT, SCHEDULER_RR, SCHEDULER_WRR, SCOPE_FWMARKS, SCOPE_PORT_ZERO, SOURCE_NAT, Server,
    ServerStats, Service, ServiceKey, Shared, Tick,
};
use crate::schedule::table::{self, Entry};
use crate::tables::Tables as _;

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
    /// More flags of the service, as `SCHEDULER_FLAG_…`.
    pub flags: u8,
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
            flags: 0,
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
        options: Shared::new(0),
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
        bound: Shared::new(0),
        pad3: [0; 7],
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
        life: Shared::new(0),
        via: Shared::new([Be32::ZERO; 4]),
        active: Shared::new(0),
        total: Shared::new(0),
        templates: Shared::new(0),
        overload: Shared::new(0),
        return_via: Shared::new([Be32::ZERO; 4]),
        pad2: [0; 8],
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
        service.buckets.store(0);
        self.bind(index, spec.scheduler)?;
        let service = &self.services[index as usize];
        service.kind.store(key.kind);
        service.port.store(key.port);
        service.mark.store(key.mark());
        let answer = if spec.answer { ANSWER } else { 0 };
        let source_nat = if spec.source_nat { SOURCE_NAT } else { 0 };
        service.flags.store(answer | source_nat | spec.flags);
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
        self.services[index as usize].buckets.store(0);
        self.set_service_flags();
    }

    /// Gives a service another scheduler, which begins anew. `false`: there is no room for its table, nothing changes.
    pub fn set_scheduler(&mut self, index: u32, scheduler: u8) -> bool {
        let bound = self.bind(index, scheduler).is_some();
        if bound {
            self.list_changed(index);
        }
        bound
    }

    /// The service's scheduler begins, without a cursor and without memories. `None` if there is no room for its table.
    fn bind(&self, index: u32, scheduler: u8) -> Option<()> {
        let table = self.room_for(index, table::buckets(scheduler))?;
        let service = &self.services[index as usize];
        service.buckets.store(table.word());
        service.cursor.store(0);
        service.bound.store(self.now().0);
        service.scheduler.store(scheduler);
        Some(())
    }

    /// A block of buckets that no other service has.
    fn room_for(&self, index: u32, count: u32) -> Option<Buckets> {
        if count == 0 {
            return Some(Buckets { first: 0, count });
        }
        let others = || self.service_keys.values().filter(|other| **other != index);
        let tables = || {
            others().map(|other| Buckets::from_word(self.services[*other as usize].buckets.load()))
        };
        let free = |first: u32| {
            first + count <= self.buckets.len() as u32
                && tables()
                    .all(|table| table.first + table.count <= first || first + count <= table.first)
        };
        let first = core::iter::once(0)
            .chain(tables().map(|table| table.first + table.count))
            .find(|first| free(*first))?;
        Some(Buckets { first, count })
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
        server.life.store(server.life.load().wrapping_add(1));
        server.next.store(service.head.load());
        server.flags.store(AVAILABLE);
        service.head.store(index as u32);
        self.stats.borrow_mut()[index] = ServerStats::default();
        self.list_changed(service_index);
        Some(index as u32)
    }

    /// Changes a weight.
    pub fn set_weight(&mut self, server: u32, weight: u32) {
        let server = &self.servers[server as usize];
        server.weight.store(weight);
        if weight != 0 {
            server.last_weight.store(weight);
        }
        let service = server.service.load();
        self.list_changed(service);
    }

    /// Has another forwarding method (`METHOD_…`) for new connections.
    pub fn set_method(&mut self, server: u32, method: u8) {
        self.servers[server as usize].method.store(method);
    }

    /// Changes the thresholds: the upper one, and the lower one.
    pub fn set_thresholds(&mut self, server: u32, upper: u32, lower: u32) {
        let server = &self.servers[server as usize];
        server.upper_threshold.store(upper);
        server.lower_threshold.store(lower);
    }

    /// Has packets of one direction, or of both, sent by a neighbour; the default for what the routes say.
    pub fn set_neighbours(&mut self, server: u32, via: A, return_via: A) {
        let server = &self.servers[server as usize];
        server.via.store(via.words());
        server.return_via.store(return_via.words());
    }

    /// Makes a service persistent: for so many seconds, by these bits of a client's address.
    pub fn set_persistent(&mut self, service: u32, seconds: u32, netmask: A) {
        let service = &self.services[service as usize];
        service.persistence.store(Tick::from_secs(seconds).0);
        service.persistence_seconds.store(seconds);
        service.netmask.store(netmask.words());
        service.flags.store(service.flags.load() | PERSISTENT);
    }

    /// Has one of so many new connections dropped; 0 for none.
    pub fn set_drop_rate(&mut self, rate: u32) {
        self.scope.drop_rate = rate;
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
        self.list_changed(service_index);
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

    /// The list or a weight of a service has changed: what its scheduler knows of them is made anew.
    fn list_changed(&self, service_index: u32) {
        self.fill(service_index);
        self.weigh(service_index);
    }

    /// Fills the service's table, if it has one.
    fn fill(&self, service_index: u32) {
        let service = &self.services[service_index as usize];
        let place = Buckets::from_word(service.buckets.load());
        let mut servers: Vec<Entry> = self
            .servers_of(service_index)
            .iter()
            .map(|index| {
                let server = &self.servers[*index as usize];
                Entry::new(
                    *index,
                    A::from_words(server.address.load()),
                    server.port.load(),
                    server.weight.load(),
                    server.last_weight.load(),
                )
            })
            .collect();
        let mut filled = std::vec![0; place.count as usize];
        table::fill(service.scheduler.load(), &mut servers, &mut filled);
        for (bucket, server) in (place.first..).zip(filled) {
            self.buckets[bucket as usize].store(server);
        }
    }

    /// What wrr knows of a list: `ip_vs_wrr_dest_changed`. The walk begins again at the head of the list, the bar stays
    /// where it can.
    fn weigh(&self, service_index: u32) {
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
