//! Locality-based least connection: a destination address stays with its real server as long as that can take it, and goes
//! to the least loaded one otherwise (ip_vs_lblc.c).

use super::{Request, locality};
use crate::{
    abi::{AVAILABLE, Address, LBLC_EXPIRATION, Locality},
    tables::Tables,
};

/// The remembered real server, if it takes the connection; else 0. That it has reached its upper threshold does not matter
/// here, as in IPVS.
#[inline(always)]
fn remembered<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    known: &Locality,
) -> u32 {
    if !locality::renew(tables, request, known, LBLC_EXPIRATION) {
        return 0;
    }
    let index = locality::named(tables, request, known.servers[0].load());
    match tables.server(index) {
        Some(server)
            if index != 0
                && server.flags.load() & AVAILABLE != 0
                && server.weight.load() > 0
                && !locality::crowded(tables, request, server) =>
        {
            index
        }
        _ => 0,
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let key = locality::key(request);
    if let Some(known) = tables.locality(&key) {
        let server = remembered(tables, request, known);
        if server != 0 {
            return server;
        }
    }
    let server = locality::anybody(tables, request);
    if server != 0 {
        tables.remember_locality(&key, locality::name(tables, server));
    }
    server
}
