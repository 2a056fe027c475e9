//! What came out of a director, in a form that can be compared and read.

use std::fmt;
use std::net::Ipv4Addr;

use super::names::{self, Link, ROUTER_MAC};
use super::step::FLAGS;

/// A frame that came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// On which cable.
    pub link: Link,
    /// For which Ethernet address: `router`, a real server's name, or the address itself.
    pub to: String,
    /// Whether it comes from the Ethernet address of the director's interface.
    pub from_director: bool,
    /// The packet.
    pub ip: Ip,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ip {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Hop limit.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification, compared to that of the frame that was sent.
    pub id: Id,
    /// Must not be fragmented.
    pub dont_fragment: bool,
    /// Offset in bytes and whether more follow, of a fragment.
    pub fragment: Option<(u16, bool)>,
    /// Whether header and checksum of the header are right.
    pub sound: bool,
    /// What it carries.
    pub body: Body,
}

/// An identification. Who makes a packet chooses it at will, so only what is forwarded is held to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// That of the packet that was sent.
    Sent,
    /// Another one.
    Own,
}

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// A segment.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Flags.
        flags: u8,
        /// Sequence and acknowledgement number.
        numbers: (u32, u32),
        /// Everything behind the first 20 bytes.
        rest: Vec<u8>,
        /// The checksum.
        sum: Sum,
    },
    /// A datagram.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Payload.
        data: Vec<u8>,
        /// The checksum.
        sum: Sum,
    },
    /// An ICMP error, with the packet that it is about.
    Error {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes behind the checksum, as the MTU.
        detail: u32,
        /// The packet inside.
        about: Box<Ip>,
        /// How many bytes of it there are.
        quoted: usize,
        /// The checksum.
        sum: Sum,
    },
    /// A packet in a packet.
    Tunnel(Box<Ip>),
    /// Anything else: the protocol and the bytes.
    Other(u8, Vec<u8>),
}

/// What stood in a checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sum {
    /// What belongs there.
    Right,
    /// Zero.
    None,
    /// Something else.
    Wrong,
    /// The content is not all there.
    Unknown,
}

/// Reads a frame; `sent` is the identification of the packet that was sent.
pub fn read(link: Link, frame: &[u8], sent: u16) -> Option<Seen> {
    let mac: [u8; 6] = frame.get(..6)?.try_into().ok()?;
    let ip = read_ip(frame.get(14..)?, sent, false)?;
    Some(Seen {
        link,
        to: addressee(link, mac),
        from_director: frame[6..12] == link.mac(),
        ip,
    })
}

fn addressee(link: Link, mac: [u8; 6]) -> String {
    let number = mac[5];
    if mac == ROUTER_MAC {
        "router".into()
    } else if link != Link::Clients && mac == names::server_mac(link, number) {
        format!("{}{number}", &link.interface()[..1])
    } else {
        mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// Reads a packet; that of an ICMP error may be cut.
fn read_ip(bytes: &[u8], sent: u16, cut: bool) -> Option<Ip> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let address = |at: usize| {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(four))
    };
    let header = usize::from(bytes.first()? & 15) * 4;
    let total = usize::from(word(2)?);
    let end = total.min(bytes.len());
    let body = bytes.get(header..end)?;
    let place = word(6)?;
    let fragment = (place & 0x3fff != 0).then_some(((place & 0x1fff) * 8, place & 0x2000 != 0));
    let (src, dst) = (address(12)?, address(16)?);
    let whole = fragment.is_none() && end == total;
    let sound = bytes[0] >> 4 == 4
        && sum(&bytes[..header], 0) == 0xffff
        && (cut || total == bytes.len() || bytes.len() < 60);
    Some(Ip {
        src,
        dst,
        ttl: bytes[8],
        tos: bytes[1],
        id: if word(4)? == sent { Id::Sent } else { Id::Own },
        dont_fragment: place & 0x4000 != 0,
        fragment,
        sound,
        body: read_body(bytes[9], body, (src, dst), whole, sent),
    })
}

