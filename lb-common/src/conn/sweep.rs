//! The sweep's part in the datapath: the daemon names candidates, this decides and deletes.

use super::{claim, find, template};
use crate::{
    abi::{Address, Be16, REPLY, SWEEP_TEMPLATE, SweepItem, Word},
    tables::Tables,
};

/// Takes the named connection apart if it may be.
#[inline(always)]
pub fn sweep<A: Address, T: Tables<A>>(tables: &T, item: &SweepItem<A>) {
    if item.key.protocol() == SWEEP_TEMPLATE {
        template::sweep(tables, item.force, item.key.sport != Be16::ZERO);
        return;
    }
    if item.force == 0 {
        // Looking for what has expired takes it apart.
        let _ = find::find(tables, &item.key, tables.now());
        return;
    }
    let Some(conn) = tables.conn(&item.key) else {
        return;
    };
    let word = Word(conn.word.load());
    if u32::from(word.generation()) + 1 != item.force {
        return;
    }
    if word.has(REPLY) {
        if tables
            .conn(&conn.to().reversed().key(item.key.scope_protocol))
            .is_none()
        {
            claim::bury_orphan(tables, &item.key, conn, word);
        }
        return;
    }
    if claim::claim(tables, conn, word) {
        claim::bury(tables, &item.key, conn, word);
    }
}
