//! Weighted overflow: the one with the highest weight among those that have no more active connections than their weight
//! (ip_vs_ovf.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// The weight alone, as long as it is not exceeded.
pub(super) struct Overflow;

impl Rule for Overflow {
    #[inline(always)]
    fn measure(server: &Server, weight: u32) -> Measure {
        let full = server.active.load() > weight;
        Measure {
            load: 1,
            weight: if full { 0 } else { u64::from(weight) },
        }
    }
}
