//! The tables of dh, sh and mh: blocks of the buckets map.
//!
//! A table is as long as its scheduler says, so a service keeps its block for as long as it keeps its scheduler, and a
//! change of its servers is written into the block bucket by bucket, as IPVS does: a choice looks at one bucket, and sees
//! what was there or what comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use lb_common::abi::{Address as _, Buckets, SCHEDULER_MH, V4};
use lb_common::schedule::table::{self, Entry, MAGLEV};

use super::DatapathError;
use super::maps::Maps;
use super::services::list;
use super::slots::QUARANTINE;
use super::sys;

/// Which parts of the map are in use.
#[derive(Debug)]
pub(super) struct Blocks {
    room: u32,
    /// By the first bucket: how many.
    taken: BTreeMap<u32, u32>,
    /// Given back, but a program that is running may still look at it.
    resting: VecDeque<(Instant, u32)>,
}

impl Blocks {
    /// All of a map with so many buckets is free.
    pub(super) fn new(room: u32) -> Self {
        Self {
            room,
            taken: BTreeMap::new(),
            resting: VecDeque::new(),
        }
    }

    /// Takes up a block that an earlier daemon gave out. `false`: there is none, or it is not as a block of this scheduler
    /// must be.
    pub(super) fn adopt(&mut self, block: Buckets, scheduler: u8) -> bool {
        let count = table::buckets(scheduler);
        let end = block.first.checked_add(block.count);
        let fits = block.count == count && end.is_some_and(|end| end <= self.room);
        if count == 0 || !fits || !self.free(block) {
            return false;
        }
        self.taken.insert(block.first, count);
        true
    }

    /// Takes a block for this scheduler; one without a table needs none, and gets the empty block.
    pub(super) fn take(&mut self, scheduler: u8) -> Result<Buckets, DatapathError> {
        let count = table::buckets(scheduler);
        if count == 0 {
            return Ok(Buckets { first: 0, count });
        }
        while let Some((since, first)) = self.resting.front().copied() {
            if since.elapsed() < QUARANTINE {
                break;
            }
            self.resting.pop_front();
            self.taken.remove(&first);
        }
        let ends = self.taken.iter().map(|(first, count)| first + count);
        let block = std::iter::once(0)
            .chain(ends)
            .map(|first| Buckets { first, count })
            .find(|block| block.first + count <= self.room && self.free(*block))
            .ok_or(DatapathError::Full {
                what: "hash tables",
                limit: u64::from(self.room / count),
                hint: "schedulers other than dh, sh and mh need no table",
            })?;
        self.taken.insert(block.first, count);
        Ok(block)
    }

    /// Gives a block back.
    pub(super) fn give(&mut self, block: Buckets) {
        if block.count != 0 {
            self.resting.push_back((Instant::now(), block.first));
        }
    }

    /// Whether nobody has any part of it.
    fn free(&self, block: Buckets) -> bool {
        let before = self.taken.range(..block.first + block.count).next_back();
        before.is_none_or(|(first, count)| first + count <= block.first)
    }
}

/// Whether the table of this scheduler has room for so many servers. Who has no bucket gets no connections: mh refuses
/// more than it has buckets, as IPVS does.
pub(super) fn check(scheduler: u8, servers: usize) -> Result<(), DatapathError> {
    if scheduler == SCHEDULER_MH && servers > MAGLEV as usize {
        return Err(DatapathError::Full {
            what: "servers of a service with the scheduler mh",
            limit: u64::from(MAGLEV),
            hint: "other schedulers have no such limit",
        });
    }
    Ok(())
}

/// Writes who is in which bucket, for the servers in the service's list.
pub(super) fn fill(maps: &Maps, service: u32, scheduler: u8, block: Buckets) {
    if block.count == 0 {
        return;
    }
    let mut servers: Vec<Entry> = list(maps, service)
        .map(|index| {
            let server = maps.servers.at(index);
            Entry::new(
                index,
                V4::from_words(server.address.load()),
                server.port.load(),
                server.weight.load(),
                server.last_weight.load(),
            )
        })
        .collect();
    let mut filled = vec![0; block.count as usize];
    table::fill(scheduler, &mut servers, &mut filled);
    for (bucket, server) in (block.first..).zip(filled) {
        let place = maps.buckets.at(bucket);
        if place.load() != u64::from(server) {
            place.store(u64::from(server));
        }
    }
}

/// The servers of the service have changed: its table follows.
pub(super) fn refill(maps: &Maps, service: u32) {
    let place = maps.services.at(service);
    let block = Buckets::from_word(place.buckets.load());
    fill(maps, service, place.scheduler.load(), block);
}

