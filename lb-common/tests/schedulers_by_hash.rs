//! The tables of dh, sh and mh against the rule by which IPVS fills them, written down once more, and the choices from
//! them. What the hashes themselves give is in `recorded_choices`.

use lb_common::{
    abi::{
        Be16, Buckets, ConnKey, SCHEDULER_DH, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCHEDULER_MH,
        SCHEDULER_RR, SCHEDULER_SH, V4,
    },
    host::{Capacity, Memory, ServerSpec, ServiceSpec},
    schedule::{
        self, Request,
        hash::{hash_32, hsiphash},
    },
    tables::Tables as _,
};
use proptest::prelude::*;

/// The keys of mh's two hashes (ip_vs_mh.c, `generate_hash_secret`).
const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;
const PRIME: usize = 4093;

/// What happens to a service.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A real server at this host with this weight is added.
    Add(u8, u32),
    /// One of them is removed.
    Remove(usize),
    /// One of them gets this weight.
    Weight(usize, u32),
    /// One of them reaches its upper threshold, or comes below the lower one.
    Full(usize, bool),
    /// A connection comes from this address and port to that address.
    Connection(u32, u16, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![4 => 0..4_u32, 1 => Just(100), 1 => Just(65535)];
    let which = any::<usize>();
    prop_oneof![
        4 => (any::<u8>(), weight.clone()).prop_map(|(host, weight)| Step::Add(host, weight)),
        1 => which.prop_map(Step::Remove),
        3 => (which, weight).prop_map(|(which, weight)| Step::Weight(which, weight)),
        1 => (which, any::<bool>()).prop_map(|(which, full)| Step::Full(which, full)),
        20 => (any::<u32>(), any::<u16>(), any::<u32>())
            .prop_map(|(src, sport, dst)| Step::Connection(src, sport, dst)),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Real {
    name: u32,
    host: u8,
    weight: u32,
    last_weight: u32,
    full: bool,
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// `ip_vs_sh_reassign`: the bucket after a real server's last goes to the next in the list.
fn source_table(list: &[Real]) -> Vec<u32> {
    let mut table = Vec::new();
    let mut places = list.iter().cycle();
    while let (true, Some(real)) = (table.len() < 256, places.next()) {
        table.extend(vec![real.name; real.weight.max(1) as usize]);
        table.truncate(256);
    }
    table
}

/// `ip_vs_dh_reassign`.
fn destination_table(list: &[Real]) -> Vec<u32> {
    (0..256 * list.len().min(1))
        .map(|bucket| list[bucket % list.len()].name)
        .collect()
}

/// `ip_vs_mh_populate`, with each real server's permutation of all buckets written out.
fn maglev_table(list: &[Real]) -> Vec<u32> {
    let common = list
        .iter()
        .map(|real| real.last_weight)
        .filter(|weight| *weight > 0);
    let common = common.reduce(divisor).unwrap_or(0);
    let mut table = vec![0; PRIME];
    if common == 0 {
        return table;
    }
    let bits = |number: u32| 32 - number.leading_zeros();
    let highest = list
        .iter()
        .map(|real| real.last_weight / common)
        .max()
        .unwrap_or(0);
    let shift = bits(highest).saturating_sub(6);
    let mut order: Vec<(u32, u32, Vec<usize>)> = list
        .iter()
        .map(|real| {
            let input = u32::from_be_bytes([10, 0, 1, real.host]) + 80;
            let offset = hsiphash(input, FIRST) as usize % PRIME;
            let skip = hsiphash(input, SECOND) as usize % (PRIME - 1) + 1;
            let turns = match (real.last_weight / common) >> shift {
                0 => u32::from(real.last_weight != 0),
                turns => turns,
            };
            // The next bucket is at the end.
            let mut permutation: Vec<usize> = (0..PRIME)
                .map(|step| (offset + step * skip) % PRIME)
                .collect();
            permutation.reverse();
            (real.name, turns, permutation)
        })
        .collect();
    let mut left = PRIME;
    loop {
        for (name, turns, permutation) in &mut order {
            for _ in 0..*turns {
                let free =
                    std::iter::from_fn(|| permutation.pop()).find(|bucket| table[*bucket] == 0);
                let Some(free) = free else { return table };
                table[free] = *name;
                left -= 1;
                if left == 0 {
                    return table;
                }
            }
        }
    }
}

/// Who takes a connection: the bucket's real server, or with `elsewhere` the first after it that takes any.
fn chosen(table: &[u32], list: &[Real], elsewhere: bool, bucket: impl Fn(usize) -> usize) -> u32 {
    let takes = |name: u32| {
        list.iter()
            .any(|real| real.name == name && real.weight > 0 && !real.full)
    };
    if table.is_empty() {
        return 0;
    }
    let first = bucket(0);
    let rest = (0..if elsewhere { table.len() } else { 0 })
        .map(|offset| bucket((offset + first) % table.len()));
    std::iter::once(first)
        .chain(rest)
        .map(|bucket| table[bucket])
        .find(|name| takes(*name))
        .unwrap_or(0)
}

fn against_the_rule(scheduler: u8, flags: u8, steps: &[Step]) -> Result<(), TestCaseError> {
    let capacity = Capacity {
        objects: 300,
        ..Capacity::default()
    };
    let mut memory: Memory<V4> = Memory::new(1, capacity);
    let mut spec = ServiceSpec::address(6, V4::new([10, 0, 0, 100]), 80);
    (spec.scheduler, spec.flags) = (scheduler, flags);
    let service = memory.add_service(&spec).expect("room for a service");
    let mut list: Vec<Real> = Vec::new();
    for step in steps {
        let any = list.len().max(1);
        match *step {
            Step::Add(host, weight) => {
                let spec = ServerSpec {
                    address: V4::new([10, 0, 1, host]),
                    port: 80,
                    weight,
                };
                let name = memory.add_server(service, &spec).expect("room");
                let real = Real {
                    name,
                    host,
                    weight,
                    last_weight: weight,
                    full: false,
                };
                list.insert(0, real);
            }
            Step::Connection(src, sport, dst) => {
                let key = ConnKey {
                    src: V4::new(src.to_be_bytes()),
                    dst: V4::new(dst.to_be_bytes()),
                    sport: Be16::new(sport),
                    ..ConnKey::default()
                };
                let place = memory.service(service).expect("the service");
                let pick = schedule::pick(&memory, &Request::new(place, service, key));
                let port = if flags & SCHEDULER_FLAG_2 != 0 {
                    u32::from(sport)
                } else {
                    0
                };
                let input = src.wrapping_add(port);
                let elsewhere = flags & SCHEDULER_FLAG_1 != 0;
                let wanted = match scheduler {
                    SCHEDULER_DH => chosen(&destination_table(&list), &list, false, |_| {
                        hash_32(dst, 8) as usize
                    }),
                    SCHEDULER_SH => chosen(&source_table(&list), &list, elsewhere, |offset| {
                        (offset + hash_32(input, 8) as usize) % 256
                    }),
                    _ => chosen(&maglev_table(&list), &list, elsewhere, |offset| {
                        hsiphash(input.wrapping_add(offset as u32), FIRST) as usize % PRIME
                    }),
                };
                prop_assert_eq!(pick.server, wanted, "{:?}", list);
            }
            _ if list.is_empty() => {}
            Step::Remove(which) => {
                memory.remove_server(list.remove(which % any).name);
            }
            Step::Weight(which, weight) => {
                let real = &mut list[which % any];
                real.weight = weight;
                if weight != 0 {
                    real.last_weight = weight;
                }
                memory.set_weight(real.name, weight);
            }
            Step::Full(which, full) => {
                let real = &mut list[which % any];
                real.full = full;
                memory
                    .server(real.name)
                    .expect("it")
                    .overload
                    .store(u32::from(full));
            }
        }
    }
    Ok(())
}

fn flags() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![
        0,
        SCHEDULER_FLAG_1,
        SCHEDULER_FLAG_2,
        SCHEDULER_FLAG_1 | SCHEDULER_FLAG_2,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn destination_hashing_is_ipvs_s(steps in prop::collection::vec(step(), 1..150), flags in flags()) {
        against_the_rule(SCHEDULER_DH, flags, &steps)?;
    }

    #[test]
    fn source_hashing_is_ipvs_s(steps in prop::collection::vec(step(), 1..150), flags in flags()) {
        against_the_rule(SCHEDULER_SH, flags, &steps)?;
    }

    #[test]
    fn maglev_hashing_is_ipvs_s(steps in prop::collection::vec(step(), 1..40), flags in flags()) {
        against_the_rule(SCHEDULER_MH, flags, &steps)?;
    }
}

/// A table is a service's own: another service's scheduler, and another scheduler of its own, leave it alone.
#[test]
fn services_have_tables_of_their_own() {
    let mut memory: Memory<V4> = Memory::new(
        1,
        Capacity {
            buckets: 4605,
            ..Capacity::default()
        },
    );
    let mut service = |port: u16, scheduler: u8| {
        let mut spec = ServiceSpec::address(6, V4::new([10, 0, 0, 100]), port);
        spec.scheduler = scheduler;
        memory.add_service(&spec)
    };
    let names = [
        (1, SCHEDULER_SH),
        (2, SCHEDULER_MH),
        (3, SCHEDULER_DH),
        (4, SCHEDULER_RR),
    ]
    .map(|(port, scheduler)| service(port, scheduler).expect("room"));
    assert_eq!(
        service(5, SCHEDULER_DH),
        None,
        "4605 buckets hold no more than that"
    );
    for (host, service) in (1..).zip(names) {
        let spec = ServerSpec {
            address: V4::new([10, 0, 1, host]),
            port: 80,
            weight: 1,
        };
        memory.add_server(service, &spec).expect("room");
    }
    assert!(
        !memory.set_scheduler(names[3], SCHEDULER_SH),
        "there is no room for it"
    );
    assert!(memory.set_scheduler(names[0], SCHEDULER_RR));
    assert!(memory.set_scheduler(names[3], SCHEDULER_SH), "there is now");
    for service in names {
        let place = memory.service(service).expect("the service");
        let table = Buckets::from_word(place.buckets.load());
        let own = place.head.load();
        for bucket in table.first..table.first + table.count {
            assert_eq!(memory.bucket(bucket), own);
        }
        let pick = schedule::pick(&memory, &Request::new(place, service, ConnKey::default()));
        assert_eq!(pick.server, own);
    }
}
