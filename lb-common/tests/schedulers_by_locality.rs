//! lblc and lblcr against IPVS's rules, written down once more over a map of vectors: what is remembered of a destination,
//! when it is left, how a set grows and shrinks, and when it is forgotten.

use std::{collections::HashMap, time::Duration};

use lb_common::{
    abi::{ConnKey, LOCALITY_SERVERS, SCHEDULER_LBLC, SCHEDULER_LBLCR, SCHEDULER_RR, V4},
    host::{Capacity, Memory, ServerSpec, ServiceSpec},
    schedule::{self, Request},
    tables::Tables as _,
};
use proptest::prelude::*;

const HOUR: u64 = 60 * 60;
/// `lblc_expiration` and `lblcr_expiration`.
const DAY: u64 = 24 * HOUR;

/// What happens to a service.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A real server with this weight is added.
    Add(u32),
    /// One of them is removed; its place is used again by the next that is added.
    Remove(usize),
    /// One of them gets this weight.
    Weight(usize, u32),
    /// One of them has so many active connections.
    Load(usize, u32),
    /// One of them reaches its upper threshold, or comes below the lower one.
    Full(usize, bool),
    /// Hours pass.
    Wait(u64),
    /// The service gets another scheduler and then this one again.
    Rebind,
    /// A connection to this destination comes.
    Connection(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![Just(0_u32), 1..5_u32, Just(20)];
    let which = any::<usize>();
    // No sum of these is a day: nothing hangs on a tick.
    let wait = prop_oneof![3 => Just(5_u64), 2 => Just(13), 1 => Just(25)];
    prop_oneof![
        5 => weight.clone().prop_map(Step::Add),
        2 => which.prop_map(Step::Remove),
        2 => (which, weight).prop_map(|(which, weight)| Step::Weight(which, weight)),
        8 => (which, 0..12_u32).prop_map(|(which, active)| Step::Load(which, active)),
        2 => (which, any::<bool>()).prop_map(|(which, full)| Step::Full(which, full)),
        2 => wait.prop_map(Step::Wait),
        1 => Just(Step::Rebind),
        30 => (0..3_u8).prop_map(Step::Connection),
    ]
}

/// A real server; one that was removed stays, as in IPVS's trash, for what is remembered names it.
#[derive(Clone, Copy, Debug)]
struct Real {
    place: u32,
    listed: bool,
    weight: u32,
    active: u32,
    full: bool,
}

impl Real {
    fn candidate(&self) -> bool {
        self.listed && self.weight > 0 && !self.full
    }

    fn load(&self) -> (u64, u64) {
        (257 * u64::from(self.active), u64::from(self.weight))
    }
}

/// What is remembered of a destination: the members, the last that came first.
#[derive(Clone, Debug)]
struct Known {
    used: u64,
    changed: u64,
    members: Vec<usize>,
}

struct Model {
    replicated: bool,
    now: u64,
    /// All that ever were; the list has their numbers, newest first.
    reals: Vec<Real>,
    list: Vec<usize>,
    known: HashMap<u8, Known>,
}

impl Model {
    /// The first of the least loaded among these.
    fn least(&self, among: &[usize]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for one in among
            .iter()
            .copied()
            .filter(|one| self.reals[*one].candidate())
        {
            let (load, weight) = self.reals[one].load();
            let better = best.is_none_or(|best| {
                let (best_load, best_weight) = self.reals[best].load();
                load * best_weight < best_load * weight
            });
            if better {
                best = Some(one);
            }
        }
        best
    }

    /// `ip_vs_dest_set_max`.
    fn most(&self, among: &[usize]) -> Option<usize> {
        let mut worst: Option<usize> = None;
        for one in among
            .iter()
            .copied()
            .filter(|one| self.reals[*one].weight > 0)
        {
            let (load, weight) = self.reals[one].load();
            let worse = worst.is_none_or(|worst| {
                let (worst_load, worst_weight) = self.reals[worst].load();
                worst_load * weight < load * worst_weight
            });
            if worse {
                worst = Some(one);
            }
        }
        worst
    }

    /// `is_overloaded`.
    fn crowded(&self, one: usize) -> bool {
        let real = &self.reals[one];
        real.active > real.weight
            && self
                .list
                .iter()
                .any(|other| self.reals[*other].active * 2 < self.reals[*other].weight)
    }

    fn schedule(&mut self, destination: u8) -> u32 {
        let now = self.now;
        let known = self.known.get(&destination).cloned();
        let known = known.filter(|known| now - known.used < DAY);
        let chosen = match known {
            Some(known) if self.replicated => self.by_set(destination, known),
            Some(known) => self.by_memory(destination, &known),
            None => self.anew(destination),
        };
        chosen.map_or(0, |one| self.reals[one].place)
    }

    fn anew(&mut self, destination: u8) -> Option<usize> {
        let one = self.least(&self.list)?;
        let known = Known {
            used: self.now,
            changed: self.now,
            members: vec![one],
        };
        self.known.insert(destination, known);
        Some(one)
    }

