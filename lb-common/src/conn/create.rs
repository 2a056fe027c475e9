//! Making a connection: a real server, a slot, both entries, and only then the scheduler's cursor.

use super::{
    claim, find, load, ring, source_port,
    state::{self, State},
    template,
};
use crate::{
    abi::{
        Address, Be16, Conn, ConnKey, Cursor, DIRECT, HOP_FORWARD, HOP_LOCAL, HOP_ON_LINK, Hop,
        METHOD_DIRECT, NO_OUTPUT, ONE_PACKET, PERSISTENT, Ports, REPLY, SOURCE_NAT, Server,
        Service, Shared, TemplateKey, Tick, Tuple, Word,
    },
    forward,
    schedule::{self, Pick},
    tables::{InsertError, Ring, Tables, Traffic, Turn},
    transport,
};

/// How many source ports are tried when the client's own is taken.
const PORTS: u32 = 24;
/// So many of these tries leave the local ports out.
const APART: usize = 8;
/// Ticks that a connection lives before its first packet has been followed, as in IPVS: 3 s.
const FRESH: u32 = Tick::from_secs(3).0;

/// How making a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the table.
    Made,
    /// It is for this packet alone: it stays in the scratch (one-packet scheduling).
    Once,
    /// It is in the table: another processor has just made it.
    Exists,
    /// No real server takes connections.
    NoServer,
    /// There is no way to the real server.
    NoRoute,
    /// Every source port that was tried is taken.
    NoPort,
    /// The table is full of live connections.
    TableFull,
    /// Another processor chose meanwhile: the choice is to be made again.
    Contended,
    /// Nothing was noted.
    Busy,
}

/// Room for what is being made: too large for the stack of a program.
#[repr(C)]
pub struct Scratch<A> {
    /// The entry being inserted.
    pub entry: Conn<A>,
    /// Key of packets from the client.
    pub forward_key: Shared<ConnKey<A>>,
    /// Key of packets from the real server.
    pub reply_key: Shared<ConnKey<A>>,
    /// Index of the service.
    pub service: Shared<u32>,
    /// Bytes of the packet that opens the connection.
    pub bytes: Shared<u32>,
    /// The real server that was chosen.
    pub server: Shared<u32>,
    /// The cursor's word on which the choice rests.
    pub before: Shared<u64>,
    /// The cursor's word once the connection is made.
    pub after: Shared<u64>,
    /// Key of the persistence template.
    pub template_key: Shared<TemplateKey<A>>,
    /// The template that the choice was found in: 0 for none, and one is made if the service is persistent.
    pub template: Shared<u32>,
    /// The bits that a socket's connection has in its protocol; 0 for a connection of packets.
    pub socket: Shared<u16>,
    /// 1 if the socket is bound to a loopback address.
    pub bound_to_loopback: Shared<u16>,
    /// The cookie of the socket.
    pub cookie: Shared<u64>,
}

impl<A: Address> Scratch<A> {
    /// The choice that was noted.
    #[inline(always)]
    fn pick(&self) -> Pick {
        Pick {
            server: self.server.load(),
            before: Cursor::from_word(self.before.load()),
            after: Cursor::from_word(self.after.load()),
        }
    }
}

/// Notes which connection [`create`] is to make.
#[inline(always)]
pub fn note<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    service: u32,
    bytes: u32,
) -> bool {
    let Some(scratch) = tables.scratch() else {
        return false;
    };
    scratch.forward_key.store(*key);
    scratch.service.store(service);
    scratch.bytes.store(bytes);
    true
}

/// Chooses the real server of the connection that was noted: its template's, or one of the scheduler's choice. `false`:
/// none takes connections.
#[inline(always)]
pub fn choose<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    service: &Service,
) -> bool {
    scratch.template.store(0);
    if service.flags.load() & PERSISTENT != 0 {
        let key = template::key(service, &scratch.forward_key.load());
        scratch.template_key.store(key);
        let index = template::find(tables, &key);
        if let (Some(template), true) = (tables.template(index), index != 0) {
            scratch.template.store(index);
            scratch.server.store(template.server.load());
            scratch.before.store(0);
            scratch.after.store(0);
            return true;
        }
    }
    schedule::choose(tables, service, scratch)
}

