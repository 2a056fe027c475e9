//! What differs between IPv4 and IPv6: their headers. Everything else is generic.

use crate::{
    abi::{Address, Be16, Be32, Tuple, V4, V6},
    checksum, icmp,
    icmp::error::Refusal,
    packet::Packet,
    reset,
    tables::Tables,
    transport,
    verdict::{Reason, Verdict},
};

/// An address family: how its header is read and changed.
pub trait Family: Copy {
    /// Its addresses.
    type Address: Address;

    /// Reads the header at `l3`; `None` if the packet is too short or the header contradicts itself. The packet inside of
    /// an ICMP error (`quoted`) may end before its header says.
    fn header<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Option<Header<Self::Address>>;
    /// The protocol number of the family's control protocol: ICMP.
    const CONTROL: u8;
    /// What becomes of a packet of the control protocol: a [`Verdict::word`], or [`crate::pipeline::OPEN`].
    fn control<P: Packet, T: Tables<Self::Address>>(packet: &mut P, tables: &T) -> u64;
    /// What becomes of an ARP packet, where the family has it: a [`Verdict::word`].
    fn arp<P: Packet, T: Tables<Self::Address>>(packet: &mut P, tables: &T) -> u64;
    /// Turns the packet into an error that goes back to its sender, or drops it where none may be sent.
    fn refuse<P: Packet, T: Tables<Self::Address>>(
        packet: &mut P,
        tables: &T,
        header: &Header<Self::Address>,
        refusal: Refusal,
        from: Self::Address,
        reason: Reason,
    ) -> Verdict;
    /// Turns a TCP segment into a reset that goes back to its sender.
    fn reset<P: Packet, T: Tables<Self::Address>>(
        packet: &mut P,
        tables: &T,
        header: &Header<Self::Address>,
    ) -> Verdict;
    /// Writes the addresses of `to` into the header at `l3`; `delta` is what that makes in a checksum over them.
    fn set_addresses<P: Packet>(
        packet: &mut P,
        l3: u32,
        to: &Tuple<Self::Address>,
        delta: u16,
    ) -> Option<()>;
    /// Takes one from the hop limit of the header at `l3`.
    fn decrement_hop_limit<P: Packet>(packet: &mut P, l3: u32) -> Option<()>;
}

/// Whether a packet is whole, and if not, which part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// Not a fragment.
    Whole,
    /// The first: it has the transport header.
    First,
    /// A later one: it has none.
    Later,
}

/// What the network header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of what follows.
    pub protocol: u8,
    /// Hop limit (TTL).
    pub hop_limit: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// It must not be fragmented on the way.
    pub dont_fragment: bool,
    /// Identification of its fragments, as it lies in the packet.
    pub id: u32,
    /// Offset of what follows the header, from the start of the packet.
    pub l4: u32,
    /// Length from the header on, in bytes.
    pub total: u32,
}

impl<A> Header<A> {
    /// Whether the packet has `bytes` bytes behind this header, which stands at `l3`. What follows a packet's end in its
    /// frame is padding.
    #[inline(always)]
    pub const fn carries(&self, l3: u32, bytes: u32) -> bool {
        self.total == 0 || self.l4 + bytes <= l3 + self.total
    }
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug)]
pub struct Ipv4;

/// Offsets in an IPv4 header.
pub mod ipv4 {
    /// Version and header length.
    pub const VERSION: u32 = 0;
    /// Total length.
    pub const TOTAL: u32 = 2;
    /// Identification.
    pub const ID: u32 = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: u32 = 6;
    /// Time to live.
    pub const TTL: u32 = 8;
    /// Protocol.
    pub const PROTOCOL: u32 = 9;
    /// Header checksum.
    pub const CHECKSUM: u32 = 10;
    /// Source address.
    pub const SOURCE: u32 = 12;
    /// Destination address.
    pub const DESTINATION: u32 = 16;
    /// Bytes of a header without options.
    pub const LENGTH: u32 = 20;
    /// Flag: do not fragment.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// Flag: more fragments follow.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// Mask of the fragment offset.
    pub const OFFSET: u16 = 0x1fff;
}

impl Family for Ipv4 {
    type Address = V4;

