//! The real server with the least load for its weight: what lc, wlc, sed, nq, fo and ovf have in common. They differ in
//! what they take for load and weight.

use core::marker::PhantomData;

use super::{Request, list};
use crate::{
    abi::{Address, Server},
    tables::Tables,
};

/// What real servers are compared by: the least `load / weight` is chosen. Compared by multiplication, as IPVS does, so
/// that nothing is lost in between.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    /// What it has to do.
    pub(super) load: u64,
    /// What it can do; 0: it is not chosen.
    pub(super) weight: u64,
}

impl Measure {
    /// More than any real server's.
    pub(super) const INFINITE: Self = Self { load: 1, weight: 0 };

    /// Whether it is less. Nothing without weight is less than anything.
    #[inline(always)]
    pub(super) fn less_than(self, other: Self) -> bool {
        self.load * other.weight < other.load * self.weight
    }

    /// Connections by their cost, for the weight: what wlc goes by.
    #[inline(always)]
    pub(super) fn of(server: &Server, weight: u32) -> Self {
        Self {
            load: overhead(server),
            weight: u64::from(weight),
        }
    }
}

/// What a real server's connections cost it: each one 1, and an active one 256 more (`ip_vs_dest_conn_overhead`).
#[inline(always)]
pub(super) fn overhead(server: &Server) -> u64 {
    (u64::from(server.active.load()) << 8) + u64::from(server.total.load())
}

/// What a scheduler takes for load and weight.
pub(super) trait Rule {
    /// Of a real server with this weight, which is not 0.
    fn measure(server: &Server, weight: u32) -> Measure;
}

struct Least<R> {
    server: u32,
    measure: Measure,
    rule: PhantomData<R>,
}

impl<R: Rule> list::Visit for Least<R> {
    #[inline(always)]
    fn visit(&mut self, index: u32, server: &Server) -> bool {
        let weight = list::offered(server);
        if weight == 0 {
            return true;
        }
        let measure = R::measure(server, weight);
        // Of equals the first in the list, which is the newest.
        if measure.less_than(self.measure) {
            self.server = index;
            self.measure = measure;
        }
        true
    }
}

/// The real server with the least of what the rule measures; 0 if there is none.
#[inline(always)]
pub(super) fn pick<R: Rule, A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let least = Least {
        server: 0,
        measure: Measure::INFINITE,
        rule: PhantomData::<R>,
    };
    list::each(tables, request.service, least).server
}