/// Makes the connection that was noted, to the real server that was chosen, and then moves the cursor.
#[inline(always)]
pub fn create<A: Address, T: Tables<A>>(tables: &T) -> Outcome {
    let Some(scratch) = tables.scratch() else {
        return Outcome::Busy;
    };
    let Some(service) = tables.service(scratch.service.load()) else {
        return Outcome::NoServer;
    };
    let once = service.flags.load() & ONE_PACKET != 0
        && scratch.forward_key.load().protocol() == transport::UDP;
    let outcome = insert(tables, scratch, service, once);
    let key = scratch.forward_key.load();
    let outcome = conclude(tables, scratch, service, &key, once, outcome);
    if outcome == Outcome::Made && once {
        Outcome::Once
    } else {
        outcome
    }
}

/// What follows from an insertion: the cursor is moved, or the connection with this forward key taken back.
#[inline(always)]
pub(super) fn conclude<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    service: &Service,
    key: &ConnKey<A>,
    once: bool,
    outcome: Outcome,
) -> Outcome {
    if outcome != Outcome::Made || once {
        template::leave(tables, scratch.template.load());
    }
    if outcome != Outcome::Made {
        return outcome;
    }
    if !schedule::commit(tables, service, &scratch.pick())
        && (once || take_back(tables, scratch, key))
    {
        return Outcome::Contended;
    }
    let (server, bytes) = (scratch.server.load(), scratch.bytes.load());
    tables.count_server(server, Traffic::Connection, bytes);
    Outcome::Made
}

/// Puts the connection that was noted under its template. Where there is none, the scheduler's choice is made good first:
/// the cursor is moved, and a template made.
#[inline(always)]
pub fn persist<A: Address, T: Tables<A>>(tables: &T) -> Outcome {
    let Some(scratch) = tables.scratch() else {
        return Outcome::Busy;
    };
    let Some(service) = tables.service(scratch.service.load()) else {
        return Outcome::NoServer;
    };
    if scratch.template.load() == 0 {
        let pick = scratch.pick();
        if !schedule::commit(tables, service, &pick) {
            return Outcome::Contended;
        }
        scratch.before.store(scratch.after.load());
        let (index, outcome) =
            template::make(tables, &scratch.template_key.load(), pick.server, service);
        if outcome != template::Outcome::Made {
            return if outcome == template::Outcome::Exists {
                Outcome::Contended
            } else {
                Outcome::TableFull
            };
        }
        scratch.template.store(index);
    }
    if template::join(tables, scratch.template.load()) {
        Outcome::Made
    } else {
        Outcome::Contended
    }
}

/// Takes a connection apart that was just made. `false`: it stays, for another processor's packet follows it already.
#[inline(always)]
fn take_back<A: Address, T: Tables<A>>(tables: &T, scratch: &Scratch<A>, key: &ConnKey<A>) -> bool {
    let word = Word(scratch.entry.word.load());
    let Some(conn) = tables.conn(key) else {
        return true;
    };
    let claimed = claim::claim(tables, conn, word);
    if claimed {
        claim::bury(tables, key, conn, word);
    }
    claimed
}

/// The port at the real server (ip_vs_schedule, ip_vs_sched_persist).
#[inline(always)]
pub(super) fn port(service: &Service, server: &Server, dport: Be16) -> Be16 {
    let own = server.port.load();
    let other = service.flags.load() & PERSISTENT != 0 && dport != service.port.load();
    if own == Be16::ZERO || other {
        dport
    } else {
        own
    }
}

