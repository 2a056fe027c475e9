//! The tables of one scope in ordinary memory.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::{
    collections::{HashMap, HashSet},
    vec,
    vec::Vec,
};

use super::{entries, entries::Entries};
use crate::{
    abi::{
        Address, AnswerKey, Be16, Conn, ConnKey, FragmentKey, FragmentPorts, Hop, Interface,
        KIND_FWMARK, LBLC_EXPIRATION, LBLCR_EXPIRATION, Locality, LocalityKey, METHOD_MASQUERADE,
        MarkKey, MarkValue, Ports, RealKey, Scope, Server, ServerStats, Service, ServiceKey, Shape,
        Shared, Template, TemplateKey, Tick,
    },
    conn::{create::Scratch, state},
    tables::{InsertError, Ring, Tables, Traffic, Turn},
    verdict::Reason,
};

/// How much fits into the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Entries of the connection table: two for each connection.
    pub entries: usize,
    /// Slots of the half-open ring: a power of two.
    pub half_open: u32,
    /// Slots of the assured ring: a power of two.
    pub assured: u32,
    /// Services, real servers and hops: each, counting the unused index 0.
    pub objects: usize,
    /// Slots of persistence templates: a power of two; index 0 is not used.
    pub templates: u32,
    /// Buckets of the hashing schedulers.
    pub buckets: usize,
    /// Destinations that lblc and lblcr remember.
    pub localities: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            entries: 256,
            half_open: 64,
            assured: 64,
            objects: 32,
            templates: 16,
            buckets: 8192,
            localities: 16,
        }
    }
}

/// The tables of one scope for one address family, with a clock that stands until it is moved.
///
/// One thread uses it; two processors are simulated by interleaving calls, at whose boundaries every
/// operation is complete.
pub struct Memory<A> {
    pub(super) id: u32,
    /// Nanoseconds.
    clock: Cell<u64>,
    random: Cell<u64>,
    error_budget: Cell<u32>,
    pub(super) scope: Scope,
    pub(super) service_keys: HashMap<ServiceKey<A>, u32>,
    pub(super) services: Vec<Service>,
    pub(super) servers: Vec<Server>,
    pub(super) stats: RefCell<Vec<ServerStats>>,
    pub(super) marks: HashMap<MarkKey<A>, MarkValue>,
    pub(super) answers: HashSet<AnswerKey<A>>,
    pub(super) routes: Vec<(A, u8, u32)>,
    pub(super) hops: Vec<Hop>,
    pub(super) interfaces: HashMap<u32, Interface>,
    pub(super) entries: Entries<A>,
    stray_deletes: Cell<u32>,
    scratch: Scratch<A>,
    pub(super) buckets: Vec<Shared<u32>>,
    localities: Vec<Locality>,
    locality_keys: RefCell<HashMap<LocalityKey<A>, usize>>,
    templates: Vec<Template<A>>,
    template_keys: RefCell<HashMap<TemplateKey<A>, u32>>,
    tickets: [Cell<u32>; 3],
    drawn: Cell<u32>,
    rings: [Vec<Shared<ConnKey<A>>>; 2],
    dues: [Vec<Shared<u64>>; 2],
    fragments: RefCell<HashMap<FragmentKey<A>, FragmentPorts>>,
    reasons: RefCell<Vec<[u64; 2]>>,
    pub(super) sockets: RefCell<HashMap<u64, ConnKey<A>>>,
}

/// A point in time to start from: not zero, so that nothing works by chance.
const START: u64 = 1_000_000_000_000;

