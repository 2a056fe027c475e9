//! ICMP errors that bpvs sends in place of the host's stack, which never sees these packets.

use super::{LENGTH, TIME_EXCEEDED, UNREACHABLE, echo::HOP_LIMIT};
use crate::{
    abi::{Be16, Be32, V4},
    checksum,
    family::{Fragment, Header, ipv4},
    link::{self, L3},
    packet::Packet,
    tables::{Tables, Turn},
    transport,
    verdict::{Action, Reason, Verdict},
};

/// Why a packet is refused: type, code and the rest of the ICMP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    kind_and_code: u16,
    rest: u16,
}

impl Refusal {
    /// Nobody serves this port.
    pub const PORT_UNREACHABLE: Self = Self {
        kind_and_code: (UNREACHABLE as u16) << 8 | 3,
        rest: 0,
    };
    /// The hop limit ended here.
    pub const TIME_EXCEEDED: Self = Self {
        kind_and_code: (TIME_EXCEEDED as u16) << 8,
        rest: 0,
    };

    /// Larger than the next hop carries, which is this many bytes.
    #[inline(always)]
    pub const fn fragmentation_needed(mtu: u32) -> Self {
        Self {
            kind_and_code: (UNREACHABLE as u16) << 8 | 4,
            rest: mtu as u16,
        }
    }
}

/// The largest error: RFC 1812, 4.3.2.3 and the kernel quote as much as 576 bytes hold.
const QUOTED: u32 = 576 - ipv4::LENGTH - LENGTH;
/// Type of service of an error: precedence "internetwork control" (RFC 1812, 4.3.2.5), ...
const PRECEDENCE: u8 = 0xc0;
/// ... and these bits as the packet has them (RFC 1349, 5.1; icmp_send).
const TYPE_OF_SERVICE: u8 = 0x1e;

/// Turns the packet into an error about itself, sent back to where it came from, from the address `from`.
#[inline(always)]
pub fn refuse<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
    refusal: Refusal,
    from: V4,
    reason: Reason,
) -> Verdict {
    // Never about a later fragment or an ICMP packet (RFC 1122, 3.2.2), and not without limit.
    if header.fragment == Fragment::Later
        || header.protocol == transport::ICMP
        || !tables.may_send_error()
    {
        return Verdict::drop(reason);
    }
    if !build(packet, tables, header, refusal, from) {
        return Verdict::drop(reason);
    }
    let arrival = packet.arrival();
    let action = if arrival.egress {
        Action::Receive
    } else {
        Action::Transmit
    };
    Verdict::new(action, arrival.ifindex, reason)
}

#[inline(always)]
fn build<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
    refusal: Refusal,
    from: V4,
) -> bool {
    write(packet, tables, header, refusal, from).is_some()
}

#[inline(always)]
fn write<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
    refusal: Refusal,
    from: V4,
) -> Option<()> {
    let service = PRECEDENCE | packet.u8(L3 + 1)? & TYPE_OF_SERVICE;
    // Whole words: up to three bytes at the end of the quoted packet are left out.
    let quoted = if header.total == 0 || header.total > QUOTED {
        QUOTED
    } else {
        header.total & !3
    };
    packet.truncate(L3 + quoted)?;
    packet.insert_after_ethernet(ipv4::LENGTH + LENGTH)?;

    let icmp = L3 + ipv4::LENGTH;
    let mut sum = Sum {
        packet: &*packet,
        at: icmp + LENGTH,
        end: icmp + LENGTH + quoted,
        sum: 0,
    };
    tables.repeat(QUOTED / 4, &mut sum);
    let quoted_sum = checksum::fold(sum.sum);
    let first = Be16::new(refusal.kind_and_code);
    let rest = Be32::new(u32::from(refusal.rest));
    let check = !checksum::fold(
        u64::from(quoted_sum)
            + u64::from(first.raw())
            + u64::from(checksum::fold(u64::from(rest.raw()))),
    );
    packet.set_u16(icmp, first)?;
    packet.set_u16(icmp + 2, Be16::from_raw(check))?;
    packet.set_u32(icmp + 4, rest)?;

    let words = [
        Be32::new(0x4500_0000 | u32::from(service) << 16 | (ipv4::LENGTH + LENGTH + quoted)),
        Be32::ZERO,
        Be32::new(u32::from(HOP_LIMIT) << 24 | u32::from(transport::ICMP) << 16),
        from.0,
        header.src.0,
    ];
    let mut sum = 0;
    let mut at = L3;
    for word in words {
        packet.set_u32(at, word)?;
        sum += u64::from(word.raw());
        at += 4;
    }
    packet.set_u16(L3 + ipv4::CHECKSUM, Be16::from_raw(!checksum::fold(sum)))?;
    link::turn_round(packet)
}

struct Sum<'p, P> {
    packet: &'p P,
    at: u32,
    end: u32,
    sum: u64,
}

impl<P: Packet, T> Turn<T> for Sum<'_, P> {
    #[inline(always)]
    fn turn(&mut self, _tables: &T) -> bool {
        if self.at >= self.end {
            return false;
        }
        match self.packet.u32(self.at) {
            Some(word) => {
                self.sum += u64::from(word.raw());
                self.at += 4;
                true
            }
            None => false,
        }
    }
}
