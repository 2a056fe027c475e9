//! Which real server takes a new connection: IPVS's schedulers, one file each.
//!
//! A scheduler looks at its service's cursor, chooses, and says where the cursor would then stand. The cursor is moved by
//! compare-and-swap when the connection has really been made; if another processor was faster the choice is made again.

mod list;
mod rr;
mod wrr;

use crate::{
    abi::{Address, Cursor, SCHEDULER_WRR, Service},
    tables::Tables,
};

/// A real server chosen for a connection that is yet to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Index of the real server.
    pub server: u32,
    /// The cursor that the choice rests on.
    pub before: Cursor,
    /// The cursor once the connection is made.
    pub after: Cursor,
}

/// Chooses a real server; `None` if none takes connections.
#[inline(always)]
pub fn pick<A: Address, T: Tables<A>>(tables: &T, service: &Service) -> Option<Pick> {
    let cursor = Cursor::from_word(service.cursor.load());
    match service.scheduler.load() {
        SCHEDULER_WRR => wrr::pick(tables, service, cursor),
        _ => rr::pick(tables, service, cursor),
    }
}

/// Moves the cursor. `false`: the choice rests on an older cursor and must be made again.
#[inline(always)]
pub fn commit<A: Address, T: Tables<A>>(tables: &T, service: &Service, pick: &Pick) -> bool {
    pick.before == pick.after
        || tables
            .swap(&service.cursor, pick.before.word(), pick.after.word())
            .is_ok()
}