    #[inline(always)]
    fn header<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Option<Header<V4>> {
        let fields = packet.ipv4(l3)?;
        let length = u32::from(fields.version & 15) * 4;
        if fields.version >> 4 != 4 || length < ipv4::LENGTH {
            return None;
        }
        let total = u32::from(fields.total.get());
        let flags = fields.fragment.get();
        let fragment = if flags & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET) == 0 {
            Fragment::Whole
        } else if flags & ipv4::OFFSET == 0 {
            Fragment::First
        } else {
            Fragment::Later
        };
        if total == 0 {
            // A GSO packet beyond 64 KiB (BIG TCP).
            if !quoted && packet.segment_size() == 0 {
                return None;
            }
        } else if total < length || !quoted && l3 + total > packet.arrival().length {
            return None;
        }
        Some(Header {
            src: V4(fields.source),
            dst: V4(fields.destination),
            protocol: fields.protocol,
            hop_limit: fields.ttl,
            fragment,
            dont_fragment: flags & ipv4::DONT_FRAGMENT != 0,
            id: u32::from(fields.id.raw()),
            l4: l3 + length,
            total,
        })
    }

    const CONTROL: u8 = transport::ICMP;

    #[inline(always)]
    fn control<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> u64 {
        icmp::control(packet, tables)
    }

    #[inline(always)]
    fn arp<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> u64 {
        crate::arp::process(packet, tables)
    }

    #[inline(always)]
    fn refuse<P: Packet, T: Tables<V4>>(
        packet: &mut P,
        tables: &T,
        header: &Header<V4>,
        refusal: Refusal,
        from: V4,
        reason: Reason,
    ) -> Verdict {
        icmp::error::refuse(packet, tables, header, refusal, from, reason)
    }

    #[inline(always)]
    fn reset<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T, header: &Header<V4>) -> Verdict {
        reset::answer(packet, tables, header)
    }

    #[inline(always)]
    fn set_addresses<P: Packet>(packet: &mut P, l3: u32, to: &Tuple<V4>, delta: u16) -> Option<()> {
        let (hop_limit, old) = packet.u32(l3 + ipv4::TTL)?.halves();
        let new = Be16::from_raw(checksum::apply(old.raw(), delta));
        packet.set_words(
            l3 + ipv4::TTL,
            [Be32::join(hop_limit, new), to.src.0, to.dst.0],
        )
    }

    #[inline(always)]
    fn decrement_hop_limit<P: Packet>(packet: &mut P, l3: u32) -> Option<()> {
        let (old, sum) = packet.u32(l3 + ipv4::TTL)?.halves();
        let new = Be16::new(old.get().wrapping_sub(0x100));
        let sum = checksum::apply(sum.raw(), checksum::delta(old.raw(), new.raw()));
        packet.set_u32(l3 + ipv4::TTL, Be32::join(new, Be16::from_raw(sum)))
    }
}

/// Adds a delta to a checksum field that the hardware never fills in.
#[inline(always)]
pub fn add_to_checksum<P: Packet>(packet: &mut P, at: u32, delta: u16) -> Option<()> {
    let old = packet.u16(at)?;
    packet.set_u16(at, Be16::from_raw(checksum::apply(old.raw(), delta)))
}

/// IPv6 (RFC 8200), without extension headers: the parameter's second value. Its programs come with IPv6 services.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6;

impl Ipv6 {
    const LENGTH: u32 = 40;
    const PAYLOAD: u32 = 4;
    const NEXT_HEADER: u32 = 6;
    const HOP_LIMIT: u32 = 7;
    const SOURCE: u32 = 8;
    const DESTINATION: u32 = 24;

    #[inline(always)]
    fn address<P: Packet>(packet: &P, at: u32) -> Option<V6> {
        Some(V6([
            packet.u32(at)?,
            packet.u32(at + 4)?,
            packet.u32(at + 8)?,
            packet.u32(at + 12)?,
        ]))
    }

    #[inline(always)]
    fn set_address<P: Packet>(packet: &mut P, at: u32, address: V6) -> Option<()> {
        let [a, b, c, d] = address.0;
        packet.set_u32(at, a)?;
        packet.set_u32(at + 4, b)?;
        packet.set_u32(at + 8, c)?;
        packet.set_u32(at + 12, d)
    }
}

impl Family for Ipv6 {
    type Address = V6;

    #[inline(always)]
    fn header<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Option<Header<V6>> {
        if packet.u8(l3)? >> 4 != 6 {
            return None;
        }
        let total = u32::from(packet.u16(l3 + Self::PAYLOAD)?.get()) + Self::LENGTH;
        if !quoted && l3 + total > packet.arrival().length {
            return None;
        }
        Some(Header {
            src: Self::address(packet, l3 + Self::SOURCE)?,
            dst: Self::address(packet, l3 + Self::DESTINATION)?,
            protocol: packet.u8(l3 + Self::NEXT_HEADER)?,
            hop_limit: packet.u8(l3 + Self::HOP_LIMIT)?,
            fragment: Fragment::Whole,
            dont_fragment: true,
            id: 0,
            l4: l3 + Self::LENGTH,
            total,
        })
    }

    const CONTROL: u8 = network_types::ip::IpProto::Ipv6Icmp as u8;

    #[inline(always)]
    fn control<P: Packet, T: Tables<V6>>(_packet: &mut P, _tables: &T) -> u64 {
        Verdict::pass(Reason::OtherProtocol).word()
    }

    #[inline(always)]
    fn arp<P: Packet, T: Tables<V6>>(_packet: &mut P, _tables: &T) -> u64 {
        Verdict::pass(Reason::NotIp).word()
    }

    #[inline(always)]
    fn refuse<P: Packet, T: Tables<V6>>(
        _packet: &mut P,
        _tables: &T,
        _header: &Header<V6>,
        _refusal: Refusal,
        _from: V6,
        reason: Reason,
    ) -> Verdict {
        Verdict::drop(reason)
    }

    #[inline(always)]
    fn reset<P: Packet, T: Tables<V6>>(
        _packet: &mut P,
        _tables: &T,
        _header: &Header<V6>,
    ) -> Verdict {
        Verdict::drop(Reason::Reset)
    }

    #[inline(always)]
    fn set_addresses<P: Packet>(
        packet: &mut P,
        l3: u32,
        to: &Tuple<V6>,
        _delta: u16,
    ) -> Option<()> {
        Self::set_address(packet, l3 + Self::SOURCE, to.src)?;
        Self::set_address(packet, l3 + Self::DESTINATION, to.dst)
    }

    #[inline(always)]
    fn decrement_hop_limit<P: Packet>(packet: &mut P, l3: u32) -> Option<()> {
        let limit = packet.u8(l3 + Self::HOP_LIMIT)?;
        packet.set_u8(l3 + Self::HOP_LIMIT, limit.wrapping_sub(1))
    }
}
