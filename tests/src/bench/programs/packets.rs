//! The packets that programs are timed with.

use std::net::Ipv4Addr;

use super::restorer::{FRAME, Template};
use crate::topology::director::{CLIENT, DIRECTOR, SERVICE, server_address};

/// The port of the service and of its real server.
pub const PORT: u16 = 80;
/// A port that has no service.
const OTHER_PORT: u16 = 9;
/// Where a client's address and port stand in what it sends, and in what it gets.
const AS_SOURCE: (i16, i16) = (26, 34);
const AS_DESTINATION: (i16, i16) = (30, 36);

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Ethernet addresses of a cable: from where, to the director's end.
pub type Cable = ([u8; 6], [u8; 6]);

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TCP from a client to the service: it wants to open.
    Syn,
    /// The real server agrees.
    SynAck,
    /// The client has heard that; and every packet of it with data.
    Ack,
    /// Data of the real server.
    Answer,
    /// A datagram to the service.
    Datagram,
    /// One that answers it.
    DatagramBack,
    /// A datagram to the director itself, where there is no service.
    Other,
    /// A packet of a protocol that bpvs does not know (GRE), to the service.
    Protocol,
    /// An IPv6 packet.
    Ipv6,
}

impl Kind {
    /// Whether it comes from the real server.
    pub const fn comes_back(self) -> bool {
        matches!(self, Self::SynAck | Self::Answer | Self::DatagramBack)
    }

    /// Its bytes, on the cable by which it comes.
    pub fn template(self, (from, to): Cable) -> Template {
        let mut frame = [0; FRAME];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        if self == Self::Ipv6 {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            // Version 6, no next header.
            frame[14] = 0x60;
            frame[20] = 59;
            return Template {
                frame,
                client: None,
            };
        }
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let (protocol, flags) = match self {
            Self::Syn => (TCP, SYN),
            Self::SynAck => (TCP, SYN | ACK),
            Self::Ack | Self::Answer => (TCP, ACK),
            Self::Protocol => (GRE, 0),
            _ => (UDP, 0),
        };
        let server = server_address(1);
        // The client's port is written for each flow.
        let (source, destination, ports) = match self {
            Self::Other => (CLIENT, DIRECTOR, [OTHER_PORT; 2]),
            kind if kind.comes_back() => (server, CLIENT, [PORT, 0]),
            _ => (CLIENT, SERVICE, [0, PORT]),
        };
        header(&mut frame, protocol, source, destination);
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        if protocol == TCP {
            // Five words of header, and these flags.
            frame[46] = 5 << 4;
            frame[47] = flags;
            // Programs change a checksum by what they change of the packet; whether it was right they do not ask.
            frame[50..52].copy_from_slice(&[0x12, 0x34]);
        } else {
            frame[38..40].copy_from_slice(&((FRAME - 34) as u16).to_be_bytes());
            frame[40..42].copy_from_slice(&[0x12, 0x34]);
        }
        let client = match self {
            Self::Other | Self::Protocol => None,
            kind if kind.comes_back() => Some(AS_DESTINATION),
            _ => Some(AS_SOURCE),
        };
        Template { frame, client }
    }
}

fn header(frame: &mut [u8], protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) {
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((FRAME - 14) as u16).to_be_bytes());
    frame[22] = 64;
    frame[23] = protocol;
    frame[26..30].copy_from_slice(&source.octets());
    frame[30..34].copy_from_slice(&destination.octets());
}
