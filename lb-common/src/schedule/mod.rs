//! Which real server takes a new connection: IPVS's schedulers, one file each.
//!
//! A scheduler looks at its service and at the packet, chooses, and says where the service's cursor would then stand. The
//! cursor is moved by compare-and-swap when the connection has really been made; if another processor was faster the choice
//! is made again.

mod list;
mod rr;
mod wrr;

use crate::{
    abi::{Address, ConnKey, Cursor, SCHEDULER_RR, SCHEDULER_WRR, Service},
    conn::create::Scratch,
    tables::Tables,
};

/// What a scheduler looks at.
#[derive(Clone, Copy)]
pub struct Request<'s, A> {
    /// The service.
    pub service: &'s Service,
    /// Its index.
    pub index: u32,
    /// Its cursor.
    pub cursor: Cursor,
    /// The addresses and ports of the packet.
    pub key: ConnKey<A>,
}

impl<'s, A: Address> Request<'s, A> {
    /// For a packet with this key and the service at `index`, as it stands.
    #[inline(always)]
    pub fn new(service: &'s Service, index: u32, key: ConnKey<A>) -> Self {
        Self {
            service,
            index,
            cursor: Cursor::from_word(service.cursor.load()),
            key,
        }
    }
}

/// A real server chosen for a connection that is yet to be made. Plain fields, always set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Index of the real server; 0: none takes connections.
    pub server: u32,
    /// The cursor that the choice rests on.
    pub before: Cursor,
    /// The cursor once the connection is made.
    pub after: Cursor,
}

impl Pick {
    /// This real server (0: none), by a scheduler that has no cursor.
    #[inline(always)]
    pub(crate) const fn without_cursor(server: u32) -> Self {
        let cursor = Cursor {
            server: 0,
            weight: 0,
        };
        Self {
            server,
            before: cursor,
            after: cursor,
        }
    }
}

/// Chooses a real server for the connection that is noted in `scratch`, and notes it there. `false`: none takes
/// connections.
#[inline(always)]
pub fn choose<A: Address, T: Tables<A>>(
    tables: &T,
    service: &Service,
    scratch: &Scratch<A>,
) -> bool {
    let request = Request::new(service, scratch.service.load(), scratch.forward_key.load());
    let pick = pick(tables, &request);
    scratch.server.store(pick.server);
    scratch.before.store(pick.before.word());
    scratch.after.store(pick.after.word());
    pick.server != 0
}

/// Chooses a real server.
#[inline(always)]
pub fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> Pick {
    match request.service.scheduler.load() {
        SCHEDULER_RR => rr::pick(tables, request),
        SCHEDULER_WRR => wrr::pick(tables, request),
        _ => Pick::without_cursor(0),
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
