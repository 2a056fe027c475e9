//! Ping of a service address: answered where bpvs answers for it, never balanced.

use super::{CHECKSUM, ECHO, ECHO_REPLY};
use crate::{
    abi::{Address, AnswerKey, Be16, FragmentPorts, Tick, Tuple, V4},
    checksum,
    family::{Family, Fragment, Header, Ipv4, add_to_checksum, ipv4},
    link::{self, L3},
    packet::Packet,
    pipeline::FRAGMENT_LIFE,
    tables::Tables,
    transport,
    verdict::{Action, Reason, Step, Verdict},
};

/// Hop limit of what bpvs sends itself, as the kernel's default.
pub(crate) const HOP_LIMIT: u8 = 64;

#[inline(always)]
pub(super) fn answer<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
) -> Step<Verdict> {
    if !tables.answers(&AnswerKey {
        address: header.dst,
        scope: tables.scope_id(),
    }) {
        return Err(Verdict::pass(Reason::OtherProtocol));
    }
    if !header.src.is_host() || header.src == header.dst {
        return Err(Verdict::pass(Reason::Malformed));
    }
    if header.fragment == Fragment::First {
        let deadline = tables.now().plus(FRAGMENT_LIFE).0;
        let key =
            transport::fragment_key(header, transport::scope_protocol(tables, transport::ICMP));
        tables.remember_fragment(
            &key,
            &FragmentPorts {
                sport: Be16::ZERO,
                dport: Be16::ZERO,
                deadline,
            },
        );
    }
    send_back(packet, header, true).ok_or(Verdict::drop(Reason::RewriteFailed))
}

/// The rest of a ping that came in fragments: only the addresses change.
#[inline(always)]
pub(super) fn later_fragment<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
) -> Step<Verdict> {
    let key = transport::fragment_key(header, transport::scope_protocol(tables, transport::ICMP));
    match tables.fragment(&key) {
        Some(first) if tables.now().since(Tick(first.deadline)) < 0 => {
            send_back(packet, header, false).ok_or(Verdict::drop(Reason::RewriteFailed))
        }
        _ => Err(Verdict::pass(Reason::OtherProtocol)),
    }
}

#[inline(always)]
fn send_back<P: Packet>(packet: &mut P, header: &Header<V4>, has_header: bool) -> Option<Verdict> {
    if has_header {
        let old = packet.u16(header.l4)?;
        let new = Be16::new(u16::from(ECHO_REPLY) << 8 | old.get() & 0xff);
        debug_assert_eq!(old.get() >> 8, u16::from(ECHO));
        packet.set_u16(header.l4, new)?;
        add_to_checksum(
            packet,
            header.l4 + CHECKSUM,
            checksum::delta(old.raw(), new.raw()),
        )?;
    }
    // Exchanged addresses leave the header's sum as it is.
    let back = Tuple {
        src: header.dst,
        dst: header.src,
        sport: Be16::ZERO,
        dport: Be16::ZERO,
    };
    Ipv4::set_addresses(packet, L3, &back, 0)?;
    let old = packet.u16(L3 + ipv4::TTL)?;
    let new = Be16::new(u16::from(HOP_LIMIT) << 8 | old.get() & 0xff);
    packet.set_u16(L3 + ipv4::TTL, new)?;
    add_to_checksum(
        packet,
        L3 + ipv4::CHECKSUM,
        checksum::delta(old.raw(), new.raw()),
    )?;
    link::turn_round(packet)?;
    let arrival = packet.arrival();
    let action = if arrival.egress {
        Action::Receive
    } else {
        Action::Transmit
    };
    Some(Verdict::new(action, arrival.ifindex, Reason::PingAnswered))
}
