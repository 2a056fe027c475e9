//! What a TCP end says in its SYN that it takes at a time (MSS), lowered to what fits through this host.
//!
//! Needed where neither end sees a part of the way: each takes the MTU of its own route for that of the connection, and the
//! ICMP errors that would tell it better have no way to it.

use crate::{
    abi::{Address, BENT, Be16, CLAMP_MSS},
    checksum,
    link::L3,
    packet::Packet,
    tables::Tables,
    transport::{TCP_CHECKSUM, TCP_LENGTH},
};

/// The option and its length (RFC 9293, 3.2).
const OPTION: u16 = 0x0204;
/// Offset of the header's length in a TCP header.
const LENGTH: u32 = 12;

/// Lowers the MSS in the SYN of a connection, either end's, if its service asks for it: in the TCP header at `l4` of a packet
/// for or from this real server, which goes by this hop. Only a first option is looked at: every common stack puts the MSS
/// there.
///
/// `None`: the packet could not be written.
#[inline(always)]
pub fn clamp<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    l4: u32,
    server: u32,
    hop: u32,
) -> Option<()> {
    let Some(server) = tables.server(server) else {
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
    let mtu = |hop| {
        tables
            .hop(hop & !BENT)
            .map_or(u32::MAX, |hop| hop.mtu.load())
    };
    let fits = mtu(to_server)
        .min(mtu(hop))
        .saturating_sub(l4 - L3 + TCP_LENGTH);
    let option = l4 + TCP_LENGTH;
    let length = packet.u8(l4 + LENGTH)? >> 4;
    let (Some(begin), Some(said)) = (packet.u16(option), packet.u16(option + 2)) else {
        return Some(());
    };
    if length <= 5 || begin.get() != OPTION || u32::from(said.get()) <= fits {
        return Some(());
    }
    let new = Be16::new(fits as u16);
    packet.set_u16(option + 2, new)?;
    let delta = checksum::delta(said.raw(), new.raw());
    packet.update_checksum(l4 + TCP_CHECKSUM, 0, delta, false)
}