/// Takes up the tables of these services. What a daemon that died in between has left is made whole.
pub(super) fn adopt(
    maps: &Maps,
    services: impl Iterator<Item = u32> + Clone,
) -> Result<Blocks, DatapathError> {
    let mut blocks = Blocks::new(maps.buckets.len());
    let scheduler = |at: u32| maps.services.at(at).scheduler.load();
    let (whole, broken): (Vec<u32>, Vec<u32>) = services.partition(|&at| {
        let block = Buckets::from_word(maps.services.at(at).buckets.load());
        blocks.adopt(block, scheduler(at))
    });
    for at in broken {
        let block = blocks.take(scheduler(at))?;
        fill(maps, at, scheduler(at), block);
        sys::atomic64(&maps.services.at(at).buckets).store(block.word(), Ordering::SeqCst);
    }
    for at in whole {
        refill(maps, at);
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use lb_common::abi::{SCHEDULER_RR, SCHEDULER_SH};

    use super::*;

    fn overlap(a: Buckets, b: Buckets) -> bool {
        a.first < b.first + b.count && b.first < a.first + a.count
    }

    #[test]
    fn blocks_are_apart_and_inside_of_the_map() {
        let mut blocks = Blocks::new(10_000);
        let schedulers = [SCHEDULER_SH, SCHEDULER_MH, SCHEDULER_SH, SCHEDULER_MH];
        let taken = schedulers.map(|scheduler| blocks.take(scheduler).unwrap());
        for (place, block) in taken.iter().enumerate() {
            assert!(block.first + block.count <= 10_000, "{block:?}");
            assert!(
                taken[..place].iter().all(|other| !overlap(*other, *block)),
                "{taken:?}"
            );
        }
        let error = blocks.take(SCHEDULER_MH).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no room for more hash tables: the limit is 2"
        );
        assert_eq!(blocks.take(SCHEDULER_SH).unwrap().count, 256);
        assert_eq!(blocks.take(SCHEDULER_RR).unwrap().count, 0);
    }

    #[test]
    fn mh_has_as_many_servers_as_buckets() {
        assert!(check(SCHEDULER_MH, 4093).is_ok());
        let error = check(SCHEDULER_MH, 4094).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no room for more servers of a service with the scheduler mh: the limit is 4093"
        );
        assert!(check(SCHEDULER_SH, 4094).is_ok());
    }

    #[test]
    fn a_block_that_was_given_back_rests_and_is_then_used_again() {
        let mut blocks = Blocks::new(256);
        let block = blocks.take(SCHEDULER_SH).unwrap();
        blocks.give(block);
        assert!(blocks.take(SCHEDULER_SH).is_err());
        let long_ago = Instant::now().checked_sub(QUARANTINE).unwrap();
        blocks
            .resting
            .iter_mut()
            .for_each(|(since, _)| *since = long_ago);
        assert_eq!(blocks.take(SCHEDULER_SH).unwrap(), block);
    }

    #[test]
    fn a_gap_is_filled_where_it_is_large_enough() {
        let mut blocks = Blocks::new(256 * 4);
        let [a, b, c] = [(); 3].map(|()| blocks.take(SCHEDULER_SH).unwrap());
        assert!(blocks.take(SCHEDULER_MH).is_err());
        let (mut other, half) = (
            Blocks::new(256 * 4),
            Buckets {
                first: 128,
                count: 256,
            },
        );
        assert!(other.adopt(half, SCHEDULER_SH));
        let [d, e] = [(); 2].map(|()| other.take(SCHEDULER_SH).unwrap());
        assert_eq!((d.first, e.first), (384, 640));
        assert!(other.take(SCHEDULER_SH).is_err());
        assert!(
            [a, b, c]
                .iter()
                .all(|block| !blocks.adopt(*block, SCHEDULER_SH))
        );
    }

    #[test]
    fn what_cannot_be_a_block_is_not_adopted() {
        let mut blocks = Blocks::new(1000);
        let block = |first, count| Buckets { first, count };
        for (wrong, scheduler) in [
            (block(0, 0), SCHEDULER_SH),
            (block(0, 255), SCHEDULER_SH),
            (block(0, 256), SCHEDULER_MH),
            (block(0, 256), SCHEDULER_RR),
            (block(900, 256), SCHEDULER_SH),
            (block(u32::MAX, 256), SCHEDULER_SH),
        ] {
            assert!(!blocks.adopt(wrong, scheduler), "{wrong:?}");
        }
        assert!(blocks.adopt(block(100, 256), SCHEDULER_SH));
        assert!(!blocks.adopt(block(355, 256), SCHEDULER_SH));
        assert!(!blocks.adopt(block(0, 256), SCHEDULER_SH));
        assert!(blocks.adopt(block(356, 256), SCHEDULER_SH));
    }
}
