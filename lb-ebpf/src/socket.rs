//! The socket hook: what local sockets of all scopes connect and send to. One instance, at the root of the cgroups; a
//! socket's scope is found by the cookie of its network namespace.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    ptr::{addr_of, addr_of_mut},
};

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock_addr,
    helpers::{
        bpf_loop,
        generated::{
            bpf_get_netns_cookie, bpf_get_smp_processor_id, bpf_get_socket_cookie, bpf_set_retval,
        },
    },
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use lb_common::{
    abi::{Be16, Be32, ConnKey, V4},
    conn::create::Scratch,
    pipeline,
    socket::{self, Answer, Asked, Kind, Parts, Sockets},
    tables::{InsertError, Turn},
    transport::{TCP, UDP},
};

use crate::{
    maps::{self, Desk},
    tables::{Maps, Site},
};

/// The system call goes on.
const GO_ON: i32 = 1;
/// The system call fails.
const FAIL: i32 = 0;
/// Its error, as the kernel has it: `-ECONNREFUSED`.
const REFUSED: i32 = -111;
/// Places for connections that are being made: a power of two. The first is not used.
const DESKS: u32 = 256;
/// How many are tried.
const TRIES: u32 = 4;
/// 127.0.0.1: where the kernel connects to when no address is given.
const LOCALHOST: V4 = V4::new([127, 0, 0, 1]);

/// A scope's sockets: the scope in the upper half of a word, a desk in the lower one (0: none).
#[derive(Clone, Copy)]
pub struct Local(u32);

impl Local {
    /// Of the socket's scope, without a desk; `None` where bpvs serves nobody.
    #[inline(always)]
    fn of(context: *mut c_void) -> Option<Self> {
        // SAFETY: the context is the program's own.
        let cookie = unsafe { bpf_get_netns_cookie(context) };
        let scope = maps::NAMESPACES.get_ptr(cookie)?;
        // SAFETY: a value of this type, which stays mapped while the program runs.
        Some(Self(unsafe { *scope } << 16))
    }

    /// With a desk.
    #[inline(always)]
    fn seated(self) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let mut tries = 0;
        while tries < TRIES {
            let desk = (cpu * TRIES + tries + 1) & (DESKS - 1);
            tries += 1;
            let Some(taken) = taken(desk) else {
                continue;
            };
            // SAFETY: the lookup gave an aligned word that stays mapped while the program runs.
            let (_, done) = unsafe {
                atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                    taken, 0, 1,
                )
            };
            if done && desk != 0 {
                return Some(Self(self.0 | desk));
            }
        }
        None
    }

    /// Gives the desk back.
    #[inline(always)]
    fn leave(self) {
        if let Some(taken) = taken(self.0 & 0xffff) {
            // SAFETY: as above; it is this program's own until then.
            unsafe { taken.write_volatile(0) };
        }
    }
}

#[inline(always)]
fn taken(desk: u32) -> Option<*mut u64> {
    let desk = maps::SOCKET_SCRATCH.get_ptr(desk)?;
    // SAFETY: a place in a map's value.
    Some(unsafe { addr_of!((*desk).taken) }.cast::<u64>().cast_mut())
}

/// A turn of a loop, and for whom.
struct Call<'t, B> {
    turn: &'t mut B,
    site: Local,
}

impl Site for Local {
    #[inline(always)]
    fn scope(self) -> u32 {
        self.0 >> 16
    }

    #[inline(always)]
    fn scratch(self) -> Option<*const Scratch<V4>> {
        let desk: *const Desk = maps::SOCKET_SCRATCH.get_ptr(self.0 & 0xffff)?;
        // SAFETY: a place in a map's value.
        Some(unsafe { addr_of!((*desk).scratch) })
    }

    /// Atomically: packets and other programs of this hook may come in between.
    #[inline(always)]
    fn count(self, counter: &mut u64, value: u64) {
        // SAFETY: a reference is valid and aligned.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
    }

    #[inline(always)]
    fn repeat<B: Turn<Maps<Self>>>(self, most: u32, turn: &mut B) {
        let callback = once::<B> as unsafe extern "C" fn(u64, *mut c_void) -> i64;
        let mut call = Call { turn, site: self };
        // SAFETY: the callback gets the pointer that is passed here, to a value that outlives the call.
        unsafe {
            bpf_loop(
                most,
                callback as *mut c_void,
                core::ptr::from_mut(&mut call).cast(),
                0,
            );
        }
    }
}

