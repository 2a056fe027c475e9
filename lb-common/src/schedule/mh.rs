//! Maglev hashing: the client's address decides, and few clients move when real servers come and go (ip_vs_mh.c).

use super::{
    Request,
    hash::{self, Place},
    table::KEY_1,
};
use crate::{
    abi::{Address, SCHEDULER_FLAG_1},
    tables::Tables,
};

/// A bucket of a prime number of them; another one for each offset.
struct Maglev;

impl Place for Maglev {
    #[inline(always)]
    fn place(input: u32, offset: u32, count: u32) -> u32 {
        hash::hsiphash(input.wrapping_add(offset), KEY_1) % count
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let elsewhere = request.service.flags.load() & SCHEDULER_FLAG_1 != 0;
    hash::pick::<Maglev, A, T>(tables, request, hash::source(request), elsewhere)
}
