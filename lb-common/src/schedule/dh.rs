//! Destination hashing: the packet's destination address decides (ip_vs_dh.c). Of use for fwmark services, whose packets
//! have many.

use super::{
    Request,
    hash::{self, Place},
    table::BITS,
};
use crate::{abi::Address, tables::Tables};

/// One bucket of 2^[`BITS`]; nobody asks for another one.
struct Destination;

impl Place for Destination {
    #[inline(always)]
    fn place(input: u32, _offset: u32, _count: u32) -> u32 {
        hash::hash_32(input, BITS)
    }
}

#[inline(always)]
pub(super) fn pick<A: Address, T: Tables<A>>(tables: &T, request: &Request<'_, A>) -> u32 {
    hash::pick::<Destination, A, T>(tables, request, hash::fold(request.key.dst), false)
}
