//! Whose turn it is: what schedulers that go through the list remember of it, after a change of the list.

use lb_common::abi::Cursor;

use super::maps::Maps;
use super::services::list;
use super::{sys, words};
use crate::model::Scheduler;

/// What weighted round robin needs to know of the list, after any change of it (ip_vs_wrr_dest_changed): the cursor goes
/// back to the head, its bar stays as near as it can.
pub(super) fn weigh(maps: &Maps, at: u32) {
    let service = maps.services.at(at);
    let (mut largest, mut step) = (0, 0);
    for weight in list(maps, at)
        .map(|index| maps.servers.at(index).weight.load())
        .filter(|weight| *weight > 0)
    {
        largest = largest.max(weight);
        step = gcd(step, weight);
    }
    let start = if step == 0 { 0 } else { largest - (step - 1) };
    service.wrr_step.store(step);
    service.wrr_start.store(start);
    if words::scheduler(service.scheduler.load()) != Scheduler::WeightedRoundRobin {
        return;
    }
    sys::update64(&service.cursor, |word| {
        let bar = Cursor::from_word(word).weight;
        let weight = if bar > start || bar == 0 {
            start
        } else if step > 1 {
            bar / step * step + 1
        } else {
            bar
        };
        Some(Cursor { server: 0, weight }.word())
    });
}

const fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// After a daemon that died between taking a server out and moving the cursor.
pub(super) fn mend_cursor(maps: &Maps, service: u32, listed: &[bool]) {
    let place = maps.services.at(service);
    sys::update64(&place.cursor, |word| {
        let cursor = Cursor::from_word(word);
        let stands =
            cursor.server == 0 || listed.get(cursor.server as usize).copied().unwrap_or(false);
        (!stands).then(|| {
            let next = maps.servers.at(cursor.server).next.load();
            let before =
                list(maps, service).find(|&index| maps.servers.at(index).next.load() == next);
            Cursor {
                server: before.unwrap_or(0),
                ..cursor
            }
            .word()
        })
    });
}
