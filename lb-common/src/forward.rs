//! Sending a packet of a known connection on: its way out, what it counts, its rewrite.

use crate::{
    abi::{Address, BENT, ConnKey, DIRECT, FragmentPorts, HOP_FORWARD, HOP_LOCAL, Tick},
    conn::{find::Known, state::Event},
    emit::{self, Kind, Way},
    family::{Family, Fragment, Header},
    link::L3,
    packet::Packet,
    pipeline::FRAGMENT_LIFE,
    rewrite,
    tables::{Tables, Traffic},
    transport::{self, Segment},
    verdict::{Reason, Step, Verdict},
};

/// Rewrites the packet and sends it on, by this way.
#[inline(always)]
pub(crate) fn forward<F: Family, P: Packet, T: Tables<F::Address>>(
    packet: &mut P,
    tables: &T,
    header: &Header<F::Address>,
    segment: &Segment<F::Address>,
    known: &Known<'_, F::Address>,
    way: Way,
) -> Step<Verdict> {
    if header.fragment == Fragment::First {
        let (sport, dport) = (segment.key.sport, segment.key.dport);
        let deadline = tables.now().plus(FRAGMENT_LIFE).0;
        let key = transport::fragment_key(header, segment.key.scope_protocol);
        tables.remember_fragment(
            &key,
            &FragmentPorts {
                sport,
                dport,
                deadline,
            },
        );
    }
    // IPVS counts a client's packet before it finds that it cannot leave (ip_vs_in_hook); a real server's that cannot is
    // stopped before IPVS sees it (ip_forward).
    if !(way.is_obstacle() && known.is_reply()) {
        count_traffic(packet, tables, header, known);
    }
    if way.is_obstacle() {
        return Err(obstructed(way, known.is_reply()));
    }
    let reason = if known.is_reply() {
        Reason::Replied
    } else {
        Reason::Forwarded
    };
    let said = if segment.event == Some(Event::Syn) {
        packet.clamp_mss(tables, header.l4, known.server, known.hop)
    } else {
        Some(())
    };
    said.and_then(|()| rewrite::masquerade::<F, P>(packet, L3, header, known, segment.has_header))
        .and_then(|()| emit::leave::<F, P, T>(packet, tables, L3, way, reason))
        .ok_or(Verdict::drop(Reason::RewriteFailed))
}

/// Where a packet of this connection leaves.
#[inline(always)]
pub(crate) fn way_out<F: Family, P: Packet, T: Tables<F::Address>>(
    packet: &P,
    tables: &T,
    header: &Header<F::Address>,
    key: &ConnKey<F::Address>,
    known: &Known<'_, F::Address>,
    now: Tick,
) -> Way {
    // A local real server's reply is on its way to the client already: only its source is new.
    let on_its_way = known.is_reply() || !known.word.has(DIRECT);
    if packet.arrival().egress && known.to.dst == key.dst && on_its_way {
        return Way::STAY;
    }
    let hop = hop::<_, P, T>(tables, known, now);
    emit::way::<F, P, T>(packet, tables, header, L3, hop, now)
}

/// What becomes of a packet that cannot leave.
#[inline(always)]
pub(crate) fn obstructed(way: Way, is_reply: bool) -> Verdict {
    match way.kind {
        Kind::TimeExceeded => Verdict::refuse(Reason::TimeExceeded, 0, is_reply),
        Kind::TooBig => Verdict::refuse(Reason::TooBig, way.value, is_reply),
        _ => Verdict::drop(Reason::NoRoute),
    }
}

/// The connection's hop, with [`BENT`] where it is; looked up again when it has gone, and once a second in case the route has changed.
#[inline(always)]
fn hop<A: Address, P: Packet, T: Tables<A>>(tables: &T, known: &Known<'_, A>, now: Tick) -> u32 {
    let usable = tables
        .hop(known.hop & !BENT)
        .is_some_and(|hop| matches!(hop.kind.load(), HOP_FORWARD | HOP_LOCAL));
    let seen = Tick(known.conn.seen.load());
    // Once a second the packet is recorded: it is yet to be, or has just been.
    let due = if P::EARLY {
        now.since(seen) >= Tick::SECOND as i32
    } else {
        now == seen
    };
    if usable && !due {
        return known.hop;
    }
    let target = target(tables, known);
    let hop = tables.route(target) | bent(target, known.to.dst);
    if hop != known.hop {
        known.conn.hop.store(hop);
    }
    hop
}

/// [`BENT`] for a packet that goes to `target` and has this destination.
#[inline(always)]
pub(crate) fn bent<A: Address>(target: A, destination: A) -> u32 {
    if target == destination { 0 } else { BENT }
}

/// Where a packet goes next: with direct routing, or where a neighbour is given, not to its destination.
#[inline(always)]
fn target<A: Address, T: Tables<A>>(tables: &T, known: &Known<'_, A>) -> A {
    let Some(server) = tables.server(known.server) else {
        return known.to.dst;
    };
    if let Some(next) = server.next(known.is_reply()) {
        return next;
    }
    if known.is_reply() || !known.word.has(DIRECT) {
        return known.to.dst;
    }
    A::from_words(server.address.load())
}

/// Counts a packet for the real server.
#[inline(always)]
pub(crate) fn count_traffic<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    header: &Header<A>,
    known: &Known<'_, A>,
) {
    let traffic = if known.is_reply() {
        Traffic::Out
    } else {
        Traffic::In
    };
    tables.count_server(known.server, traffic, bytes(packet, header));
}

/// Bytes from the network header on.
#[inline(always)]
pub(crate) fn bytes<A, P: Packet>(packet: &P, header: &Header<A>) -> u32 {
    if header.total == 0 {
        packet.arrival().length.wrapping_sub(L3)
    } else {
        header.total
    }
}
