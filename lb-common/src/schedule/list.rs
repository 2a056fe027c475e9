//! Walking a service's list of real servers.

use crate::{
    abi::{AVAILABLE, Address, Service},
    tables::Tables,
};

/// The most steps that one pick may take: a bound for the verifier and against a list that is being changed without
/// end, beyond any list in use.
pub(super) const STEPS: u32 = 1 << 17;

/// The real server after this one; 0 at the end. From 0 it is the head.
#[inline(always)]
pub(super) fn next<A: Address, T: Tables<A>>(tables: &T, service: &Service, server: u32) -> u32 {
    if server == 0 {
        return service.head.load();
    }
    tables.server(server).map_or(0, |server| server.next.load())
}

/// The weight that counts for scheduling: 0 if the server takes no new connections for whatever reason.
#[inline(always)]
pub(super) fn weight<A: Address, T: Tables<A>>(tables: &T, server: u32) -> u32 {
    tables.server(server).map_or(0, |server| {
        if server.flags.load() & AVAILABLE != 0 && server.overload.load() == 0 {
            server.weight.load()
        } else {
            0
        }
    })
}
