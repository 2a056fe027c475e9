//! Processes, told apart for certain: a process id is used again, a process id with its start time
//! is not.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// One process, for good: its id and the time at which it started (clock ticks since boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    started: u64,
}

impl Process {
    /// The process that has this id now, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            started: start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
        })
    }

    /// This program.
    pub fn own() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Self::of(pid).unwrap_or(Self { pid, started: 0 })
    }

    /// Whether it still runs (a process that ended and is only not yet waited for does not).
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self) && !is_zombie(self.pid)
    }

    /// The processor time that all of its threads have had.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_time(self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        if Self::of(self.pid) != Some(self) {
            bail!("process {} has ended", self.pid);
        }
        let ticks = ticks(&stat).with_context(|| format!("{path} is strange: {stat}"))?;
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
        let per_second = u32::try_from(per_second.unwrap_or(100))?;
        Ok(Duration::from_secs(ticks) / per_second)
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(self, signal: Signal) {
        if Self::of(self.pid) == Some(self) {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it and, when it is a child of ours, waits until it is gone.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        // Not a child of ours: ECHILD at once, and its own parent waits for it.
        while let Ok(WaitStatus::StillAlive) =
            waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

impl FromStr for Process {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (pid, started) = line.trim().split_once(' ').ok_or(())?;
        Ok(Self {
            pid: pid.parse().map_err(|_| ())?,
            started: started.parse().map_err(|_| ())?,
        })
    }
}

/// Field 22 of /proc/PID/stat. The name in field 2 may hold spaces and brackets, so counting starts
/// behind its last bracket.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// The sum of fields 14 and 15 of /proc/PID/stat: clock ticks in user mode and in the kernel.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| rest.starts_with('Z'))
        })
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_an_odd_name() {
        let mut stat = String::from("17 (a) b (c)) S");
        for field in 4..=52 {
            stat.push_str(&format!(" {field}"));
        }
        assert_eq!(start_time(&stat), Some(22));
        assert_eq!(ticks(&stat), Some(14 + 15));
    }

    #[test]
    fn own_process_is_alive_and_survives_its_text_form() {
        let own = Process::own();
        assert!(own.is_alive());
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
    }
}
