//! The sweep's part in the datapath: the daemon names candidates, this decides and deletes.

use super::{claim, due, find, template};
use crate::{
    abi::{
        Address, REPLY, SWEEP_ASSURED, SWEEP_EXPIRED, SWEEP_FORCED, SWEEP_HALF_OPEN,
        SWEEP_TEMPLATE, SWEEP_TEMPLATE_FORCED, SweepItem, Word,
    },
    tables::{Ring, Tables},
};

/// Does what is asked. `false`: nothing was, the list is at its end.
#[inline(always)]
pub fn sweep<A: Address, T: Tables<A>>(tables: &T, item: &SweepItem<A>) -> bool {
    match item.what {
        // Looking for what has expired takes it apart.
        SWEEP_EXPIRED => {
            find::find(tables, &item.key, tables.now());
        }
        SWEEP_FORCED => force(tables, item),
        SWEEP_TEMPLATE | SWEEP_TEMPLATE_FORCED => {
            template::sweep(tables, item.number, item.what == SWEEP_TEMPLATE_FORCED);
        }
        SWEEP_HALF_OPEN => due::look(tables, Ring::HalfOpen, item.number),
        SWEEP_ASSURED => due::look(tables, Ring::Assured, item.number),
        _ => return false,
    }
    true
}

/// Takes a connection apart that still is the one that was seen.
#[inline(always)]
fn force<A: Address, T: Tables<A>>(tables: &T, item: &SweepItem<A>) {
    let Some(conn) = tables.conn(&item.key) else {
        return;
    };
    let word = Word(conn.word.load());
    if u32::from(word.generation()) != item.number {
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
