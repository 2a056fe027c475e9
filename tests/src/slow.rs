//! Machines that are slower than any that bpvs is for: guests without the processor's help.

use std::sync::OnceLock;
use std::time::Duration;

/// Env variable: by how much the limits on what others may take are multiplied. Unset it is 1: nothing is.
const VARIABLE: &str = "BPVS_LAB_SLOW";

fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok();
        value
            .and_then(|value| value.parse().ok())
            .map_or(1, |factor: u32| factor.clamp(1, 100))
    })
}

/// How long something may take here that may take `usual` on a usual machine.
#[must_use]
pub fn patient(usual: Duration) -> Duration {
    usual * factor()
}
