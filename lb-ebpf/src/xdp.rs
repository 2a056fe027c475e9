//! `Packet` over a frame in XDP, and the VLAN tags of frames: there they are among the bytes.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head},
    programs::XdpContext,
};
use lb_common::{
    abi::{Be16, Be32, WIRE_REDIRECT, Wire, WireKey},
    checksum,
    link::{ARP, ETHERTYPE, IPV4, VLAN},
    packet::{Arrival, Fields, Packet},
    tables::Tables,
};

use crate::{
    memory::{self, Bounds},
    tables::{self, MAPS},
};

/// Bytes of a tag.
const TAG: i32 = 4;
/// The VLAN's number in a tag.
const VLAN_ID: u16 = 0xfff;

/// A frame without a tag.
pub struct Frame {
    context: *mut xdp_md,
    /// The interface that it belongs to.
    ifindex: u32,
}

impl Bounds for Frame {
    #[inline(always)]
    fn bounds(&self) -> (u64, u64) {
        memory::bounds!(self.context, 0, 4)
    }
}

impl Frame {
    /// The frame of this context, which belongs to this interface.
    #[inline(always)]
    pub fn new(context: *mut xdp_md, ifindex: u32) -> Self {
        Self { context, ifindex }
    }

    /// The interface that it came in by.
    #[inline(always)]
    fn wire(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Both Ethernet addresses, as they lie in the frame.
    #[inline(always)]
    fn addresses(&self) -> Option<[Be32; 3]> {
        Some([
            memory::u32(self, 0)?,
            memory::u32(self, 4)?,
            memory::u32(self, 8)?,
        ])
    }

    #[inline(always)]
    fn set_addresses(&self, [a, b, c]: [Be32; 3]) -> Option<()> {
        memory::set_u32(self, 0, a)?;
        memory::set_u32(self, 4, b)?;
        memory::set_u32(self, 8, c)
    }

    /// Moves the beginning of the frame on by so many bytes.
    #[inline(always)]
    fn advance(&self, bytes: i32) -> Option<()> {
        // SAFETY: the context is the program's own.
        (unsafe { bpf_xdp_adjust_head(self.context, bytes) } == 0).then_some(())
    }

    /// Takes the tag off.
    #[inline(always)]
    fn untag(&self) -> Option<()> {
        let addresses = self.addresses()?;
        self.advance(TAG)?;
        self.set_addresses(addresses)
    }

    /// Puts this tag on, unless it is 0.
    #[inline(always)]
    pub fn leave(&self, tag: u16) -> Option<()> {
        if tag == 0 { Some(()) } else { self.tag(tag) }
    }

    #[inline(always)]
    fn tag(&self, tag: u16) -> Option<()> {
        let addresses = self.addresses()?;
        self.advance(-TAG)?;
        self.set_addresses(addresses)?;
        let word = u32::from(VLAN.get()) << 16 | u32::from(tag);
        memory::set_u32(self, 12, Be32::new(word))
    }
}

/// A frame that is the pipeline's to look at, without its tag.
pub struct Arrived {
    /// The frame.
    pub frame: Frame,
    /// The tag that it came with; 0 for none.
    pub tag: u16,
    /// What goes back is redirected.
    redirects: u32,
}

impl Arrived {
    /// Takes up a frame; `None`: it is not for XDP, and as it was.
    ///
    /// What carries but a priority (VLAN 0) is left to the stack, which takes that off; so are two tags.
    #[inline(always)]
    pub fn take(context: &XdpContext) -> Option<Self> {
        let mut frame = Frame::new(context.ctx, 0);
        let mut content = memory::u16(&frame, ETHERTYPE)?;
        let mut tag = 0;
        if content == VLAN {
            tag = memory::u16(&frame, ETHERTYPE + 2)?.get();
            content = memory::u16(&frame, ETHERTYPE + 4)?;
            if tag & VLAN_ID == 0 {
                return None;
            }
        }
        let is_ip = content == IPV4;
        if !is_ip && content != ARP {
            return None;
        }
        let wire = frame.of(tag & VLAN_ID)?;
        if is_ip && !frame.is_to(&wire) {
            return None;
        }
        frame.ifindex = wire.ifindex;
        if tag != 0 {
            frame.untag()?;
        }
        Some(Self {
            frame,
            tag,
            redirects: u32::from(wire.flags & WIRE_REDIRECT),
        })
    }
}

impl Arrived {
    /// Gives it back to the stack as it came.
    #[inline(always)]
    pub fn pass(&self) -> u32 {
        match self.frame.leave(self.tag) {
            Some(()) => xdp_action::XDP_PASS,
            None => xdp_action::XDP_ABORTED,
        }
    }

