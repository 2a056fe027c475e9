//! Connections of local sockets: made from what a socket asks for, instead of from a packet, and ended with the socket.

use super::{
    claim,
    create::{self, Outcome, Plan, Scratch},
    find, ring, state, template,
};
use crate::{
    abi::{
        ASSURED, Address, Be16, COUNTED, ConnKey, DEAD, METHOD_MASQUERADE, REPLY, SOCKET,
        SOCKET_FLOW, Service, Tick, Tuple, Word, socket_end,
    },
    tables::{Ring, Tables},
    transport,
};

/// Ticks that the connection of a connected socket lives: until its socket is closed, which is before that. 400 days are
/// as far ahead as deadlines go.
pub const UNLIMITED: u32 = Tick::from_secs(400 * 86_400).0;
/// Ticks that a flow lives before its first datagram has been followed, as a packet's connection.
const FRESH: u32 = Tick::from_secs(3).0;
/// How often an entry is claimed again because something changed its word meanwhile.
const TRIES: u32 = 4;

/// The key of what a socket sends to an address; `bits` are [`SOCKET`], or [`SOCKET`] and [`SOCKET_FLOW`].
#[inline(always)]
pub fn key<A: Address>(
    cookie: u64,
    scope_protocol: u32,
    bits: u8,
    address: A,
    port: Be16,
) -> ConnKey<A> {
    let (src, sport) = socket_end(cookie);
    ConnKey {
        src,
        dst: address,
        sport,
        dport: port,
        scope_protocol: scope_protocol | u32::from(bits),
    }
}

/// Makes the socket's connection that was noted, to the real server that was chosen, and then moves the cursor.
#[inline(always)]
pub fn create<A: Address, T: Tables<A>>(tables: &T) -> Outcome {
    let Some(scratch) = tables.scratch() else {
        return Outcome::Busy;
    };
    let Some(service) = tables.service(scratch.service.load()) else {
        return Outcome::NoServer;
    };
    let asked = scratch.forward_key.load();
    let bits = scratch.socket.load() as u8;
    let key = key(
        scratch.cookie.load(),
        asked.scope_protocol,
        bits,
        asked.dst,
        asked.dport,
    );
    let outcome = insert(tables, scratch, service, &key);
    let outcome = create::conclude(tables, scratch, service, &key, false, outcome);
    // That a flow is answered is seen when it is followed.
    if outcome == Outcome::Made && key.protocol() & SOCKET_FLOW == 0 {
        template::assure(tables, scratch.template.load());
    }
    outcome
}

#[inline(always)]
fn insert<A: Address, T: Tables<A>>(
    tables: &T,
    scratch: &Scratch<A>,
    service: &Service,
    key: &ConnKey<A>,
) -> Outcome {
    let Some(server) = tables.server(scratch.server.load()) else {
        return Outcome::NoServer;
    };
    let flow = key.protocol() & SOCKET_FLOW != 0;
    let tcp = key.protocol() == transport::TCP | SOCKET;
    let ring = if flow { Ring::HalfOpen } else { Ring::Assured };
    let deadline = tables.now().plus(if flow { FRESH } else { UNLIMITED });
    let Some(ticket) = ring::take(tables, ring, key, deadline) else {
        return Outcome::TableFull;
    };
    let to = Tuple {
        dst: A::from_words(server.address.load()),
        dport: create::port(service, server, key.dport),
        ..key.tuple()
    };
    let plan = Plan {
        key: *key,
        to,
        hops: (0, 0),
        ticket,
        deadline,
        state: if tcp { state::ESTABLISHED } else { state::UDP },
        flags: if flow { 0 } else { ASSURED },
        counted: if tcp { COUNTED } else { 0 },
        fixed: true,
    };
    create::enter(tables, scratch, server, &plan)
}

/// Whether the socket can be led to the real server that was chosen: its address is all that it is given. A socket that
/// is bound to a loopback address reaches nothing else.
#[inline(always)]
pub fn can_lead<A: Address, T: Tables<A>>(tables: &T) -> bool {
    let Some(scratch) = tables.scratch() else {
        return false;
    };
    let at_home = scratch.bound_to_loopback.load() != 0;
    tables.server(scratch.server.load()).is_some_and(|server| {
        server.method.load() == METHOD_MASQUERADE
            && (!at_home || A::from_words(server.address.load()).is_loopback())
    })
}

/// Takes the connection with this forward key apart, if there is one.
#[inline(always)]
pub fn end<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>) {
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        let Some(conn) = tables.conn(key) else {
            return;
        };
        let word = Word(conn.word.load());
        if word.has(DEAD) || word.has(REPLY) {
            return;
        }
        if claim::claim(tables, conn, word) {
            claim::bury(tables, key, conn, word);
            return;
        }
    }
}

/// The reply entry of a socket's connection with an address, as the address that the socket asked for: `None` if that is
/// no real server that the hook led it to.
#[inline(always)]
pub fn asked<A: Address, T: Tables<A>>(tables: &T, forward: &ConnKey<A>) -> Option<(A, Be16)> {
    let found = find::find(tables, &forward.reversed(), tables.now());
    let conn = found.conn?;
    if !found.word.has(REPLY) {
        return None;
    }
    let to = conn.to();
    (Word(conn.word.load()).generation() == found.word.generation()).then_some((to.src, to.sport))
}
