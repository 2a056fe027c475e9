//! `Tables` over BPF maps.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
};

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_loop},
    maps::lpm_trie::Key,
};
use lb_common::{
    abi::{
        AnswerKey, Be16, Be32, Conn, ConnKey, FragmentKey, FragmentPorts, Hop, Interface,
        InterfaceKey, LOCALITY_SERVERS, Locality, LocalityKey, MarkKey, MarkValue, RealKey,
        RouteKey, Scope, Server, Service, ServiceKey, Shared, Template, TemplateKey, Tick, V4,
        WireSet,
    },
    conn::create::Scratch,
    tables::{InsertError, Ring, Tables, Traffic, Turn},
    verdict::Reason,
};

use crate::maps::{self, constants};

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;
/// Errno of an element that exists.
const EEXIST: i32 = 17;
/// ICMP errors a second and in one go, as the kernel's `icmp_msgs_per_sec` and `icmp_msgs_burst`; for each CPU.
const ERRORS_PER_SECOND: u64 = 1000;
const ERRORS_BURST: u64 = 50;

/// The maps, as one scope sees them.
#[derive(Clone, Copy)]
pub struct Maps<S = Packets>(pub S);

/// The maps of the packets of this instance's scope.
pub const MAPS: Maps = Maps(Packets);

/// For whom a program works: which scope, and with which memory of its own.
pub trait Site: Copy {
    /// The scope id.
    fn scope(self) -> u32;
    /// Where a connection is put together.
    fn scratch(self) -> Option<*const Scratch<V4>>;
    /// Adds to a counter of this CPU's own.
    fn count(self, counter: &mut u64, value: u64);
    /// [`Tables::repeat`].
    fn repeat<B: Turn<Maps<Self>>>(self, most: u32, turn: &mut B);
}

/// The packets of the scope that this instance was loaded for.
#[derive(Clone, Copy)]
pub struct Packets;

impl Site for Packets {
    #[inline(always)]
    fn scope(self) -> u32 {
        constants::read(&constants::SCOPE)
    }

    #[inline(always)]
    fn scratch(self) -> Option<*const Scratch<V4>> {
        maps::SCRATCH.get_ptr(0)
    }

    #[inline(always)]
    fn count(self, counter: &mut u64, value: u64) {
        *counter += value;
    }

    #[inline(always)]
    fn repeat<B: Turn<Maps>>(self, most: u32, turn: &mut B) {
        let callback = once::<B> as unsafe extern "C" fn(u64, *mut c_void) -> i64;
        // SAFETY: the callback gets the pointer that is passed here, to a value that outlives the call.
        unsafe {
            bpf_loop(
                most,
                callback as *mut c_void,
                core::ptr::from_mut(turn).cast(),
                0,
            );
        }
    }
}

/// A reference into a map value.
#[inline(always)]
fn at<T>(pointer: Option<*const T>) -> Option<&'static T> {
    // SAFETY: the lookup gave a value of this type that stays mapped while the program runs; its fields are atomics,
    // `Shared`, or written by the daemon only before it is reachable.
    pointer.map(|pointer| unsafe { &*pointer })
}

/// A set of wires, which XDP asks for before there is a packet.
#[inline(always)]
pub fn wires(set: u32) -> Option<&'static WireSet> {
    at(maps::WIRES.get_ptr(set))
}

/// What a word was, which is then one more.
#[inline(always)]
fn count_up(word: Option<*mut u32>) -> u32 {
    match word {
        // Not relaxed: for that LLVM 22 emits the instruction that does not fetch, even where the old value is used.
        // SAFETY: the lookup gave an aligned word that stays mapped while the program runs.
        Some(word) => unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(word, 1) },
        None => 0,
    }
}

/// Where a ring of connections begins in the maps of both.
#[inline(always)]
fn first(ring: Ring) -> Option<u32> {
    match ring {
        Ring::HalfOpen => Some(0),
        Ring::Assured => Some(constants::read(&constants::HALF_OPEN_SLOTS)),
        Ring::Templates => None,
    }
}

/// What an insertion with [`NO_EXIST`] gave.
#[inline(always)]
fn inserted(result: Result<(), i32>) -> Result<(), InsertError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error == -EEXIST => Err(InsertError::Exists),
        Err(_) => Err(InsertError::Full),
    }
}

