//! Weighted failover: the one with the highest weight (ip_vs_fo.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// The weight alone.
pub(super) struct Failover;

impl Rule for Failover {
    #[inline(always)]
    fn measure(_server: &Server, weight: u32) -> Measure {
        Measure {
            load: 1,
            weight: u64::from(weight),
        }
    }
}