fn read_body(
    protocol: u8,
    bytes: &[u8],
    (src, dst): (Ipv4Addr, Ipv4Addr),
    whole: bool,
    sent: u16,
) -> Body {
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
    let check = |at: usize, pseudo: bool| {
        let start = if pseudo {
            let addresses = [src.octets(), dst.octets()].concat();
            sum(&addresses, u32::from(protocol) + bytes.len() as u32)
        } else {
            0
        };
        match word(at) {
            _ if !whole => Sum::Unknown,
            0 if protocol == 17 => Sum::None,
            _ if sum(bytes, u32::from(start)) == 0xffff => Sum::Right,
            _ => Sum::Wrong,
        }
    };
    match protocol {
        6 if bytes.len() >= 20 => Body::Tcp {
            sport: word(0),
            dport: word(2),
            flags: bytes[13],
            numbers: (long(4), long(8)),
            rest: bytes[20..].to_vec(),
            sum: check(16, true),
        },
        17 if bytes.len() >= 8 => Body::Udp {
            sport: word(0),
            dport: word(2),
            data: bytes[8..].to_vec(),
            sum: check(6, true),
        },
        1 if bytes.len() >= 28 && [3, 4, 5, 11, 12].contains(&bytes[0]) => {
            match read_ip(&bytes[8..], sent, true) {
                Some(about) => Body::Error {
                    kind: bytes[0],
                    code: bytes[1],
                    detail: long(4),
                    about: Box::new(about),
                    quoted: bytes.len() - 8,
                    sum: check(2, false),
                },
                None => Body::Other(protocol, bytes.to_vec()),
            }
        }
        4 => match read_ip(bytes, sent, false) {
            Some(inner) => Body::Tunnel(Box::new(inner)),
            None => Body::Other(protocol, bytes.to_vec()),
        },
        _ => Body::Other(protocol, bytes.to_vec()),
    }
}

/// The one's complement sum of bytes as big-endian words, not inverted.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let mut sum = sum + u64::from(start);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strange = if self.from_director {
            ""
        } else {
            " (from a strange Ethernet address)"
        };
        write!(f, "to {}{strange}: {}", self.to, self.ip)
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (names::name(self.src), names::name(self.dst));
        match &self.body {
            Body::Tcp {
                sport,
                dport,
                flags,
                numbers,
                rest,
                sum,
            } => {
                let flags: String = FLAGS
                    .chars()
                    .enumerate()
                    .filter(|(bit, _)| flags >> bit & 1 == 1)
                    .map(|(_, letter)| letter)
                    .collect();
                write!(f, "{src}:{sport} > {dst}:{dport} tcp {flags}")?;
                write!(f, " seq={:x} ack={:x}", numbers.0, numbers.1)?;
                write!(f, " {}", bytes(rest))?;
                sum.fmt(f)?;
            }
            Body::Udp {
                sport,
                dport,
                data,
                sum,
            } => {
                write!(f, "{src}:{sport} > {dst}:{dport} udp {}", bytes(data))?;
                sum.fmt(f)?;
            }
            Body::Error {
                kind,
                code,
                detail,
                about,
                quoted,
                sum,
            } => {
                write!(f, "{src} > {dst} icmp {kind}/{code} detail={detail}{sum}")?;
                write!(f, " about {quoted} bytes of [{about}]")?;
            }
            Body::Tunnel(inner) => write!(f, "{src} > {dst} ipip [{inner}]")?,
            Body::Other(protocol, content) => {
                write!(f, "{src} > {dst} protocol {protocol} {}", bytes(content))?;
            }
        }
        write!(f, " ttl={}", self.ttl)?;
        if self.tos != 0 {
            write!(f, " tos={}", self.tos)?;
        }
        if self.id == Id::Own {
            f.write_str(" own-id")?;
        }
        if self.dont_fragment {
            f.write_str(" df")?;
        }
        if let Some((offset, more)) = self.fragment {
            write!(f, " fragment={offset}{}", if more { "+" } else { "" })?;
        }
        if !self.sound {
            f.write_str(" BROKEN-HEADER")?;
        }
        Ok(())
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Right | Self::Unknown => "",
            Self::None => " nosum",
            Self::Wrong => " WRONG-SUM",
        })
    }
}

/// How many bytes, and a few digits that tell different ones apart.
fn bytes(bytes: &[u8]) -> String {
    // FNV-1a: only has to differ where the bytes do.
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    format!("len={}#{:04x}", bytes.len(), hash >> 16)
}
