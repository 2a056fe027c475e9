//! The answer to a TCP segment of a connection that nobody knows any more: a reset, where the service asks for it.
//!
//! IPVS leaves such a segment to the host's stack, which resets it only if the service address is the host's own; a client
//! whose connection has expired otherwise waits in silence.

use crate::{
    abi::{Be16, Be32, Tuple, V4},
    checksum,
    family::{Family as _, Fragment, Header, Ipv4, add_to_checksum, ipv4},
    icmp::echo::HOP_LIMIT,
    link::{self, L3},
    packet::Packet,
    tables::Tables,
    transport::{self, TCP_LENGTH},
    verdict::{Action, Reason, Verdict},
};

/// Offsets in a TCP header (RFC 9293).
const SEQUENCE: u32 = 4;
const ACKNOWLEDGEMENT: u32 = 8;
const LENGTH_AND_FLAGS: u32 = 12;

/// Turns the segment into the reset of RFC 9293, 3.5.2, group 1, and sends it back. As often as ICMP errors may be sent.
#[inline(always)]
pub fn answer<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
) -> Verdict {
    let dropped = Verdict::drop(Reason::Reset);
    if header.fragment != Fragment::Whole || !tables.may_send_error() {
        return dropped;
    }
    if write(packet, header).is_none() {
        return dropped;
    }
    let arrival = packet.arrival();
    let action = if arrival.egress {
        Action::Receive
    } else {
        Action::Transmit
    };
    Verdict::new(action, arrival.ifindex, Reason::Reset)
}

/// In place: a checksum that the sender left to the hardware is then still where the hardware will look for it.
#[inline(always)]
fn write<P: Packet>(packet: &mut P, header: &Header<V4>) -> Option<()> {
    let l4 = header.l4;
    let ports = packet.u32(l4)?.get().rotate_left(16);
    let sequence = packet.u32(l4 + SEQUENCE)?.get();
    let acknowledged = packet.u32(l4 + ACKNOWLEDGEMENT)?;
    let word = u32::from(packet.u16(l4 + LENGTH_AND_FLAGS)?.get());
    // What has an acknowledgement is answered by its number, all else by what the segment takes.
    let (sequence, acknowledgement, flags) = if word & 0x10 != 0 {
        (acknowledged, Be32::ZERO, 0x04)
    } else {
        let payload = (L3 + header.total).wrapping_sub(l4 + (word >> 12) * 4);
        let taken = payload.wrapping_add(word & 1).wrapping_add(word >> 1 & 1);
        (Be32::ZERO, Be32::new(sequence.wrapping_add(taken)), 0x14)
    };
    packet.truncate(l4 + TCP_LENGTH)?;

    let total = (l4 - L3 + TCP_LENGTH) as u16;
    let ttl_protocol = u16::from(HOP_LIMIT) << 8 | u16::from(transport::TCP);
    set_in_header(packet, ipv4::TOTAL, total)?;
    set_in_header(packet, ipv4::ID, 0)?;
    set_in_header(packet, ipv4::FRAGMENT, ipv4::DONT_FRAGMENT)?;
    set_in_header(packet, ipv4::TTL, ttl_protocol)?;
    let back = Tuple {
        src: header.dst,
        dst: header.src,
        sport: Be16::ZERO,
        dport: Be16::ZERO,
    };
    // Exchanged addresses leave the header's sum as it is.
    Ipv4::set_addresses(packet, L3, &back, 0)?;

    let words = [
        Be32::new(ports),
        sequence,
        acknowledgement,
        Be32::new(0x5000_0000 | flags << 16),
    ];
    let (mut content, mut at) = (0, l4);
    for word in words {
        packet.set_u32(at, word)?;
        content += u64::from(word.raw());
        at += 4;
    }
    // No urgent data, and a checksum over nothing, to which both parts are then added.
    packet.set_u32(l4 + transport::TCP_CHECKSUM, Be32::new(0xffff_0000))?;
    let pseudo = u64::from(header.src.0.raw())
        + u64::from(header.dst.0.raw())
        + u64::from(Be16::new(u16::from(transport::TCP)).raw())
        + u64::from(Be16::new(TCP_LENGTH as u16).raw());
    packet.update_checksum(
        l4 + transport::TCP_CHECKSUM,
        checksum::fold(pseudo),
        checksum::fold(content),
        false,
    )?;
    link::turn_round(packet)
}

/// Writes a word of the IP header, and mends its checksum.
#[inline(always)]
fn set_in_header<P: Packet>(packet: &mut P, at: u32, value: u16) -> Option<()> {
    let (old, new) = (packet.u16(L3 + at)?, Be16::new(value));
    packet.set_u16(L3 + at, new)?;
    add_to_checksum(
        packet,
        L3 + ipv4::CHECKSUM,
        checksum::delta(old.raw(), new.raw()),
    )
}
