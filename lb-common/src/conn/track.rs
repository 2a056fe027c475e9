//! Following a connection: each packet may change its state and always defers its end.
//!
//! Data of an established connection writes nothing until a second has passed since the last write, and looks at the
//! other entry only then. Every SYN, FIN and RST, and every packet before the connection is established, goes to the
//! forward entry at once.

use super::{
    ring,
    state::{self, Direction, Event, State},
};
use crate::{
    abi::{ASSURED, Address, COUNTED, Conn, ConnKey, DEAD, REPLY, Scope, Tick, Word},
    tables::{Ring, Tables},
    transport,
    verdict::{Reason, Step, Verdict},
};

/// How often a transition is tried again when another processor changed the word meanwhile.
const TRIES: u32 = 4;

/// Records a packet of a known connection; `event` is TCP's, or `None` for UDP and later fragments.
#[inline(always)]
pub fn track<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    event: Option<Event>,
) -> Step<()> {
    let now = tables.now();
    let due = now.since(Tick(conn.seen.load())) >= Tick::SECOND as i32;
    let settled = match (word.state(), event) {
        (state::ESTABLISHED, Some(Event::Ack)) | (_, None) => !word.has(REPLY) || word.has(ASSURED),
        _ => false,
    };
    if settled && !due {
        return Ok(());
    }
    if !word.has(REPLY) {
        advance(tables, key, conn, word, event, Direction::Input).ok_or(BUSY)?;
        conn.seen.store(now.0);
        return Ok(());
    }
    let forward_key = conn.to().reversed().key(key.scope_protocol);
    let Some(forward) = tables.conn(&forward_key) else {
        // Being made or being taken apart: this packet is still rewritten as the entry says.
        return Ok(());
    };
    let authority = Word(forward.word.load());
    if authority.generation() != word.generation() || authority.has(REPLY) {
        return Ok(());
    }
    let next = advance(tables, &forward_key, forward, authority, event, Direction::Output).ok_or(BUSY)?;
    conn.seen.store(now.0);
    // The copy: lost if the entry changed meanwhile, and then made again with a later packet.
    let _ = tables.swap(&conn.word, word.0, next.with(REPLY).0);
    Ok(())
}

const BUSY: Verdict = Verdict::drop(Reason::Busy);

/// Moves a forward entry's word on; gives the new one, or `None` if other processors were faster each time.
#[inline(always)]
fn advance<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    event: Option<Event>,
    direction: Direction,
) -> Option<Word> {
    let word = Word(advance_word(tables, key, conn, word, Seen::new(event, direction)));
    if word.0 == 0 { None } else { Some(word) }
}

/// An event and a direction in one byte: a function of its own takes five arguments at most.
#[derive(Clone, Copy)]
struct Seen(u8);

impl Seen {
    #[inline(always)]
    const fn new(event: Option<Event>, direction: Direction) -> Self {
        let event = match event {
            None => 0,
            Some(Event::Rst) => 1,
            Some(Event::Syn) => 2,
            Some(Event::Fin) => 3,
            Some(Event::Ack) => 4,
            Some(Event::Nothing) => 5,
        };
        let direction = match direction {
            Direction::Input => 0,
            Direction::Output => 8,
            Direction::InputOnly => 16,
        };
        Self(event | direction)
    }

    #[inline(always)]
    const fn event(self) -> Option<Event> {
        match self.0 & 7 {
            1 => Some(Event::Rst),
            2 => Some(Event::Syn),
            3 => Some(Event::Fin),
            4 => Some(Event::Ack),
            5 => Some(Event::Nothing),
            _ => None,
        }
    }

    #[inline(always)]
    const fn direction(self) -> Direction {
        match self.0 & 24 {
            0 => Direction::Input,
            8 => Direction::Output,
            _ => Direction::InputOnly,
        }
    }
}

/// [`advance`], with 0 (no word has generation, state and flags of zero and a deadline of zero) for `None`: a function of
/// its own, because its stack is.
#[inline(never)]
fn advance_word<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    seen: Seen,
) -> u64 {
    let (event, direction) = (seen.event(), seen.direction());
    let generation = word.generation();
    let mut word = word;
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        if word.has(DEAD) || word.generation() != generation {
            break;
        }
        let next = successor(tables, key, conn, word, event, direction);
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
    event: Option<Event>,
    direction: Direction,
) -> Word {
    let state = match event {
        Some(event) => state::next(direction, event, word.state()),
        None => word.state(),
    };
    let assured = if matches!(direction, Direction::Output) { ASSURED } else { word.flags() & ASSURED };
    let counted = if key.protocol() == transport::TCP && state::active(state) { COUNTED } else { 0 };
    let deadline = tables.now().plus(timeout(tables, conn.server.load(), state));
    Word::new(deadline, word.generation(), state, assured | counted)
}

/// What follows from a change that this processor made.
#[inline(always)]
fn settle<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>, conn: &Conn<A>, old: Word, new: Word) {
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
        let own = tables.server(server).and_then(|server| tables.service(server.service.load())).map_or(0, |service| {
            if state == state::UDP { service.udp_timeout.load() } else { service.tcp_timeout.load() }
        });
        if own != 0 {
            return own;
        }
    }
    tables
        .scope()
        .map_or(Tick::from_secs(state::TIMEOUTS[0]).0, |scope: &Scope| scope.timeouts[usize::from(state & 15)])
}
