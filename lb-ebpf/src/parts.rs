//! The parts of a packet's way as functions that the verifier checks by themselves, once for the whole program: exported
//! symbols are what it calls global functions. They take the context and numbers, nothing else.

use core::arch::asm;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    programs::TcContext,
};
use lb_common::{abi::V4, arp, family::Ipv4, icmp, mss, pipeline, relay, verdict::Verdict};

use crate::{skb::Skb, tables::MAPS, xdp::Frame};

/// Calls the functions below for one packet.
pub struct Functions {
    context: *mut __sk_buff,
    egress: u32,
}

impl Functions {
    /// For this packet.
    #[inline(always)]
    pub fn new(context: &TcContext, egress: bool) -> Self {
        Self {
            context: context.skb.skb,
            egress: u32::from(egress),
        }
    }
}

impl pipeline::Parts for Functions {
    const REFUSES: bool = true;

    #[inline(always)]
    fn follow(&mut self) -> u64 {
        bpvs_follow(self.context, self.egress)
    }

    #[inline(always)]
    fn classify(&mut self) -> u64 {
        bpvs_classify(self.context, self.egress)
    }

    #[inline(always)]
    fn relay(&mut self) -> u64 {
        bpvs_relay(self.context, self.egress)
    }

    #[inline(always)]
    fn schedule(&mut self) -> u64 {
        bpvs_schedule()
    }

    #[inline(always)]
    fn persist(&mut self) -> u64 {
        bpvs_persist()
    }

    #[inline(always)]
    fn create(&mut self) -> u64 {
        bpvs_create()
    }

    #[inline(always)]
    fn once(&mut self) -> u64 {
        bpvs_once(self.context, self.egress)
    }

    #[inline(always)]
    fn control(&mut self) -> u64 {
        bpvs_control(self.context, self.egress)
    }

    #[inline(always)]
    fn refuse(&mut self, why: u64) -> u64 {
        bpvs_refuse(self.context, self.egress, why)
    }

    #[inline(always)]
    fn arp(&mut self) -> u64 {
        bpvs_arp(self.context, self.egress)
    }
}

/// A number that a part is given. It counts as used even where the part does not look at it: a caller would otherwise pass
/// whatever is in the register, which the verifier refuses.
#[inline(always)]
fn used(number: u32) -> u32 {
    let copy: u64;
    // SAFETY: a move between registers.
    unsafe { asm!("{0} = {1}", out(reg) copy, in(reg) u64::from(number), options(nomem, nostack)) };
    copy as u32
}

/// The packet of a part.
#[inline(always)]
fn packet(context: *mut __sk_buff, egress: u32) -> TcContext {
    used(egress);
    TcContext::new(context)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_follow(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    pipeline::follow::<Ipv4, _, _>(&mut Skb::new(&context, egress != 0), &MAPS)
}

/// [`mss::clamp`]: part of a part, for few packets come here. 0: the packet could not be written.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bpvs_mss(context: *mut __sk_buff, l4: u32, server: u32, hop: u32) -> u64 {
    let context = TcContext::new(context);
    // The longest IPv4 header ends before that; the verifier is to know.
    let l4 = used(l4) & 0x7f;
    let mut packet = Skb::new(&context, false);
    u64::from(mss::clamp::<V4, _, _>(&mut packet, &MAPS, l4, used(server), used(hop)).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_classify(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    pipeline::classify::<Ipv4, _, _>(&mut Skb::new(&context, egress != 0), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_relay(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    relay::relay::<Ipv4, _, _>(&mut Skb::new(&context, egress != 0), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_schedule() -> u64 {
    pipeline::schedule(&MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_persist() -> u64 {
    pipeline::persist(&MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_create() -> u64 {
    pipeline::create(&MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_once(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    pipeline::once::<Ipv4, _, _>(&mut Skb::new(&context, egress != 0), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_control(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    icmp::control(&mut Skb::new(&context, egress != 0), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_refuse(context: *mut __sk_buff, egress: u32, why: u64) -> u64 {
    let context = packet(context, egress);
    pipeline::refuse::<Ipv4, _, _>(&mut Skb::new(&context, egress != 0), &MAPS, why)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_arp(context: *mut __sk_buff, egress: u32) -> u64 {
    let context = packet(context, egress);
    arp::process(&mut Skb::new(&context, egress != 0), &MAPS)
}

/// Calls the functions below, and those above that need no packet, for one frame in XDP.
pub struct Early {
    context: *mut xdp_md,
    ifindex: u32,
}

impl Early {
    /// For the frame of this context, which belongs to this interface.
    #[inline(always)]
    pub fn new(context: *mut xdp_md, ifindex: u32) -> Self {
        Self { context, ifindex }
    }
}

impl pipeline::Parts for Early {
    const REFUSES: bool = false;

    #[inline(always)]
    fn follow(&mut self) -> u64 {
        bpvs_xdp_follow(self.context, self.ifindex)
    }

    #[inline(always)]
    fn classify(&mut self) -> u64 {
        bpvs_xdp_classify(self.context, self.ifindex)
    }

    #[inline(always)]
    fn schedule(&mut self) -> u64 {
        bpvs_schedule()
    }

    #[inline(always)]
    fn persist(&mut self) -> u64 {
        bpvs_persist()
    }

    #[inline(always)]
    fn create(&mut self) -> u64 {
        bpvs_create()
    }

    /// Few are relayed, and TC does it as well.
    #[inline(always)]
    fn relay(&mut self) -> u64 {
        Verdict::hand_over().word()
    }

    /// Such packets have been handed over.
    #[inline(always)]
    fn once(&mut self) -> u64 {
        Verdict::hand_over().word()
    }

    #[inline(always)]
    fn control(&mut self) -> u64 {
        bpvs_xdp_control(self.context, self.ifindex)
    }

    /// [`pipeline::Parts::REFUSES`] says no.
    #[inline(always)]
    fn refuse(&mut self, _why: u64) -> u64 {
        Verdict::hand_over().word()
    }

    #[inline(always)]
    fn arp(&mut self) -> u64 {
        bpvs_xdp_arp(self.context, self.ifindex)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_xdp_follow(context: *mut xdp_md, ifindex: u32) -> u64 {
    pipeline::follow::<Ipv4, _, _>(&mut Frame::new(context, used(ifindex)), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_xdp_classify(context: *mut xdp_md, ifindex: u32) -> u64 {
    pipeline::classify::<Ipv4, _, _>(&mut Frame::new(context, used(ifindex)), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_xdp_control(context: *mut xdp_md, ifindex: u32) -> u64 {
    icmp::control(&mut Frame::new(context, used(ifindex)), &MAPS)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bpvs_xdp_arp(context: *mut xdp_md, ifindex: u32) -> u64 {
    arp::process(&mut Frame::new(context, used(ifindex)), &MAPS)
}
