//! Walking a service's list of real servers.

use core::marker::PhantomData;

use crate::{
    abi::{AVAILABLE, Address, Server, Service},
    tables::{Tables, Turn},
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
    tables.server(server).map_or(0, offered)
}

/// The same, for a real server that has been looked up.
#[inline(always)]
pub(super) fn offered(server: &Server) -> u32 {
    if server.flags.load() & AVAILABLE != 0 && server.overload.load() == 0 {
        server.weight.load()
    } else {
        0
    }
}

/// This real server, if it is one of this service and takes new connections; else 0.
#[inline(always)]
pub(super) fn of_service<A: Address, T: Tables<A>>(tables: &T, server: u32, service: u32) -> u32 {
    match tables.server(server) {
        Some(place) if place.service.load() == service && offered(place) > 0 => server,
        _ => 0,
    }
}

/// What is done with each real server of a list.
pub(super) trait Visit {
    /// Looks at one; `false` ends the walk.
    fn visit(&mut self, index: u32, server: &Server) -> bool;
}

struct Walk<A, V> {
    at: u32,
    visitor: V,
    family: PhantomData<A>,
}

impl<A: Address, T: Tables<A>, V: Visit> Turn<T> for Walk<A, V> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        let Some(server) = tables.server(self.at) else {
            return false;
        };
        if !self.visitor.visit(self.at, server) {
            return false;
        }
        self.at = server.next.load();
        self.at != 0
    }
}

/// Shows the visitor the service's real servers, newest first, and gives it back.
#[inline(always)]
pub(super) fn each<A: Address, T: Tables<A>, V: Visit>(
    tables: &T,
    service: &Service,
    visitor: V,
) -> V {
    let mut walk = Walk {
        at: service.head.load(),
        visitor,
        family: PhantomData::<A>,
    };
    if walk.at != 0 {
        tables.repeat(STEPS, &mut walk);
    }
    walk.visitor
}
