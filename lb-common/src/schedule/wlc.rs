//! Weighted least connection: the one with the fewest connections for its weight (ip_vs_wlc.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// Connections by their cost, for the weight.
pub(super) struct WeightedLeastConnection;

impl Rule for WeightedLeastConnection {
    #[inline(always)]
    fn measure(server: &Server, weight: u32) -> Measure {
        Measure::of(server, weight)
    }
}
