//! Weighted round robin: rounds with a falling bar; who reaches the bar is chosen, in list order (ip_vs_wrr.c).
//!
//! The bar starts at the largest weight less (step - 1), falls by the step (the greatest common divisor of the weights) at
//! each end of the list, and starts again below one. The daemon keeps start and step with every change of the list.

use super::{Pick, Request, list};
use crate::{
    abi::{Address, Cursor, Service},
    tables::{Tables, Turn},
};

struct Walk<'s> {
    service: &'s Service,
    at: u32,
    bar: u32,
    start: u32,
    step: u32,
    /// The bar has come round to its start: a second time means that nobody takes connections. Not a count: the verifier
    /// would follow each of its values. Not a `bool`: it would take one that comes from the stack for any byte.
    wrapped: u32,
    found: u32,
}

impl<A: Address, T: Tables<A>> Turn<T> for (Walk<'_>, core::marker::PhantomData<A>) {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        let walk = &mut self.0;
        walk.at = list::next(tables, walk.service, walk.at);
        if walk.at == 0 {
            if walk.bar > walk.step {
                walk.bar -= walk.step;
                return true;
            }
            walk.bar = walk.start;
            let again = walk.wrapped == 0;
            walk.wrapped = 1;
            return again;
        }
        let weight = list::weight(tables, walk.at);
        if weight > 0 && weight >= walk.bar {
            walk.found = walk.at;
            return false;
        }
        true
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> Pick {
    let cursor = request.cursor;
    let start = request.service.wrr_start.load();
    let step = request.service.wrr_step.load();
    if start == 0 || step == 0 {
        return Pick::without_cursor(0);
    }
    let bar = if cursor.weight == 0 {
        start
    } else {
        cursor.weight
    };
    let mut walk = (
        Walk {
            service: request.service,
            at: cursor.server,
            bar,
            start,
            step,
            wrapped: 0,
            found: 0,
        },
        core::marker::PhantomData::<A>,
    );
    tables.repeat(list::STEPS, &mut walk);
    let Walk {
        found: server, bar, ..
    } = walk.0;
    if server == 0 {
        return Pick::without_cursor(0);
    }
    Pick {
        server,
        before: cursor,
        after: Cursor {
            server,
            weight: bar,
        },
    }
}
