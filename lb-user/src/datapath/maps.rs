//! The maps: made or taken up by name, checked against what this program expects, and opened for use.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::{EbpfLoader, Pod};
use lb_common::abi::{
    AnswerKey, Conn, ConnKey, Hop, Interface, InterfaceKey, MarkKey, MarkValue, RealKey, RouteKey,
    Scope, Server, ServerStats, Service, ServiceKey, Shared, SweepItem, Template, V4, WIRE_SETS,
    WireSet,
};
use lb_common::verdict::Reason;

use super::pins::Pins;
use super::sys::Mapped;
use super::{DatapathError, Options, ebpf, system};

/// Scopes that one daemon serves at most.
pub(super) const SCOPES: u32 = 256;
/// Connections looked at in one run of the sweep program.
pub(super) const SWEEP: u32 = 1024;
/// Next hops of all scopes together.
const HOPS: u32 = 16_384;
/// Routes of all scopes together.
const ROUTES: u32 = 131_072;
/// Mark rules of all scopes together, a range of ports counted by its prefixes.
const MARKS: u32 = 65_536;
/// Fragmented packets under way.
const FRAGMENTS: u32 = 8192;
/// Destinations that lblc and lblcr remember, of all services together.
const LOCALITIES: u32 = 8192;

/// Places where connections of sockets are put together, as the programs count them.
const DESKS: u32 = 256;

/// A value of the ABI as aya moves it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: the ABI's types are `repr(C)` without padding or invalid bit patterns.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// A hash map from `K` to `V`.
pub(super) type Hash<K, V> = HashMap<MapData, Plain<K>, Plain<V>>;

/// How large the rings are, and from that the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rings {
    /// Slots for connections that have not been answered.
    pub(super) half_open: u32,
    /// Slots for those that have: more than of the others.
    pub(super) assured: u32,
    /// Slots of persistence templates: a power of two.
    pub(super) templates: u32,
}

impl Rings {
    /// For so many answered connections at least, and so many templates. Both rings together have a power of two of slots:
    /// the kernel makes as many buckets as that would need in any case.
    fn new(connections: u32, templates: u32) -> Self {
        let wanted = connections.clamp(1024, 1 << 27);
        let templates = templates.clamp(16, 1 << 24).next_power_of_two();
        let tight = Self::from_slots(wanted.next_power_of_two(), templates);
        if tight.assured < wanted {
            Self::from_slots(2 * tight.slots(), templates)
        } else {
            tight
        }
    }

    /// Those that are pinned, whatever is asked for now; the ones asked for where there are none.
    pub(super) fn adopt(pins: &Pins, options: &Options) -> Self {
        let entries = |name| {
            let there = MapData::from_pin(pins.map(name)).ok()?;
            Some(there.info().ok()?.max_entries())
        };
        match (entries("RING"), entries("TEMPLATES")) {
            (Some(slots), Some(templates)) => Self::from_slots(slots, templates),
            _ => Self::new(options.connections, options.templates),
        }
    }

    /// From the slots of both together, and those of the templates.
    fn from_slots(slots: u32, templates: u32) -> Self {
        let half_open = (slots / 4).min(65_536);
        Self {
            half_open,
            assured: slots - half_open,
            templates,
        }
    }

    const fn slots(self) -> u32 {
        self.half_open + self.assured
    }

    /// Entries of the connection table: two for each slot.
    const fn entries(self) -> u32 {
        2 * self.slots()
    }
}

/// The names of the maps with their sizes, for a datapath that is made anew.
pub(super) fn sizes(options: &Options) -> BTreeMap<&'static str, u32> {
    let rings = Rings::new(options.connections, options.templates);
    BTreeMap::from([
        ("SCOPES", SCOPES),
        ("SERVICE_KEYS", options.services),
        ("SERVICES", options.services + 1),
        ("SERVERS", options.servers + 1),
        ("SERVER_STATS", options.servers + 1),
        ("MARKS", MARKS),
        ("ANSWERS", options.services),
        // By two protocols, if it is of a fwmark service.
        ("REALS", 2 * options.servers),
        ("ROUTES", ROUTES),
        ("HOPS", HOPS),
        ("INTERFACES", 8192),
        ("WIRES", WIRE_SETS),
        ("CONNS", rings.entries()),
        ("RING", rings.slots()),
        ("DUE", rings.slots()),
        ("TICKETS", 3),
        ("DRAWN", SCOPES),
        ("BUCKETS", options.buckets),
        ("LOCALITIES", LOCALITIES),
        ("TEMPLATES", rings.templates),
        ("TEMPLATE_KEYS", rings.templates),
        ("FRAGMENTS", FRAGMENTS),
        ("REASONS", SCOPES * Reason::ALL.len() as u32),
        ("ERROR_BUDGET", 1),
        ("SCRATCH", 1),
        ("SWEEP", SWEEP),
        ("NAMESPACES", SCOPES),
        ("SOCKETS", options.connections.clamp(1024, 1 << 27)),
        ("SOCKET_SCRATCH", DESKS),
    ])
}

/// Tells the loader where the maps are pinned and how large they are; those that are pinned already keep their size.
pub(super) fn prepare<'a>(
    loader: &mut EbpfLoader<'a>,
    pins: &Pins,
    sizes: &'a BTreeMap<&'static str, u32>,
) -> Result<(), DatapathError> {
    for (name, size) in sizes {
        let path = pins.map(name);
        if path.exists() {
            let there =
                MapData::from_pin(&path).map_err(ebpf(format!("open {}", path.display())))?;
            let info = there
                .info()
                .map_err(ebpf(format!("look at {}", path.display())))?;
            loader.map_max_entries(name, info.max_entries());
        } else {
            loader.map_max_entries(name, *size);
        }
        loader.map_pin_path(name, path);
    }
    Ok(())
}

