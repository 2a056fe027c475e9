//! The programs' maps, read and written as plain values.

use std::collections::HashMap as Table;

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, lpm_trie},
    util::nr_cpus,
};
use lb_common::{
    abi::{
        AnswerKey, Be32, Buckets, ConnKey, FragmentKey, FragmentPorts, Interface, InterfaceKey,
        LocalityKey, MarkKey, MarkValue, RealKey, RouteKey, Scope, ServerStats, ServiceKey,
        TemplateKey, Tick, Tuple, V4, WIRE_SETS, Wire, WireKey, WireSet, Word,
    },
    host::Memory,
    tables::Tables,
    verdict::Reason,
};

use super::{super::runner::Counts, Wires};
use crate::bpf::{OBJECTS, SCOPE};

/// A value of the ABI as aya moves it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(T);

// SAFETY: the ABI's types are `repr(C)` without padding or invalid bit patterns.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// A connection's entry as plain words: the layout of `lb_common::abi::Conn<V4>`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Deadline, generation, state, flags.
    pub(super) word: u64,
    to: Tuple<V4>,
    /// The real server.
    pub(super) server: u32,
    hop: u32,
    addresses_delta: u16,
    ports_delta: u16,
    pub(super) ticket: u32,
    seen: u32,
    template: u32,
    mix: u32,
}

const _: () = assert!(size_of::<Entry>() == size_of::<lb_common::abi::Conn<V4>>());

impl Entry {
    /// Addresses and ports after the rewrite.
    pub(super) fn to(&self) -> Tuple<V4> {
        self.to
    }
}

/// A service, a real server or a hop as plain words.
type Words<const N: usize> = [u32; N];
const SERVICE: usize = size_of::<lb_common::abi::Service>() / 4;
const SERVER: usize = size_of::<lb_common::abi::Server>() / 4;
const TEMPLATE: usize = size_of::<lb_common::abi::Template<V4>>() / 4;
const HOP: usize = size_of::<lb_common::abi::Hop>() / 4;
const WIRES: usize = size_of::<WireSet>() / 4;
/// Where the lease is in a hop, the counts are in a server, the cursor is in a service.
const HOP_LEASE: usize = std::mem::offset_of!(lb_common::abi::Hop, lease) / 4;
const HOP_VLAN: usize = std::mem::offset_of!(lb_common::abi::Hop, vlan) / 4;
const ACTIVE: usize = std::mem::offset_of!(lb_common::abi::Server, active) / 4;
const TOTAL: usize = std::mem::offset_of!(lb_common::abi::Server, total) / 4;
const TEMPLATES: usize = std::mem::offset_of!(lb_common::abi::Server, templates) / 4;
const OVERLOAD: usize = std::mem::offset_of!(lb_common::abi::Server, overload) / 4;
const CURSOR: usize = std::mem::offset_of!(lb_common::abi::Service, cursor) / 4;
const BOUND: usize = std::mem::offset_of!(lb_common::abi::Service, bound) / 4;
/// What is remembered of a destination: when it was used and changed come first.
const LOCALITY: usize = size_of::<lb_common::abi::Locality>() / 4;

fn words<T, const N: usize>(value: &T) -> Words<N> {
    assert_eq!(size_of::<T>(), 4 * N);
    // SAFETY: as large, aligned, and every bit pattern is a word.
    unsafe { std::ptr::from_ref(value).cast::<Words<N>>().read() }
}

fn failed<E: std::fmt::Debug>(what: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("cannot {what}: {error:?}")
}

/// The clock of the programs.
pub(super) fn now() -> Tick {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    time.map_or(Tick::default(), |time| {
        Tick::from_nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    })
}

macro_rules! typed {
    ($object:expr, $get:ident, $name:literal) => {
        $object
            .$get($name)
            .ok_or(concat!("no map ", $name))?
            .try_into()
            .map_err(failed(concat!("use ", $name)))?
    };
}

/// The maps, to read.
pub(super) struct View<'o>(&'o Ebpf);

