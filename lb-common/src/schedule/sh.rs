//! Source hashing: the client's address decides (ip_vs_sh.c).

use super::{
    Request,
    hash::{self, Place},
    table::BITS,
};
use crate::{
    abi::{Address, SCHEDULER_FLAG_1},
    tables::Tables,
};

/// One bucket of 2^[`BITS`], and those that follow it.
struct Source;

impl Place for Source {
    #[inline(always)]
    fn place(input: u32, offset: u32, _count: u32) -> u32 {
        (offset.wrapping_add(hash::hash_32(input, BITS))) & ((1 << BITS) - 1)
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    let elsewhere = request.service.flags.load() & SCHEDULER_FLAG_1 != 0;
    hash::pick::<Source, A, T>(tables, request, hash::source(request), elsewhere)
}