impl<A: Address> Memory<A> {
    /// Empty tables of the scope `id`, with IPVS's default timeouts.
    pub fn new(id: u32, capacity: Capacity) -> Self {
        let shape = Shape::default();
        let ring = |slots| {
            (0..slots)
                .map(|_| Shared::new(ConnKey::default()))
                .collect()
        };
        let due = |slots| (0..slots).map(|_| Shared::new(0)).collect();
        Self {
            id,
            clock: Cell::new(START),
            random: Cell::new(0x9e37_79b9_7f4a_7c15),
            error_budget: Cell::new(u32::MAX),
            scope: Scope {
                timeouts: state::usual_timeouts(),
                seconds: [900, 120, 300],
                flags: 0,
                drop_rate: 0,
                local_ports: Ports::default(),
                shape_count: 0,
                shapes: [shape; crate::abi::SHAPES],
            },
            service_keys: HashMap::new(),
            services: (0..capacity.objects)
                .map(|_| super::services::no_service())
                .collect(),
            servers: (0..capacity.objects)
                .map(|_| super::services::no_server())
                .collect(),
            stats: RefCell::new(vec![ServerStats::default(); capacity.objects]),
            marks: HashMap::new(),
            answers: HashSet::new(),
            routes: Vec::new(),
            hops: (0..capacity.objects)
                .map(|_| super::network::no_hop())
                .collect(),
            interfaces: HashMap::new(),
            entries: Entries::new(capacity.entries),
            stray_deletes: Cell::new(0),
            scratch: scratch(),
            buckets: (0..capacity.buckets).map(|_| Shared::new(0)).collect(),
            localities: (0..capacity.localities).map(|_| no_locality()).collect(),
            locality_keys: RefCell::default(),
            templates: (0..capacity.templates).map(|_| no_template()).collect(),
            template_keys: RefCell::default(),
            tickets: [Cell::new(0), Cell::new(0), Cell::new(0)],
            drawn: Cell::new(0),
            rings: [ring(capacity.half_open), ring(capacity.assured)],
            dues: [due(capacity.half_open), due(capacity.assured)],
            fragments: RefCell::default(),
            reasons: RefCell::new(vec![[0; 2]; Reason::ALL.len()]),
            sockets: RefCell::default(),
        }
    }

    /// The keys of all services, with their indexes.
    pub fn service_keys(&self) -> impl Iterator<Item = (&ServiceKey<A>, &u32)> {
        self.service_keys.iter()
    }

    /// What the mark rules have become.
    pub fn mark_entries(&self) -> impl Iterator<Item = (&MarkKey<A>, &MarkValue)> {
        self.marks.iter()
    }

    /// The addresses that are answered for.
    pub fn answer_keys(&self) -> impl Iterator<Item = &AnswerKey<A>> {
        self.answers.iter()
    }

    /// What real servers send from that are reached by masquerading: those of fwmark services by either protocol.
    pub fn real_keys(&self) -> HashSet<RealKey<A>> {
        let mut keys = HashSet::new();
        for (service, index) in &self.service_keys {
            let mut at = self.services[*index as usize].head.load();
            while at != 0 {
                let server = &self.servers[at as usize];
                for protocol in [crate::transport::TCP, crate::transport::UDP] {
                    let is_of_service = service.kind == KIND_FWMARK || service.protocol == protocol;
                    if is_of_service && server.method.load() == METHOD_MASQUERADE {
                        keys.insert(RealKey::new(
                            self.id << 8 | u32::from(protocol),
                            A::from_words(server.address.load()),
                            server.port.load(),
                        ));
                    }
                }
                at = server.next.load();
            }
        }
        keys
    }

    /// Network, prefix length and hop of all routes.
    pub fn routes(&self) -> impl Iterator<Item = &(A, u8, u32)> {
        self.routes.iter()
    }

    /// The interfaces by their index.
    pub fn interfaces(&self) -> impl Iterator<Item = (&u32, &Interface)> {
        self.interfaces.iter()
    }

    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        self.clock.set(self.clock.get() + span.as_nanos() as u64);
    }

    /// Sets what random numbers follow.
    pub fn seed(&self, seed: u64) {
        self.random.set(seed);
    }

    /// How many ICMP errors may still be sent.
    pub fn set_error_budget(&self, errors: u32) {
        self.error_budget.set(errors);
    }

    /// Packets and bytes that were counted under a reason.
    pub fn reason(&self, reason: Reason) -> [u64; 2] {
        self.reasons.borrow()[reason as usize]
    }

    /// Packets counted under any reason.
    pub fn packets(&self) -> u64 {
        self.reasons
            .borrow()
            .iter()
            .map(|[packets, _]| packets)
            .sum()
    }

    /// The counters of a real server.
    pub fn server_stats(&self, server: u32) -> ServerStats {
        self.stats.borrow()[server as usize]
    }

    /// The connection table.
    pub fn entries(&self) -> &Entries<A> {
        &self.entries
    }

    /// How often an entry was deleted that did not exist: whoever deletes must have claimed it.
    pub fn stray_deletes(&self) -> u32 {
        self.stray_deletes.get()
    }

    /// Says which ports sockets get by themselves, first and last.
    pub fn set_local_ports(&mut self, first: u16, last: u16) {
        self.scope.local_ports = Ports { first, last };
    }

    /// Sets the timeouts that can be set, in seconds: TCP established, TCP closing, UDP; 0 keeps one.
    pub fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) {
        let settable = [
            (state::ESTABLISHED, tcp),
            (state::FIN_WAIT, tcp_fin),
            (state::UDP, udp),
        ];
        for (place, (state, seconds)) in settable
            .into_iter()
            .enumerate()
            .filter(|(_, (_, seconds))| *seconds != 0)
        {
            self.scope.timeouts[usize::from(state)] = Tick::from_secs(seconds).0;
            self.scope.seconds[place] = seconds;
        }
    }

    /// Sets after how many seconds lblc and lblcr forget a destination.
    pub fn set_expiration(&mut self, seconds: u32) {
        for place in [LBLC_EXPIRATION, LBLCR_EXPIRATION] {
            self.scope.timeouts[place] = Tick::from_secs(seconds).0;
        }
    }

    /// Room for a connection that another simulated processor makes.
    pub fn another_scratch(&self) -> Scratch<A> {
        scratch()
    }

    fn ring(ring: Ring) -> usize {
        match ring {
            Ring::HalfOpen => 0,
            Ring::Assured => 1,
            Ring::Templates => 2,
        }
    }
}

