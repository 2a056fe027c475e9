//! What a TCP end says in its SYN that it takes at a time (MSS), lowered to what fits through this host.
//!
//! Needed where neither end sees a part of the way: each takes the MTU of its own route for that of the connection, and the
//! ICMP errors that would tell it better have no way to it.

use crate::{
    abi::{Address, Be16, CLAMP_MSS},
    checksum,
    conn::{find::Known, state::Event},
    family::Header,
    link::L3,
    packet::Packet,
    tables::Tables,
    transport::{Segment, TCP_CHECKSUM, TCP_LENGTH},
};

/// The option and its length (RFC 9293, 3.2).
const OPTION: u16 = 0x0204;

/// Lowers the MSS of a connection's SYN, either end's, if its service asks for it. Only a first option is looked at: every
/// common stack puts the MSS there.
///
/// `None`: the packet could not be written.
#[inline(always)]
pub(crate) fn clamp<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    header: &Header<A>,
    segment: &Segment<A>,
    known: &Known<'_, A>,
) -> Option<()> {
    if segment.event != Some(Event::Syn) {
        return Some(());
    }
    let Some(server) = tables.server(known.server) else {
        return Some(());
    };
    let clamps = tables
        .service(server.service.load())
        .is_some_and(|service| service.options.load() & CLAMP_MSS != 0);
    if !clamps {
        return Some(());
    }
    // The way to the real server, and where this packet goes: of the client's SYN it is the same.
    let to_server = tables.route(A::from_words(server.address.load()));
    let mtu = |hop| tables.hop(hop).map_or(u32::MAX, |hop| hop.mtu.load());
    let mtu = mtu(to_server).min(mtu(known.hop));
    let fits = mtu.saturating_sub(header.l4 - L3 + TCP_LENGTH);
    let (length, option) = (packet.u8(header.l4 + 12)? >> 4, header.l4 + TCP_LENGTH);
    if length <= 5 || packet.u16(option)?.get() != OPTION {
        return Some(());
    }
    let said = packet.u16(option + 2)?;
    if u32::from(said.get()) <= fits {
        return Some(());
    }
    let new = Be16::new(fits as u16);
    packet.set_u16(option + 2, new)?;
    let delta = checksum::delta(said.raw(), new.raw());
    packet.update_checksum(header.l4 + TCP_CHECKSUM, 0, delta, false)
}
