//! Power of two choices: of two real servers drawn by their weight, the one with less load for it (ip_vs_twos.c).

use super::{
    Request,
    least::Measure,
    list::{self, Visit},
};
use crate::{
    abi::{Address, Server},
    tables::Tables,
};

/// All weights together, and the last that has any.
struct Sum {
    weights: u32,
    last: u32,
}

impl Visit for Sum {
    #[inline(always)]
    fn visit(&mut self, index: u32, server: &Server) -> bool {
        let weight = list::offered(server);
        if weight != 0 {
            self.weights = self.weights.saturating_add(weight);
            self.last = index;
        }
        true
    }
}

/// A walk to a place on the line of all weights.
struct Draw {
    /// How far it still is.
    left: i64,
    /// Who is there; 0: the line has become shorter.
    server: u32,
    measure: Measure,
}

impl Visit for Draw {
    #[inline(always)]
    fn visit(&mut self, index: u32, server: &Server) -> bool {
        let weight = list::offered(server);
        self.left -= i64::from(weight);
        if weight == 0 || self.left > 0 {
            return true;
        }
        self.server = index;
        self.measure = Measure::of(server, weight);
        false
    }
}

/// Who is at a place that is drawn: the end of the line counts too, so that the first in the list is drawn a little more
/// often, as in IPVS.
#[inline(always)]
fn draw<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>, weights: u32) -> Draw {
    let place = (u64::from(tables.random()) * (u64::from(weights) + 1)) >> 32;
    let draw = Draw {
        left: place as i64,
        server: 0,
        measure: Measure::INFINITE,
    };
    list::each(tables, request.service, draw)
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let sum = Sum {
        weights: 0,
        last: 0,
    };
    let sum = list::each(tables, request.service, sum);
    if sum.last == 0 {
        return 0;
    }
    let first = draw(tables, request, sum.weights);
    let second = draw(tables, request, sum.weights);
    if second.measure.less_than(first.measure) {
        second.server
    } else if first.server != 0 {
        first.server
    } else {
        sum.last
    }
}
