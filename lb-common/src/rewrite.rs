//! Masquerade: new addresses and ports, and the checksums that cover them.

use crate::{
    abi::{Be32, Tuple},
    conn::find::Known,
    family::{Family, Header},
    packet::Packet,
    transport::{self, TCP_CHECKSUM, UDP_CHECKSUM},
};

/// Rewrites a packet as its connection says. Later fragments have no transport header, only addresses.
#[inline(always)]
pub fn masquerade<F: Family, P: Packet>(
    packet: &mut P,
    l3: u32,
    header: &Header<F::Address>,
    known: &Known<'_, F::Address>,
    has_header: bool,
) -> Option<()> {
    F::set_addresses(packet, l3, &known.to, known.addresses_delta)?;
    if has_header {
        let udp = header.protocol == transport::UDP;
        let at = header.l4 + if udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
        // The checksum of a fragmented packet covers all of it and stands in the first fragment: the same update.
        packet.update_checksum(at, known.addresses_delta, known.ports_delta, udp)?;
        set_ports(packet, header.l4, &known.to)?;
    }
    Some(())
}

/// Writes both ports at the start of a transport header.
#[inline(always)]
pub fn set_ports<A: Copy, P: Packet>(packet: &mut P, l4: u32, to: &Tuple<A>) -> Option<()> {
    packet.set_u32(l4, Be32::join(to.sport, to.dport))
}
