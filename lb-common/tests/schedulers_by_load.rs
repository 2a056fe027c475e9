//! The schedulers that compare real servers by their load, against IPVS's rules written down once more: over a vector,
//! by the rational numbers that they compare. Real servers come, go, fill up and change weight between picks.

use std::cmp::Ordering;

use lb_common::{
    abi::{
        AVAILABLE, ConnKey, SCHEDULER_FO, SCHEDULER_LC, SCHEDULER_NONE, SCHEDULER_NQ,
        SCHEDULER_OVF, SCHEDULER_SED, SCHEDULER_TWOS, SCHEDULER_WLC, V4,
    },
    host::{Capacity, Memory, ServerSpec, ServiceSpec},
    schedule::{self, Request},
    tables::Tables as _,
};
use proptest::prelude::*;

/// What happens to a service.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A real server with this weight is added.
    Add(u32),
    /// One of them is removed.
    Remove(usize),
    /// One of them gets this weight.
    Weight(usize, u32),
    /// One of them has so many connections, this many of them active.
    Load(usize, u32, u32),
    /// One of them reaches its upper threshold, or comes below the lower one.
    Full(usize, bool),
    /// A connection comes.
    Connection,
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![Just(0_u32), Just(1), 1..5_u32, Just(1000), Just(65535)];
    let which = any::<usize>();
    // Few values, so that there are ties; and some as great as they come.
    let count = prop_oneof![8 => 0..4_u32, 2 => 254..260_u32, 1 => Just(1 << 20)];
    prop_oneof![
        3 => weight.clone().prop_map(Step::Add),
        1 => which.prop_map(Step::Remove),
        2 => (which, weight).prop_map(|(which, weight)| Step::Weight(which, weight)),
        6 => (which, count.clone(), count)
            .prop_map(|(which, active, inactive)| Step::Load(which, active + inactive, active)),
        1 => (which, any::<bool>()).prop_map(|(which, full)| Step::Full(which, full)),
        6 => Just(Step::Connection),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Real {
    name: u32,
    weight: u32,
    total: u32,
    active: u32,
    full: bool,
}

impl Real {
    fn overhead(&self) -> u128 {
        256 * u128::from(self.active) + u128::from(self.total)
    }

    fn candidate(&self) -> bool {
        self.weight > 0 && !self.full
    }
}

/// Compares two fractions.
fn fractions(a: (u128, u32), b: (u128, u32)) -> Ordering {
    (a.0 * u128::from(b.1)).cmp(&(b.0 * u128::from(a.1)))
}

/// The first of the least, as `Iterator::min_by` has it.
fn least<'r>(
    list: impl Iterator<Item = &'r Real>,
    by: impl Fn(&Real) -> (u128, u32),
) -> Option<&'r Real> {
    list.min_by(|a, b| fractions(by(a), by(b)))
}

/// Who takes the next connection, by IPVS's rule.
fn wanted(scheduler: u8, list: &[Real]) -> u32 {
    let candidates = || list.iter().filter(|real| real.candidate());
    let delay = |real: &Real| (u128::from(real.active) + 1, real.weight);
    let chosen = match scheduler {
        SCHEDULER_LC => least(candidates(), |real| (real.overhead(), 1)),
        SCHEDULER_WLC => least(candidates(), |real| (real.overhead(), real.weight)),
        SCHEDULER_SED => least(candidates(), delay),
        SCHEDULER_NQ => candidates()
            .find(|real| real.active == 0)
            .or_else(|| least(candidates(), delay)),
        // Reversed: of several that are highest `max_by_key` would give the last.
        SCHEDULER_FO => candidates().rev().max_by_key(|real| real.weight),
        SCHEDULER_OVF => candidates()
            .rev()
            .filter(|real| real.active <= real.weight)
            .max_by_key(|real| real.weight),
        _ => None,
    };
    chosen.map_or(0, |real| real.name)
}

fn service(scheduler: u8) -> (Memory<V4>, u32) {
    let capacity = Capacity {
        objects: 300,
        ..Capacity::default()
    };
    let mut memory: Memory<V4> = Memory::new(1, capacity);
    let mut spec = ServiceSpec::address(6, V4::new([10, 0, 0, 100]), 80);
    spec.scheduler = scheduler;
    let service = memory.add_service(&spec).expect("room for a service");
    (memory, service)
}

fn add(memory: &mut Memory<V4>, service: u32, weight: u32) -> Option<u32> {
    let spec = ServerSpec {
        address: V4::new([10, 0, 1, 1]),
        port: 80,
        weight,
    };
    memory.add_server(service, &spec)
}

fn pick(memory: &Memory<V4>, service: u32) -> u32 {
    let place = memory.service(service).expect("the service");
    let key = ConnKey {
        src: V4::new([10, 0, 0, 1]),
        dst: V4::new([10, 0, 0, 100]),
        ..ConnKey::default()
    };
    let pick = schedule::pick(memory, &Request::new(place, service, key));
    assert!(
        schedule::commit(memory, place, &pick),
        "there is no cursor that another processor could have moved"
    );
    pick.server
}

fn load(memory: &Memory<V4>, name: u32, total: u32, active: u32, full: bool) {
    let place = memory.server(name).expect("the real server");
    place.total.store(total);
    place.active.store(active);
    place.overload.store(u32::from(full));
}

