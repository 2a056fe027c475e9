//! The connection table: a fixed number of entries, found by key.

use core::cell::RefCell;
use std::{collections::HashMap, vec::Vec};

use crate::{
    abi::{Address, Be16, Conn, ConnKey, Shared},
    tables::InsertError,
};

/// Entries whose memory is used again as soon as they are deleted, last freed first. So it is in the
/// kernel: who still holds a reference to a deleted entry may find another connection in it.
pub struct Entries<A> {
    memory: Vec<Conn<A>>,
    index: RefCell<HashMap<ConnKey<A>, usize>>,
    free: RefCell<Vec<usize>>,
}

/// An entry of nobody.
pub(super) fn empty<A: Address>() -> Conn<A> {
    Conn {
        word: Shared::new(0),
        src: Shared::new(A::default()),
        dst: Shared::new(A::default()),
        sport: Shared::new(Be16::ZERO),
        dport: Shared::new(Be16::ZERO),
        server: Shared::new(0),
        hop: Shared::new(0),
        addresses_delta: Shared::new(0),
        ports_delta: Shared::new(0),
        ticket: Shared::new(0),
        seen: Shared::new(0),
        template: Shared::new(0),
        mix: Shared::new(0),
    }
}

fn copy<A: Address>(from: &Conn<A>, to: &Conn<A>) {
    to.word.store(from.word.load());
    to.src.store(from.src.load());
    to.dst.store(from.dst.load());
    to.sport.store(from.sport.load());
    to.dport.store(from.dport.load());
    to.server.store(from.server.load());
    to.hop.store(from.hop.load());
    to.addresses_delta.store(from.addresses_delta.load());
    to.ports_delta.store(from.ports_delta.load());
    to.ticket.store(from.ticket.load());
    to.seen.store(from.seen.load());
    to.template.store(from.template.load());
    to.mix.store(from.mix.load());
}

impl<A: Address> Entries<A> {
    /// Room for `capacity` entries: two for each connection.
    pub fn new(capacity: usize) -> Self {
        Self {
            memory: (0..capacity).map(|_| empty()).collect(),
            index: RefCell::default(),
            free: RefCell::new((0..capacity).rev().collect()),
        }
    }

    /// The entry of this key.
    pub fn get(&self, key: &ConnKey<A>) -> Option<&Conn<A>> {
        self.index
            .borrow()
            .get(key)
            .and_then(|&place| self.memory.get(place))
    }

    /// Copies an entry into the table.
    ///
    /// # Errors
    /// The key is taken, or there is no room.
    pub fn insert(&self, key: &ConnKey<A>, entry: &Conn<A>) -> Result<(), InsertError> {
        let mut index = self.index.borrow_mut();
        if index.contains_key(key) {
            return Err(InsertError::Exists);
        }
        let place = self.free.borrow_mut().pop().ok_or(InsertError::Full)?;
        copy(entry, &self.memory[place]);
        index.insert(*key, place);
        Ok(())
    }

    /// Deletes an entry; `false` if there was none.
    pub fn remove(&self, key: &ConnKey<A>) -> bool {
        let Some(place) = self.index.borrow_mut().remove(key) else {
            return false;
        };
        self.free.borrow_mut().push(place);
        true
    }

    /// All keys, in no particular order.
    pub fn keys(&self) -> Vec<ConnKey<A>> {
        self.index.borrow().keys().copied().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
