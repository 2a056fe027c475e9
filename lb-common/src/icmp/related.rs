//! An ICMP error about a packet of a connection: it must reach whoever sent that packet, and name it as they know it.

use super::{CHECKSUM, LENGTH};
use crate::{
    abi::{ConnKey, ONE_PACKET, SCOPE_SCHEDULE_ICMP, Tuple, V4},
    checksum, classify,
    conn::{
        create,
        find::{self, Known},
    },
    emit,
    family::{Family, Fragment, Header, Ipv4, add_to_checksum},
    forward,
    link::L3,
    packet::Packet,
    pipeline::OPEN,
    rewrite,
    tables::Tables,
    transport,
    verdict::{Reason, Step, Verdict},
};

/// Sends the error on, with the packet inside rewritten back.
///
/// The packet inside travelled against the direction of the error. So the connection's entry for the error's direction is
/// found by the inner tuple reversed, and what that entry does to its packets is done to the inner one mirrored. The
/// inner transport checksum is left alone, as IPVS does: hosts cannot check it, for most of what it covers is missing.
///
/// Gives a [`Verdict::word`]; or [`OPEN`], where no connection is known and the error may open one.
#[inline(always)]
pub(super) fn follow<P: Packet, T: Tables<V4>>(
    packet: &mut P,
    tables: &T,
    header: &Header<V4>,
) -> Step<u64> {
    let unrelated = Verdict::pass(Reason::IcmpUnrelated);
    if header.fragment != Fragment::Whole {
        return Err(unrelated);
    }
    let inner_l3 = header.l4 + LENGTH;
    let Some(inner) = Ipv4::header(packet, inner_l3, true) else {
        return Err(Verdict::pass(Reason::Malformed));
    };
    if inner.fragment == Fragment::Later
        || (inner.protocol != transport::TCP && inner.protocol != transport::UDP)
    {
        return Err(unrelated);
    }
    let malformed = Verdict::pass(Reason::Malformed);
    // At least the ports are quoted.
    if !header.carries(L3, inner.l4 + 4 - header.l4) {
        return Err(malformed);
    }
    let sport = packet.u16(inner.l4).ok_or(malformed)?;
    let dport = packet.u16(inner.l4 + 2).ok_or(malformed)?;
    let quoted = Tuple {
        src: inner.src,
        dst: inner.dst,
        sport,
        dport,
    };
    let key = quoted
        .reversed()
        .key(transport::scope_protocol(tables, inner.protocol));
    let now = tables.now();
    let found = find::find(tables, &key, now);
    let Some(known) = found.conn.and_then(|conn| Known::copy(conn, found.word)) else {
        let opens = may_open(packet, tables, header, &key);
        return if opens { Ok(OPEN) } else { Err(unrelated) };
    };
    let way = forward::way_out::<Ipv4, P, T>(packet, tables, header, &key, &known, now);
    if !way.is_for::<P>() {
        return Err(Verdict::hand_over());
    }
    if way.is_obstacle() {
        return Err(forward::obstructed(way, known.is_reply()));
    }

    // An error from the real server's side comes from the service address, whoever sent it (ip_vs_nat_icmp).
    let source = if key.src == known.to.src {
        header.src
    } else {
        known.to.src
    };
    let outer = Tuple {
        src: source,
        dst: known.to.dst,
        sport,
        dport,
    };
    let delta = checksum::add(
        checksum::delta(
            crate::abi::Address::sum(header.src),
            crate::abi::Address::sum(outer.src),
        ),
        checksum::delta(
            crate::abi::Address::sum(header.dst),
            crate::abi::Address::sum(outer.dst),
        ),
    );
    let changed = (|| {
        let mirrored = known.to.reversed();
        Ipv4::set_addresses(packet, inner_l3, &mirrored, known.addresses_delta)?;
        rewrite::set_ports(packet, inner.l4, &mirrored)?;
        // The inner addresses and the inner header's checksum cancel out; the ports remain.
        add_to_checksum(packet, header.l4 + CHECKSUM, known.ports_delta)?;
        Ipv4::set_addresses(packet, L3, &outer, delta)?;
        emit::leave::<Ipv4, P, T>(packet, tables, L3, way, Reason::IcmpRelated)
    })();
    match changed {
        Some(verdict) => {
            forward::count_traffic(packet, tables, header, &known);
            Ok(verdict.word())
        }
        None => Err(Verdict::drop(Reason::RewriteFailed)),
    }
}

/// Whether the error opens the connection that it is about, which is then noted (ip_vs_in_icmp, `schedule_icmp`): another
/// director had it, and this one, with a scheduler that hashes, chooses the same real server. Firewall marks are those of
/// the packet inside, which nobody has given.
#[inline(always)]
fn may_open<P: Packet, T: Tables<V4>>(
    packet: &P,
    tables: &T,
    header: &Header<V4>,
    key: &ConnKey<V4>,
) -> bool {
    let Some(scope) = tables.scope() else {
        return false;
    };
    if scope.flags & SCOPE_SCHEDULE_ICMP == 0 {
        return false;
    }
    let index = classify::by_address(tables, scope, key);
    let once = tables
        .service(index)
        .is_none_or(|service| service.flags.load() & ONE_PACKET != 0);
    index != 0 && !once && create::note(tables, key, index, forward::bytes(packet, header))
}
