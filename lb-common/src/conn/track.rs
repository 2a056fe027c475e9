//! Following a connection: each packet may change its state and always defers its end.
//!
//! Data of an established connection writes nothing until a second has passed since the last write, and looks at the
//! other entry only then. Every SYN, FIN and RST, and every packet before the connection is established, goes to the
//! forward entry at once.

use super::{
    claim, due, ring,
    state::{self, Direction, Event, State},
    template,
};
use crate::{
    abi::{
        ANSWERED, ASSURED, Address, COUNTED, Conn, ConnKey, DEAD, DIRECT, HEARD, NO_OUTPUT, REPLY,
        SECURE_TCP_BIT, Scope, Tick, Word,
    },
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

/// Records a packet of a known connection that comes now; `event` is TCP's, or `None` for UDP and later fragments.
#[inline(always)]
pub fn track<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
    event: Option<Event>,
    now: Tick,
) -> Tracked {
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
    let next = advance(
        tables,
        &forward_key,
        forward,
        authority,
        Seen::new(tables, event, word, authority),
    );
    if next == 0 {
        return Tracked::Busy;
    }
    let promoted = Word(next).has(DEAD);
    let next = next & !Word(0).with(DEAD).0;
    if promoted {
        // Without a slot of its own it keeps its half-open ticket, which no longer counts against it: only its
        // deadline ends it.
        let word = Word(next);
        if let Some(ticket) = ring::take(tables, Ring::Assured, &forward_key, word.deadline()) {
            forward.ticket.store(ticket);
            // Another processor that brought the deadline nearer meanwhile did not know this slot.
            let last = Word(forward.word.load());
            bring_nearer(tables, &forward_key, forward, word, last);
        }
    }
    conn.seen.store(now.0);
    if is_reply {
        // The copy: lost if the entry changed meanwhile, and then made again with a later packet.
        let _ = tables.swap(&conn.word, word.0, Word(next).with(REPLY).0);
    }
    Tracked::Done
}

/// An event, a direction and the kind of table in one byte: a function of its own takes five arguments at most.
#[derive(Clone, Copy)]
struct Seen(u8);

impl Seen {
    /// In place of an event: there is none.
    const NO_EVENT: u8 = 7;

    /// By arithmetic, like what follows from it: each branch would double the paths that the verifier follows.
    #[inline(always)]
    fn new<A: Address, T: Tables<A>>(
        tables: &T,
        event: Option<Event>,
        word: Word,
        authority: Word,
    ) -> Self {
        let event = match event {
            Some(event) => event as u8,
            None => Self::NO_EVENT,
        };
        let reply = bit(word.flags(), REPLY);
        let input_only = bit(authority.flags(), NO_OUTPUT) & (reply ^ 1);
        let direction =
            (Direction::Output as u8 * reply) | (Direction::InputOnly as u8 * input_only);
        let flags = tables.scope().map_or(0, |scope: &Scope| scope.flags);
        let secure = (flags >> SECURE_TCP_BIT & 1) as u8 * state::SECURE;
        Self(event | direction << 3 | secure)
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

    /// 1 for a packet of the real server.
    #[inline(always)]
    const fn reply(self) -> u8 {
        self.0 >> 3 & Direction::Output as u8
    }
}

/// 1 if this flag, one bit, is set.
#[inline(always)]
const fn bit(flags: u8, flag: u8) -> u8 {
    flags >> flag.trailing_zeros() & 1
}

/// Moves a forward entry's word on; gives the new one, or 0 (no word of a living connection is: its deadline is not) if
/// other processors were faster each time. With [`DEAD`], which no living connection's has either: the connection is to
/// have a slot of the other ring. A function of its own, because its stack is.
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
                settle(tables, conn, word, next);
                bring_nearer(tables, key, conn, word, next);
                let promoted = next.has(ASSURED) && !word.has(ASSURED);
                return if promoted { next.with(DEAD).0 } else { next.0 };
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
    let tcp = u8::from(key.protocol() == transport::TCP);
    let (before, reply) = (word.flags(), seen.reply());
    let lasting = before & (ANSWERED | ASSURED | DIRECT | NO_OUTPUT | HEARD);
    let kept = (lasting | (reply * ANSWERED) | ((reply ^ 1) * HEARD)) & !(reply * NO_OUTPUT);
    // Where answers do not come by here, a client that goes on has been answered.
    let goes_on = bit(kept, NO_OUTPUT) & (tcp | bit(before, HEARD));
    // A real server that answers every SYN of a flood does not make its connections worth keeping.
    let opening = tcp & u8::from(state::opening(state));
    let assured = (bit(kept, ANSWERED) | goes_on) & (opening ^ 1);
    let counted = tcp & u8::from(state::active(state));
    // Half a stream may go on as long as a whole one, where the service says how long that is. Not where the other half is
    // never seen to end.
    let half = u8::from((state == state::CLOSE_WAIT) | (state == state::FIN_WAIT))
        & (bit(kept, NO_OUTPUT) ^ 1);
    let deadline = tables
        .now()
        .plus(timeout(tables, conn.server.load(), state, u32::from(half)));
    let flags = kept | (assured * ASSURED) | (counted * COUNTED);
    Word::new(deadline, word.generation(), state, flags)
}

/// Has the sweep look sooner, where the deadline came nearer.
#[inline(always)]
fn bring_nearer<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    old: Word,
    new: Word,
) {
    if new.deadline().since(old.deadline()) < 0 {
        due::sooner(tables, key, conn, new);
    }
}

/// What follows from a change that this processor made.
#[inline(always)]
fn settle<A: Address, T: Tables<A>>(tables: &T, conn: &Conn<A>, old: Word, new: Word) {
    if new.has(COUNTED) != old.has(COUNTED)
        && let Some(server) = tables.server(conn.server.load())
    {
        tables.add(&server.active, if new.has(COUNTED) { 1 } else { u32::MAX });
    }
    let established = new.state() == state::ESTABLISHED && old.state() != state::ESTABLISHED;
    let answered = new.state() == state::UDP && new.has(ANSWERED) && !old.has(ANSWERED);
    if established || answered {
        template::assure(tables, conn.template.load());
    }
}

/// Ticks that a connection may idle in this state: the scope's, or the service's own for one that lives. Half of a stream
/// (`half` is 1) gets the longer of the two.
#[inline(always)]
fn timeout<A: Address, T: Tables<A>>(tables: &T, server: u32, state: State, half: u32) -> u32 {
    let usual = tables
        .scope()
        .map_or(Tick::from_secs(state::TIMEOUTS[0]).0, |scope: &Scope| {
            scope.timeouts[usize::from(state & 15)]
        });
    const LIVES: u32 = 1 << state::ESTABLISHED | 1 << state::UDP;
    if LIVES >> (state & 31) & 1 | half == 0 {
        return usual;
    }
    let Some(service) = tables
        .server(server)
        .and_then(|server| tables.service(server.service.load()))
    else {
        return usual;
    };
    let own = if state == state::UDP {
        &service.udp_timeout
    } else {
        &service.tcp_timeout
    };
    let own = own.load();
    if own > usual * half { own } else { usual }
}
