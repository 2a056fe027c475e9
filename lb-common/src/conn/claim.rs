//! Taking a connection apart. Whoever swaps [`DEAD`] into a word owns both entries; nobody else deletes them.

use crate::{
    abi::{Address, COUNTED, Conn, ConnKey, DEAD, REPLY, Word},
    tables::Tables,
};

/// Claims a connection by its forward entry, which still says `word`. `false`: somebody else was faster, or a packet came.
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
    if let Some(reply) = tables.conn(&reply_key) {
        let reply_word = Word(reply.word.load());
        if reply_word.has(REPLY) && reply_word.generation() == word.generation() {
            tables.delete_conn(&reply_key);
        }
    }
    if let Some(server) = tables.server(conn.server.load()) {
        tables.add(&server.total, u32::MAX);
        if word.has(COUNTED) {
            tables.add(&server.active, u32::MAX);
        }
    }
    tables.delete_conn(key);
}

/// Deletes a reply entry whose forward entry does not exist, once its own deadline has passed: what is left of a
/// connection whose making was interrupted.
#[inline(always)]
pub fn bury_orphan<A: Address, T: Tables<A>>(tables: &T, key: &ConnKey<A>, conn: &Conn<A>, word: Word) {
    if claim(tables, conn, word) {
        tables.delete_conn(key);
    }
}