/// Inserts both entries, the reply's first; with `once` neither: the forward one is left in the scratch.
#[inline(always)]
fn insert<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    service: &Service,
    once: bool,
) -> Outcome {
    let key = scratch.forward_key.load();
    let Some(server) = tables.server(scratch.server.load()) else {
        return Outcome::NoServer;
    };
    let direct = server.method.load() == METHOD_DIRECT;
    let address = A::from_words(server.address.load());
    let next = server.next(false).unwrap_or(address);
    let to_server = tables.route(next);
    let back: Option<A> = server.next(true);
    let next_back = back.unwrap_or(key.src);
    let to_client = tables.route(next_back);
    if !leads_on(tables, to_server) {
        return Outcome::NoRoute;
    }
    let mut to = key.tuple();
    if !direct {
        to.dst = address;
        to.dport = port(service, server, key.dport);
        // The answer to a single packet is not translated back.
        if !once {
            // Replies that go by a neighbour's come back here in any case.
            let client_hop = if back.is_some() { 0 } else { to_client };
            to.src = source_address(tables, service, address, key.src, to_server, client_hop);
        }
    }
    if to.src == A::default() {
        return Outcome::NoRoute;
    }
    let deadline = tables.now().plus(FRESH);
    let ticket = if once {
        0
    } else {
        match ring::take(tables, Ring::HalfOpen, &key, deadline) {
            Some(ticket) => ticket,
            None => return Outcome::TableFull,
        }
    };

    let plan = Plan {
        key,
        to,
        hops: (
            to_server | forward::bent(next, to.dst),
            to_client | forward::bent(next_back, key.src),
        ),
        ticket,
        deadline,
        state: if key.protocol() == transport::TCP {
            state::NONE
        } else {
            state::UDP
        },
        flags: if direct { DIRECT | NO_OUTPUT } else { 0 },
        counted: 0,
        fixed: direct,
    };
    if once {
        plan.forward(tables, scratch);
        return Outcome::Made;
    }
    enter(tables, scratch, server, &plan)
}

/// A connection that is to be inserted.
pub(super) struct Plan<A> {
    /// Key of the client's packets.
    pub key: ConnKey<A>,
    /// Their addresses and ports after the rewrite; the source port may still become another one.
    pub to: Tuple<A>,
    /// The hops to the real server and to the client, with [`BENT`](crate::abi::BENT).
    pub hops: (u32, u32),
    /// The slot in a ring.
    pub ticket: u32,
    /// When it expires.
    pub deadline: Tick,
    /// Its state.
    pub state: State,
    /// Flags of both entries.
    pub flags: u8,
    /// [`COUNTED`](crate::abi::COUNTED) if it counts as active from the beginning, else 0.
    pub counted: u8,
    /// The source port cannot be another one.
    pub fixed: bool,
}

impl<A: Address> Plan<A> {
    #[inline(always)]
    fn word(&self, flags: u8) -> u64 {
        let flags = self.flags | flags;
        Word::new(self.deadline, self.ticket as u16, self.state, flags).0
    }

    /// What both entries have in common.
    #[inline(always)]
    fn common<T: Tables<A>>(&self, tables: &T, scratch: &Scratch<A>) {
        let entry = &scratch.entry;
        entry.server.store(scratch.server.load());
        entry.ticket.store(self.ticket);
        entry.template.store(scratch.template.load());
        // A write is due: the packet that opens the connection is then followed like any other.
        let long_ago = tables.now().plus(Tick::SECOND.wrapping_neg());
        entry.seen.store(long_ago.0);
    }

    /// Puts the forward entry into the scratch.
    #[inline(always)]
    fn forward<T: Tables<A>>(&self, tables: &T, scratch: &Scratch<A>) {
        self.common(tables, scratch);
        scratch.entry.word.store(self.word(self.counted));
        scratch.entry.hop.store(self.hops.0);
        fill(&scratch.entry, &self.key.tuple(), &self.to);
    }
}

/// Inserts both entries. The reply's first: whoever has it has the source port.
#[inline(always)]
pub(super) fn enter<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    server: &Server,
    plan: &Plan<A>,
) -> Outcome {
    let entry = &scratch.entry;
    let (key, mut to) = (plan.key, plan.to);
    let local = if to.src == key.src {
        Ports::default()
    } else {
        tables
            .scope()
            .map_or(Ports::default(), |scope| scope.local_ports)
    };
    to.sport = source_port::first(local, to.sport);
    plan.common(tables, scratch);
    entry.word.store(plan.word(REPLY));
    entry.hop.store(plan.hops.1);
    fill(entry, &to.reversed(), &key.tuple().reversed());
    scratch
        .reply_key
        .store(to.reversed().key(key.scope_protocol));
    let mut probe = Probe {
        scratch,
        local,
        fixed: plan.fixed,
        outcome: Outcome::NoPort,
    };
    tables.repeat(PORTS, &mut probe);
    if probe.outcome != Outcome::Made {
        return probe.outcome;
    }
    to.sport = scratch.reply_key.load().dport;

    entry.word.store(plan.word(plan.counted));
    entry.hop.store(plan.hops.0);
    fill(entry, &key.tuple(), &to);
    // Counted before anyone can find it and take it apart.
    load::bind(tables, server);
    if plan.counted != 0 {
        tables.add(&server.active, 1);
    }
    match tables.insert_conn(&key, entry) {
        Ok(()) => Outcome::Made,
        Err(error) => {
            load::unbind(tables, server, plan.counted != 0);
            claim::discard(tables, &scratch.reply_key.load(), plan.ticket as u16);
            if error == InsertError::Exists {
                Outcome::Exists
            } else {
                Outcome::TableFull
            }
        }
    }
}

