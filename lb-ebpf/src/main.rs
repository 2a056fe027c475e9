//! The programs of bpvs: entry points, packet memory and maps. Every decision is `lb_common`'s.

#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(
    internal_features,
    reason = "atomic read-modify-write is not in core::sync::atomic on this target"
)]

mod maps;
mod memory;
mod parts;
mod skb;
mod socket;
mod tables;
mod xdp;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_vlan_pop},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use lb_common::{
    abi::ENTER,
    conn::sweep::sweep as sweep_one,
    packet::Packet,
    pipeline,
    tables::{Tables, Turn},
    verdict::{Action, Reason},
};

use crate::{
    maps::SWEEP,
    skb::Skb,
    tables::{MAPS, Maps},
    xdp::Arrived,
};

/// Go on with whatever comes next on this hook: `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact.
const NEXT: i32 = -1;
/// `BPF_F_INGRESS`.
const INGRESS: u64 = 1;

/// What arrives on an interface.
#[classifier]
pub fn tc_ingress(context: TcContext) -> i32 {
    run(&context, false)
}

/// What this host sends itself on an interface. What it forwards has been handled where it arrived.
#[classifier]
pub fn tc_egress(context: TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    if unsafe { (*context.skb.skb).ingress_ifindex } != 0 {
        return NEXT;
    }
    run(&context, true)
}

#[inline(always)]
fn run(context: &TcContext, egress: bool) -> i32 {
    let packet = Skb::whole(context, egress);
    let mut parts = parts::Functions::new(context, egress);
    let verdict = pipeline::handle(&packet, &MAPS, &mut parts);
    // Never for a packet that is served.
    if verdict.reason.ends() {
        tell(context, packet.arrival().ifindex, verdict.reason);
    }
    // A priority that it came with is not for the interface by which it leaves: the stack would take it off too.
    //
    // SAFETY: the context is the program's own.
    if verdict.action.leaves() && unsafe { (*context.skb.skb).vlan_present } != 0 {
        // SAFETY: as above. Should it fail, the packet leaves with the tag, which says nothing.
        unsafe { bpf_skb_vlan_pop(context.as_ptr().cast()) };
    }
    // SAFETY: helpers that take plain numbers, or no parameters at all.
    let code = unsafe {
        match verdict.action {
            // Handed over is only what comes before this program.
            Action::Pass | Action::HandOver => i64::from(NEXT),
            Action::Drop | Action::Refuse => i64::from(TC_ACT_SHOT),
            // Only what arrives can enter another namespace.
            Action::Transmit if verdict.ifindex & ENTER != 0 && !egress => {
                // A mark of this namespace means nothing there, and by any other way it is taken off.
                (*context.skb.skb).mark = 0;
                bpf_redirect_peer(verdict.ifindex & !ENTER, 0)
            }
            Action::Transmit => bpf_redirect(verdict.ifindex & !ENTER, 0),
            Action::Resolve => bpf_redirect_neigh(verdict.ifindex, core::ptr::null_mut(), 0, 0),
            Action::Receive => bpf_redirect(verdict.ifindex, INGRESS),
        }
    };
    code as i32
}

/// What arrives on an interface, before the kernel has made a socket buffer of it. What it cannot finish goes on as it came,
/// and is `tc_ingress`'s.
#[xdp]
pub fn xdp_ingress(context: XdpContext) -> u32 {
    let Some(arrived) = Arrived::take(&context) else {
        return xdp_action::XDP_PASS;
    };
    let ifindex = arrived.frame.arrival().ifindex;
    let mut parts = parts::Early::new(context.ctx, ifindex);
    let verdict = pipeline::handle(&arrived.frame, &MAPS, &mut parts);
    if verdict.action == Action::HandOver {
        return arrived.pass();
    }
    if verdict.reason.ends() {
        tell(&context, ifindex, verdict.reason);
    }
    if verdict.action == Action::Drop {
        return xdp_action::XDP_DROP;
    }
    arrived.send(verdict.ifindex, verdict.vlan)
}

/// Writes into the log why a packet ends. The level is a constant: where it is off the verifier takes this out.
///
/// By itself, for what it needs of the stack would be added to that of the pipeline's deepest chain of calls: kernels
/// before 6.7 count 32 bytes at a time, and find more than the 512 that there are.
#[inline(never)]
fn tell<C: EbpfContext>(context: &C, ifindex: u32, reason: Reason) {
    debug!(
        context,
        "scope {}, interface {}: a packet ends: {}",
        MAPS.scope_id(),
        ifindex,
        reason.name()
    );
}

/// Looks at the connections that the daemon has listed, and takes those apart that have expired. The daemon runs it by
/// `BPF_PROG_TEST_RUN`; it never sees a packet.
#[classifier]
pub fn sweep(context: TcContext) -> i32 {
    let _ = context.as_ptr();
    let mut list = List { index: 0 };
    MAPS.repeat(1 << 16, &mut list);
    0
}

struct List {
    index: u32,
}

impl Turn<Maps> for List {
    #[inline(always)]
    fn turn(&mut self, maps: &Maps) -> bool {
        let Some(item) = SWEEP.get(self.index) else {
            return false;
        };
        self.index += 1;
        sweep_one(maps, item)
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
