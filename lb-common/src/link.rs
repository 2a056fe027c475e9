//! The Ethernet header: is the packet for us, and where does its network header begin?

use network_types::eth::EtherType;

use crate::{
    abi::Be16,
    packet::{ETHERNET, Packet},
    verdict::{Reason, Step, Verdict},
};

/// Offset of the ethertype.
pub const ETHERTYPE: u32 = 12;

/// The ethertype of IPv4.
pub const IPV4: Be16 = Be16::from_raw(EtherType::Ipv4 as u16);
/// The ethertype of ARP.
pub const ARP: Be16 = Be16::from_raw(EtherType::Arp as u16);
/// The ethertype of a VLAN's tag (IEEE 802.1Q).
pub const VLAN: Be16 = Be16::from_raw(EtherType::Ieee8021q as u16);

/// What follows the Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// An ARP packet.
    Arp,
    /// An IPv4 packet.
    Ipv4,
}

/// Decides by the Ethernet header. Addresses of other hosts, tags and other families end here.
///
/// A tagged frame is not ours: it comes again, untagged, on the VLAN's own interface, which is where its IP stack is and
/// where it is handled and counted once. One that carries but a priority (VLAN 0) is the interface's own.
#[inline(always)]
pub fn content<P: Packet>(packet: &P) -> Step<Content> {
    let arrival = packet.arrival();
    if arrival.tagged {
        return Err(Verdict::pass(Reason::Tagged));
    }
    let Some(ethertype) = packet.u16(ETHERTYPE) else {
        return Err(Verdict::pass(Reason::Malformed));
    };
    if ethertype == IPV4 {
        if arrival.to_host || arrival.egress {
            return Ok(Content::Ipv4);
        }
        return Err(Verdict::pass(Reason::NotToHost));
    }
    if ethertype == ARP {
        return Ok(Content::Arp);
    }
    if ethertype == VLAN || ethertype.raw() == EtherType::Ieee8021ad as u16 {
        return Err(Verdict::pass(Reason::Tagged));
    }
    Err(Verdict::pass(Reason::NotIp))
}

/// Exchanges source and destination, to send a packet back where it came from.
#[inline(always)]
pub fn turn_round<P: Packet>(packet: &mut P) -> Option<()> {
    let (a, b, c) = (packet.u16(0)?, packet.u16(2)?, packet.u16(4)?);
    let (d, e, f) = (packet.u16(6)?, packet.u16(8)?, packet.u16(10)?);
    packet.set_u16(0, d)?;
    packet.set_u16(2, e)?;
    packet.set_u16(4, f)?;
    packet.set_u16(6, a)?;
    packet.set_u16(8, b)?;
    packet.set_u16(10, c)
}

/// Where the network header of an untagged frame begins.
pub const L3: u32 = ETHERNET;