/// Whether packets can be sent by this hop.
#[inline(always)]
fn leads_on<A: Address, T: Tables<A>>(tables: &T, hop: u32) -> bool {
    tables
        .hop(hop)
        .is_some_and(|hop| matches!(hop.kind.load(), HOP_FORWARD | HOP_LOCAL))
}

/// What an entry does to packets with the tuple `from`.
#[inline(always)]
fn fill<A: Address>(entry: &Conn<A>, from: &Tuple<A>, to: &Tuple<A>) {
    entry.src.store(to.src);
    entry.dst.store(to.dst);
    entry.sport.store(to.sport);
    entry.dport.store(to.dport);
    entry.addresses_delta.store(from.addresses_delta(to));
    entry.ports_delta.store(from.ports_delta(to));
    entry.mix.store(from.mix());
}

/// One attempt at a source port.
struct Probe<'a, A> {
    scratch: &'a Scratch<A>,
    /// Ports that sockets may have.
    local: Ports,
    /// The port cannot be another one: the packet stays as it is.
    fixed: bool,
    outcome: Outcome,
}

impl<A: Address, T: Tables<A>> Turn<T> for Probe<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, tables: &T, number: usize) -> bool {
        let entry = &self.scratch.entry;
        let mut key = self.scratch.reply_key.load();
        match tables.insert_conn(&key, entry) {
            Ok(()) => {
                self.outcome = Outcome::Made;
                return false;
            }
            Err(InsertError::Full) => {
                self.outcome = Outcome::TableFull;
                return false;
            }
            Err(InsertError::Exists) => {}
        }
        // What has expired makes room by being looked at; what lives keeps its port, and another one is tried.
        if !find::find(tables, &key, tables.now()).nothing() {
            if self.fixed {
                return false;
            }
            // The others may be all in use.
            let local = if number < APART {
                self.local
            } else {
                Ports::default()
            };
            let port = source_port::another(local, tables.random());
            let back = Tuple {
                src: entry.src.load(),
                dst: entry.dst.load(),
                sport: entry.sport.load(),
                dport: entry.dport.load(),
            };
            key.dport = port;
            fill(entry, &key.tuple(), &back);
            self.scratch.reply_key.store(key);
        }
        true
    }
}

/// The source address for the real server: the client's own, unless the service translates it, or the real server would
/// answer the client past us, because both are neighbours on the same interface. Zero: there is no way.
#[inline(always)]
fn source_address<A: Address, T: Tables<A>>(
    tables: &T,
    service: &Service,
    server: A,
    client: A,
    to_server: u32,
    to_client: u32,
) -> A {
    let Some(hop) = tables.hop(to_server) else {
        return A::default();
    };
    if hop.kind.load() == HOP_LOCAL {
        return client;
    }
    let translate = service.flags.load() & SOURCE_NAT != 0;
    if !translate
        && server != client
        && !tables
            .hop(to_client)
            .is_some_and(|back| neighbours(hop, back))
    {
        return client;
    }
    let own = A::from_words(service.nat_address.load());
    if translate && own != A::default() {
        own
    } else {
        A::from_words(hop.address.load())
    }
}

/// Whether whoever is behind these two hops reach each other without us.
#[inline(always)]
fn neighbours(a: &Hop, b: &Hop) -> bool {
    a.flags.load() & b.flags.load() & HOP_ON_LINK != 0
        && b.kind.load() == HOP_FORWARD
        && a.oif.load() == b.oif.load()
}