    fn by_memory(&mut self, destination: u8, known: &Known) -> Option<usize> {
        let one = known.members[0];
        let real = &self.reals[one];
        // Its threshold is not asked about.
        if real.listed && real.weight > 0 && !self.crowded(one) {
            self.known
                .entry(destination)
                .and_modify(|known| known.used = self.now);
            return Some(one);
        }
        let chosen = self.anew(destination);
        self.known
            .entry(destination)
            .and_modify(|known| known.used = self.now);
        chosen
    }

    fn by_set(&mut self, destination: u8, mut known: Known) -> Option<usize> {
        known.used = self.now;
        let least = self.least(&known.members);
        if known.members.len() > 1
            && self.now - known.changed > DAY
            && let Some(most) = self.most(&known.members)
        {
            known.members.retain(|one| *one != most);
            known.changed = self.now;
        }
        let chosen = match least {
            Some(one) if !self.crowded(one) => Some(one),
            _ => {
                let one = self.least(&self.list);
                if let Some(one) = one.filter(|one| !known.members.contains(one)) {
                    known.members.insert(0, one);
                    known.members.truncate(LOCALITY_SERVERS);
                    known.changed = self.now;
                }
                one
            }
        };
        self.known.insert(destination, known);
        chosen
    }
}

struct Subject {
    memory: Memory<V4>,
    service: u32,
    scheduler: u8,
}

impl Subject {
    fn new(scheduler: u8) -> Self {
        let capacity = Capacity {
            objects: 300,
            ..Capacity::default()
        };
        let mut memory: Memory<V4> = Memory::new(1, capacity);
        let mut spec = ServiceSpec::fwmark(1);
        spec.scheduler = scheduler;
        let service = memory.add_service(&spec).expect("room for a service");
        Self {
            memory,
            service,
            scheduler,
        }
    }

    fn add(&mut self, weight: u32) -> u32 {
        let address = V4::new([10, 0, 1, 1]);
        let spec = ServerSpec {
            address,
            port: 80,
            weight,
        };
        self.memory.add_server(self.service, &spec).expect("room")
    }

    fn load(&self, real: &Real) {
        let server = self.memory.server(real.place).expect("the real server");
        server.active.store(real.active);
        server.total.store(real.active);
        server.overload.store(u32::from(real.full));
    }

    fn rebind(&mut self) {
        assert!(self.memory.set_scheduler(self.service, SCHEDULER_RR));
        // What was used in the same tick cannot be told from what is used afterwards.
        self.memory.advance(Duration::from_secs(1));
        assert!(self.memory.set_scheduler(self.service, self.scheduler));
    }

    fn pick(&self, destination: u8) -> u32 {
        let place = self.memory.service(self.service).expect("the service");
        let key = ConnKey {
            src: V4::new([10, 0, 0, 1]),
            dst: V4::new([10, 7, 0, destination]),
            ..ConnKey::default()
        };
        schedule::pick(&self.memory, &Request::new(place, self.service, key)).server
    }
}

