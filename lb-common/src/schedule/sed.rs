//! Shortest expected delay: the one that would serve the connection soonest (ip_vs_sed.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// Active connections and the new one, for the weight.
pub(super) struct ShortestExpectedDelay;

impl Rule for ShortestExpectedDelay {
    #[inline(always)]
    fn measure(server: &Server, weight: u32) -> Measure {
        Measure {
            load: u64::from(server.active.load()) + 1,
            weight: u64::from(weight),
        }
    }
}