    /// Sends it by this interface, with the tag of this VLAN; by the interface that it belongs to: back, with the tag that
    /// it came with, whose priority was the sender's.
    #[inline(always)]
    pub fn send(&self, ifindex: u32, vlan: u16) -> u32 {
        let wire = self.frame.wire();
        let (mut ifindex, mut vlan) = (ifindex, vlan);
        if ifindex == self.frame.ifindex && vlan == 0 {
            ifindex = wire;
            vlan = self.tag & VLAN_ID;
        }
        if self.frame.leave(vlan).is_none() {
            return xdp_action::XDP_ABORTED;
        }
        if ifindex == wire && self.redirects == 0 {
            return xdp_action::XDP_TX;
        }
        // SAFETY: a helper that takes plain numbers.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }
}

impl Frame {
    /// Whose frames with the tag of this VLAN are, where XDP handles them.
    #[inline(always)]
    fn of(&self, vlan: u16) -> Option<Wire> {
        let key = WireKey {
            scope: MAPS.scope_id(),
            ifindex: self.wire(),
            vlan: u32::from(vlan),
        };
        tables::wires(key.set())?.find(&key)
    }

    /// Whether the Ethernet destination is this one.
    #[inline(always)]
    fn is_to(&self, wire: &Wire) -> bool {
        let [a, b, c] = wire.mac.0;
        memory::u16(self, 0) == Some(Be16::from_raw(a))
            && memory::u16(self, 2) == Some(Be16::from_raw(b))
            && memory::u16(self, 4) == Some(Be16::from_raw(c))
    }
}

impl Packet for Frame {
    const EARLY: bool = true;

    #[inline(always)]
    fn u8(&self, at: u32) -> Option<u8> {
        memory::u8(self, at)
    }

    #[inline(always)]
    fn u16(&self, at: u32) -> Option<Be16> {
        memory::u16(self, at)
    }

    #[inline(always)]
    fn u32(&self, at: u32) -> Option<Be32> {
        memory::u32(self, at)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[Be32; N]> {
        memory::words(self, at)
    }

    #[inline(always)]
    fn ipv4(&self, at: u32) -> Option<Fields> {
        memory::ipv4(self, at)
    }

    #[inline(always)]
    fn set_words<const N: usize>(&mut self, at: u32, words: [Be32; N]) -> Option<()> {
        memory::set_words(self, at, words)
    }

    #[inline(always)]
    fn set_u8(&mut self, at: u32, value: u8) -> Option<()> {
        memory::set_u8(self, at, value)
    }

    #[inline(always)]
    fn set_u16(&mut self, at: u32, value: Be16) -> Option<()> {
        memory::set_u16(self, at, value)
    }

    #[inline(always)]
    fn set_u32(&mut self, at: u32, value: Be32) -> Option<()> {
        memory::set_u32(self, at, value)
    }

    /// What came over a wire has its checksum, so that both deltas are one.
    #[inline(always)]
    fn update_checksum(
        &mut self,
        at: u32,
        addresses: u16,
        ports: u16,
        zero_is_none: bool,
    ) -> Option<()> {
        let old = self.u16(at)?.raw();
        if zero_is_none && old == 0 {
            return Some(());
        }
        let new = checksum::apply(old, checksum::add(addresses, ports));
        let new = if zero_is_none && new == 0 { !0 } else { new };
        self.set_u16(at, Be16::from_raw(new))
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        0
    }

    /// Only what turns a packet into another one asks for this, which is left to the next layer.
    #[inline(always)]
    fn truncate(&mut self, _length: u32) -> Option<()> {
        None
    }

    /// As [`Packet::truncate`].
    #[inline(always)]
    fn insert_after_ethernet(&mut self, _bytes: u32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn arrival(&self) -> Arrival {
        let (data, end) = self.bounds();
        Arrival {
            ifindex: self.ifindex,
            wire: self.wire(),
            egress: false,
            to_host: true,
            tagged: false,
            mark: 0,
            length: (end - data) as u32,
        }
    }
}
