//! The rings that bound the connection table.
//!
//! Every connection holds a ticket; the ring's slot of that ticket names the connection. When the ring comes round to a
//! slot, whoever is in it makes room: a half-open connection always, an answered one only if it has expired. So a flood
//! of SYNs recycles its own kind and costs no answered connection, and a full table recycles what has expired without
//! the daemon's help.

use super::{claim, due};
use crate::{
    abi::{ASSURED, Address, Conn, ConnKey, DEAD, REPLY, Tick, Word},
    tables::{Ring, Tables, Turn},
};

/// Slots looked at before a ring counts as full. With nine of ten slots taken by live connections, one try in 5 fails
/// at most by chance.
const PROBES: u32 = 16;

/// Takes a slot for the connection with this forward key and deadline; `None`: the ring is full of live, answered
/// connections.
#[inline(never)]
pub fn take<A: Address, T: Tables<A>>(
    tables: &T,
    ring: Ring,
    key: &ConnKey<A>,
    deadline: Tick,
) -> Option<u32> {
    // A half-open connection does not keep its slot: the first one serves, unless a packet of its own comes at this moment.
    let most = if matches!(ring, Ring::HalfOpen) {
        2
    } else {
        PROBES
    };
    let mut probe = Probe {
        ring,
        key,
        ticket: None,
    };
    tables.repeat(most, &mut probe);
    let ticket = probe.ticket?;
    due::set(tables, ring, index(tables, ring, ticket), deadline);
    Some(ticket)
}

/// The slot of a ticket.
#[inline(always)]
pub fn index<A: Address, T: Tables<A>>(tables: &T, ring: Ring, ticket: u32) -> u32 {
    ticket.checked_rem(tables.slots(ring)).unwrap_or(0)
}

/// Whether this slot is the own one of a connection, by its forward entry. Its key may have been used again since the slot
/// was taken: then that connection's slot is another one.
#[inline(always)]
pub fn owns<A: Address, T: Tables<A>>(
    tables: &T,
    ring: Ring,
    slot: u32,
    conn: &Conn<A>,
    word: Word,
) -> bool {
    !word.has(REPLY)
        && !word.has(DEAD)
        && word.has(ASSURED) == matches!(ring, Ring::Assured)
        && index(tables, ring, conn.ticket.load()) == slot
}

/// One look at a slot.
struct Probe<'k, A> {
    ring: Ring,
    key: &'k ConnKey<A>,
    ticket: Option<u32>,
}

impl<A: Address, T: Tables<A>> Turn<T> for Probe<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        let ticket = tables.ticket(self.ring);
        let index = index(tables, self.ring, ticket);
        let Some(slot) = tables.slot(self.ring, index) else {
            return false;
        };
        let previous = slot.load();
        if vacate(tables, self.ring, index, &previous) {
            slot.store(*self.key);
            self.ticket = Some(ticket);
            return false;
        }
        true
    }
}

/// Makes the connection that a slot names give way. `false`: it stays.
#[inline(always)]
fn vacate<A: Address, T: Tables<A>>(tables: &T, ring: Ring, index: u32, key: &ConnKey<A>) -> bool {
    let Some(conn) = tables.conn(key) else {
        return true;
    };
    let word = Word(conn.word.load());
    if !owns(tables, ring, index, conn, word) {
        return true;
    }
    if matches!(ring, Ring::Assured) && !word.expired(tables.now()) {
        return false;
    }
    // A packet of its own may be faster: it keeps its slot, or, answered by it, moves to the other ring.
    let claimed = claim::claim(tables, conn, word);
    if claimed {
        claim::bury(tables, key, conn, word);
    }
    claimed
}
