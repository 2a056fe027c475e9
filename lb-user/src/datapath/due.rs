//! Which slots the sweep is to look at now, by the words beside them (`lb_common::conn::due`).

use lb_common::abi::{SWEEP_ASSURED, SWEEP_HALF_OPEN, SweepItem, V4};
use lb_common::conn::due;

use super::maps::Maps;
use super::sys;

/// Where the search for such slots stands.
#[derive(Debug, Default)]
pub(super) struct Dues {
    next: u32,
    behind: bool,
}

impl Dues {
    /// The next slots whose time has come, of both rings together, and at most so many.
    ///
    /// One word after the other is read, of memory that is shared with the kernel: a million in a millisecond.
    pub(super) fn over(&mut self, maps: &Maps, most: usize) -> Vec<u32> {
        let (now, count) = (sys::now(), maps.due.len());
        let mut slots = Vec::new();
        self.behind = false;
        for _ in 0..count {
            self.next = if self.next + 1 < count {
                self.next + 1
            } else {
                0
            };
            if due::passed(maps.due.at(self.next).load(), now) {
                slots.push(self.next);
                if slots.len() == most {
                    self.behind = true;
                    break;
                }
            }
        }
        slots
    }

    /// Whether there were more than were asked for, the last time.
    pub(super) const fn behind(&self) -> bool {
        self.behind
    }

    /// Leaves the others for later.
    pub(super) const fn give_up(&mut self) {
        self.behind = false;
    }
}

/// Asks the sweep to look at the connection of a slot.
pub(super) fn item(maps: &Maps, slot: u32) -> SweepItem<V4> {
    let half_open = maps.rings.half_open;
    if slot < half_open {
        SweepItem::numbered(SWEEP_HALF_OPEN, slot)
    } else {
        SweepItem::numbered(SWEEP_ASSURED, slot - half_open)
    }
}

/// Whether a slot that was looked at has no connection any more.
pub(super) fn is_free(maps: &Maps, slot: u32) -> bool {
    maps.due.at(slot).load() == 0
}
