//! The kernel's hashes, and what dh, sh and mh do with them: look up a real server in the service's table.

use core::marker::PhantomData;

use super::{Request, list};
use crate::{
    abi::{Address, Buckets},
    tables::{Tables, Turn},
};

/// `hash_32`: the upper `bits` (1 to 32) of the product with the golden ratio.
#[inline(always)]
pub const fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - bits)
}

/// `hsiphash` of a word as a 64-bit kernel has it: the lower half of SipHash-1-3, with the same word twice as the key.
#[inline(always)]
pub const fn hsiphash(value: u32, key: u64) -> u32 {
    const LENGTH: u64 = 4 << 56;
    let mut v0 = 0x736f_6d65_7073_6575 ^ key;
    let mut v1 = 0x646f_7261_6e64_6f6d ^ key;
    let mut v2 = 0x6c79_6765_6e65_7261 ^ key;
    let mut v3 = 0x7465_6462_7974_6573 ^ key;
    let block = LENGTH | value as u64;
    v3 ^= block;
    let mut round = 0;
    while round < 4 {
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        if round == 0 {
            // One round for the block; three more at the end.
            v0 ^= block;
            v2 ^= 0xff;
        }
        round += 1;
    }
    (v0 ^ v1 ^ v2 ^ v3) as u32
}

/// An address as one number: its words, by exclusive or.
#[inline(always)]
pub(super) fn fold<A: Address>(address: A) -> u32 {
    let [a, b, c, d] = address.words();
    a.get() ^ b.get() ^ c.get() ^ d.get()
}

/// How a scheduler finds its bucket.
pub(super) trait Place {
    /// The bucket of a hash's input, among `count`, `offset` places on.
    fn place(input: u32, offset: u32, count: u32) -> u32;
}

/// The real server of the service that is in this bucket, if it takes connections; else 0.
#[inline(always)]
pub(super) fn at<A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    table: Buckets,
    bucket: u32,
) -> u32 {
    if bucket >= table.count {
        return 0;
    }
    let index = tables.bucket(table.first.wrapping_add(bucket));
    list::of_service(tables, index, request.index)
}

/// The walk through the table from a bucket whose real server takes nothing.
struct Fallback<'r, 's, A, P> {
    request: &'r Request<'s, A>,
    table: Buckets,
    input: u32,
    from: u32,
    found: u32,
    places: PhantomData<P>,
}

impl<A: Address, T: Tables<A>, P: Place> Turn<T> for Fallback<'_, '_, A, P> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.nth(tables, 0)
    }

    #[inline(always)]
    fn nth(&mut self, tables: &T, number: usize) -> bool {
        let (table, number) = (self.table, number as u32);
        if number >= table.count {
            return false;
        }
        // Both are below the count: once round at most.
        let mut offset = self.from + number;
        if offset >= table.count {
            offset -= table.count;
        }
        let bucket = P::place(self.input, offset, table.count);
        self.found = at(tables, self.request, table, bucket);
        self.found == 0
    }
}

/// The real server of a hash's input. `elsewhere`: where it takes no connections, another one.
#[inline(always)]
pub(super) fn pick<P: Place, A: Address, T: Tables<A>>(
    tables: &T,
    request: &Request<'_, A>,
    input: u32,
    elsewhere: bool,
) -> u32 {
    let table = Buckets::from_word(request.service.buckets.load());
    if table.count == 0 {
        return 0;
    }
    let from = P::place(input, 0, table.count);
    let server = at(tables, request, table, from);
    if server != 0 || !elsewhere {
        return server;
    }
    let mut walk = Fallback {
        request,
        table,
        input,
        from,
        found: 0,
        places: PhantomData::<P>,
    };
    tables.repeat(list::STEPS, &mut walk);
    walk.found
}

/// What sh and mh hash: the source address, with `SCHEDULER_FLAG_2` its port too.
#[inline(always)]
pub(super) fn source<A: Address>(request: &Request<'_, A>) -> u32 {
    let port = if request.service.flags.load() & crate::abi::SCHEDULER_FLAG_2 != 0 {
        u32::from(request.key.sport.get())
    } else {
        0
    };
    fold(request.key.src).wrapping_add(port)
}
