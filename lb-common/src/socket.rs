//! The way of a local socket: what it connects or sends to is looked up, chosen and recorded once, by the same steps as a
//! packet's, and the socket is then led straight to the real server. No packet of it is touched.
//!
//! What the hook cannot finish it leaves as it is: the packets then go the way of all others.

use crate::{
    abi::{
        AVAILABLE, Address, Be16, ConnKey, HOP_LOCAL, NO_SOCKET, ONE_PACKET, SCOPE_SOCKETS, SOCKET,
        SOCKET_FLOW, ServiceKey, Word,
    },
    classify,
    conn::{
        claim,
        create::{self, Outcome},
        find::{self, Known},
        socket as sockets,
        track::{self, Tracked},
    },
    packet::Arrival,
    pipeline::{self, AGAIN, CHOSEN, MADE, PERSIST},
    tables::{InsertError, Tables},
    transport,
    verdict::{Action, Reason, Verdict},
};

/// What is recorded of sockets, beside the tables of packets.
pub trait Sockets<A: Address>: Tables<A> {
    /// A socket that has used the hook: the forward key of its connection, whose protocol is zero if it has none.
    fn socket(&self, cookie: u64) -> Option<ConnKey<A>>;
    /// Remembers a socket, with that.
    ///
    /// # Errors
    /// There is no room.
    fn remember_socket(&self, cookie: u64, connection: &ConnKey<A>) -> Result<(), InsertError>;
    /// Forgets a socket, if it is known.
    fn forget_socket(&self, cookie: u64);
}

/// The parts of a new connection's way: as those of a packet ([`crate::pipeline::Parts`]), on what was noted.
pub trait Parts<A> {
    /// [`note`]: 1 if there is something to make, else 0.
    fn note(&mut self, asked: &Asked<A>, bits: u8) -> u64;
    /// [`crate::pipeline::schedule`].
    fn schedule(&mut self) -> u64;
    /// [`crate::pipeline::persist`].
    fn persist(&mut self) -> u64;
    /// [`create`].
    fn create(&mut self) -> u64;
}

/// What a socket asks for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Asked<A> {
    /// The socket's cookie.
    pub cookie: u64,
    /// The address that it wants to reach.
    pub address: A,
    /// The address that it is bound to; zero for none.
    pub source: A,
    /// The port that it wants to reach.
    pub port: Be16,
    /// The port that it is bound to; zero for none.
    pub sport: Be16,
    /// Its mark (`SO_MARK`).
    pub mark: u32,
    /// Protocol number.
    pub protocol: u8,
}

/// What becomes of it. Plain fields, always set (see [`Verdict`]).
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<A> {
    /// What to do.
    pub kind: Kind,
    /// The real server's address, where the socket is led to one.
    pub address: A,
    /// Its port.
    pub port: Be16,
}

/// What to do about a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing.
    Leave,
    /// Tell it that the connection is refused.
    Refuse,
    /// Lead it to the real server.
    Lead,
}

impl<A: Address> Answer<A> {
    #[inline(always)]
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            address: A::default(),
            port: Be16::ZERO,
        }
    }

    #[inline(always)]
    fn lead(address: A, port: Be16) -> Self {
        Self {
            kind: Kind::Lead,
            address,
            port,
        }
    }
}

/// How often a real server is chosen anew because another processor chose meanwhile. Nobody sends again as for a packet,
/// so more often than there.
const CHOICES: u32 = 16;

/// A socket connects.
#[inline(always)]
pub fn connect<A: Address, T: Sockets<A>, X: Parts<A>>(
    tables: &T,
    asked: &Asked<A>,
    parts: &mut X,
) -> Answer<A> {
    // Connected before, or tried in vain: that has ended.
    release(tables, asked.cookie);
    if parts.note(asked, SOCKET) != 0 {
        open(tables, parts)
    } else {
        Answer::new(Kind::Leave)
    }
}

/// A socket sends a datagram to an address.
#[inline(always)]
pub fn send<A: Address, T: Sockets<A>, X: Parts<A>>(
    tables: &T,
    asked: &Asked<A>,
    parts: &mut X,
) -> Answer<A> {
    let key = flow(tables, asked);
    if follow(tables, &key) == 0 {
        if parts.note(asked, SOCKET | SOCKET_FLOW) == 0 {
            return Answer::new(Kind::Leave);
        }
        let answer = open(tables, parts);
        // As a packet that opens a connection is then followed. Another thread may have made it.
        if answer.kind == Kind::Refuse || follow(tables, &key) == 0 {
            return answer;
        }
    }
    let Some(scratch) = tables.scratch() else {
        return Answer::new(Kind::Leave);
    };
    Answer::lead(scratch.entry.dst.load(), scratch.entry.dport.load())
}