impl<'o> View<'o> {
    /// Of this object.
    pub(super) fn of(object: &'o Ebpf) -> Result<Self, String> {
        Ok(Self(object))
    }

    /// All entries of the connection table.
    pub(super) fn entries(&self) -> Result<Table<ConnKey<V4>, Entry>, String> {
        let map: HashMap<&MapData, Plain<ConnKey<V4>>, Plain<Entry>> = typed!(self.0, map, "CONNS");
        map.iter()
            .map(|entry| {
                entry
                    .map(|(key, entry)| (key.0, entry.0))
                    .map_err(failed("read CONNS"))
            })
            .collect()
    }

    /// One entry.
    pub(super) fn entry(&self, key: &ConnKey<V4>) -> Result<Option<Entry>, String> {
        let map: HashMap<&MapData, Plain<ConnKey<V4>>, Plain<Entry>> = typed!(self.0, map, "CONNS");
        match map.get(&Plain(*key), 0) {
            Ok(entry) => Ok(Some(entry.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed("read CONNS")(error)),
        }
    }

    /// When the sweep is to look at each slot, and which connection the slot names.
    pub(super) fn slots(&self) -> Result<Vec<(u64, ConnKey<V4>)>, String> {
        let due: Array<&MapData, u64> = typed!(self.0, map, "DUE");
        let ring: Array<&MapData, Plain<ConnKey<V4>>> = typed!(self.0, map, "RING");
        let words = due.iter().zip(ring.iter()).map(|(due, key)| {
            let key = key.map_err(failed("read RING"))?;
            Ok((due.map_err(failed("read DUE"))?, key.0))
        });
        words.collect()
    }

    /// The counters of a real server.
    pub(super) fn counts(&self, index: u32) -> Result<Counts, String> {
        let stats: PerCpuArray<&MapData, Plain<ServerStats>> = typed!(self.0, map, "SERVER_STATS");
        let mut sum = ServerStats::default();
        for Plain(stats) in stats
            .get(&index, 0)
            .map_err(failed("read SERVER_STATS"))?
            .iter()
        {
            sum.conns += stats.conns;
            sum.in_packets += stats.in_packets;
            sum.out_packets += stats.out_packets;
            sum.in_bytes += stats.in_bytes;
            sum.out_bytes += stats.out_bytes;
        }
        let servers: Array<&MapData, Plain<Words<SERVER>>> = typed!(self.0, map, "SERVERS");
        let Plain(server) = servers.get(&index, 0).map_err(failed("read SERVERS"))?;
        Ok(Counts {
            stats: sum,
            active: server[ACTIVE],
            total: server[TOTAL],
            templates: server[TEMPLATES],
        })
    }
}

/// The maps, to write too.
pub(super) struct Maps<'o>(&'o mut Ebpf);

impl<'o> Maps<'o> {
    /// Of this object.
    pub(super) fn of(object: &'o mut Ebpf) -> Result<Self, String> {
        Ok(Self(object))
    }

