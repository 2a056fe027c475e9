//! What a workload costs in processor time: that of this process, which is client, server and, in its system calls, the whole
//! way through the director, and that of the kernel's threads that take over from it where packets are many.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// Processor time at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Spent(Duration);

impl Spent {
    /// Now.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say it.
    pub fn now() -> Result<Self> {
        let own: Duration = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into();
        Ok(Self(own + threads()?))
    }

    /// What has been spent since.
    ///
    /// # Errors
    ///
    /// As [`Self::now`].
    pub fn elapsed(self) -> Result<Duration> {
        Ok(Self::now()?.0.saturating_sub(self.0))
    }
}

/// What `ksoftirqd` of all processors has spent.
fn threads() -> Result<Duration> {
    static THREADS: OnceLock<Vec<String>> = OnceLock::new();
    let mut all = Duration::ZERO;
    for path in THREADS.get_or_init(find) {
        let said = fs::read_to_string(path)?;
        let first = said.split_whitespace().next();
        let nanoseconds = first.and_then(|word| word.parse().ok());
        all += Duration::from_nanos(nanoseconds.with_context(|| format!("{path}: {said}"))?);
    }
    Ok(all)
}

/// A kernel that does not say what threads spend has none of these files.
fn find() -> Vec<String> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let paths = folder.flatten().map(|entry| entry.path());
    paths
        .filter(|path| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .map(|path| path.join("schedstat"))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spent_and_sleep_is_not() {
        let spent = Spent::now().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let begun = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        let own = || -> Duration {
            Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap()) - begun.into()
        };
        while own() < Duration::from_millis(5) {}
        assert!(spent.elapsed().unwrap() >= Duration::from_millis(5));
    }
}
