//! Round robin: the next real server in the list after the one chosen last (ip_vs_rr.c).

use super::{Pick, Request, list};
use crate::{
    abi::{Address, Cursor, Service},
    tables::{Tables, Turn},
};

struct Walk<'s> {
    service: &'s Service,
    at: u32,
    /// Where the walk began; once it comes here again, everyone has been asked.
    start: u32,
    wrapped: bool,
    found: u32,
}

impl<A: Address, T: Tables<A>> Turn<T> for (Walk<'_>, core::marker::PhantomData<A>) {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        let walk = &mut self.0;
        walk.at = list::next(tables, walk.service, walk.at);
        if walk.at == 0 {
            // The end of the list: once more from the head, up to where it began.
            let again = !walk.wrapped && walk.start != 0;
            walk.wrapped = true;
            return again;
        }
        if list::weight(tables, walk.at) > 0 {
            walk.found = walk.at;
            return false;
        }
        !(walk.wrapped && walk.at == walk.start)
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> Pick {
    let start = request.cursor.server;
    let mut walk = (
        Walk {
            service: request.service,
            at: start,
            start,
            wrapped: false,
            found: 0,
        },
        core::marker::PhantomData::<A>,
    );
    tables.repeat(list::STEPS, &mut walk);
    let server = walk.0.found;
    Pick {
        server,
        before: request.cursor,
        after: Cursor { server, weight: 0 },
    }
}