fn against_the_rule(scheduler: u8, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut memory, service) = service(scheduler);
    let mut list: Vec<Real> = Vec::new();
    for step in steps {
        let any = list.len().max(1);
        match *step {
            Step::Add(weight) => {
                let Some(name) = add(&mut memory, service, weight) else {
                    continue;
                };
                load(&memory, name, 0, 0, false);
                list.insert(
                    0,
                    Real {
                        name,
                        weight,
                        total: 0,
                        active: 0,
                        full: false,
                    },
                );
            }
            Step::Connection => {
                let chosen = pick(&memory, service);
                prop_assert_eq!(chosen, wanted(scheduler, &list), "{:?}", list);
                // It stays: what comes next is chosen under another load.
                if let Some(real) = list.iter_mut().find(|real| real.name == chosen) {
                    real.total += 1;
                    real.active += 1;
                    load(&memory, real.name, real.total, real.active, real.full);
                }
            }
            _ if list.is_empty() => {}
            Step::Remove(which) => {
                let gone = list.remove(which % any);
                memory.remove_server(gone.name);
            }
            Step::Weight(which, weight) => {
                let real = &mut list[which % any];
                real.weight = weight;
                memory.set_weight(real.name, weight);
            }
            Step::Load(which, total, active) => {
                let real = &mut list[which % any];
                (real.total, real.active) = (total, active);
                load(&memory, real.name, real.total, real.active, real.full);
            }
            Step::Full(which, full) => {
                let real = &mut list[which % any];
                real.full = full;
                load(&memory, real.name, real.total, real.active, real.full);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn least_connection_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_LC, &steps)?;
    }

    #[test]
    fn weighted_least_connection_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_WLC, &steps)?;
    }

    #[test]
    fn shortest_expected_delay_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_SED, &steps)?;
    }

    #[test]
    fn never_queue_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_NQ, &steps)?;
    }

    #[test]
    fn failover_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_FO, &steps)?;
    }

    #[test]
    fn overflow_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_rule(SCHEDULER_OVF, &steps)?;
    }

    #[test]
    fn without_a_scheduler_nobody_is_chosen(steps in prop::collection::vec(step(), 1..20)) {
        against_the_rule(SCHEDULER_NONE, &steps)?;
    }

    /// Whatever is drawn, it is one that takes connections, as long as there is any.
    #[test]
    fn two_choices_are_candidates(
        seed in any::<u64>(),
        reals in prop::collection::vec((0..4_u32, 0..300_u32, any::<bool>()), 0..12),
    ) {
        let (mut memory, service) = service(SCHEDULER_TWOS);
        memory.seed(seed);
        for (weight, connections, full) in &reals {
            let name = add(&mut memory, service, *weight).expect("room");
            load(&memory, name, *connections, *connections, *full);
        }
        let candidates = reals.iter().filter(|(weight, _, full)| *weight > 0 && !full).count();
        for _ in 0..50 {
            let chosen = pick(&memory, service);
            prop_assert_eq!(chosen == 0, candidates == 0);
            if let (true, Some(place)) = (chosen != 0, memory.server(chosen)) {
                prop_assert!(place.flags.load() & AVAILABLE != 0);
                prop_assert!(place.weight.load() > 0 && place.overload.load() == 0);
            }
        }
    }
}

/// How often each of these (weight, active connections), the newest first, is chosen of `picks` that are all made under
/// this load.
fn shares(reals: &[(u32, u32)], picks: u32) -> Vec<f64> {
    let (mut memory, service) = service(SCHEDULER_TWOS);
    memory.seed(0x1234_5678_9abc_def1);
    let mut names: Vec<u32> = reals
        .iter()
        .rev()
        .map(|(weight, active)| {
            let name = add(&mut memory, service, *weight).expect("room");
            load(&memory, name, *active, *active, false);
            name
        })
        .collect();
    names.reverse();
    let mut counts = vec![0_u32; reals.len()];
    for _ in 0..picks {
        let chosen = pick(&memory, service);
        let place = names.iter().position(|name| *name == chosen);
        counts[place.expect("one of them")] += 1;
    }
    counts
        .iter()
        .map(|count| f64::from(*count) / f64::from(picks))
        .collect()
}

/// The chance of each by the rule: both draws fall on a server with (weight) of (all weights) but for the first, which
/// has one place more; of the two the one with less load for its weight, of equals the first drawn.
fn chances(reals: &[(u32, u32)]) -> Vec<f64> {
    let all: u32 = reals.iter().map(|(weight, _)| weight).sum();
    let drawn = |place: usize| {
        let width = reals[place].0 + u32::from(place == 0);
        f64::from(width) / f64::from(all + 1)
    };
    let mut chances = vec![0.0; reals.len()];
    for first in 0..reals.len() {
        for second in 0..reals.len() {
            let load = |place: usize| (257 * u128::from(reals[place].1), reals[place].0);
            let better = fractions(load(second), load(first)) == Ordering::Less;
            chances[if better { second } else { first }] += drawn(first) * drawn(second);
        }
    }
    chances
}

#[test]
fn two_choices_fall_as_often_as_the_rule_says() {
    const PICKS: u32 = 100_000;
    for reals in [
        &[(1, 0), (1, 0), (1, 0)][..],
        &[(1, 0), (2, 0), (4, 0)],
        &[(1, 9), (2, 1), (4, 5), (3, 3)],
        &[(5, 7), (1, 0)],
        &[(3, 6), (2, 4), (1, 2)],
    ] {
        for (share, chance) in shares(reals, PICKS).iter().zip(chances(reals)) {
            // Five standard deviations at most.
            let spread = 5.0 * (chance * (1.0 - chance) / f64::from(PICKS)).sqrt();
            assert!(
                (share - chance).abs() < spread + 1e-9,
                "{reals:?}: {share} instead of {chance}"
            );
        }
    }
}
