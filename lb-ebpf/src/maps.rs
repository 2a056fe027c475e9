//! The maps. Sizes are the loader's (they are 1 here); what they mean is said in `lb_common::abi`.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use lb_common::{
    abi::{
        AnswerKey, Conn, ConnKey, FragmentKey, FragmentPorts, Hop, Interface, InterfaceKey,
        Locality, LocalityKey, MarkKey, MarkValue, RealKey, RouteKey, Scope, Server, ServerStats,
        Service, ServiceKey, Shared, SweepItem, Template, TemplateKey, V4, WireSet,
    },
    conn::create::Scratch,
    socket::Asked,
};

#[map]
pub static SCOPES: Array<Scope> = Array::with_max_entries(1, 0);
#[map]
pub static SERVICE_KEYS: HashMap<ServiceKey<V4>, u32> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static SERVERS: Array<Server> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static SERVER_STATS: PerCpuArray<ServerStats> = PerCpuArray::with_max_entries(1, 0);
/// The hash tables of dh, sh and mh: blocks of indexes of real servers. Each takes eight bytes in any case.
#[map]
pub static BUCKETS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// What lblc and lblcr remember. A destination that is pushed out is chosen for anew, nothing else: the kernel's LRU serves.
#[map]
pub static LOCALITIES: LruHashMap<LocalityKey<V4>, Locality> = LruHashMap::with_max_entries(1, 0);
#[map]
pub static MARKS: HashMap<MarkKey<V4>, MarkValue> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// What real servers send from, in scopes that tell them of packets of no connection.
#[map]
pub static REALS: HashMap<RealKey<V4>, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static ANSWERS: HashMap<AnswerKey<V4>, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static ROUTES: LpmTrie<RouteKey<V4>, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static HOPS: Array<Hop> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static INTERFACES: HashMap<InterfaceKey, Interface> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// What XDP handles.
#[map]
pub static WIRES: Array<WireSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static CONNS: HashMap<ConnKey<V4>, Conn<V4>> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Persistence templates.
#[map]
pub static TEMPLATES: Array<Template<V4>> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Indexes of the templates.
#[map]
pub static TEMPLATE_KEYS: HashMap<TemplateKey<V4>, u32> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Both rings of connections: the half-open one, then the assured one.
#[map]
pub static RING: Array<ConnKey<V4>> = Array::with_max_entries(1, 0);
/// When the sweep is to look at the connection of each slot. The daemon goes over it every second.
#[map]
pub static DUE: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The next ticket of each ring.
#[map]
pub static TICKETS: Array<u32> = Array::with_max_entries(3, 0);
/// How many new connections of each scope the defence against floods has looked at.
#[map]
pub static DRAWN: Array<u32> = Array::with_max_entries(1, 0);
/// A fragment that is pushed out loses the rest of its packet, nothing else: the kernel's LRU serves here.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey<V4>, FragmentPorts> =
    LruHashMap::with_max_entries(1, 0);
/// Packets and bytes by scope and reason.
#[map]
pub static REASONS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);
/// When (ns) the last ICMP error was sent and how many may still be: a bucket for each CPU.
#[map]
pub static ERROR_BUDGET: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);
/// The connections that the sweep program is to look at.
#[map]
pub static SWEEP: Array<SweepItem<V4>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where a connection is put together: a value for each CPU, for the stack of a program is small.
#[map]
pub static SCRATCH: PerCpuArray<Scratch<V4>> = PerCpuArray::with_max_entries(1, 0);

/// The scopes of network namespaces, by their cookies.
#[map]
pub static NAMESPACES: HashMap<u64, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Sockets that have used the socket hook, by their cookies: the forward keys of their connections.
#[map]
pub static SOCKETS: HashMap<u64, ConnKey<V4>> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Where connections of sockets are put together. Not a value for each CPU: a program of the socket hook may be
/// interrupted by packets, and by another one.
#[map]
pub static SOCKET_SCRATCH: Array<Desk> = Array::with_max_entries(1, 0);

/// A place for one connection that is being made.
#[repr(C)]
pub struct Desk {
    /// 1 while a program has it.
    pub taken: Shared<u64>,
    /// What the socket asks for.
    pub asked: Asked<V4>,
    /// What is made.
    pub scratch: Scratch<V4>,
}

/// What the loader writes before the program is loaded; the verifier sees constants.
pub mod constants {
    /// The scope that this instance serves.
    #[unsafe(no_mangle)]
    pub static SCOPE: u32 = 0;
    /// Slots of the half-open ring.
    #[unsafe(no_mangle)]
    pub static HALF_OPEN_SLOTS: u32 = 0;
    /// Slots of the assured ring.
    #[unsafe(no_mangle)]
    pub static ASSURED_SLOTS: u32 = 0;
    /// Slots of persistence templates: a power of two.
    #[unsafe(no_mangle)]
    pub static TEMPLATE_SLOTS: u32 = 0;

    /// Reads one of them.
    #[inline(always)]
    pub fn read(constant: &'static u32) -> u32 {
        // SAFETY: a static is aligned and lives on; volatile, for the loader overwrites what the compiler sees.
        unsafe { core::ptr::read_volatile(constant) }
    }
}
