//! Following a connection: each packet may change its state and always defers its end.
//!
//! Data of an established connection writes nothing until a second has passed since the last write, and looks at the
//! other entry only then. Every SYN, FIN and RST, and every packet before the connection is established, goes to the
//! forward entry at once.

use super::{
    claim, ring,
    state::{self, Direction, Event, State},
};
use crate::{
    abi::{ANSWERED, ASSURED, Address, COUNTED, Conn, ConnKey, DEAD, REPLY, Scope, Tick, Word},
    tables::{Ring, Tables},
    transport,
};

/// How often a transition is tried again when another processor changed the word meanwhile.
const TRIES: u32 = 2;

/// What recording a packet gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracked {
    /// It is recorded, or need not be.
    Done,
    /// Other processors changed the connection each time.
    Busy,
    /// The connection had expired, as its other entry knew; it is taken apart.
    Gone,
}

/// Records a packet of a known connection; `event` is TCP's, or `None` for UDP and later fragments.
#[inline(always)]
pub fn track<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    event: Option<Event>,
) -> Tracked {
    let now = tables.now();
    let due = now.since(Tick(conn.seen.load())) >= Tick::SECOND as i32;
    let settled = match (word.state(), event) {
        (state::ESTABLISHED, Some(Event::Ack)) | (_, None) => !word.has(REPLY) || word.has(ASSURED),
        _ => false,
    };
    if settled && !due {
        return Tracked::Done;
    }
    // The forward entry decides: this one, or the one that this one answers.
    let is_reply = word.has(REPLY);
    let (mut forward_key, mut forward, mut authority) = (*key, conn, word);
    if is_reply {
        forward_key = conn.to().reversed().key(key.scope_protocol);
        let Some(other) = tables.conn(&forward_key) else {
            // Being made or being taken apart: this packet is still rewritten as the entry says.
            return Tracked::Done;
        };
        forward = other;
        authority = Word(other.word.load());
        if authority.generation() != word.generation() || authority.has(REPLY) {
            return Tracked::Done;
        }
        if authority.expired(now) {
            // The copy's deadline was later: the connection has since gone to a state with a shorter life.
            if claim::claim(tables, forward, authority) {
                claim::bury(tables, &forward_key, forward, authority);
            }
            return Tracked::Gone;
        }
    }
    let direction = if is_reply {
        Direction::Output
    } else {
        Direction::Input
    };
    let next = advance(
        tables,
        &forward_key,
        forward,
        authority,
        Seen::new(event, direction),
    );
    if next == 0 {
        return Tracked::Busy;
    }
    conn.seen.store(now.0);
    if is_reply {
        // The copy: lost if the entry changed meanwhile, and then made again with a later packet.
        let _ = tables.swap(&conn.word, word.0, Word(next).with(REPLY).0);
    }
    Tracked::Done
}

/// An event and a direction in one byte: a function of its own takes five arguments at most.
#[derive(Clone, Copy)]
struct Seen(u8);

impl Seen {
    /// In place of an event: there is none.
    const NO_EVENT: u8 = 7;

    #[inline(always)]
    const fn new(event: Option<Event>, direction: Direction) -> Self {
        let event = match event {
            Some(event) => event as u8,
            None => Self::NO_EVENT,
        };
        Self(event | (direction as u8) << 3)
    }

    /// The state after it.
    #[inline(always)]
    const fn after(self, state: State) -> State {
        if self.0 & 7 == Self::NO_EVENT {
            state
        } else {
            state::after(self.0, state)
        }
    }

    #[inline(always)]
    const fn is_reply(self) -> bool {
        self.0 >> 3 == Direction::Output as u8
    }
}

/// Moves a forward entry's word on; gives the new one, or 0 (no word of a living connection is: its deadline is not) if
/// other processors were faster each time. A function of its own, because its stack is.
#[inline(never)]
fn advance<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    seen: Seen,
) -> u64 {
    let generation = word.generation();
    let mut word = word;
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        if word.has(DEAD) || word.generation() != generation {
            break;
        }
        let next = successor(tables, key, conn, word, seen);
        match tables.swap(&conn.word, word.0, next.0) {
            Ok(()) => {
                settle(tables, key, conn, word, next);
                return next.0;
            }
            Err(actual) => word = Word(actual),
        }
    }
    0
}

/// The word after this packet.
#[inline(always)]
fn successor<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    seen: Seen,
) -> Word {
    let state = seen.after(word.state());
    let tcp = key.protocol() == transport::TCP;
    let answered = if seen.is_reply() {
        ANSWERED
    } else {
        word.flags() & ANSWERED
    };
    // A real server that answers every SYN of a flood does not make its connections worth keeping.
    let opening = tcp && state::opening(state);
    let assured = if answered != 0 && !opening {
        ASSURED
    } else {
        word.flags() & ASSURED
    };
    let counted = if tcp && state::active(state) {
        COUNTED
    } else {
        0
    };
    let deadline = tables
        .now()
        .plus(timeout(tables, conn.server.load(), state));
    Word::new(
        deadline,
        word.generation(),
        state,
        answered | assured | counted,
    )
}

/// What follows from a change that this processor made.
#[inline(always)]
fn settle<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    old: Word,
    new: Word,
) {
    if new.has(COUNTED) != old.has(COUNTED)
        && let Some(server) = tables.server(conn.server.load())
    {
        tables.add(&server.active, if new.has(COUNTED) { 1 } else { u32::MAX });
    }
    if new.has(ASSURED) && !old.has(ASSURED) {
        // Without a slot of its own it keeps its half-open ticket, which no longer counts against it: only its
        // deadline ends it.
        if let Some(ticket) = ring::take(tables, Ring::Assured, key) {
            conn.ticket.store(ticket);
        }
    }
}

/// Ticks that a connection may idle in this state.
#[inline(always)]
pub fn timeout<A: Address, T: Tables<A>>(tables: &T, server: u32, state: State) -> u32 {
    if state == state::ESTABLISHED || state == state::UDP {
        let own = tables
            .server(server)
            .and_then(|server| tables.service(server.service.load()))
            .map_or(0, |service| {
                if state == state::UDP {
                    service.udp_timeout.load()
                } else {
                    service.tcp_timeout.load()
                }
            });
        if own != 0 {
            return own;
        }
    }
    tables
        .scope()
        .map_or(Tick::from_secs(state::TIMEOUTS[0]).0, |scope: &Scope| {
            scope.timeouts[usize::from(state & 15)]
        })
}
