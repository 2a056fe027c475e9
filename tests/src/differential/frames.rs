//! The frames that a script's packets are, on one side.

use std::collections::HashMap;
use std::net::SocketAddrV4;

use super::names::{self, Link, ROUTER_MAC};
use super::step::{Kind, Packet, Protocol, Sum, Way};
use super::wire::Arrival;
use crate::packets::packet::{self, Body, Frame, Icmp, Ip, Tcp, Udp};

/// A connection as the client names it: protocol, client, service.
type Flow = (Protocol, SocketAddrV4, SocketAddrV4);

/// What each connection's last request was like when it got to a real server: what a reply has to
/// turn around, and an ICMP error to quote. It differs between the two sides where they chose
/// different real servers.
#[derive(Debug, Default)]
pub struct Requests(HashMap<Flow, Arrived>);

/// A request as its real server got it.
#[derive(Debug, Clone)]
struct Arrived {
    link: Link,
    mac: [u8; 6],
    /// The packet, without tunnel.
    packet: Vec<u8>,
}

impl Requests {
    /// Notes which frame a request became.
    pub fn note(&mut self, packet: &Packet, arrivals: &[Arrival]) {
        let (Some(protocol), Way::Request) = (packet.protocol(), packet.way) else {
            return;
        };
        if matches!(packet.kind, Kind::Error(..)) {
            return;
        }
        let flow = (protocol, packet.client, packet.service);
        for (link, frame) in arrivals {
            if *link == Link::Clients {
                continue;
            }
            let Some(bytes) = untunnelled(&frame[14..]) else {
                continue;
            };
            if bytes.get(9) == Some(&protocol.number()) {
                let arrived = Arrived {
                    link: *link,
                    mac: [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]],
                    packet: bytes.to_vec(),
                };
                self.0.insert(flow, arrived);
            }
        }
    }

    /// The frame of a packet and where it goes in; `None` where it would be the answer to what
    /// never arrived. `id` tells the packet from others.
    pub fn frame(&self, packet: &Packet, id: u16) -> Option<(Link, Vec<u8>)> {
        match packet.way {
            Way::Request => {
                let ip = request(packet, id);
                Some((Link::Clients, framed(Link::Clients, ROUTER_MAC, ip)))
            }
            Way::Server => {
                let (link, mac) = names::place(*packet.service.ip())?;
                let ip = outbound(packet, packet.service, packet.client, id);
                Some((link, framed(link, mac, ip)))
            }
            Way::Reply => {
                let flow = (packet.protocol()?, packet.client, packet.service);
                let arrived = self.0.get(&flow)?;
                let quoted = &arrived.packet;
                let source = endpoint(quoted, 16, 2)?;
                let ip = match packet.kind {
                    Kind::Error(kind, code, _) => {
                        let from = packet.by.unwrap_or(*source.ip());
                        let body = error(packet, kind, code, quoted.clone());
                        finished(
                            packet,
                            id,
                            Ip::new(from.octets(), quoted_source(quoted)?, body),
                        )
                    }
                    _ => outbound(packet, source, endpoint(quoted, 12, 0)?, id),
                };
                Some((arrived.link, framed(arrived.link, arrived.mac, ip)))
            }
        }
    }
}

/// The packet inside a tunnel's, or the packet itself.
fn untunnelled(packet: &[u8]) -> Option<&[u8]> {
    match packet.get(9)? {
        4 => packet.get(usize::from(packet[0] & 15) * 4..),
        _ => Some(packet),
    }
}

fn quoted_source(packet: &[u8]) -> Option<[u8; 4]> {
    packet.get(12..16)?.try_into().ok()
}

/// An address of the packet with a port of what it carries.
fn endpoint(packet: &[u8], address: usize, port: usize) -> Option<SocketAddrV4> {
    let four: [u8; 4] = packet.get(address..address + 4)?.try_into().ok()?;
    let port = usize::from(packet[0] & 15) * 4 + port;
    let two: [u8; 2] = packet.get(port..port + 2)?.try_into().ok()?;
    Some(SocketAddrV4::new(four.into(), u16::from_be_bytes(two)))
}

fn request(packet: &Packet, id: u16) -> Ip {
    let (client, service) = (packet.client, packet.service);
    match packet.kind {
        Kind::Error(kind, code, protocol) => {
            // About the reply, as the client got it.
            let about = Packet::new(client, Way::Reply, service, any(protocol));
            let about = outbound(&about, service, client, 0x4242);
            let body = error(packet, kind, code, about.bytes());
            let from = packet.by.unwrap_or(*client.ip());
            finished(
                packet,
                id,
                Ip::new(from.octets(), service.ip().octets(), body),
            )
        }
        _ => outbound(packet, client, service, id),
    }
}

/// What an ICMP error of this protocol is about.
fn any(protocol: Protocol) -> Kind {
    match protocol {
        Protocol::Tcp => Kind::Tcp(packet::flag::ACK),
        Protocol::Udp => Kind::Udp,
    }
}

/// A segment, datagram or ping between these.
fn outbound(packet: &Packet, from: SocketAddrV4, to: SocketAddrV4, id: u16) -> Ip {
    let data: Vec<u8> = (0..packet.length)
        .map(|at| at.wrapping_mul(31).wrapping_add(id) as u8)
        .collect();
    let sum = sum(packet.sum);
    let body = match packet.kind {
        Kind::Tcp(flags) => Body::Tcp(Tcp {
            sport: from.port(),
            dport: to.port(),
            seq: u32::from(id) << 12,
            ack: 77,
            flags,
            window: u16::MAX,
            options: Vec::new(),
            data,
            sum,
        }),
        Kind::Udp => Body::Udp(Udp {
            sport: from.port(),
            dport: to.port(),
            data,
            sum,
        }),
        Kind::Echo | Kind::Error(..) => Body::Icmp(Icmp {
            kind: 8,
            code: 0,
            rest: [0x11, 0x22, 0, 1],
            data,
            sum,
        }),
    };
    finished(
        packet,
        id,
        Ip::new(from.ip().octets(), to.ip().octets(), body),
    )
}

fn error(packet: &Packet, kind: u8, code: u8, about: Vec<u8>) -> Body {
    Body::Icmp(Icmp {
        kind,
        code,
        // The MTU where there is one.
        rest: if (kind, code) == (3, 4) {
            [0, 0, 2, 0x58]
        } else {
            [0; 4]
        },
        data: about,
        sum: sum(packet.sum),
    })
}

fn sum(sum: Sum) -> packet::Sum {
    match sum {
        Sum::Right => packet::Sum::Right,
        Sum::None => packet::Sum::Zero,
        Sum::Wrong => packet::Sum::Off(0x1111),
    }
}

fn finished(packet: &Packet, id: u16, ip: Ip) -> Ip {
    Ip {
        ttl: packet.ttl,
        tos: packet.tos,
        dont_fragment: packet.dont_fragment,
        id,
        ..ip
    }
}

fn framed(link: Link, from: [u8; 6], ip: Ip) -> Vec<u8> {
    Frame {
        to: link.mac(),
        from,
        tags: Vec::new(),
        ip,
        padding: 0,
    }
    .bytes()
}