/// One turn of `bpf_loop`; 1 ends it.
unsafe extern "C" fn once<B: Turn<Maps<Local>>>(index: u64, call: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes a pointer to a `Call<B>`, and nobody else uses it meanwhile.
    let call = unsafe { &mut *call.cast::<Call<'_, B>>() };
    i64::from(!call.turn.nth(&Maps(call.site), index as usize))
}

impl Sockets<V4> for Maps<Local> {
    #[inline(always)]
    fn socket(&self, cookie: u64) -> Option<ConnKey<V4>> {
        let connection: *const ConnKey<V4> = maps::SOCKETS.get_ptr(cookie)?;
        // SAFETY: a value of this type, which stays mapped while the program runs; only the socket's own calls write it.
        Some(unsafe { *connection })
    }

    #[inline(always)]
    fn remember_socket(&self, cookie: u64, connection: &ConnKey<V4>) -> Result<(), InsertError> {
        maps::SOCKETS
            .insert(cookie, connection, 0)
            .map_err(|_| InsertError::Full)
    }

    #[inline(always)]
    fn forget_socket(&self, cookie: u64) {
        // It was there: another program may have been faster.
        let _ = maps::SOCKETS.remove(cookie);
    }
}

/// Calls the functions below.
struct Functions(Local);

impl Parts<V4> for Functions {
    #[inline(always)]
    fn note(&mut self, _on_the_desk: &Asked<V4>, bits: u8) -> u64 {
        bpvs_socket_note(self.0.0, u32::from(bits))
    }

    #[inline(always)]
    fn schedule(&mut self) -> u64 {
        bpvs_socket_schedule(self.0.0)
    }

    #[inline(always)]
    fn persist(&mut self) -> u64 {
        bpvs_socket_persist(self.0.0)
    }

    #[inline(always)]
    fn create(&mut self) -> u64 {
        bpvs_socket_create(self.0.0)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_socket_note(site: u32, bits: u32) -> u64 {
    let Some(desk) = maps::SOCKET_SCRATCH.get_ptr(site & 0xffff) else {
        return 0;
    };
    // SAFETY: a map's value, which stays mapped while the program runs.
    let asked = unsafe { &*addr_of!((*desk).asked) };
    u64::from(socket::note(&Maps(Local(site)), asked, bits as u8))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_socket_schedule(site: u32) -> u64 {
    pipeline::schedule(&Maps(Local(site)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_socket_persist(site: u32) -> u64 {
    pipeline::persist(&Maps(Local(site)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_socket_create(site: u32) -> u64 {
    socket::create(&Maps(Local(site)))
}

/// The fields of a context, each read and written by itself and whole, as the verifier wants it.
macro_rules! field {
    ($context:expr, $field:ident $([$at:literal])?) => {
        // SAFETY: the context is the program's own, and the field may be read by programs of its type.
        unsafe { addr_of!((*$context).$field $([$at])?).read_volatile() }
    };
}

/// Whether the hook has to do with the socket's protocol.
#[inline(always)]
fn is_served(context: *mut bpf_sock_addr) -> bool {
    let protocol = field!(context, protocol);
    protocol == u32::from(TCP) || protocol == u32::from(UDP)
}

/// What the socket asks for: on the desk, for the stack is small.
#[inline(always)]
fn asked(
    context: *mut bpf_sock_addr,
    site: Local,
    address: V4,
    port: Be16,
) -> Option<&'static Asked<V4>> {
    let desk: *mut Desk = maps::SOCKET_SCRATCH.get_ptr_mut(site.0 & 0xffff)?;
    // SAFETY: a place in a map's value.
    let asked = unsafe { addr_of_mut!((*desk).asked) };
    // SAFETY: the context is the program's own, and always has a socket.
    let socket = unsafe { addr_of!((*context).__bindgen_anon_1.sk).read_volatile() };
    // SAFETY: as above.
    let cookie = unsafe { bpf_get_socket_cookie(context.cast()) };
    let address = if address.0 == Be32::ZERO {
        LOCALHOST
    } else {
        address
    };
    let source = V4(Be32::from_raw(field!(socket, src_ip4)));
    let sport = Be16::new(field!(socket, src_port) as u16);
    let (mark, protocol) = (field!(socket, mark), field!(context, protocol) as u8);
    // SAFETY: the desk is this program's own until it leaves it, and every value of its bytes is one of the type.
    unsafe {
        addr_of_mut!((*asked).cookie).write(cookie);
        addr_of_mut!((*asked).address).write(address);
        addr_of_mut!((*asked).source).write(source);
        addr_of_mut!((*asked).port).write(port);
        addr_of_mut!((*asked).sport).write(sport);
        addr_of_mut!((*asked).mark).write(mark);
        addr_of_mut!((*asked).protocol).write(protocol);
        Some(&*asked)
    }
}

/// The third word of an IPv6 address that stands for an IPv4 address (`::ffff:10.0.0.1`), whose first two are zero.
const MAPPED: u32 = 0xffff_u32.to_be();

/// The address and port that the system call is about; `None` for an IPv6 address that stands for no IPv4 address.
/// `V6`: the program is one for IPv6.
#[inline(always)]
fn name<const V6: bool>(context: *mut bpf_sock_addr) -> Option<(V4, Be16)> {
    let port = Be16::from_raw(field!(context, user_port) as u16);
    if !V6 {
        return Some((V4(Be32::from_raw(field!(context, user_ip4))), port));
    }
    let mapped = field!(context, user_ip6[0]) == 0
        && field!(context, user_ip6[1]) == 0
        && field!(context, user_ip6[2]) == MAPPED;
    mapped.then(|| (V4(Be32::from_raw(field!(context, user_ip6[3]))), port))
}

/// Puts another one in its place.
#[inline(always)]
fn rename<const V6: bool>(context: *mut bpf_sock_addr, address: V4, port: Be16) {
    // SAFETY: the context is the program's own, and programs of its type may write these fields.
    unsafe {
        if V6 {
            addr_of_mut!((*context).user_ip6[3]).write_volatile(address.0.raw());
        } else {
            addr_of_mut!((*context).user_ip4).write_volatile(address.0.raw());
        }
        addr_of_mut!((*context).user_port).write_volatile(u32::from(port.raw()));
    }
}

/// Has a part of the hook find out where the socket is to go, and leads it there.
#[inline(always)]
fn lead<const V6: bool>(
    context: &SockAddrContext,
    part: impl FnOnce(&Maps<Local>, &Asked<V4>, &mut Functions) -> Answer<V4>,
) -> i32 {
    let Some((address, port)) = name::<V6>(context.sock_addr) else {
        return GO_ON;
    };
    let Some(site) = Local::of(context.as_ptr()) else {
        return GO_ON;
    };
    if !is_served(context.sock_addr) {
        return GO_ON;
    }
    let Some(site) = site.seated() else {
        return GO_ON;
    };
    let Some(asked) = asked(context.sock_addr, site, address, port) else {
        site.leave();
        return GO_ON;
    };
    let answer = part(&Maps(site), asked, &mut Functions(site));
    site.leave();
    match answer.kind {
        Kind::Leave => GO_ON,
        Kind::Refuse => {
            // SAFETY: a helper that takes a number.
            unsafe { bpf_set_retval(REFUSED) };
            FAIL
        }
        Kind::Lead => {
            rename::<V6>(context.sock_addr, answer.address, answer.port);
            GO_ON
        }
    }
}

/// An IPv6 socket connects: to an IPv4 address, perhaps.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    lead::<true>(&context, |maps, asked, parts| {
        socket::connect(maps, asked, parts)
    })
}

/// An IPv6 socket asks for the sender of what it received. What it sends to an IPv4 address passes [`sendmsg4`].
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(context: SockAddrContext) -> i32 {
    restore::<true>(&context, |maps, cookie, protocol, address, port| {
        socket::receive(maps, cookie, protocol, address, port)
    })
}

/// An IPv6 socket asks for its peer.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    restore::<true>(&context, |maps, cookie, protocol, address, port| {
        socket::peer(maps, cookie, protocol, address, port)
    })
}

/// A socket connects.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    lead::<false>(&context, |maps, asked, parts| {
        socket::connect(maps, asked, parts)
    })
}

