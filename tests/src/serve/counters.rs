//! What a server has seen.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one server since it started.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicU64,
    datagrams: AtomicU64,
}

/// Counts something for as long as it lives.
pub(super) struct While<'a>(&'a AtomicU64);

impl Drop for While<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// One more connection.
    pub(super) fn connection(&self) -> While<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        While(&self.open)
    }

    /// One more request.
    pub(super) fn request(&self) -> While<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        While(&self.in_flight)
    }

    /// One more datagram.
    pub(super) fn datagram(&self) {
        self.datagrams.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// All of them, a line each: name and value.
    pub fn text(&self) -> String {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "accepted {}\nopen {}\nrequests {}\nin-flight {}\ndatagrams {}\n",
            value(&self.accepted),
            value(&self.open),
            value(&self.requests),
            value(&self.in_flight),
            value(&self.datagrams)
        )
    }
}