#[inline(always)]
fn flow<A: Address, T: Tables<A>>(tables: &T, asked: &Asked<A>) -> ConnKey<A> {
    sockets::key(
        asked.cookie,
        transport::scope_protocol(tables, asked.protocol),
        SOCKET | SOCKET_FLOW,
        asked.address,
        asked.port,
    )
}

/// Records a datagram of a known flow, and puts the place where it goes into the scratch: 1; 0 if there is no such flow. One
/// whose real server was removed ends. By itself, for the stack of whoever calls it is part of the deepest.
#[inline(never)]
fn follow<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>) -> u64 {
    let now = tables.now();
    let found = find::find(tables, key, now);
    let (Some(conn), Some(scratch)) = (found.conn, tables.scratch()) else {
        return 0;
    };
    let available = tables
        .server(conn.server.load())
        .is_some_and(|server| server.flags.load() & AVAILABLE != 0);
    if !available {
        if claim::claim(tables, conn, found.word) {
            claim::bury(tables, key, conn, found.word);
        }
        return 0;
    }
    if track::track(tables, key, conn, found.word, None, now) == Tracked::Gone {
        return 0;
    }
    let Some(known) = Known::copy(conn, found.word) else {
        return 0;
    };
    scratch.entry.dst.store(known.to.dst);
    scratch.entry.dport.store(known.to.dport);
    1
}

/// Where a datagram that a socket receives seems to come from: the service that the socket asked, if the sender is a real
/// server that the hook led it to.
#[inline(always)]
pub fn receive<A: Address, T: Sockets<A>>(
    tables: &T,
    cookie: u64,
    protocol: u8,
    from: A,
    port: Be16,
) -> Option<(A, Be16)> {
    tables.socket(cookie)?;
    let scope_protocol = transport::scope_protocol(tables, protocol);
    let key = sockets::key(cookie, scope_protocol, SOCKET | SOCKET_FLOW, from, port);
    let reply = key.reversed();
    let now = tables.now();
    let found = find::find(tables, &reply, now);
    let Some(conn) = found.conn else {
        return peer(tables, cookie, protocol, from, port);
    };
    // A reply: the flow is worth keeping.
    let _ = track::track(tables, &reply, conn, found.word, None, now);
    let to = conn.to();
    let same = Word(conn.word.load()).generation() == found.word.generation();
    same.then_some((to.src, to.sport))
}

/// The peer that a connected socket is told of: the service that it asked for.
#[inline(always)]
pub fn peer<A: Address, T: Sockets<A>>(
    tables: &T,
    cookie: u64,
    protocol: u8,
    address: A,
    port: Be16,
) -> Option<(A, Be16)> {
    let scope_protocol = transport::scope_protocol(tables, protocol);
    let key = sockets::key(cookie, scope_protocol, SOCKET, address, port);
    sockets::asked(tables, &key)
}

/// A socket is closed, or connects anew: its connection ends.
#[inline(always)]
pub fn release<A: Address, T: Sockets<A>>(tables: &T, cookie: u64) {
    let Some(key) = tables.socket(cookie) else {
        return;
    };
    tables.forget_socket(cookie);
    if key.protocol() != 0 {
        sockets::end(tables, &key);
    }
}

/// Whether this packet of a local socket goes to the real server that the hook led the socket to: it must not be balanced
/// again.
#[inline(always)]
pub fn is_led<A: Address, T: Tables<A>>(tables: &T, cookie: u64, key: &ConnKey<A>) -> bool {
    if cookie == 0 {
        return false;
    }
    let led = |bits| {
        let key = sockets::key(cookie, key.scope_protocol, bits, key.dst, key.dport);
        tables.conn(&key.reversed()).is_some()
    };
    led(SOCKET) || led(SOCKET | SOCKET_FLOW)
}

