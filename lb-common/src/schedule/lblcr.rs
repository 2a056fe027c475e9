//! Locality-based least connection with replication: a destination address has a set of real servers, of which the least
//! loaded takes the connection. The set grows when that one has too much to do, and shrinks when it has not changed for
//! long (ip_vs_lblcr.c).

use core::marker::PhantomData;

use super::{Request, least::Measure, list, locality};
use crate::{
    abi::{Address, LBLCR_EXPIRATION, LOCALITY_SERVERS, Locality, Tick},
    tables::{Tables, Turn},
};

/// Who of a set has the least load, of those that take connections.
struct Least<'r, 's, A> {
    request: &'r Request<'s, A>,
    set: &'r Locality,
    count: u32,
    server: u32,
    measure: Measure,
}

impl<A: Address, T: Tables<A>> Turn<T> for Least<'_, '_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, tables: &T, number: usize) -> bool {
        let Some(member) = self.set.servers.get(number) else {
            return false;
        };
        let name = member.load();
        self.count += u32::from(name != 0);
        let index = locality::named(tables, self.request, name);
        let Some(server) = tables.server(index) else {
            return true;
        };
        let measure = Measure::of(server, list::offered(server));
        if index != 0 && measure.less_than(self.measure) {
            self.server = index;
            self.measure = measure;
        }
        true
    }
}

/// Which place of a set has the most load, of those that have a weight, listed or not.
struct Most<'r, 's, A> {
    request: &'r Request<'s, A>,
    set: &'r Locality,
    place: usize,
    measure: Measure,
}

impl<A: Address, T: Tables<A>> Turn<T> for Most<'_, '_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, tables: &T, number: usize) -> bool {
        let Some(member) = self.set.servers.get(number) else {
            return false;
        };
        let index = locality::named(tables, self.request, member.load());
        let Some(server) = tables.server(index) else {
            return true;
        };
        let measure = Measure::of(server, server.weight.load());
        // The first that has a weight, whatever it does, and then whoever does more.
        let more = self.measure.weight == 0 || self.measure.less_than(measure);
        if index != 0 && measure.weight > 0 && more {
            self.place = number;
            self.measure = measure;
        }
        true
    }
}

/// Looks for a real server in a set.
struct Find<'r, A> {
    set: &'r Locality,
    name: u32,
    found: bool,
    family: PhantomData<A>,
}

impl<A: Address, T: Tables<A>> Turn<T> for Find<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, _tables: &T, number: usize) -> bool {
        let Some(member) = self.set.servers.get(number) else {
            return false;
        };
        self.found = member.load() == self.name;
        !self.found
    }
}

/// Puts a real server in front of a set. Where the set is full, the one that has been in it for the longest time goes.
struct Join<'r, A> {
    set: &'r Locality,
    /// What moves one place on.
    carried: u32,
    family: PhantomData<A>,
}

impl<A: Address, T: Tables<A>> Turn<T> for Join<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, _tables: &T, number: usize) -> bool {
        let Some(member) = self.set.servers.get(number) else {
            return false;
        };
        let name = member.load();
        member.store(self.carried);
        self.carried = name;
        // Up to a place that is free.
        name != 0
    }
}

/// Takes the one with the most load out of a set.
#[inline(always)]
fn shrink<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>, set: &Locality) {
    let mut most = Most {
        request,
        set,
        place: LOCALITY_SERVERS,
        measure: Measure::INFINITE,
    };
    tables.repeat(LOCALITY_SERVERS as u32, &mut most);
    if let Some(member) = set.servers.get(most.place) {
        member.store(0);
        set.changed.store(tables.now().0);
    }
}

/// The least loaded of a destination's set, unless it has too much to do; else 0.
#[inline(always)]
fn remembered<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    known: &Locality,
) -> u32 {
    let mut least = Least {
        request,
        set: known,
        count: 0,
        server: 0,
        measure: Measure::INFINITE,
    };
    tables.repeat(LOCALITY_SERVERS as u32, &mut least);
    let unchanged = tables.now().since(Tick(known.changed.load()));
    if least.count > 1 && unchanged > locality::expiration(tables, LBLCR_EXPIRATION) {
        shrink(tables, request, known);
    }
    match tables.server(least.server) {
        Some(server) if least.server != 0 && !locality::crowded(tables, request, server) => {
            least.server
        }
        _ => 0,
    }
}

/// Has the real server with this name in the set from now on.
#[inline(always)]
fn remember<A: Address, T: Tables<A>>(tables: &T, set: &Locality, name: u32) {
    let mut find = Find {
        set,
        name,
        found: false,
        family: PhantomData::<A>,
    };
    tables.repeat(LOCALITY_SERVERS as u32, &mut find);
    if find.found {
        return;
    }
    set.changed.store(tables.now().0);
    let mut join = Join {
        set,
        carried: name,
        family: PhantomData::<A>,
    };
    tables.repeat(LOCALITY_SERVERS as u32, &mut join);
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let key = locality::key(request);
    if let Some(known) = tables.locality(&key)
        && locality::renew(tables, request, known, LBLCR_EXPIRATION)
    {
        let server = remembered(tables, request, known);
        if server != 0 {
            return server;
        }
    }
    let server = locality::anybody(tables, request);
    if server == 0 {
        return 0;
    }
    let name = locality::name(tables, server);
    // Looked up once more, instead of being carried along.
    if let Some(known) = tables.locality(&key)
        && locality::renew(tables, request, known, LBLCR_EXPIRATION)
    {
        remember(tables, known, name);
    } else {
        tables.remember_locality(&key, name);
    }
    server
}
