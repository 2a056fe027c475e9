//! Never queue: the first that is idle, else as sed (ip_vs_nq.c).

use super::least::{Measure, Rule};
use crate::abi::Server;

/// As sed; an idle one has no load, and nothing is less than that.
pub(super) struct NeverQueue;

impl Rule for NeverQueue {
    #[inline(always)]
    fn measure(server: &Server, weight: u32) -> Measure {
        let active = u64::from(server.active.load());
        Measure {
            load: if active == 0 { 0 } else { active + 1 },
            weight: u64::from(weight),
        }
    }
}
