//! What became of the requests of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use anyhow::{Result, bail};

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// No answer in time.
    Timeout,
    /// The connection was closed before the answer was complete.
    Closed,
    /// No way there.
    Unreachable,
    /// An answer, but not the one to this request.
    WrongAnswer,
    /// Anything else; the number is the operating system's.
    Other(i32),
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Other(error.raw_os_error().unwrap_or(0)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timed out"),
            Self::Closed => f.write_str("closed early"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::WrongAnswer => f.write_str("wrong answer"),
            Self::Other(number) => write!(f, "error {number}"),
        }
    }
}

/// Who answered a request; empty for a request that has no answer by nature.
pub(super) type Answer = String;

/// The sum of a load.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Requests that were answered as they should be (one-way: that were sent).
    pub ok: u64,
    /// Requests that failed, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// Answers by task.
    pub by_task: BTreeMap<String, u64>,
    /// Connections (UDP: sockets) that were made.
    pub connections: u64,
    /// Connections that broke, or were closed without notice, by the task that had answered on them
    /// last.
    pub lost: BTreeMap<String, u64>,
    /// Refused connects that were tried again (only with [`super::Load::retry_refused`]).
    pub retried: u64,
    /// How long the load ran.
    pub took: Duration,
    /// Microseconds from request to answer, ascending.
    latencies: Vec<u32>,
}

impl Report {
    pub(super) fn note(&mut self, result: Result<Answer, Failure>, took: Duration) {
        match result {
            Ok(task) => {
                self.ok += 1;
                if !task.is_empty() {
                    *self.by_task.entry(task).or_default() += 1;
                    self.latencies
                        .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                }
            }
            Err(failure) => *self.failed.entry(failure).or_default() += 1,
        }
    }

    /// Adds another's sums to this one.
    pub fn merge(&mut self, other: Self) {
        self.ok += other.ok;
        self.connections += other.connections;
        self.retried += other.retried;
        self.took = self.took.max(other.took);
        other
            .failed
            .into_iter()
            .for_each(|(failure, count)| *self.failed.entry(failure).or_default() += count);
        other
            .by_task
            .into_iter()
            .for_each(|(task, count)| *self.by_task.entry(task).or_default() += count);
        other
            .lost
            .into_iter()
            .for_each(|(task, count)| *self.lost.entry(task).or_default() += count);
        self.latencies.extend(other.latencies);
    }

    pub(super) fn sort(&mut self) {
        self.latencies.sort_unstable();
    }

    /// Requests that failed, whatever the reason.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The latency that this share (0.0 to 1.0) of the answered requests stayed within.
    pub fn latency(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index, bounded below"
        )]
        let index = (self.latencies.len() as f64 * share) as usize;
        let micros = self
            .latencies
            .get(index.min(self.latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0);
        Duration::from_micros(micros.into())
    }

    /// An error that tells all unless every request was answered, and at least one was.
    pub fn all_answered(&self) -> Result<()> {
        if self.failures() > 0 || self.ok == 0 {
            bail!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} ok, {} failed in {seconds:.1} s over {} connections",
            self.ok,
            self.failures(),
            self.connections
        )?;
        if !self.failed.is_empty() {
            let reasons: Vec<String> = self
                .failed
                .iter()
                .map(|(failure, count)| format!("{count} {failure}"))
                .collect();
            write!(f, " ({})", reasons.join(", "))?;
        }
        if self.retried > 0 {
            write!(f, ", {} refused connects tried again", self.retried)?;
        }
        if !self.by_task.is_empty() {
            let tasks: Vec<String> = self
                .by_task
                .iter()
                .map(|(task, count)| format!("{task} {count}"))
                .collect();
            write!(f, "; answered by {}", tasks.join(", "))?;
        }
        if !self.latencies.is_empty() {
            let milliseconds = |share| self.latency(share).as_secs_f64() * 1000.0;
            write!(
                f,
                "; half within {:.2} ms, 99 % within {:.2} ms",
                milliseconds(0.5),
                milliseconds(0.99)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_clients() {
        let mut all = Report::default();
        for half in 0..2 {
            let mut one = Report::default();
            for micros in 1..=50 {
                one.note(Ok("a".into()), Duration::from_micros(half * 50 + micros));
            }
            all.merge(one);
        }
        all.sort();
        assert_eq!(all.latency(0.5), Duration::from_micros(51));
        assert_eq!(all.latency(0.99), Duration::from_micros(100));
        assert_eq!(all.latency(1.0), Duration::from_micros(100));
        assert_eq!(all.by_task["a"], 100);
        assert!(all.all_answered().is_ok());
    }

    #[test]
    fn no_request_at_all_is_not_success() {
        assert!(Report::default().all_answered().is_err());
    }
}
