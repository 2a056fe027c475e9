//! The schedulers against IPVS's rules, written down once more in another way: a vector instead of a linked list,
//! places in it instead of indices, and the kernel's own loops. Real servers come, go and change weight between picks.

use lb_common::{
    abi::{ConnKey, SCHEDULER_RR, SCHEDULER_WRR, Service, V4},
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
    /// A connection comes; it is made or not.
    Connection(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![Just(0_u32), Just(1), 1..8_u32, Just(1000), Just(65535)];
    prop_oneof![
        2 => weight.clone().prop_map(Step::Add),
        1 => any::<usize>().prop_map(Step::Remove),
        2 => (any::<usize>(), weight).prop_map(|(which, weight)| Step::Weight(which, weight)),
        10 => prop::bool::weighted(0.9).prop_map(Step::Connection),
    ]
}

/// A real server in the model's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Real {
    name: u32,
    weight: u32,
}

/// IPVS's two schedulers over one list, newest first.
#[derive(Clone, Default, Debug)]
struct Model {
    list: Vec<Real>,
    /// Where the scheduler stands: the name of a real server, or `None` for the list's head.
    at: Option<u32>,
    /// wrr: current weight, largest weight, greatest common divisor.
    current: i64,
    largest: i64,
    divisor: i64,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Model {
    fn place(&self) -> Option<usize> {
        self.at
            .and_then(|name| self.list.iter().position(|real| real.name == name))
    }

    /// `ip_vs_rr_schedule`.
    fn round_robin(&self) -> Option<Self> {
        let from = self.place().map_or(0, |place| place + 1);
        let order = self.list[from..].iter().chain(&self.list[..from]);
        let chosen = order.into_iter().find(|real| real.weight > 0)?;
        Some(Self {
            at: Some(chosen.name),
            ..self.clone()
        })
    }

    /// `ip_vs_rr_del_dest`.
    fn removed_from_round_robin(&mut self, place: usize) {
        if self.at == Some(self.list[place].name) {
            self.at = place.checked_sub(1).map(|before| self.list[before].name);
        }
    }

    /// `ip_vs_wrr_dest_changed`.
    fn changed_in_weighted(&mut self) {
        self.at = None;
        let weights = || self.list.iter().map(|real| i64::from(real.weight));
        self.divisor = weights().filter(|weight| *weight > 0).fold(0, gcd).max(1);
        self.largest = weights().max().unwrap_or(0) - (self.divisor - 1);
        if self.current > self.largest || self.current == 0 {
            self.current = self.largest;
        } else if self.divisor > 1 {
            self.current = self.current / self.divisor * self.divisor + 1;
        }
    }

    /// `ip_vs_wrr_schedule`.
    fn weighted(&self) -> Option<Self> {
        if self.largest == 0 {
            return None;
        }
        let mut next = self.clone();
        let mut from = self.place().map_or(0, |place| place + 1);
        loop {
            if let Some(chosen) = self.list[from..]
                .iter()
                .find(|real| i64::from(real.weight) >= next.current)
            {
                next.at = Some(chosen.name);
                return Some(next);
            }
            from = 0;
            next.current -= next.divisor;
            if next.current <= 0 {
                next.current = next.largest;
            }
        }
    }
}

fn against_the_model(scheduler: u8, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut memory: Memory<V4> = Memory::new(
        1,
        Capacity {
            objects: 300,
            ..Capacity::default()
        },
    );
    let mut spec = ServiceSpec::address(6, V4::new([10, 0, 0, 100]), 80);
    spec.scheduler = scheduler;
    let service = memory.add_service(&spec).expect("room for a service");
    let mut model = Model {
        divisor: 1,
        ..Model::default()
    };
    let weighted = scheduler == SCHEDULER_WRR;
    for step in steps {
        match *step {
            Step::Add(weight) => {
                let spec = ServerSpec {
                    address: V4::new([10, 0, 1, 1]),
                    port: 80,
                    weight,
                };
                let Some(name) = memory.add_server(service, &spec) else {
                    continue;
                };
                model.list.insert(0, Real { name, weight });
                if weighted {
                    model.changed_in_weighted();
                }
            }
            Step::Remove(_) | Step::Weight(..) if model.list.is_empty() => {}
            Step::Remove(which) => {
                let place = which % model.list.len();
                memory.remove_server(model.list[place].name);
                if !weighted {
                    model.removed_from_round_robin(place);
                }
                model.list.remove(place);
                if weighted {
                    model.changed_in_weighted();
                }
            }
            Step::Weight(which, weight) => {
                let place = which % model.list.len();
                memory.set_weight(model.list[place].name, weight);
                model.list[place].weight = weight;
                if weighted {
                    model.changed_in_weighted();
                }
            }
            Step::Connection(made) => {
                let wanted = if weighted {
                    model.weighted()
                } else {
                    model.round_robin()
                };
                let place = memory.service(service).expect("the service");
                let pick = schedule::pick(&memory, &request(place, service));
                prop_assert_eq!(
                    pick.server,
                    wanted.as_ref().and_then(|next| next.at).unwrap_or(0)
                );
                if let (true, Some(next)) = (made, wanted) {
                    prop_assert!(schedule::commit(&memory, place, &pick));
                    model = next;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn round_robin_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_model(SCHEDULER_RR, &steps)?;
    }

    #[test]
    fn weighted_round_robin_is_ipvs_s(steps in prop::collection::vec(step(), 1..200)) {
        against_the_model(SCHEDULER_WRR, &steps)?;
    }
}

/// A choice that rests on a cursor which another processor has moved is refused, and made again is the next one.
#[test]
fn a_choice_on_an_older_cursor_is_made_again() {
    let mut memory: Memory<V4> = Memory::new(1, Capacity::default());
    let service = memory
        .add_service(&ServiceSpec::address(6, V4::new([10, 0, 0, 100]), 80))
        .expect("room");
    for _ in 0..3 {
        let spec = ServerSpec {
            address: V4::new([10, 0, 1, 1]),
            port: 80,
            weight: 1,
        };
        memory.add_server(service, &spec).expect("room");
    }
    let place = memory.service(service).expect("the service");
    let pick = || schedule::pick(&memory, &request(place, service));
    let (mine, theirs) = (pick(), pick());
    assert_ne!(mine.server, 0);
    assert_eq!(mine.server, theirs.server);
    assert!(schedule::commit(&memory, place, &theirs));
    assert!(!schedule::commit(&memory, place, &mine));
    let again = pick();
    assert_ne!(again.server, theirs.server);
    assert!(schedule::commit(&memory, place, &again));
}

/// For a client at some address.
fn request(place: &Service, index: u32) -> Request<'_, V4> {
    let key = ConnKey {
        src: V4::new([10, 0, 0, 1]),
        dst: V4::new([10, 0, 0, 100]),
        ..ConnKey::default()
    };
    Request::new(place, index, key)
}
