//! Which elements of an array map are free.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sys;

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

    /// Takes one; `None` if all are in use. While all others rest, programs that may still look at them are waited for.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.take_rested().or_else(|| {
            if self.resting.is_empty() || !sys::wait_for_programs() {
                return None;
            }
            self.free
                .extend(self.resting.drain(..).map(|(_, index)| index));
            self.free.pop()
        })
    }

    /// Takes one that is free, or has rested.
    fn take_rested(&mut self) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_given_out_again_only_when_nothing_else_is_left() {
        let mut slots = Slots::new(4, |_| false);
        assert_eq!([slots.take(), slots.take()], [Some(1), Some(2)]);
        slots.give(1);
        assert_eq!(slots.take(), Some(3));
        // All others are in use: it is waited for.
        assert_eq!(slots.take(), Some(1));
        assert_eq!(slots.take(), None);
    }
}