fn no_locality() -> Locality {
    Locality {
        used: Shared::new(0),
        changed: Shared::new(0),
        servers: Default::default(),
        pad: [Be16::ZERO; 4],
    }
}

fn no_template<A: Address>() -> Template<A> {
    Template {
        word: Shared::new(0),
        key: Shared::new(TemplateKey::default()),
        server: Shared::new(0),
        children: Shared::new(0),
        timeout: Shared::new(0),
        port: Shared::new(Be16::ZERO),
        pad: 0,
    }
}

fn scratch<A: Address>() -> Scratch<A> {
    Scratch {
        entry: entries::empty(),
        forward_key: Shared::new(ConnKey::default()),
        reply_key: Shared::new(ConnKey::default()),
        service: Shared::new(0),
        bytes: Shared::new(0),
        server: Shared::new(0),
        before: Shared::new(0),
        after: Shared::new(0),
        template_key: Shared::new(TemplateKey::default()),
        template: Shared::new(0),
        socket: Shared::new(0),
        bound_to_loopback: Shared::new(0),
        cookie: Shared::new(0),
    }
}

impl<A: Address> Tables<A> for Memory<A> {
    fn scope_id(&self) -> u32 {
        self.id
    }

    fn now(&self) -> Tick {
        Tick::from_nanos(self.clock.get())
    }