impl<S: Site> Tables<V4> for Maps<S> {
    #[inline(always)]
    fn scope_id(&self) -> u32 {
        self.0.scope()
    }

    #[inline(always)]
    fn now(&self) -> Tick {
        // SAFETY: a helper without arguments.
        Tick::from_nanos(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn draw(&self) -> u32 {
        count_up(maps::DRAWN.get_ptr_mut(self.scope_id()))
    }

    #[inline(always)]
    fn scope(&self) -> Option<&Scope> {
        at(maps::SCOPES.get_ptr(self.scope_id()))
    }

    #[inline(always)]
    fn service_index(&self, key: &ServiceKey<V4>) -> u32 {
        at(maps::SERVICE_KEYS.get_ptr(key)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        at(maps::SERVICES.get_ptr(index))
    }

    #[inline(always)]
    fn server(&self, index: u32) -> Option<&Server> {
        at(maps::SERVERS.get_ptr(index))
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> u32 {
        // A word that the daemon stores whole; a copy of it.
        at(maps::BUCKETS
            .get_ptr(index)
            .map(|word| word.cast::<Shared<u64>>()))
        .map_or(0, |bucket| bucket.load() as u32)
    }

    #[inline(always)]
    fn locality(&self, key: &LocalityKey<V4>) -> Option<&Locality> {
        at(maps::LOCALITIES.get_ptr(key))
    }

    #[inline(always)]
    fn remember_locality(&self, key: &LocalityKey<V4>, server: u32) {
        let now = self.now().0;
        let locality = Locality {
            used: Shared::new(now),
            changed: Shared::new(now),
            servers: [const { Shared::new(0) }; LOCALITY_SERVERS],
            pad: [Be16::ZERO; 4],
        };
        locality.servers[0].store(server);
        // Not remembered: chosen for anew with the next packet.
        let _ = maps::LOCALITIES.insert(key, locality, 0);
    }

    #[inline(always)]
    fn mark(&self, key: &MarkKey<V4>) -> Option<MarkValue> {
        at(maps::MARKS.get_ptr(key)).copied()
    }

    #[inline(always)]
    fn answers(&self, key: &AnswerKey<V4>) -> bool {
        maps::ANSWERS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn is_real(&self, key: &RealKey<V4>) -> bool {
        maps::REALS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn route(&self, destination: V4) -> u32 {
        let key = Key::new(
            64,
            RouteKey {
                scope: Be32::new(self.scope_id()),
                address: destination,
            },
        );
        maps::ROUTES.get(&key).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn hop(&self, index: u32) -> Option<&Hop> {
        at(maps::HOPS.get_ptr(index))
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32) -> Option<Interface> {
        at(maps::INTERFACES.get_ptr(InterfaceKey {
            scope: self.scope_id(),
            ifindex,
        }))
        .copied()
    }

    #[inline(always)]
    fn conn(&self, key: &ConnKey<V4>) -> Option<&Conn<V4>> {
        at(maps::CONNS.get_ptr(key))
    }

    #[inline(always)]
    fn insert_conn(&self, key: &ConnKey<V4>, conn: &Conn<V4>) -> Result<(), InsertError> {
        inserted(maps::CONNS.insert(key, conn, NO_EXIST))
    }

    #[inline(always)]
    fn delete_conn(&self, key: &ConnKey<V4>) {
        // Whoever deletes has claimed: that it is gone already cannot be.
        let _ = maps::CONNS.remove(key);
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&Scratch<V4>> {
        at(self.0.scratch())
    }

    #[inline(always)]
    fn ticket(&self, ring: Ring) -> u32 {
        let index = match ring {
            Ring::HalfOpen => 0,
            Ring::Assured => 1,
            Ring::Templates => 2,
        };
        count_up(maps::TICKETS.get_ptr_mut(index))
    }

    #[inline(always)]
    fn slots(&self, ring: Ring) -> u32 {
        match ring {
            Ring::HalfOpen => constants::read(&constants::HALF_OPEN_SLOTS),
            Ring::Assured => constants::read(&constants::ASSURED_SLOTS),
            Ring::Templates => constants::read(&constants::TEMPLATE_SLOTS),
        }
    }

    #[inline(always)]
    fn slot(&self, ring: Ring, index: u32) -> Option<&Shared<ConnKey<V4>>> {
        at(maps::RING
            .get_ptr(first(ring)? + index)
            .map(|slot| slot.cast::<Shared<ConnKey<V4>>>()))
    }

    #[inline(always)]
    fn due(&self, ring: Ring, index: u32) -> Option<&Shared<u64>> {
        at(maps::DUE
            .get_ptr(first(ring)? + index)
            .map(|word| word.cast::<Shared<u64>>()))
    }

    #[inline(always)]
    fn template_index(&self, key: &TemplateKey<V4>) -> u32 {
        at(maps::TEMPLATE_KEYS.get_ptr(key)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn template(&self, index: u32) -> Option<&Template<V4>> {
        at(maps::TEMPLATES.get_ptr(index))
    }

    #[inline(always)]
    fn insert_template(&self, key: &TemplateKey<V4>, index: u32) -> Result<(), InsertError> {
        inserted(maps::TEMPLATE_KEYS.insert(key, index, NO_EXIST))
    }

    #[inline(always)]
    fn delete_template(&self, key: &TemplateKey<V4>) {
        // Whoever deletes has claimed: that it is gone already cannot be.
        let _ = maps::TEMPLATE_KEYS.remove(key);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<V4>) -> Option<FragmentPorts> {
        at(maps::FRAGMENTS.get_ptr(key)).copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey<V4>, ports: &FragmentPorts) {
        // Lost: the rest of the packet is counted as early and passed.
        let _ = maps::FRAGMENTS.insert(key, ports, 0);
    }

    #[inline(always)]
    fn swap(&self, word: &Shared<u64>, old: u64, new: u64) -> Result<(), u64> {
        // SAFETY: a field's pointer is valid and aligned.
        let (was, done) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                word.as_ptr(),
                old,
                new,
            )
        };
        if done { Ok(()) } else { Err(was) }
    }

    #[inline(always)]
    fn add(&self, word: &Shared<u32>, value: u32) {
        // SAFETY: a field's pointer is valid and aligned.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(word.as_ptr(), value) };
    }

    #[inline(always)]
    fn may_send_error(&self) -> bool {
        let Some(bucket) = maps::ERROR_BUDGET.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: a helper without arguments; the pointer is to this CPU's own value, which nobody else writes.
        let (now, bucket) = unsafe { (bpf_ktime_get_coarse_ns(), &mut *bucket) };
        let [last, left] = *bucket;
        let earned = now.wrapping_sub(last) / (1_000_000_000 / ERRORS_PER_SECOND);
        let budget = core::cmp::min(left.saturating_add(earned), ERRORS_BURST);
        if budget == 0 {
            return false;
        }
        *bucket = [if earned > 0 { now } else { last }, budget - 1];
        true
    }

    #[inline(always)]
    fn count(&self, reason: Reason, bytes: u32) {
        let index = self.scope_id() * Reason::ALL.len() as u32 + reason as u32;
        if let Some(counter) = maps::REASONS.get_ptr_mut(index) {
            // SAFETY: this CPU's own value, which nobody else writes.
            let counter = unsafe { &mut *counter };
            self.0.count(&mut counter[0], 1);
            self.0.count(&mut counter[1], u64::from(bytes));
        }
    }

    #[inline(always)]
    fn count_server(&self, server: u32, traffic: Traffic, bytes: u32) {
        let Some(stats) = maps::SERVER_STATS.get_ptr_mut(server) else {
            return;
        };
        // SAFETY: this CPU's own value, which nobody else writes.
        let stats = unsafe { &mut *stats };
        match traffic {
            Traffic::Connection => self.0.count(&mut stats.conns, 1),
            Traffic::In => {
                self.0.count(&mut stats.in_packets, 1);
                self.0.count(&mut stats.in_bytes, u64::from(bytes));
            }
            Traffic::Out => {
                self.0.count(&mut stats.out_packets, 1);
                self.0.count(&mut stats.out_bytes, u64::from(bytes));
            }
        }
    }

    #[inline(always)]
    fn repeat<B: Turn<Self>>(&self, most: u32, turn: &mut B) {
        self.0.repeat(most, turn);
    }
}

/// One turn of `bpf_loop`; 1 ends it.
unsafe extern "C" fn once<B: Turn<Maps>>(index: u64, turn: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes a pointer to a `B`, and nobody else uses it meanwhile.
    let turn = unsafe { &mut *turn.cast::<B>() };
    i64::from(!turn.nth(&MAPS, index as usize))
}