    fn empty<K: Copy + 'static, V: Copy + 'static>(
        &mut self,
        name: &'static str,
    ) -> Result<(), String> {
        let map = self.0.map_mut(name).ok_or("no such map")?;
        let mut map: HashMap<&mut MapData, Plain<K>, Plain<V>> =
            map.try_into().map_err(failed(name))?;
        let keys: Vec<_> = map.keys().collect::<Result<_, _>>().map_err(failed(name))?;
        keys.iter()
            .try_for_each(|key| map.remove(key))
            .map_err(failed(name))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> Result<(), String> {
        self.empty::<ConnKey<V4>, Entry>("CONNS")?;
        self.empty::<FragmentKey<V4>, FragmentPorts>("FRAGMENTS")?;
        self.empty::<LocalityKey<V4>, Words<LOCALITY>>("LOCALITIES")?;
        let mut tickets: Array<&mut MapData, u32> = typed!(self.0, map_mut, "TICKETS");
        for ring in 0..3 {
            tickets.set(ring, 0, 0).map_err(failed("clear TICKETS"))?;
        }
        let mut ring: Array<&mut MapData, Plain<ConnKey<V4>>> = typed!(self.0, map_mut, "RING");
        for slot in 0..ring.len() {
            ring.set(slot, Plain(ConnKey::default()), 0)
                .map_err(failed("clear RING"))?;
        }
        let mut due: Array<&mut MapData, u64> = typed!(self.0, map_mut, "DUE");
        for slot in 0..due.len() {
            due.set(slot, 0, 0).map_err(failed("clear DUE"))?;
        }
        self.empty::<TemplateKey<V4>, u32>("TEMPLATE_KEYS")?;
        let mut templates: Array<&mut MapData, Plain<Words<TEMPLATE>>> =
            typed!(self.0, map_mut, "TEMPLATES");
        for slot in 0..templates.len() {
            templates
                .set(slot, Plain([0; TEMPLATE]), 0)
                .map_err(failed("clear TEMPLATES"))?;
        }
        let mut drawn: Array<&mut MapData, u32> = typed!(self.0, map_mut, "DRAWN");
        drawn.set(SCOPE, 0, 0).map_err(failed("clear DRAWN"))?;
        let cpus = nr_cpus().map_err(|(_, error)| error.to_string())?;
        let mut stats: PerCpuArray<&mut MapData, Plain<ServerStats>> =
            typed!(self.0, map_mut, "SERVER_STATS");
        for index in 0..stats.len() {
            let zero = PerCpuValues::try_from(vec![Plain(ServerStats::default()); cpus])
                .map_err(|e| e.to_string())?;
            stats
                .set(index, zero, 0)
                .map_err(failed("clear SERVER_STATS"))?;
        }
        let mut servers: Array<&mut MapData, Plain<Words<SERVER>>> =
            typed!(self.0, map_mut, "SERVERS");
        for index in 0..OBJECTS {
            servers
                .set(index, Plain([0; SERVER]), 0)
                .map_err(failed("clear SERVERS"))?;
        }
        let mut budget: PerCpuArray<&mut MapData, Plain<[u64; 2]>> =
            typed!(self.0, map_mut, "ERROR_BUDGET");
        let full = PerCpuValues::try_from(vec![Plain([0, 50]); cpus]).map_err(|e| e.to_string())?;
        budget.set(0, full, 0).map_err(failed("fill ERROR_BUDGET"))
    }

    /// Writes the daemon's part of the tables. `shift`: from a time of its past to one of the programs' past.
    pub(super) fn write(&mut self, memory: &Memory<V4>, shift: u32) -> Result<(), String> {
        self.empty::<ServiceKey<V4>, u32>("SERVICE_KEYS")?;
        self.empty::<MarkKey<V4>, MarkValue>("MARKS")?;
        self.empty::<AnswerKey<V4>, u32>("ANSWERS")?;
        self.empty::<RealKey<V4>, u32>("REALS")?;
        let mut reals: HashMap<&mut MapData, Plain<RealKey<V4>>, u32> =
            typed!(self.0, map_mut, "REALS");
        for key in memory.real_keys() {
            reals
                .insert(Plain(key), 1, 0)
                .map_err(failed("write REALS"))?;
        }
        self.empty::<InterfaceKey, Interface>("INTERFACES")?;
        let mut scopes: Array<&mut MapData, Plain<Scope>> = typed!(self.0, map_mut, "SCOPES");
        let scope = *memory.scope().ok_or("no scope")?;
        scopes
            .set(SCOPE, Plain(scope), 0)
            .map_err(failed("write SCOPES"))?;
        let mut keys: HashMap<&mut MapData, Plain<ServiceKey<V4>>, u32> =
            typed!(self.0, map_mut, "SERVICE_KEYS");
        for (key, index) in memory.service_keys() {
            keys.insert(Plain(*key), index, 0)
                .map_err(failed("write SERVICE_KEYS"))?;
        }
        let mut marks: HashMap<&mut MapData, Plain<MarkKey<V4>>, Plain<MarkValue>> =
            typed!(self.0, map_mut, "MARKS");
        for (key, value) in memory.mark_entries() {
            marks
                .insert(Plain(*key), Plain(*value), 0)
                .map_err(failed("write MARKS"))?;
        }
        let mut answers: HashMap<&mut MapData, Plain<AnswerKey<V4>>, u32> =
            typed!(self.0, map_mut, "ANSWERS");
        for key in memory.answer_keys() {
            answers
                .insert(Plain(*key), 1, 0)
                .map_err(failed("write ANSWERS"))?;
        }
        let mut interfaces: HashMap<&mut MapData, Plain<InterfaceKey>, Plain<Interface>> =
            typed!(self.0, map_mut, "INTERFACES");
        for (ifindex, interface) in memory.interfaces() {
            let key = InterfaceKey {
                scope: SCOPE,
                ifindex: *ifindex,
            };
            interfaces
                .insert(Plain(key), Plain(*interface), 0)
                .map_err(failed("write INTERFACES"))?;
        }
        self.write_routes(memory)?;
        let mut services: Array<&mut MapData, Plain<Words<SERVICE>>> =
            typed!(self.0, map_mut, "SERVICES");
        for index in 0..OBJECTS {
            let mut service: Words<SERVICE> =
                words(memory.service(index).ok_or("no such service")?);
            service[BOUND] = service[BOUND].wrapping_add(shift);
            services
                .set(index, Plain(service), 0)
                .map_err(failed("write SERVICES"))?;
        }
        self.write_tables(memory)?;
        let mut servers: Array<&mut MapData, Plain<Words<SERVER>>> =
            typed!(self.0, map_mut, "SERVERS");
        for index in 0..OBJECTS {
            let server = memory.server(index).ok_or("no such real server")?;
            servers
                .set(index, Plain(words(server)), 0)
                .map_err(failed("write SERVERS"))?;
        }
        let mut hops: Array<&mut MapData, Plain<Words<HOP>>> = typed!(self.0, map_mut, "HOPS");
        for index in 0..OBJECTS {
            let mut hop: Words<HOP> = words(memory.hop(index).ok_or("no such hop")?);
            // From one clock to the other.
            let left = Tick(hop[HOP_LEASE]).since(memory.now());
            hop[HOP_LEASE] = now().0.wrapping_add_signed(left);
            hops.set(index, Plain(hop), 0)
                .map_err(failed("write HOPS"))?;
        }
        Ok(())
    }

    /// Has XDP handle what comes in by all interfaces with the tag of this VLAN, and hops be on the other.
    pub(super) fn write_wires(&mut self, memory: &Memory<V4>, wires: Wires) -> Result<(), String> {
        let sets: Vec<WireSet> = (0..WIRE_SETS).map(|_| WireSet::default()).collect();
        for (ifindex, interface) in memory.interfaces() {
            let key = WireKey {
                scope: SCOPE,
                ifindex: *ifindex,
                vlan: wires.arriving.into(),
            };
            let wire = Wire {
                ifindex: *ifindex,
                mac: interface.mac,
                flags: 0,
            };
            if !sets[key.set() as usize].put(&key, wire) {
                return Err("no place in WIRES".into());
            }
        }
        let mut map: Array<&mut MapData, Plain<Words<WIRES>>> = typed!(self.0, map_mut, "WIRES");
        for (index, set) in (0..).zip(&sets) {
            map.set(index, Plain(words(set)), 0)
                .map_err(failed("write WIRES"))?;
        }
        let mut hops: Array<&mut MapData, Plain<Words<HOP>>> = typed!(self.0, map_mut, "HOPS");
        for index in 0..OBJECTS {
            let Plain(mut hop) = hops.get(&index, 0).map_err(failed("read HOPS"))?;
            hop[HOP_VLAN] = wires.leaving.into();
            hops.set(index, Plain(hop), 0)
                .map_err(failed("write HOPS"))?;
        }
        Ok(())
    }

    /// The tables of the services that have one.
    fn write_tables(&mut self, memory: &Memory<V4>) -> Result<(), String> {
        let mut buckets: Array<&mut MapData, u64> = typed!(self.0, map_mut, "BUCKETS");
        for (_, index) in memory.service_keys() {
            let service = memory.service(*index).ok_or("no such service")?;
            let table = Buckets::from_word(service.buckets.load());
            for bucket in table.first..table.first + table.count {
                buckets
                    .set(bucket, u64::from(memory.bucket(bucket)), 0)
                    .map_err(failed("write BUCKETS"))?;
            }
        }
        Ok(())
    }

    fn write_routes(&mut self, memory: &Memory<V4>) -> Result<(), String> {
        let map = self.0.map_mut("ROUTES").ok_or("no map ROUTES")?;
        let Map::LpmTrie(_) = map else {
            return Err("ROUTES is no trie".to_owned());
        };
        let mut routes: lpm_trie::LpmTrie<&mut MapData, Plain<RouteKey<V4>>, u32> =
            map.try_into().map_err(failed("use ROUTES"))?;
        let keys: Vec<_> = routes
            .keys()
            .collect::<Result<_, _>>()
            .map_err(failed("read ROUTES"))?;
        keys.iter()
            .try_for_each(|key| routes.remove(key))
            .map_err(failed("clear ROUTES"))?;
        for (network, prefix, hop) in memory.routes() {
            let key = RouteKey {
                scope: Be32::new(SCOPE),
                address: *network,
            };
            let key = lpm_trie::Key::new(32 + u32::from(*prefix), Plain(key));
            routes
                .insert(&key, hop, 0)
                .map_err(failed("write ROUTES"))?;
        }
        Ok(())
    }

    /// Fetches what the programs have moved: cursors and counts.
    pub(super) fn fetch(&mut self, memory: &Memory<V4>) -> Result<(), String> {
        let services: Array<&mut MapData, Plain<Words<SERVICE>>> =
            typed!(self.0, map_mut, "SERVICES");
        for index in 0..OBJECTS {
            let Plain(there) = services.get(&index, 0).map_err(failed("read SERVICES"))?;
            let cursor = u64::from(there[CURSOR]) | u64::from(there[CURSOR + 1]) << 32;
            memory
                .service(index)
                .ok_or("no such service")?
                .cursor
                .store(cursor);
        }
        let servers: Array<&mut MapData, Plain<Words<SERVER>>> = typed!(self.0, map_mut, "SERVERS");
        for index in 0..OBJECTS {
            let Plain(there) = servers.get(&index, 0).map_err(failed("read SERVERS"))?;
            let server = memory.server(index).ok_or("no such real server")?;
            server.active.store(there[ACTIVE]);
            server.total.store(there[TOTAL]);
            server.templates.store(there[TEMPLATES]);
            server.overload.store(there[OVERLOAD]);
        }
        Ok(())
    }

    /// Makes everything with a deadline older by so many ticks.
    pub(super) fn age(&mut self, ticks: u32) -> Result<(), String> {
        for (key, mut entry) in View(self.0).entries()? {
            let word = Word(entry.word);
            let deadline = Tick(word.deadline().0.wrapping_sub(ticks));
            entry.word = Word::new(deadline, word.generation(), word.state(), word.flags()).0;
            entry.seen = entry.seen.wrapping_sub(ticks);
            self.set_entry(&key, &entry)?;
        }
        let mut due: Array<&mut MapData, u64> = typed!(self.0, map_mut, "DUE");
        for slot in 0..due.len() {
            let word = due.get(&slot, 0).map_err(failed("read DUE"))?;
            let aged = word >> 32 << 32 | u64::from((word as u32).wrapping_sub(ticks));
            due.set(slot, aged, 0).map_err(failed("write DUE"))?;
        }
        let mut fragments: HashMap<&mut MapData, Plain<FragmentKey<V4>>, Plain<FragmentPorts>> =
            typed!(self.0, map_mut, "FRAGMENTS");
        let all: Vec<_> = fragments
            .iter()
            .collect::<Result<_, _>>()
            .map_err(failed("read FRAGMENTS"))?;
        for (key, Plain(mut ports)) in all {
            ports.deadline = ports.deadline.wrapping_sub(ticks);
            fragments
                .insert(key, Plain(ports), 0)
                .map_err(failed("write FRAGMENTS"))?;
        }
        let mut known: HashMap<&mut MapData, Plain<LocalityKey<V4>>, Plain<Words<LOCALITY>>> =
            typed!(self.0, map_mut, "LOCALITIES");
        let all: Vec<_> = known
            .iter()
            .collect::<Result<_, _>>()
            .map_err(failed("read LOCALITIES"))?;
        for (key, Plain(mut locality)) in all {
            for when in &mut locality[..2] {
                *when = when.wrapping_sub(ticks);
            }
            known
                .insert(key, Plain(locality), 0)
                .map_err(failed("write LOCALITIES"))?;
        }
        let mut templates: Array<&mut MapData, Plain<Words<TEMPLATE>>> =
            typed!(self.0, map_mut, "TEMPLATES");
        for slot in 0..templates.len() {
            let Plain(mut template) = templates.get(&slot, 0).map_err(failed("read TEMPLATES"))?;
            // The deadline is the lower half of the word, which comes first.
            template[0] = template[0].wrapping_sub(ticks);
            templates
                .set(slot, Plain(template), 0)
                .map_err(failed("write TEMPLATES"))?;
        }
        let mut services: Array<&mut MapData, Plain<Words<SERVICE>>> =
            typed!(self.0, map_mut, "SERVICES");
        for index in 0..OBJECTS {
            let Plain(mut service) = services.get(&index, 0).map_err(failed("read SERVICES"))?;
            service[BOUND] = service[BOUND].wrapping_sub(ticks);
            services
                .set(index, Plain(service), 0)
                .map_err(failed("write SERVICES"))?;
        }
        let mut hops: Array<&mut MapData, Plain<Words<HOP>>> = typed!(self.0, map_mut, "HOPS");
        for index in 0..OBJECTS {
            let Plain(mut hop) = hops.get(&index, 0).map_err(failed("read HOPS"))?;
            hop[HOP_LEASE] = hop[HOP_LEASE].wrapping_sub(ticks);
            hops.set(index, Plain(hop), 0)
                .map_err(failed("write HOPS"))?;
        }
        Ok(())
    }

    /// One entry of the connection table.
    pub(super) fn entry(&self, key: &ConnKey<V4>) -> Result<Option<Entry>, String> {
        View(self.0).entry(key)
    }

    /// Overwrites an entry.
    pub(super) fn set_entry(&mut self, key: &ConnKey<V4>, entry: &Entry) -> Result<(), String> {
        let mut map: HashMap<&mut MapData, Plain<ConnKey<V4>>, Plain<Entry>> =
            typed!(self.0, map_mut, "CONNS");
        map.insert(Plain(*key), Plain(*entry), 0)
            .map_err(failed("write CONNS"))
    }

    /// One active connection more or less.
    pub(super) fn change_active(&mut self, server: u32, more: bool) -> Result<(), String> {
        let mut servers: Array<&mut MapData, Plain<Words<SERVER>>> =
            typed!(self.0, map_mut, "SERVERS");
        let Plain(mut there) = servers.get(&server, 0).map_err(failed("read SERVERS"))?;
        there[ACTIVE] = if more {
            there[ACTIVE] + 1
        } else {
            there[ACTIVE] - 1
        };
        servers
            .set(server, Plain(there), 0)
            .map_err(failed("write SERVERS"))
    }

    /// Packets and bytes of every reason.
    pub(super) fn reasons(&mut self) -> Result<Vec<[u64; 2]>, String> {
        let map: PerCpuArray<&mut MapData, Plain<[u64; 2]>> = typed!(self.0, map_mut, "REASONS");
        let count = Reason::ALL.len() as u32;
        (0..count)
            .map(|reason| {
                let values = map
                    .get(&(SCOPE * count + reason), 0)
                    .map_err(failed("read REASONS"))?;
                Ok(values
                    .iter()
                    .fold([0; 2], |[packets, bytes], Plain([more, size])| {
                        [packets + more, bytes + size]
                    }))
            })
            .collect()
    }
}