/// A UDP socket that is not connected sends.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    lead::<false>(&context, |maps, asked, parts| {
        socket::send(maps, asked, parts)
    })
}

/// A UDP socket asks for the sender of what it received.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(context: SockAddrContext) -> i32 {
    restore::<false>(&context, |maps, cookie, protocol, address, port| {
        socket::receive(maps, cookie, protocol, address, port)
    })
}

/// A socket asks for its peer.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    restore::<false>(&context, |maps, cookie, protocol, address, port| {
        socket::peer(maps, cookie, protocol, address, port)
    })
}

/// Names the service in place of the real server.
#[inline(always)]
fn restore<const V6: bool>(
    context: &SockAddrContext,
    part: impl FnOnce(&Maps<Local>, u64, u8, V4, Be16) -> Option<(V4, Be16)>,
) -> i32 {
    let Some((address, port)) = name::<V6>(context.sock_addr) else {
        return GO_ON;
    };
    let Some(site) = Local::of(context.as_ptr()) else {
        return GO_ON;
    };
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    let protocol = field!(context.sock_addr, protocol) as u8;
    if let Some((address, port)) = part(&Maps(site), cookie, protocol, address, port) {
        rename::<V6>(context.sock_addr, address, port);
    }
    GO_ON
}

/// A socket is closed. It is asked for by its cookie at once: what it has may be of a scope that is no more.
#[cgroup_sock(sock_release)]
pub fn sock_release(context: SockContext) -> i32 {
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(context.as_ptr()) };
    socket::release(&Maps(Local(0)), cookie);
    GO_ON
}
