//! `Packet` over a socket buffer: in the TC programs.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    },
    helpers::generated::{
        bpf_get_socket_cookie, bpf_l4_csum_replace, bpf_sk_lookup_udp, bpf_sk_release,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use lb_common::{
    abi::{Address, Be16, Be32},
    packet::{Arrival, ETHERNET, Ends, Fields, Packet},
    tables::Tables,
    transport::TCP,
};

use crate::{
    memory::{self, Bounds},
    parts,
};

/// `BPF_ADJ_ROOM_MAC`.
const AFTER_ETHERNET: i32 = 1;
/// `PACKET_HOST`: the Ethernet destination is the receiving interface's.
const PACKET_HOST: u32 = 0;
/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NAMESPACE: u64 = u64::MAX;
/// `BPF_TCP_LISTEN`.
const LISTENS: u32 = 10;
/// The VLAN's number in a tag (`VLAN_VID_MASK`).
const VLAN_ID: u32 = 0xfff;
/// The headers that the pipeline reads, at their longest: Ethernet, IPv4 and an ICMP error with a packet inside.
const HEADERS: u32 = 14 + 60 + 8 + 60 + 8;
/// Ethernet, IPv4 without options, TCP without options: with this much in one piece most packets need no more.
const USUAL: u32 = 14 + 20 + 20;

/// Words from the network header on that are taken off for the kernel to forget an unfinished checksum: so many that the
/// transport header's old place, behind the longest IPv4 header, lies before the packet.
const FORGOTTEN: usize = (14 + 60) / 4 + 1;
/// The same in bytes.
const FORGOTTEN_BYTES: u32 = 4 * FORGOTTEN as u32;
/// What the packet has to be long for that: an IPv4 header must be left.
const FORGETFUL: u32 = ETHERNET + FORGOTTEN_BYTES + 20;

/// A packet in a TC program.
pub struct Skb<'c> {
    context: &'c TcContext,
    egress: bool,
}

impl<'c> Skb<'c> {
    /// The packet of this context.
    #[inline(always)]
    pub fn new(context: &'c TcContext, egress: bool) -> Self {
        Self { context, egress }
    }

    /// The packet of this context, with its headers in one piece: once for each packet.
    #[inline(always)]
    pub fn whole(context: &'c TcContext, egress: bool) -> Self {
        let skb = Self { context, egress };
        let linear = skb.linear();
        if linear < USUAL || (linear < HEADERS && skb.has_long_headers()) {
            let wanted = if context.len() < HEADERS {
                context.len()
            } else {
                HEADERS
            };
            if linear < wanted {
                // SAFETY: the context is the program's own. If it fails the packet counts as malformed.
                unsafe { bpf_skb_pull_data(context.as_ptr().cast(), wanted) };
            }
        }
        skb
    }

    /// Bytes that can be reached directly.
    #[inline(always)]
    fn linear(&self) -> u32 {
        let (data, end) = self.bounds();
        (end - data) as u32
    }

    /// IP options or ICMP: more headers than the usual.
    #[inline(always)]
    fn has_long_headers(&self) -> bool {
        self.u8(14) != Some(0x45) || self.u8(23) == Some(lb_common::transport::ICMP)
    }
}

impl Bounds for Skb<'_> {
    #[inline(always)]
    fn bounds(&self) -> (u64, u64) {
        memory::bounds!(self.context.as_ptr(), 76, 80)
    }
}

