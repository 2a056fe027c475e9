//! What lblc and lblcr have in common: they remember which real servers serve a destination address, so that each has the
//! same content again and again.

use super::{
    Request, least,
    list::{self, Visit},
    wlc::WeightedLeastConnection,
};
use crate::{
    abi::{Address, EXPIRATION, Locality, LocalityKey, Server, Tick},
    tables::Tables,
};

/// Ticks after which a destination that nobody asked for is forgotten: `lblc_expiration` or `lblcr_expiration`, by its
/// place in the scope's timeouts.
#[inline(always)]
pub(super) fn expiration<A: Address, T: Tables<A>>(tables: &T, place: usize) -> i32 {
    tables
        .scope()
        .map_or(Tick::from_secs(EXPIRATION).0, |scope| scope.timeouts[place])
        .cast_signed()
}

/// By what the packet's destination is found.
#[inline(always)]
pub(super) fn key<A: Address>(request: &Request<'_, A>) -> LocalityKey<A> {
    LocalityKey {
        address: request.key.dst,
        service: request.index,
    }
}

/// Whether what is remembered still counts. Then it is used now.
#[inline(always)]
pub(super) fn renew<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    known: &Locality,
    place: usize,
) -> bool {
    let (now, used) = (tables.now(), known.used.load());
    let bound = Tick(request.service.bound.load());
    let counts = Tick(used).since(bound) >= 0 && now.since(Tick(used)) < expiration(tables, place);
    if counts {
        known.used.store(now.0);
    }
    counts
}

/// The real server with this name, if it is still there and one of the service's, listed or not; else 0.
#[inline(always)]
pub(super) fn named<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    name: u32,
) -> u32 {
    let index = Server::index(name);
    match tables.server(index) {
        Some(server)
            if index != 0
                && server.name(index) == name
                && server.service.load() == request.index =>
        {
            index
        }
        _ => 0,
    }
}

/// The name of a real server.
#[inline(always)]
pub(super) fn name<A: Address, T: Tables<A>>(tables: &T, index: u32) -> u32 {
    tables.server(index).map_or(0, |server| server.name(index))
}

/// Whether somebody in the list has less than half of the connections that its weight stands for.
struct Idle {
    found: bool,
}

impl Visit for Idle {
    #[inline(always)]
    fn visit(&mut self, _index: u32, server: &Server) -> bool {
        self.found = u64::from(server.active.load()) * 2 < u64::from(server.weight.load());
        !self.found
    }
}

/// Whether this real server has more connections than its weight stands for while another one is idle: the remembered one
/// is then left for another.
#[inline(always)]
pub(super) fn crowded<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    server: &Server,
) -> bool {
    server.active.load() > server.weight.load()
        && list::each(tables, request.service, Idle { found: false }).found
}

/// The least loaded of all.
#[inline(always)]
pub(super) fn anybody<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    least::pick::<WeightedLeastConnection, A, T>(tables, request)
}
