//! Taking a connection apart. Whoever swaps [`DEAD`] into the forward entry's word owns the connection.
//!
//! Each entry is claimed in its own word by whoever deletes it: one who still looks at it, deleted or not, then sees the
//! claim and leaves its key alone, which may be another connection's by now.

use super::{load, template};
use crate::{
    abi::{Address, COUNTED, Conn, ConnKey, DEAD, Word},
    tables::Tables,
};

/// How often an entry is claimed again because packets changed its word meanwhile: few can be under way.
const TRIES: u32 = 4;

/// Claims an entry that still says `word`. `false`: somebody else was faster, or a packet came.
#[inline(always)]
pub fn claim<A: Address, T: Tables<A>>(tables: &T, conn: &Conn<A>, word: Word) -> bool {
    !word.has(DEAD) && tables.swap(&conn.word, word.0, word.with(DEAD).0).is_ok()
}

/// Deletes both entries of a claimed connection and takes it from the real server's counts.
///
/// The reply entry goes first: a packet of the real server that comes in between finds nothing, one of the client finds
/// the claim and looks once more.
#[inline(never)]
pub fn bury<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>, conn: &Conn<A>, word: Word) {
    let reply_key = conn.to().reversed().key(key.scope_protocol);
    discard(tables, &reply_key, word.generation());
    if let Some(server) = tables.server(conn.server.load()) {
        load::unbind(tables, server, word.has(COUNTED));
    }
    template::leave(tables, conn.template.load());
    tables.delete_conn(key);
}

/// Deletes an entry if it is of the connection with this generation and nobody else does.
#[inline(always)]
pub fn discard<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>, generation: u16) {
    let Some(conn) = tables.conn(key) else {
        return;
    };
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        let word = Word(conn.word.load());
        if word.has(DEAD) || word.generation() != generation {
            return;
        }
        if claim(tables, conn, word) {
            tables.delete_conn(key);
            return;
        }
    }
}

/// Deletes a reply entry whose forward entry does not exist, once its own deadline has passed: what is left of a
/// connection whose making was interrupted.
#[inline(always)]
pub fn bury_orphan<A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
) {
    if claim(tables, conn, word) {
        tables.delete_conn(key);
    }
}