/// Makes the connection that was noted.
#[inline(always)]
fn open<A: Address, T: Sockets<A>, X: Parts<A>>(tables: &T, parts: &mut X) -> Answer<A> {
    let leave = Answer::new(Kind::Leave);
    let mut choices = 0;
    let mut word = AGAIN;
    while word == AGAIN && choices < CHOICES {
        word = parts.schedule();
        let chosen = word == CHOSEN || word == PERSIST;
        if chosen && !sockets::can_lead(tables) {
            return leave;
        }
        if word == PERSIST {
            word = parts.persist();
        }
        if word == CHOSEN {
            word = parts.create();
        }
        choices += 1;
    }
    let Some(scratch) = tables.scratch() else {
        return leave;
    };
    if word == MADE {
        tables.count(Reason::Socket, 0);
        return Answer::lead(scratch.entry.dst.load(), scratch.entry.dport.load());
    }
    if word != AGAIN {
        let verdict = Verdict::from_word(word);
        if verdict.action == Action::Refuse {
            tables.count(verdict.reason, 0);
            return Answer::new(Kind::Refuse);
        }
    }
    leave
}

/// Finds the service that a socket asks for, and notes what is to be made. `false`: there is none that the hook serves.
#[inline(always)]
pub fn note<A: Address, T: Sockets<A>>(tables: &T, asked: &Asked<A>, bits: u8) -> bool {
    let Some(scope) = tables.scope() else {
        return false;
    };
    if scope.flags & SCOPE_SOCKETS == 0 {
        return false;
    }
    let hop = tables.hop(tables.route(asked.address));
    let (mut source, mut oif) = (asked.source, 0);
    if let Some(hop) = hop {
        oif = hop.oif.load();
        // What the kernel would choose: at home the address itself.
        if source == A::default() {
            source = if hop.kind.load() == HOP_LOCAL {
                asked.address
            } else {
                A::from_words(hop.address.load())
            };
        }
    }
    let key = ConnKey {
        src: source,
        dst: asked.address,
        sport: if asked.sport == Be16::ZERO {
            // The kernel has not chosen one yet.
            Be16::new(asked.cookie as u16)
        } else {
            asked.sport
        },
        dport: asked.port,
        scope_protocol: transport::scope_protocol(tables, asked.protocol),
    };
    let arrival = Arrival {
        ifindex: oif,
        egress: true,
        mark: asked.mark,
        ..Arrival::default()
    };
    let mut index = classify::service(tables, scope, &key, &arrival);
    if index == 0 && asked.address.is_loopback() {
        let key = ServiceKey::loopback(tables.scope_id(), asked.protocol, asked.port);
        index = tables.service_index(&key);
    }
    let Some(service) = tables.service(index) else {
        return false;
    };
    let once = asked.protocol == transport::UDP && service.flags.load() & ONE_PACKET != 0;
    if index == 0 || once || service.options.load() & NO_SOCKET != 0 {
        return false;
    }
    if !create::note(tables, &key, index, 0) {
        return false;
    }
    let Some(scratch) = tables.scratch() else {
        return false;
    };
    scratch.socket.store(u16::from(bits));
    let bound_to_loopback = asked.source != A::default() && asked.source.is_loopback();
    scratch
        .bound_to_loopback
        .store(u16::from(bound_to_loopback));
    scratch.cookie.store(asked.cookie);
    let connection = if bits & SOCKET_FLOW == 0 {
        sockets::key(
            asked.cookie,
            key.scope_protocol,
            bits,
            asked.address,
            asked.port,
        )
    } else {
        // What it is connected to stays.
        tables.socket(asked.cookie).unwrap_or_default()
    };
    tables.remember_socket(asked.cookie, &connection).is_ok()
}

/// Makes the socket's connection that was noted. Gives [`MADE`], [`AGAIN`] or a [`Verdict::word`].
#[inline(always)]
pub fn create<A: Address, T: Tables<A>>(tables: &T) -> u64 {
    match sockets::create(tables) {
        Outcome::Made | Outcome::Exists => MADE,
        outcome => pipeline::ended(outcome),
    }
}

/// The parts, called directly: everywhere but in a program.
pub struct Direct<'a, A, T> {
    tables: &'a T,
    family: core::marker::PhantomData<A>,
}

impl<'a, A: Address, T: Tables<A>> Direct<'a, A, T> {
    /// On these tables.
    pub const fn new(tables: &'a T) -> Self {
        Self {
            tables,
            family: core::marker::PhantomData,
        }
    }
}

impl<A: Address, T: Sockets<A>> Parts<A> for Direct<'_, A, T> {
    fn note(&mut self, asked: &Asked<A>, bits: u8) -> u64 {
        u64::from(note(self.tables, asked, bits))
    }

    fn schedule(&mut self) -> u64 {
        pipeline::schedule(self.tables)
    }

    fn persist(&mut self) -> u64 {
        pipeline::persist(self.tables)
    }

    fn create(&mut self) -> u64 {
        create(self.tables)
    }
}