fn against_the_rule(scheduler: u8, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut subject = Subject::new(scheduler);
    let mut model = Model {
        replicated: scheduler == SCHEDULER_LBLCR,
        now: 0,
        reals: Vec::new(),
        list: Vec::new(),
        known: HashMap::new(),
    };
    for step in steps {
        let any = model.list.len().max(1);
        match *step {
            Step::Add(weight) => {
                let place = subject.add(weight);
                // Whoever had the place is forgotten with its last connection: no set has it any more.
                for real in model.reals.iter_mut().filter(|real| real.place == place) {
                    real.weight = 0;
                }
                model.list.insert(0, model.reals.len());
                let real = Real {
                    place,
                    listed: true,
                    weight,
                    active: 0,
                    full: false,
                };
                subject.load(&real);
                model.reals.push(real);
            }
            Step::Wait(hours) => {
                model.now += hours * HOUR;
                subject.memory.advance(Duration::from_secs(hours * HOUR));
            }
            Step::Rebind => {
                model.known.clear();
                model.now += 1;
                subject.rebind();
            }
            Step::Connection(destination) => {
                let wanted = model.schedule(destination);
                let chosen = subject.pick(destination);
                prop_assert_eq!(chosen, wanted, "{:?} {:?}", model.reals, model.known);
            }
            _ if model.list.is_empty() => {}
            Step::Remove(which) => {
                let gone = model.list.remove(which % any);
                let real = &mut model.reals[gone];
                real.listed = false;
                real.active = 0;
                subject.load(real);
                subject.memory.remove_server(real.place);
            }
            Step::Weight(which, weight) => {
                let real = &mut model.reals[model.list[which % any]];
                real.weight = weight;
                subject.memory.set_weight(real.place, weight);
            }
            Step::Load(which, active) => {
                let real = &mut model.reals[model.list[which % any]];
                real.active = active;
                subject.load(real);
            }
            Step::Full(which, full) => {
                let real = &mut model.reals[model.list[which % any]];
                real.full = full;
                subject.load(real);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn locality_is_ipvs_s(steps in prop::collection::vec(step(), 1..250)) {
        against_the_rule(SCHEDULER_LBLC, &steps)?;
    }

    #[test]
    fn locality_with_replication_is_ipvs_s(steps in prop::collection::vec(step(), 1..250)) {
        against_the_rule(SCHEDULER_LBLCR, &steps)?;
    }
}

/// The thirteenth member of a set pushes out the one that has been in it for the longest time: IPVS has no limit.
#[test]
fn a_set_has_twelve_members() {
    let mut subject = Subject::new(SCHEDULER_LBLCR);
    let mut members = Vec::new();
    for _ in 0..13 {
        // The newest is idle, all others have too much to do.
        for place in &members {
            subject.memory.server(*place).expect("it").active.store(9);
        }
        members.push(subject.add(2));
        assert_eq!(subject.pick(1), members[members.len() - 1]);
    }
    let only = |idle: u32| {
        for place in &members {
            let active = if *place == idle { 3 } else { 9 };
            subject
                .memory
                .server(*place)
                .expect("it")
                .active
                .store(active);
        }
        // Nobody is idle enough to be preferred to the set's own.
        subject.pick(1)
    };
    for member in &members[1..] {
        assert_eq!(only(*member), *member);
    }
    assert_ne!(
        only(members[0]),
        members[0],
        "the first is not in the set any more"
    );
}

/// Two services, or the same after another life, do not share what they remember.
#[test]
fn services_do_not_share_what_they_remember() {
    let mut subject = Subject::new(SCHEDULER_LBLC);
    let old = subject.add(1);
    assert_eq!(subject.pick(1), old);
    let new = subject.add(1);
    assert_eq!(
        subject.pick(1),
        old,
        "it stays, though the newer one comes first"
    );
    let mut spec = ServiceSpec::fwmark(2);
    spec.scheduler = SCHEDULER_LBLC;
    let other = subject.memory.add_service(&spec).expect("room");
    let first = std::mem::replace(&mut subject.service, other);
    let others = subject.add(1);
    assert_eq!(subject.pick(1), others);
    subject.service = first;
    assert_eq!(subject.pick(1), old);
    subject.rebind();
    assert_eq!(
        subject.pick(1),
        new,
        "another life of the scheduler begins anew"
    );
}

/// So many active connections for each of these.
fn load_all(subject: &Subject, loads: &[(u32, u32)]) {
    for (place, active) in loads {
        let server = subject.memory.server(*place).expect("the real server");
        server.active.store(*active);
        server.total.store(*active);
    }
}

/// A set whose least loaded member is chosen again, for want of anybody else, does not get it twice.
#[test]
fn nobody_is_in_a_set_twice() {
    let mut subject = Subject::new(SCHEDULER_LBLCR);
    let other = subject.add(2);
    assert_eq!(subject.pick(1), other);
    let member = subject.add(2);
    load_all(&subject, &[(other, 9)]);
    assert_eq!(subject.pick(1), member);
    // It has too much to do, and the only idle one is at its threshold.
    let full = subject.add(2);
    subject.memory.server(full).expect("it").overload.store(1);
    load_all(&subject, &[(other, 9), (member, 5)]);
    for _ in 0..LOCALITY_SERVERS {
        assert_eq!(subject.pick(1), member);
    }
    // The other one is still in the set, and serves where a stranger would do better.
    let stranger = subject.add(2);
    load_all(&subject, &[(other, 2), (stranger, 1)]);
    subject.memory.set_weight(member, 0);
    assert_eq!(subject.pick(1), other);
}

/// The place of one that has left a set is used for the next, and nobody else is pushed out.
#[test]
fn the_place_of_who_left_is_used_again() {
    let mut subject = Subject::new(SCHEDULER_LBLCR);
    let mut members = Vec::new();
    let crowd = |subject: &Subject, members: &[u32]| {
        let loads: Vec<(u32, u32)> = members.iter().map(|place| (*place, 9)).collect();
        load_all(subject, &loads);
    };
    for _ in 0..LOCALITY_SERVERS {
        crowd(&subject, &members);
        members.push(subject.add(2));
        assert_eq!(subject.pick(1), members[members.len() - 1]);
    }
    // Asked for in between, but unchanged for more than a day: the one with the most load leaves.
    crowd(&subject, &members);
    load_all(&subject, &[(members[5], 20), (members[0], 1)]);
    for _ in 0..2 {
        subject.memory.advance(Duration::from_secs(13 * HOUR));
        assert_eq!(subject.pick(1), members[0]);
    }
    crowd(&subject, &members);
    let next = subject.add(2);
    assert_eq!(subject.pick(1), next);
    // The oldest is a member still: it serves where the one that left would do better.
    load_all(&subject, &[(next, 9), (members[0], 2), (members[5], 1)]);
    assert_eq!(subject.pick(1), members[0]);
}