impl Packet for Skb<'_> {
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

    #[inline(always)]
    fn update_checksum(
        &mut self,
        at: u32,
        addresses: u16,
        ports: u16,
        zero_is_none: bool,
    ) -> Option<()> {
        let context = self.context.as_ptr();
        // The size bits are zero: the helper takes a ready difference.
        let mangled = if zero_is_none {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let flags = mangled | u64::from(BPF_F_PSEUDO_HDR);
        // SAFETY: the context is the program's own; the helper checks the offset.
        if unsafe { bpf_l4_csum_replace(context.cast(), at, 0, u64::from(addresses), flags) } != 0 {
            return None;
        }
        // 0xffff is zero in one's complement: the ports are the same.
        if ports == 0 || ports == 0xffff {
            return Some(());
        }
        // SAFETY: as above.
        if unsafe { bpf_l4_csum_replace(context.cast(), at, 0, u64::from(ports), mangled) } != 0 {
            return None;
        }
        Some(())
    }

    #[inline(always)]
    fn clamp_mss<A: Address, T: Tables<A>>(
        &mut self,
        _tables: &T,
        l4: u32,
        server: u32,
        hop: u32,
    ) -> Option<()> {
        (parts::bpvs_mss(self.context.skb.skb, l4, server, hop) != 0).then_some(())
    }

    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context.skb.skb).gso_size }
    }

    #[inline(always)]
    fn truncate(&mut self, length: u32) -> Option<()> {
        // SAFETY: the context is the program's own.
        (unsafe { bpf_skb_change_tail(self.context.as_ptr().cast(), length, 0) } == 0).then_some(())
    }

    #[inline(always)]
    fn insert_after_ethernet(&mut self, bytes: u32) -> Option<()> {
        let context = self.context.skb.skb;
        let length = self.context.len();
        if length < FORGETFUL {
            self.truncate(FORGETFUL)?;
        }
        // An unfinished checksum (CHECKSUM_PARTIAL) would be finished, by hardware or kernel, when the packet leaves, and
        // then not be what the error's own checksum was made of. The kernel forgets about it when what it covers is taken
        // off (`skb_postpull_rcsum`). So the headers are taken off and put back.
        let mut headers = MaybeUninit::<[u32; FORGOTTEN]>::uninit();
        let headers = headers.as_mut_ptr().cast();
        let back = (bytes + FORGOTTEN_BYTES) as i32;
        // SAFETY: the context is the program's own; `headers` has room for as many bytes, and is written before it is
        // read.
        let done = unsafe {
            bpf_skb_load_bytes(
                context.cast_const().cast(),
                ETHERNET,
                headers,
                FORGOTTEN_BYTES,
            ) == 0
                && bpf_skb_adjust_room(context, -(FORGOTTEN_BYTES as i32), AFTER_ETHERNET as u32, 0)
                    == 0
                && bpf_skb_adjust_room(context, back, AFTER_ETHERNET as u32, 0) == 0
                && bpf_skb_store_bytes(
                    context,
                    ETHERNET + bytes,
                    headers.cast_const(),
                    FORGOTTEN_BYTES,
                    0,
                ) == 0
        };
        if !done {
            return None;
        }
        if length < FORGETFUL {
            self.truncate(length + bytes)?;
        }
        // SAFETY: as above; what was inserted and what follows is read and written directly.
        (unsafe { bpf_skb_pull_data(context, self.context.len()) } == 0).then_some(())
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_get_socket_cookie(self.context.as_ptr()) }
    }

    #[inline(always)]
    fn is_for_socket(&self, between: &Ends) -> bool {
        let context = self.context.as_ptr();
        let mut tuple = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: between.source[0].raw(),
            daddr: between.destination[0].raw(),
            sport: between.sport.raw(),
            dport: between.dport.raw(),
        };
        let size = size_of_val(&tuple) as u32;
        let tuple = core::ptr::from_mut(&mut tuple).cast();
        if between.protocol != TCP {
            // SAFETY: the context is the program's own, the tuple as large as is said, and the socket is given back.
            return unsafe {
                let socket = bpf_sk_lookup_udp(context, tuple, size, CURRENT_NAMESPACE, 0);
                !socket.is_null() && bpf_sk_release(socket.cast()) == 0
            };
        }
        // One that waits out its end too: it still has to answer.
        //
        // SAFETY: as above; the state is read while the socket is held.
        unsafe {
            let socket = bpf_skc_lookup_tcp(context, tuple, size, CURRENT_NAMESPACE, 0);
            if socket.is_null() {
                return false;
            }
            let speaks = (*socket).state != LISTENS;
            bpf_sk_release(socket.cast());
            speaks
        }
    }

    #[inline(always)]
    fn arrival(&self) -> Arrival {
        // SAFETY: the context is the program's own; these fields can be read in every TC program.
        let skb = unsafe { &*self.context.skb.skb };
        Arrival {
            ifindex: skb.ifindex,
            wire: skb.ifindex,
            egress: self.egress,
            to_host: skb.pkt_type == PACKET_HOST,
            // Received with a tag for VLAN 0, which is a priority and no VLAN (IEEE 802.1Q), it is the interface's own.
            tagged: skb.vlan_present != 0 && (self.egress || skb.vlan_tci & VLAN_ID != 0),
            mark: skb.mark,
            length: skb.len,
        }
    }
}
