//! The tables of dh, sh and mh: how large they are, and who is in which bucket. The daemon fills them.

use super::hash::hsiphash;
use crate::abi::{Address, Be16, SCHEDULER_DH, SCHEDULER_MH, SCHEDULER_SH};

/// Bits of a bucket's number in the tables of dh and sh: `IP_VS_DH_TAB_BITS`, `IP_VS_SH_TAB_BITS`.
pub const BITS: u32 = 8;
/// Buckets of the table of mh, a prime: what `CONFIG_IP_VS_MH_TAB_INDEX` 12 stands for.
pub const MAGLEV: u32 = 4093;
/// Bits of the most turns in a row that a real server takes when the table of mh is filled: `IP_VS_MH_TAB_BITS`.
const TURN_BITS: u32 = 6;
/// The key of mh's hash of clients, and of the place where a real server's walk through the table begins.
pub(super) const KEY_1: u64 = 2_654_435_761;
/// The key of the hash that gives the steps of that walk.
const KEY_2: u64 = 2_654_446_892;

/// How many buckets the table of a scheduler has; 0: it has no table.
#[must_use]
pub const fn buckets(scheduler: u8) -> u32 {
    match scheduler {
        SCHEDULER_DH | SCHEDULER_SH => 1 << BITS,
        SCHEDULER_MH => MAGLEV,
        _ => 0,
    }
}

/// A real server that is to be put into a table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its index.
    pub index: u32,
    /// Its weight.
    pub weight: u32,
    /// Its last weight that was not 0.
    pub last_weight: u32,
    /// mh: the bucket that its walk stands on, how far a step goes, and how many buckets it takes in a row.
    at: u32,
    step: u32,
    turns: u32,
}

impl Entry {
    /// A real server at this address and port.
    pub fn new<A: Address>(
        index: u32,
        address: A,
        port: Be16,
        weight: u32,
        last_weight: u32,
    ) -> Self {
        let input = super::hash::fold(address).wrapping_add(u32::from(port.get()));
        Self {
            index,
            weight,
            last_weight,
            at: hsiphash(input, KEY_1) % MAGLEV,
            step: hsiphash(input, KEY_2) % (MAGLEV - 1) + 1,
            turns: 0,
        }
    }
}

/// Fills a table with the real servers of a service, which are given in the order of its list, newest first. The table is
/// as long as [`buckets`] says for this scheduler; where nobody comes to be, it is 0.
pub fn fill(scheduler: u8, servers: &mut [Entry], table: &mut [u32]) {
    table.fill(0);
    match scheduler {
        SCHEDULER_DH => in_turn(servers, table, |_| 1),
        SCHEDULER_SH => in_turn(servers, table, |server| server.weight.max(1)),
        SCHEDULER_MH => maglev(servers, table),
        _ => {}
    }
}

/// One after the other, each as many buckets as `turns` says, and so on from the first again.
fn in_turn(servers: &[Entry], table: &mut [u32], turns: impl Fn(&Entry) -> u32) {
    let each = servers.iter().flat_map(|server| {
        let turns = turns(server) as usize;
        core::iter::repeat_n(server.index, turns)
    });
    // Without servers the cycle is empty, and so is the table.
    for (bucket, index) in table.iter_mut().zip(each.cycle()) {
        *bucket = index;
    }
}

/// Each real server walks through the table in steps of its own, and takes the buckets that it finds free; one after the
/// other, as often in a row as its weight says.
fn maglev(servers: &mut [Entry], table: &mut [u32]) {
    let weights = || servers.iter().map(|server| server.last_weight);
    let divisor = weights().filter(|weight| *weight > 0).fold(0, gcd);
    if divisor == 0 {
        return;
    }
    let highest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - highest.leading_zeros()).saturating_sub(TURN_BITS);
    for server in servers.iter_mut() {
        // One that never had a weight has no place at all.
        let least = u32::from(server.last_weight > 0);
        server.turns = ((server.last_weight / divisor) >> shift).max(least);
    }
    let length = table.len() as u32;
    let mut left = length;
    while left > 0 {
        for server in servers.iter_mut() {
            for _ in 0..server.turns.min(left) {
                while table[server.at as usize] != 0 {
                    server.at = (server.at + server.step) % length;
                }
                table[server.at as usize] = server.index;
                left -= 1;
            }
        }
    }
}

/// The greatest common divisor.
const fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
