//! When the sweep is to look at the connection of a slot: a word beside each slot of the rings.
//!
//! It lies no later than the connection's deadline. Packets defer the deadline all the time and leave this word alone;
//! only one that brings the deadline nearer writes it. Where the time has come the sweep looks, and either takes the
//! connection apart or writes when to look again: once in the time that a connection lives without a packet, not once for
//! every walk over the table.
//!
//! What has no slot of its own is not found by this; the sweep's walk over the whole table finds it.

use super::{find, ring};
use crate::{
    abi::{ASSURED, Address, Conn, ConnKey, Tick, Word},
    tables::{Ring, Tables},
};

/// There is a time in the lower half of the word.
const SET: u64 = 1 << 32;

/// The word for this time.
const fn at(time: Tick) -> u64 {
    SET | time.0 as u64
}

/// Whether there is something to look at now, by such a word.
#[must_use]
pub const fn passed(due: u64, now: Tick) -> bool {
    due & SET != 0 && now.since(Tick(due as u32)) >= 0
}

/// Whether such a word has the sweep look in time at a connection with this deadline.
#[must_use]
pub const fn in_time(due: u64, deadline: Tick) -> bool {
    due & SET != 0 && deadline.since(Tick(due as u32)) >= 0
}

/// The slot has a connection now, with this deadline.
#[inline(always)]
pub fn set<A: Address, T: Tables<A>>(tables: &T, ring: Ring, index: u32, deadline: Tick) {
    if let Some(due) = tables.due(ring, index) {
        due.store(at(deadline));
    }
}

/// The deadline of the connection with this forward key has come nearer. One that has no slot of its own says nothing: the
/// walk finds it. A function of its own, because its stack is: the slot's key is copied to be compared.
#[inline(never)]
pub fn sooner<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>, conn: &Conn<A>, word: Word) {
    let ring = if word.has(ASSURED) {
        Ring::Assured
    } else {
        Ring::HalfOpen
    };
    let index = ring::index(tables, ring, conn.ticket.load());
    if tables
        .slot(ring, index)
        .is_some_and(|slot| slot.load() == *key)
    {
        set(tables, ring, index, word.deadline());
    }
}

/// Looks at the connection of a slot: takes it apart if it has expired, and writes when to look again.
#[inline(always)]
pub fn look<A: Address, T: Tables<A>>(tables: &T, ring: Ring, index: u32) {
    let (Some(due), Some(slot)) = (tables.due(ring, index), tables.slot(ring, index)) else {
        return;
    };
    // Read first: whoever changes it meanwhile knows better.
    let before = due.load();
    let now = tables.now();
    // Of a connection that has just taken the slot, and may not be in the table yet.
    if !passed(before, now) {
        return;
    }
    let found = find::find(tables, &slot.load(), now);
    // Somebody else is at it: looked at again.
    if found.ends.is_some() {
        return;
    }
    let after = match found.conn {
        Some(conn) if ring::owns(tables, ring, index, conn, found.word) => {
            at(found.word.deadline())
        }
        _ => 0,
    };
    let _ = tables.swap(due, before, after);
}
