//! Which elements of an array map are free.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long an element that was given back is not given out again: a program that is running may still look at it.
pub(super) const QUARANTINE: Duration = Duration::from_secs(2);

/// The indexes of an array, from 1: index 0 is never used.
#[derive(Debug)]
pub(super) struct Slots {
    free: Vec<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// All indexes below `entries` but those that are in use.
    pub(super) fn new(entries: u32, used: impl Fn(u32) -> bool) -> Self {
        // The lowest are given out first.
        Self {
            free: (1..entries).rev().filter(|index| !used(*index)).collect(),
            resting: VecDeque::new(),
        }
    }

    /// Takes one; `None` if all are in use or resting.
    pub(super) fn take(&mut self) -> Option<u32> {
        while let Some((since, index)) = self.resting.front().copied() {
            if since.elapsed() < QUARANTINE {
                break;
            }
            self.resting.pop_front();
            self.free.push(index);
        }
        self.free.pop()
    }

    /// Gives one back.
    pub(super) fn give(&mut self, index: u32) {
        self.resting.push_back((Instant::now(), index));
    }
}
