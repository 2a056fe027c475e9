//! How long programs have run, by the kernel's own count (`kernel.bpf_stats_enabled`, or `BPF_ENABLE_STATS`).

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;

/// What runs of a program have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Nanoseconds of the kernel's clock.
    pub nanoseconds: u64,
    /// How many runs.
    pub runs: u64,
}

impl Spent {
    /// Of a pinned program, so far.
    ///
    /// # Errors
    ///
    /// Where there is no such program.
    pub fn of(pin: &Path) -> Result<Self> {
        let program = ProgramInfo::from_pin(pin)?.fd()?;
        let path = format!("/proc/thread-self/fdinfo/{}", program.as_fd().as_raw_fd());
        let said = fs::read_to_string(&path)?;
        read(&said).with_context(|| format!("the kernel says no run times: {said}"))
    }

    /// What has been added since an earlier look.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds - earlier.nanoseconds,
            runs: self.runs - earlier.runs,
        }
    }

    /// Nanoseconds of a run; 0 of none.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn each(self) -> f64 {
        self.nanoseconds as f64 / self.runs.max(1) as f64
    }
}

fn read(said: &str) -> Option<Spent> {
    let field = |name: &str| -> Option<u64> {
        let rest = said.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().parse().ok()
    };
    Some(Spent {
        nanoseconds: field("run_time_ns:")?,
        runs: field("run_cnt:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let said = "pos:\t0\nprog_type:\t18\nmemlock:\t4096\nrun_time_ns:\t3000\nrun_cnt:\t12\n";
        let spent = read(said).unwrap();
        let earlier = Spent {
            nanoseconds: 1000,
            runs: 2,
        };
        assert_eq!(spent.since(earlier).each(), 200.0);
        assert_eq!(read("pos:\t0\n"), None);
        assert_eq!(Spent::default().each(), 0.0);
    }
}
