//! Is the packet's connection known?

use super::claim;
use crate::{
    abi::{Address, Conn, ConnKey, DEAD, REPLY, Tick, Tuple, Word},
    tables::Tables,
    verdict::Reason,
};

/// A known connection, seen from one direction: a copy that belonged together when it was taken.
#[derive(Clone, Copy)]
pub struct Known<'t, A> {
    /// The entry that the packet's key found.
    pub conn: &'t Conn<A>,
    /// Its word.
    pub word: Word,
    /// Addresses and ports after the rewrite.
    pub to: Tuple<A>,
    /// The real server.
    pub server: u32,
    /// The next hop, with [`BENT`](crate::abi::BENT).
    pub hop: u32,
    /// Delta of the addresses.
    pub addresses_delta: u16,
    /// Delta of the ports.
    pub ports_delta: u16,
}

impl<'t, A: Address> Known<'t, A> {
    /// Copies an entry that was found with this word; `None` if it has become another connection's meanwhile.
    #[inline(always)]
    pub fn copy(conn: &'t Conn<A>, word: Word) -> Option<Self> {
        let known = Self {
            conn,
            word,
            to: conn.to(),
            server: conn.server.load(),
            hop: conn.hop.load(),
            addresses_delta: conn.addresses_delta.load(),
            ports_delta: conn.ports_delta.load(),
        };
        if Word(conn.word.load()).generation() == word.generation() {
            Some(known)
        } else {
            None
        }
    }

    /// The packet comes from the real server.
    #[inline(always)]
    pub const fn is_reply(&self) -> bool {
        self.word.has(REPLY)
    }
}

/// What looking for a connection gave. Plain fields, always set (see [`Verdict`](crate::verdict::Verdict)).
#[derive(Clone, Copy)]
pub struct Found<'t, A> {
    /// The entry.
    pub conn: Option<&'t Conn<A>>,
    /// Its word; zero without an entry.
    pub word: Word,
    /// Why the packet ends here, if it does.
    pub ends: Option<Reason>,
}

impl<A> Found<'_, A> {
    /// There is no such connection.
    #[inline(always)]
    pub const fn nothing(&self) -> bool {
        self.conn.is_none() && self.ends.is_none()
    }
}

/// Finds a packet's connection. One that has expired is taken apart on the way and not found.
///
/// The clock is asked once for a packet: each time costs as much as a look into an array.
#[inline(always)]
pub fn find<'t, A: Address, T: Tables<A>>(
    tables: &'t T,
    key: &ConnKey<A>,
    now: Tick,
) -> Found<'t, A> {
    let mut tries = 0;
    while tries < 2 {
        tries += 1;
        let Some(conn) = tables.conn(key) else {
            return Found {
                conn: None,
                word: Word(0),
                ends: None,
            };
        };
        let word = Word(conn.word.load());
        if word.has(DEAD) || !belongs(conn, key) {
            continue;
        }
        if !word.expired(now) {
            return Found {
                conn: Some(conn),
                word,
                ends: None,
            };
        }
        match expired(tables, key, conn, word) {
            Expired::Gone => {
                return Found {
                    conn: None,
                    word: Word(0),
                    ends: None,
                };
            }
            Expired::Alive => {
                return Found {
                    conn: Some(conn),
                    word,
                    ends: None,
                };
            }
            Expired::Contended => {}
        }
    }
    Found {
        conn: None,
        word: Word(0),
        ends: Some(Reason::Busy),
    }
}

/// Whether an entry that was found by this key is still the key's: between the look-up and the first look at it its
/// memory may have become another connection's.
#[inline(always)]
fn belongs<A: Address>(conn: &Conn<A>, key: &ConnKey<A>) -> bool {
    conn.mix.load() == key.tuple().mix()
}

enum Expired {
    /// It was taken apart.
    Gone,
    /// The other entry knows better: a packet of the other direction came later.
    Alive,
    /// Somebody else is at it.
    Contended,
}

/// An entry's deadline has passed. Only the forward entry's counts.
#[inline(never)]
fn expired<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
) -> Expired {
    if !word.has(REPLY) {
        if !claim::claim(tables, conn, word) {
            return Expired::Contended;
        }
        claim::bury(tables, key, conn, word);
        return Expired::Gone;
    }
    let forward_key = conn.to().reversed().key(key.scope_protocol);
    let Some(forward) = tables.conn(&forward_key) else {
        claim::bury_orphan(tables, key, conn, word);
        return Expired::Gone;
    };
    let forward_word = Word(forward.word.load());
    if forward_word.generation() != word.generation() || forward_word.has(REPLY) {
        claim::bury_orphan(tables, key, conn, word);
        return Expired::Gone;
    }
    if !forward_word.expired(tables.now()) {
        return Expired::Alive;
    }
    if !claim::claim(tables, forward, forward_word) {
        return Expired::Contended;
    }
    claim::bury(tables, &forward_key, forward, forward_word);
    Expired::Gone
}
