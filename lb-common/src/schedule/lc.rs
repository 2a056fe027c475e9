//! Least connection: the one with the fewest connections, whatever its weight (ip_vs_lc.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// Connections by their cost.
pub(super) struct LeastConnection;

impl Rule for LeastConnection {
    #[inline(always)]
    fn measure(server: &Server, _weight: u32) -> Measure {
        Measure::of(server, 1)
    }
}