    fn random(&self) -> u32 {
        // xorshift64*: any sequence serves, as long as it is the same each time.
        let mut state = self.random.get() | 1;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn draw(&self) -> u32 {
        self.drawn.replace(self.drawn.get().wrapping_add(1))
    }

    fn scope(&self) -> Option<&Scope> {
        Some(&self.scope)
    }

    fn service_index(&self, key: &ServiceKey<A>) -> u32 {
        self.service_keys.get(key).copied().unwrap_or(0)
    }

    fn service(&self, index: u32) -> Option<&Service> {
        self.services.get(index as usize)
    }

    fn server(&self, index: u32) -> Option<&Server> {
        self.servers.get(index as usize)
    }

    fn bucket(&self, index: u32) -> u32 {
        self.buckets.get(index as usize).map_or(0, Shared::load)
    }

    fn locality(&self, key: &LocalityKey<A>) -> Option<&Locality> {
        let keys = self.locality_keys.borrow();
        keys.get(key).map(|index| &self.localities[*index])
    }

    fn remember_locality(&self, key: &LocalityKey<A>, server: u32) {
        let mut keys = self.locality_keys.borrow_mut();
        let next = keys.len();
        let index = *keys.entry(*key).or_insert(next);
        // Without room it is not remembered: as where the kernel's map is full.
        let Some(locality) = self.localities.get(index) else {
            keys.remove(key);
            return;
        };
        let now = self.now().0;
        locality.used.store(now);
        locality.changed.store(now);
        for place in &locality.servers {
            place.store(0);
        }
        locality.servers[0].store(server);
    }

    fn mark(&self, key: &MarkKey<A>) -> Option<MarkValue> {
        self.marks.get(key).copied()
    }

    fn is_real(&self, key: &RealKey<A>) -> bool {
        self.real_keys().contains(key)
    }

    fn answers(&self, key: &AnswerKey<A>) -> bool {
        self.answers.contains(key)
    }

    fn route(&self, destination: A) -> u32 {
        self.routes
            .iter()
            .filter(|(network, prefix, _)| destination.masked(*prefix) == *network)
            .max_by_key(|(_, prefix, _)| *prefix)
            .map_or(0, |(_, _, hop)| *hop)
    }

    fn hop(&self, index: u32) -> Option<&Hop> {
        self.hops.get(index as usize)
    }

    fn interface(&self, ifindex: u32) -> Option<Interface> {
        self.interfaces.get(&ifindex).copied()
    }

    fn conn(&self, key: &ConnKey<A>) -> Option<&Conn<A>> {
        self.entries.get(key)
    }

    fn insert_conn(&self, key: &ConnKey<A>, conn: &Conn<A>) -> Result<(), InsertError> {
        self.entries.insert(key, conn)
    }

    fn delete_conn(&self, key: &ConnKey<A>) {
        if !self.entries.remove(key) {
            self.stray_deletes.set(self.stray_deletes.get() + 1);
        }
    }

    fn scratch(&self) -> Option<&Scratch<A>> {
        Some(&self.scratch)
    }

    fn ticket(&self, ring: Ring) -> u32 {
        let next = &self.tickets[Self::ring(ring)];
        next.replace(next.get().wrapping_add(1))
    }

    fn slots(&self, ring: Ring) -> u32 {
        match self.rings.get(Self::ring(ring)) {
            Some(slots) => slots.len() as u32,
            None => self.templates.len() as u32,
        }
    }

    fn slot(&self, ring: Ring, index: u32) -> Option<&Shared<ConnKey<A>>> {
        self.rings.get(Self::ring(ring))?.get(index as usize)
    }

    fn due(&self, ring: Ring, index: u32) -> Option<&Shared<u64>> {
        self.dues.get(Self::ring(ring))?.get(index as usize)
    }

    fn template_index(&self, key: &TemplateKey<A>) -> u32 {
        self.template_keys.borrow().get(key).copied().unwrap_or(0)
    }

    fn template(&self, index: u32) -> Option<&Template<A>> {
        self.templates.get(index as usize)
    }

    fn insert_template(&self, key: &TemplateKey<A>, index: u32) -> Result<(), InsertError> {
        let mut keys = self.template_keys.borrow_mut();
        if keys.contains_key(key) {
            return Err(InsertError::Exists);
        }
        keys.insert(*key, index);
        Ok(())
    }

    fn delete_template(&self, key: &TemplateKey<A>) {
        if self.template_keys.borrow_mut().remove(key).is_none() {
            self.stray_deletes.set(self.stray_deletes.get() + 1);
        }
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        self.fragments.borrow_mut().insert(*key, *ports);
    }

    fn swap(&self, word: &Shared<u64>, old: u64, new: u64) -> Result<(), u64> {
        let actual = word.load();
        if actual != old {
            return Err(actual);
        }
        word.store(new);
        Ok(())
    }

    fn add(&self, word: &Shared<u32>, value: u32) {
        word.store(word.load().wrapping_add(value));
    }

    fn may_send_error(&self) -> bool {
        let left = self.error_budget.get();
        self.error_budget.set(left.saturating_sub(1));
        left > 0
    }

    fn count(&self, reason: Reason, bytes: u32) {
        let counter = &mut self.reasons.borrow_mut()[reason as usize];
        counter[0] += 1;
        counter[1] += u64::from(bytes);
    }

    fn count_server(&self, server: u32, traffic: Traffic, bytes: u32) {
        let mut stats = self.stats.borrow_mut();
        let Some(stats) = stats.get_mut(server as usize) else {
            return;
        };
        match traffic {
            Traffic::Connection => stats.conns += 1,
            Traffic::In => {
                stats.in_packets += 1;
                stats.in_bytes += u64::from(bytes);
            }
            Traffic::Out => {
                stats.out_packets += 1;
                stats.out_bytes += u64::from(bytes);
            }
        }
    }

    fn repeat<B: Turn<Self>>(&self, most: u32, turn: &mut B) {
        for number in 0..most as usize {
            if !turn.nth(self, number) {
                return;
            }
        }
    }
}