/// All maps that the daemon reads or writes.
pub(super) struct Maps {
    pub(super) scopes: Array<MapData, Plain<Scope>>,
    pub(super) service_keys: Hash<ServiceKey<V4>, u32>,
    pub(super) services: Mapped<Service>,
    pub(super) servers: Mapped<Server>,
    pub(super) server_stats: PerCpuArray<MapData, Plain<ServerStats>>,
    /// The same, for reading many at once.
    pub(super) server_stats_data: MapData,
    pub(super) marks: Hash<MarkKey<V4>, MarkValue>,
    pub(super) answers: Hash<AnswerKey<V4>, u32>,
    pub(super) reals: Hash<RealKey<V4>, u32>,
    pub(super) routes: LpmTrie<MapData, Plain<RouteKey<V4>>, Plain<u32>>,
    pub(super) hops: Mapped<Hop>,
    pub(super) buckets: Mapped<Shared<u64>>,
    pub(super) templates: Mapped<Template<V4>>,
    pub(super) interfaces: Hash<InterfaceKey, Interface>,
    pub(super) wires: Mapped<WireSet>,
    pub(super) conns: MapData,
    pub(super) reasons: PerCpuArray<MapData, Plain<[u64; 2]>>,
    /// When the sweep is to look at the connection of each slot: of the half-open ring, then of the assured one.
    pub(super) due: Mapped<Shared<u64>>,
    pub(super) sweep: Mapped<Shared<SweepItem<V4>>>,
    /// Sockets that have used the socket hook, by their cookies.
    pub(super) sockets: Hash<u64, ConnKey<V4>>,
    /// Scopes by the cookies of their namespaces.
    pub(super) namespaces: Hash<u64, u32>,
    pub(super) rings: Rings,
}

impl Maps {
    /// Opens what is pinned.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let open =
            |name: &'static str, key: usize, value: usize| -> Result<MapData, DatapathError> {
                let path = pins.map(name);
                let map =
                    MapData::from_pin(&path).map_err(ebpf(format!("open {}", path.display())))?;
                let info = map
                    .info()
                    .map_err(ebpf(format!("look at {}", path.display())))?;
                if info.key_size() as usize != key || info.value_size() as usize != value {
                    return Err(DatapathError::Incompatible { path });
                }
                Ok(map)
            };
        macro_rules! typed {
            ($kind:ident, $name:literal, $key:ty, $value:ty) => {
                Map::$kind(open($name, size_of::<$key>(), size_of::<$value>())?)
                    .try_into()
                    .map_err(ebpf(concat!("use the map ", $name)))?
            };
        }
        macro_rules! mapped {
            ($name:literal, $value:ty) => {{
                let map = open($name, size_of::<u32>(), size_of::<$value>())?;
                let entries = map
                    .info()
                    .map_err(ebpf(concat!("look at ", $name)))?
                    .max_entries();
                Mapped::<$value>::new(map.fd().as_fd(), entries)
                    .map_err(system(concat!("map ", $name, " into memory").into()))?
            }};
        }
        let due = mapped!("DUE", Shared<u64>);
        let templates = mapped!("TEMPLATES", Template<V4>);
        let rings = Rings::from_slots(due.len(), templates.len());
        Ok(Self {
            scopes: typed!(Array, "SCOPES", u32, Scope),
            service_keys: typed!(HashMap, "SERVICE_KEYS", ServiceKey<V4>, u32),
            services: mapped!("SERVICES", Service),
            servers: mapped!("SERVERS", Server),
            server_stats: typed!(PerCpuArray, "SERVER_STATS", u32, ServerStats),
            server_stats_data: open("SERVER_STATS", size_of::<u32>(), size_of::<ServerStats>())?,
            marks: typed!(HashMap, "MARKS", MarkKey<V4>, MarkValue),
            answers: typed!(HashMap, "ANSWERS", AnswerKey<V4>, u32),
            reals: typed!(HashMap, "REALS", RealKey<V4>, u32),
            routes: typed!(LpmTrie, "ROUTES", (u32, RouteKey<V4>), u32),
            hops: mapped!("HOPS", Hop),
            buckets: mapped!("BUCKETS", Shared<u64>),
            templates,
            interfaces: typed!(HashMap, "INTERFACES", InterfaceKey, Interface),
            wires: mapped!("WIRES", WireSet),
            conns: open("CONNS", size_of::<ConnKey<V4>>(), size_of::<Conn<V4>>())?,
            reasons: typed!(PerCpuArray, "REASONS", u32, [u64; 2]),
            sockets: typed!(HashMap, "SOCKETS", u64, ConnKey<V4>),
            namespaces: typed!(HashMap, "NAMESPACES", u64, u32),
            due,
            sweep: mapped!("SWEEP", Shared<SweepItem<V4>>),
            rings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_hold_what_is_asked_for_and_use_all_buckets() {
        for asked in [1, 1024, 1025, 49_152, 262_144, 983_040, 983_041, 1_000_000] {
            let rings = Rings::new(asked, 65_536);
            assert!(rings.assured >= asked, "{asked}: {rings:?}");
            assert!(rings.entries().is_power_of_two(), "{asked}: {rings:?}");
            // Half of that would not do.
            let half = Rings::from_slots(rings.slots() / 2, rings.templates);
            assert!(half.assured < asked.max(1024), "{asked}: {rings:?}");
            assert_eq!(Rings::from_slots(rings.slots(), rings.templates), rings);
        }
    }
}
