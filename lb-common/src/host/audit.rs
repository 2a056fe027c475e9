//! What must hold for the connection table whenever no packet is under way.

use std::{collections::HashMap, format, string::String};

use super::Memory;
use crate::{
    abi::{ASSURED, Address, COUNTED, DEAD, REPLY, Tick, Word, socket_protocol},
    conn::{due, ring, state},
    tables::{Ring, Tables},
    transport,
};

/// A broken invariant, in words.
pub type Fault = String;

impl<A: Address + core::fmt::Debug> Memory<A> {
    /// Checks the connection table and the counts of the real servers.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn audit(&self) -> Result<(), Fault> {
        if self.stray_deletes() != 0 {
            return Err(format!(
                "{} entries were deleted that did not exist",
                self.stray_deletes()
            ));
        }
        let mut counts: HashMap<u32, (u32, u32)> = HashMap::new();
        for key in &self.entries.keys() {
            let Some(conn) = self.entries.get(key) else {
                continue;
            };
            let word = Word(conn.word.load());
            if word.has(DEAD) {
                return Err(format!("claimed and never deleted: {key:?}"));
            }
            if conn.mix.load() != key.tuple().mix() {
                return Err(format!("an entry that is not its key's: {key:?}"));
            }
            let other_key = conn.to().reversed().key(key.scope_protocol);
            let other = self.entries.get(&other_key);
            let twin = other.filter(|other| {
                let other_word = Word(other.word.load());
                other_word.generation() == word.generation()
                    && other_word.has(REPLY) != word.has(REPLY)
                    && other.to().reversed().key(key.scope_protocol) == *key
            });
            if twin.is_none() {
                let short = word.deadline().since(self.now()) <= Tick::from_secs(3).0 as i32;
                if !(word.has(REPLY) && short) {
                    return Err(format!(
                        "half a connection: {key:?} {word:?} has no {other_key:?}"
                    ));
                }
                continue;
            }
            if word.has(REPLY) {
                continue;
            }
            let protocol = socket_protocol(key.protocol()).unwrap_or(key.protocol());
            let tcp = protocol == transport::TCP;
            if word.has(COUNTED) != (tcp && state::active(word.state())) {
                return Err(format!(
                    "counted as active or not against its state: {key:?} {word:?}"
                ));
            }
            let ring = if word.has(ASSURED) {
                Ring::Assured
            } else {
                Ring::HalfOpen
            };
            let slot = ring::index(self, ring, conn.ticket.load());
            let named = self
                .slot(ring, slot)
                .is_some_and(|name| name.load() == *key);
            let due = self.due(ring, slot).map_or(0, |due| due.load());
            if named && !due::in_time(due, word.deadline()) {
                return Err(format!(
                    "the sweep looks too late at {key:?} {word:?}: {due:#x}"
                ));
            }
            let count = counts.entry(conn.server.load()).or_default();
            count.0 += 1;
            count.1 += u32::from(word.has(COUNTED));
        }
        for (index, server) in (0..).zip(&self.servers) {
            let (total, active) = counts.get(&index).copied().unwrap_or_default();
            let said = (server.total.load(), server.active.load());
            if said != (total, active) {
                return Err(format!(
                    "server {index} counts {said:?}, the table has {:?}",
                    (total, active)
                ));
            }
        }
        Ok(())
    }

    /// How many connections of the table a ring's slots name.
    pub fn held(&self, ring: Ring) -> usize {
        (0..self.slots(ring))
            .filter_map(|index| self.slot(ring, index))
            .filter(|slot| self.entries.get(&slot.load()).is_some())
            .count()
    }
}
