//! The transport header: ports, TCP's flags, and where the checksum is.

use network_types::ip::IpProto;

use crate::{
    abi::{Address, Be16, ConnKey, FragmentKey},
    conn::state::Event,
    family::{Fragment, Header},
    link::L3,
    packet::Packet,
    tables::Tables,
    verdict::{Reason, Step, Verdict},
};

/// Protocol number of TCP.
pub const TCP: u8 = IpProto::Tcp as u8;
/// Protocol number of UDP.
pub const UDP: u8 = IpProto::Udp as u8;
/// Protocol number of ICMP.
pub const ICMP: u8 = IpProto::Icmp as u8;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: u32 = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: u32 = 6;
/// Bytes of a TCP header without options.
pub const TCP_LENGTH: u32 = 20;
/// Bytes of a UDP header.
const UDP_LENGTH: u32 = 8;

/// A packet of TCP or UDP.
#[derive(Clone, Copy, Debug)]
pub struct Segment<A> {
    /// Identifies its connection and direction.
    pub key: ConnKey<A>,
    /// What it says to the state machine; `None` for UDP and for later fragments.
    pub event: Option<Event>,
    /// It has a transport header: it is not a later fragment.
    pub has_header: bool,
}

/// The scope and protocol word of a key.
#[inline(always)]
pub fn scope_protocol<A: Address, T: Tables<A>>(tables: &T, protocol: u8) -> u32 {
    tables.scope_id() << 8 | u32::from(protocol)
}

/// What identifies the fragments of one packet.
#[inline(always)]
pub fn fragment_key<A: Address>(header: &Header<A>, scope_protocol: u32) -> FragmentKey<A> {
    FragmentKey {
        src: header.src,
        dst: header.dst,
        id: header.id,
        scope_protocol,
    }
}

/// Reads the ports and flags; a later fragment has its first one's.
#[inline(always)]
pub fn segment<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    header: &Header<A>,
) -> Step<Segment<A>> {
    if header.protocol != TCP && header.protocol != UDP {
        return Err(Verdict::pass(Reason::OtherProtocol));
    }
    let scope_protocol = scope_protocol(tables, header.protocol);
    let key = |sport, dport| ConnKey {
        src: header.src,
        dst: header.dst,
        sport,
        dport,
        scope_protocol,
    };
    if header.fragment == Fragment::Later {
        let known = tables.fragment(&fragment_key(header, scope_protocol));
        return match known {
            Some(ports) if tables.now().since(crate::abi::Tick(ports.deadline)) < 0 => {
                Ok(Segment {
                    key: key(ports.sport, ports.dport),
                    event: None,
                    has_header: false,
                })
            }
            _ => Err(Verdict::pass(Reason::FragmentEarly)),
        };
    }
    let Some((sport, dport, event)) = ports_and_event(packet, header) else {
        return Err(Verdict::pass(Reason::Malformed));
    };
    Ok(Segment {
        key: key(sport, dport),
        event,
        has_header: true,
    })
}

#[inline(always)]
fn ports_and_event<A: Address, P: Packet>(
    packet: &P,
    header: &Header<A>,
) -> Option<(Be16, Be16, Option<Event>)> {
    let l4 = header.l4;
    if !header.carries(
        L3,
        if header.protocol == TCP {
            TCP_LENGTH
        } else {
            UDP_LENGTH
        },
    ) {
        return None;
    }
    // With the checksum, which is the last word that is written.
    let (ports, event) = if header.protocol == TCP {
        let [ports, _, _, flags, _] = packet.words(l4)?;
        (ports, Some(Event::of((flags.get() >> 16) as u8)))
    } else {
        let [ports, _] = packet.words(l4)?;
        (ports, None)
    };
    let (sport, dport) = ports.halves();
    Some((sport, dport, event))
}
