//! Making a connection: a real server, a slot, both entries, and only then the scheduler's cursor.

use super::{claim, find, ring, state};
use crate::{
    abi::{
        Address, Be16, Conn, ConnKey, Cursor, HOP_FORWARD, HOP_LOCAL, HOP_ON_LINK, Hop, REPLY,
        SOURCE_NAT, Service, Shared, TemplateKey, Tick, Tuple, Word,
    },
    schedule::{self, Pick},
    tables::{InsertError, Ring, Tables, Traffic, Turn},
    transport,
};

/// How many source ports are tried when the client's own is taken.
const PORTS: u32 = 16;
/// The lowest source port given out, as the kernel's own translation has it.
const FIRST_PORT: u32 = 1024;
/// Ticks that a connection lives before its first packet has been followed, as in IPVS: 3 s.
const FRESH: u32 = Tick::from_secs(3).0;

/// How making a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the table.
    Made,
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
    /// The forwarding method of the connection.
    pub method: Shared<u8>,
    /// Zero.
    pub pad: [u8; 3],
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

/// Makes the connection that was noted, to the real server that was chosen, and then moves the cursor.
#[inline(always)]
pub fn create<A: Address, T: Tables<A>>(tables: &T) -> Outcome {
    let Some(scratch) = tables.scratch() else {
        return Outcome::Busy;
    };
    let Some(service) = tables.service(scratch.service.load()) else {
        return Outcome::NoServer;
    };
    let server = scratch.server.load();
    let outcome = insert(tables, scratch, service, server);
    if outcome != Outcome::Made {
        return outcome;
    }
    let pick = Pick {
        server,
        before: Cursor::from_word(scratch.before.load()),
        after: Cursor::from_word(scratch.after.load()),
    };
    if !schedule::commit(tables, service, &pick) && take_back(tables, scratch) {
        return Outcome::Contended;
    }
    tables.count_server(server, Traffic::Connection, scratch.bytes.load());
    Outcome::Made
}

/// Takes a connection apart that was just made. `false`: it stays, for another processor's packet follows it already.
#[inline(always)]
fn take_back<A: Address, T: Tables<A>>(tables: &T, scratch: &Scratch<A>) -> bool {
    let key = scratch.forward_key.load();
    let word = Word(scratch.entry.word.load());
    let Some(conn) = tables.conn(&key) else {
        return true;
    };
    let claimed = claim::claim(tables, conn, word);
    if claimed {
        claim::bury(tables, &key, conn, word);
    }
    claimed
}

/// Inserts both entries, the reply's first.
#[inline(always)]
fn insert<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    service: &Service,
    server_index: u32,
) -> Outcome {
    let key = scratch.forward_key.load();
    let Some(server) = tables.server(server_index) else {
        return Outcome::NoServer;
    };
    let address = A::from_words(server.address.load());
    let port = match server.port.load() {
        Be16::ZERO => key.dport,
        port => port,
    };
    let to_server = tables.route(address);
    let to_client = tables.route(key.src);
    let source = source_address(tables, service, address, key.src, to_server, to_client);
    if source == A::default() {
        return Outcome::NoRoute;
    }
    let Some(ticket) = ring::take(tables, Ring::HalfOpen, &key) else {
        return Outcome::TableFull;
    };

    // The reply entry first: whoever has it has the source port.
    let now = tables.now();
    let back = key.tuple().reversed();
    let mut to = Tuple {
        src: source,
        dst: address,
        sport: key.sport,
        dport: port,
    };
    let entry = &scratch.entry;
    let state = if key.protocol() == transport::TCP {
        state::NONE
    } else {
        state::UDP
    };
    let fresh = |flags| Word::new(now.plus(FRESH), ticket as u16, state, flags).0;
    entry.word.store(fresh(REPLY));
    entry.server.store(server_index);
    entry.ticket.store(ticket);
    // A write is due: the packet that opens the connection is then followed like any other.
    entry.seen.store(now.plus(Tick::SECOND.wrapping_neg()).0);
    entry.hop.store(to_client);
    fill(entry, &to.reversed(), &back);
    scratch
        .reply_key
        .store(to.reversed().key(key.scope_protocol));
    let mut probe = Probe {
        scratch,
        outcome: Outcome::NoPort,
    };
    tables.repeat(PORTS, &mut probe);
    if probe.outcome != Outcome::Made {
        return probe.outcome;
    }
    let reply_key = scratch.reply_key.load();
    to.sport = reply_key.dport;

    entry.word.store(fresh(0));
    entry.hop.store(to_server);
    fill(entry, &key.tuple(), &to);
    // Counted before anyone can find it and take it apart.
    tables.add(&server.total, 1);
    match tables.insert_conn(&key, entry) {
        Ok(()) => Outcome::Made,
        Err(error) => {
            tables.add(&server.total, u32::MAX);
            claim::discard(tables, &reply_key, ticket as u16);
            if error == InsertError::Exists {
                Outcome::Exists
            } else {
                Outcome::TableFull
            }
        }
    }
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
}

/// One attempt at a source port.
struct Probe<'a, A> {
    scratch: &'a Scratch<A>,
    outcome: Outcome,
}

impl<A: Address, T: Tables<A>> Turn<T> for Probe<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
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
        if !find::find(tables, &key).nothing() {
            let range = u32::from(u16::MAX) + 1 - FIRST_PORT;
            let port = Be16::new((FIRST_PORT + tables.random() % range) as u16);
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
    let kind = hop.kind.load();
    if kind == HOP_LOCAL {
        return client;
    }
    if kind != HOP_FORWARD {
        return A::default();
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
