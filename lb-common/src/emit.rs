//! The last step: hop limit, size, and the way out.

use crate::{
    abi::{BENT, Be16, Be32, HOP_FORWARD, HOP_LOCAL, HOP_REDIRECT, HOP_RESOLVED, Hop, Tick},
    family::{Family, Header},
    packet::Packet,
    tables::Tables,
    verdict::{Action, Reason, Verdict},
};

/// How a packet will leave, or what keeps it from leaving; decided before anything in it is changed. Plain fields, always
/// set (see [`Verdict`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// What to do.
    pub kind: Kind,
    /// With what; see [`Kind`].
    pub value: u32,
    /// The VLAN whose tag is to be set; 0 for none.
    pub vlan: u16,
    /// Ethernet destination and source, where they are known.
    pub ethernet: [u32; 3],
}

/// The kinds of [`Way`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It stays on the path that it is on, to the host's own stack or, sent by this host, to the wire.
    Stay,
    /// To this host's stack, from a packet that this host was about to send.
    Up,
    /// By the interface with the index `value` (with [`ENTER`](crate::abi::ENTER)): the Ethernet addresses are known.
    Addressed,
    /// By the interface with the index `value`; the kernel resolves the neighbour.
    Resolve,
    /// Obstacle: the hop limit ends here.
    TimeExceeded,
    /// Obstacle: larger than `value` bytes, and not to be fragmented.
    TooBig,
    /// Obstacle: there is no route, or one that forbids it.
    NoRoute,
}

impl Way {
    /// Stays on its path.
    pub const STAY: Self = Self::new(Kind::Stay, 0);

    #[inline(always)]
    const fn new(kind: Kind, value: u32) -> Self {
        Self {
            kind,
            value,
            vlan: 0,
            ethernet: [0; 3],
        }
    }

    /// Whether the packet must be left to the next layer, if there is one: what can be finished at once has its Ethernet
    /// addresses.
    #[inline(always)]
    pub const fn is_for<P: Packet>(self) -> bool {
        !P::EARLY || matches!(self.kind, Kind::Addressed)
    }

    /// The packet cannot leave.
    #[inline(always)]
    pub const fn is_obstacle(self) -> bool {
        matches!(self.kind, Kind::TimeExceeded | Kind::TooBig | Kind::NoRoute)
    }
}

/// Finds the way out over a hop, by its index (with [`BENT`]).
#[inline(always)]
pub fn way<F: Family, P: Packet, T: Tables<F::Address>>(
    packet: &P,
    tables: &T,
    header: &Header<F::Address>,
    l3: u32,
    index: u32,
    now: Tick,
) -> Way {
    let egress = packet.arrival().egress;
    let Some(hop) = tables.hop(index & !BENT) else {
        return Way::new(Kind::NoRoute, 0);
    };
    let kind = hop.kind.load();
    if kind == HOP_LOCAL {
        return Way::new(if egress { Kind::Up } else { Kind::Stay }, 0);
    }
    if kind != HOP_FORWARD {
        return Way::new(Kind::NoRoute, 0);
    }
    if !egress && header.hop_limit <= 1 {
        return Way::new(Kind::TimeExceeded, 0);
    }
    let mtu = hop.mtu.load();
    // A GSO packet beyond 64 KiB has no length.
    if header.total > mtu || header.total == 0 {
        let segment = packet.segment_size();
        let headers = header.l4 - l3 + transport_header(packet, header);
        if segment == 0 || headers + segment > mtu {
            // To be fragmented, which only the host's stack can do.
            return if header.dont_fragment {
                Way::new(Kind::TooBig, mtu)
            } else {
                Way::STAY
            };
        }
    }
    let bent = index & BENT != 0;
    let otherwise = if bent { Kind::NoRoute } else { Kind::Resolve };
    addressed(packet, hop, now, bent).unwrap_or(Way::new(otherwise, hop.oif.load()))
}

/// The way over a hop: by its Ethernet addresses if they can be trusted, read whole or not at all, for the daemon may be
/// writing it. Else the kernel finds the neighbour by the packet's destination, which it cannot do for a packet that is
/// `bent`, going elsewhere: for that one addresses whose lease is over are the best there is.
#[inline(always)]
fn addressed<P: Packet>(packet: &P, hop: &Hop, now: Tick, bent: bool) -> Option<Way> {
    let before = hop.sequence.load();
    let flags = hop.flags.load();
    let trusted = now.since(Tick(hop.lease.load())) < 0 || bent;
    if before & 1 != 0 || flags & HOP_RESOLVED == 0 || !trusted {
        return None;
    }
    let ethernet = [0, 1, 2].map(|word: usize| hop.ethernet[word].load());
    let (mut value, mut vlan) = (hop.exit.load(), 0);
    if P::EARLY {
        value = hop.wire.load();
        vlan = hop.vlan.load() as u16;
        if value == 0 || value != packet.arrival().wire && flags & HOP_REDIRECT == 0 {
            return None;
        }
    }
    (hop.sequence.load() == before).then_some(Way {
        kind: Kind::Addressed,
        value,
        vlan,
        ethernet,
    })
}

/// Bytes of the transport header of a GSO packet.
#[inline(always)]
fn transport_header<A, P: Packet>(packet: &P, header: &Header<A>) -> u32 {
    if header.protocol == crate::transport::TCP {
        packet
            .u8(header.l4 + 12)
            .map_or(20, |offset| u32::from(offset >> 4) * 4)
    } else {
        8
    }
}

/// Sends a rewritten packet on its way.
#[inline(always)]
pub fn leave<F: Family, P: Packet, T: Tables<F::Address>>(
    packet: &mut P,
    tables: &T,
    l3: u32,
    way: Way,
    reason: Reason,
) -> Option<Verdict> {
    let arrival = packet.arrival();
    match way.kind {
        Kind::Stay => return Some(Verdict::pass(reason)),
        Kind::Up => {
            let interface = tables.interface(arrival.ifindex)?;
            set_mac(packet, 0, interface.mac.0)?;
            return Some(Verdict::new(Action::Receive, arrival.ifindex, reason));
        }
        _ => {}
    }
    if !arrival.egress {
        F::decrement_hop_limit(packet, l3)?;
    }
    if way.kind != Kind::Addressed {
        return Some(Verdict::new(Action::Resolve, way.value, reason));
    }
    packet.set_words(0, way.ethernet.map(Be32::from_raw))?;
    Some(Verdict::new(Action::Transmit, way.value, reason).tagged(way.vlan))
}

/// Writes an Ethernet address.
#[inline(always)]
fn set_mac<P: Packet>(packet: &mut P, at: u32, words: [u16; 3]) -> Option<()> {
    let [a, b, c] = words.map(Be16::from_raw);
    packet.set_u16(at, a)?;
    packet.set_u16(at + 2, b)?;
    packet.set_u16(at + 4, c)
}
