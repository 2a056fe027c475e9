//! Masquerade on random packets: there and back is the same packet, and every incremental checksum is what a computation
//! from scratch gives, wrong by as much as it was before.

use lb_common::{
    abi::V4,
    host::{Bytes, Capacity, HopSpec, Memory, ServerSpec, ServiceSpec},
    pipeline,
    verdict::Reason,
};
use proptest::prelude::*;

const L3: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Clone, Debug)]
struct Packet {
    src: [u8; 4],
    dst: [u8; 4],
    sport: u16,
    dport: u16,
    protocol: u8,
    ttl: u8,
    options: Vec<u8>,
    data: Vec<u8>,
    /// Added to the right checksums of the header and the transport.
    header_off: u16,
    transport_off: u16,
    /// UDP without a checksum.
    no_checksum: bool,
}

/// The sum of big-endian words, folded to below 0xffff: one's complement has one zero here.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, pair| {
        (sum + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))) % 0xffff
    })
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

fn header_length(frame: &[u8]) -> usize {
    usize::from(frame[L3] & 15) * 4
}

fn checksum_at(frame: &[u8]) -> usize {
    L3 + header_length(frame) + if frame[L3 + 9] == UDP { 6 } else { 16 }
}

/// How far both checksums are off: 0 for right ones.
fn wrongness(frame: &[u8]) -> (u32, u32) {
    let l4 = L3 + header_length(frame);
    let body = &frame[l4..];
    let pseudo = sum(&frame[L3 + 12..L3 + 20]) + u32::from(frame[L3 + 9]) + body.len() as u32;
    (sum(&frame[L3..l4]), (pseudo + sum(body)) % 0xffff)
}

impl Packet {
    fn frame(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.sport.to_be_bytes());
        body.extend(self.dport.to_be_bytes());
        if self.protocol == TCP {
            body.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            body.extend((8 + self.data.len() as u16).to_be_bytes());
            body.extend([0, 0]);
        }
        body.extend(&self.data);
        let length = 20 + self.options.len();
        let mut frame = vec![
            2,
            0,
            0,
            0,
            0,
            1,
            2,
            0,
            0,
            0,
            0,
            2,
            8,
            0,
            0x40 | (length / 4) as u8,
            0,
        ];
        frame.extend(((length + body.len()) as u16).to_be_bytes());
        frame.extend([0x12, 0x34, 0, 0, self.ttl, self.protocol, 0, 0]);
        frame.extend(self.src);
        frame.extend(self.dst);
        frame.extend(&self.options);
        frame.extend(body);
        let (header, transport) = wrongness(&frame);
        put(
            &mut frame,
            L3 + 10,
            (0xffff - header + u32::from(self.header_off)) % 0xffff,
        );
        let at = checksum_at(&frame);
        let right = (0xffff - transport + u32::from(self.transport_off)) % 0xffff;
        let zero = self.protocol == UDP && self.no_checksum;
        // Zero would say "none".
        put(
            &mut frame,
            at,
            if zero {
                0
            } else if right == 0 {
                0xffff
            } else {
                right
            },
        );
        frame
    }
}

prop_compose! {
    fn packet()(
        src in prop::array::uniform4(1..=126_u8),
        // What comes from 20 is never scheduled.
        sport in any::<u16>().prop_filter("FTP data", |port| *port != 20),
        udp: bool,
        ttl in 3..=255_u8,
        words in 0..=10_usize,
        data in prop::collection::vec(any::<u8>(), 0..64),
        header_off in prop_oneof![Just(0_u16), any::<u16>()],
        transport_off in prop_oneof![Just(0_u16), any::<u16>()],
        no_checksum in prop::bool::weighted(0.1),
    ) -> Packet {
        Packet {
            src, dst: SERVICE, sport, dport: 80, protocol: if udp { UDP } else { TCP }, ttl,
            options: vec![1; words * 4], data, header_off, transport_off, no_checksum,
        }
    }
}

const SERVICE: [u8; 4] = [10, 0, 0, 100];

#[derive(Clone, Debug)]
struct Place {
    server: [u8; 4],
    port: u16,
    translated: Option<[u8; 4]>,
}

prop_compose! {
    fn place()(
        server in prop::array::uniform4(1..=223_u8),
        port in 1..=u16::MAX,
        translated in prop::option::of(prop::array::uniform4(1..=223_u8)),
    ) -> Place {
        Place { server, port, translated }
    }
}

fn tables(place: &Place) -> Memory<V4> {
    let mut memory = Memory::new(9, Capacity::default());
    // A gateway everywhere: nobody is anybody's neighbour.
    memory.set_hop(
        1,
        &HopSpec {
            on_link: false,
            ..HopSpec::forward(1, [2; 6], [4; 6])
        },
    );
    memory.set_route(V4::default(), 0, 1);
    for protocol in [TCP, UDP] {
        let mut spec = ServiceSpec::address(protocol, V4::new(SERVICE), 80);
        spec.source_nat = place.translated.is_some();
        spec.nat_address = V4::new(place.translated.unwrap_or_default());
        let service = memory.add_service(&spec).expect("room for a service");
        let server = ServerSpec {
            address: V4::new(place.server),
            port: place.port,
            weight: 1,
        };
        memory
            .add_server(service, &server)
            .expect("room for a real server");
    }
    memory
}

/// The packet that answers: addresses and ports exchanged, which leaves every checksum as it is.
fn reversed(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let l4 = L3 + header_length(&frame);
    let (from, to) = (
        frame[L3 + 12..L3 + 16].to_vec(),
        frame[L3 + 16..L3 + 20].to_vec(),
    );
    frame[L3 + 12..L3 + 16].copy_from_slice(&to);
    frame[L3 + 16..L3 + 20].copy_from_slice(&from);
    let (from, to) = (frame[l4..l4 + 2].to_vec(), frame[l4 + 2..l4 + 4].to_vec());
    frame[l4..l4 + 2].copy_from_slice(&to);
    frame[l4 + 2..l4 + 4].copy_from_slice(&from);
    frame
}

/// Everything but the Ethernet addresses, the hop limit, and with it the header's checksum.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame[L3..].to_vec();
    frame[8] = 0;
    frame[10..12].fill(0);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_is_the_same_packet(packet in packet(), place in place()) {
        prop_assume!(packet.src != place.server && packet.src != SERVICE);
        let memory = tables(&place);
        let sent = packet.frame();
        let mut there = Bytes::received(sent.clone(), 1);
        prop_assert_eq!(pipeline::run(&mut there, &memory).reason, Reason::Forwarded);

        let l4 = L3 + header_length(&sent);
        let source = place.translated.unwrap_or(packet.src);
        prop_assert_eq!(&there.data[L3 + 12..L3 + 16], source);
        prop_assert_eq!(&there.data[L3 + 16..L3 + 20], place.server);
        prop_assert_eq!(&there.data[l4..l4 + 2], packet.sport.to_be_bytes());
        prop_assert_eq!(&there.data[l4 + 2..l4 + 4], place.port.to_be_bytes());
        prop_assert_eq!(there.data[L3 + 8], packet.ttl - 1);

        let without = packet.protocol == UDP && packet.no_checksum;
        let (header, transport) = wrongness(&sent);
        let after = wrongness(&there.data);
        prop_assert_eq!(header, after.0);
        let at = checksum_at(&sent);
        if without {
            prop_assert_eq!(&there.data[at..at + 2], [0, 0]);
        } else {
            prop_assert_eq!(transport, after.1);
            prop_assert!(packet.protocol == TCP || there.data[at..at + 2] != [0, 0]);
        }

        let mut back = Bytes::received(reversed(&there.data), 1);
        prop_assert_eq!(pipeline::run(&mut back, &memory).reason, Reason::Replied);
        let returned = reversed(&back.data);
        prop_assert_eq!(header, wrongness(&returned).0);
        prop_assert_eq!(returned[L3 + 8], packet.ttl - 2);
        let (mut wanted, mut returned) = (comparable(&sent), comparable(&returned));
        // The two zeros of one's complement are one.
        for bytes in [&mut wanted, &mut returned] {
            if !without && bytes[at - L3..at - L3 + 2] == [0xff, 0xff] {
                bytes[at - L3..at - L3 + 2].fill(0);
            }
        }
        prop_assert_eq!(wanted, returned);
        prop_assert!(memory.audit().is_ok());
    }

    /// An error about a packet that was forwarded names it as its sender knows it, and is as right as it was.
    #[test]
    fn errors_name_the_packet_as_it_was_sent(packet in packet(), place in place(), kind in prop_oneof![Just(3_u8), Just(4), Just(11)]) {
        prop_assume!(packet.src != place.server && packet.src != SERVICE);
        let memory = tables(&place);
        let sent = packet.frame();
        let mut there = Bytes::received(sent.clone(), 1);
        prop_assert_eq!(pipeline::run(&mut there, &memory).reason, Reason::Forwarded);

        let mut message = vec![kind, 1, 0, 0, 0, 0, 0, 0];
        message.extend(&there.data[L3..]);
        let off = 0xffff - sum(&message);
        put(&mut message, 2, off);
        let mut error = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        error.extend(((20 + message.len()) as u16).to_be_bytes());
        error.extend([0, 0, 0, 0, 64, 1, 0, 0]);
        error.extend(place.server);
        error.extend(&there.data[L3 + 12..L3 + 16]);
        let check = 0xffff - sum(&error[L3..]);
        put(&mut error, L3 + 10, check);
        error.extend(message);
        let mut error = Bytes::received(error, 1);
        prop_assert_eq!(pipeline::run(&mut error, &memory).reason, Reason::IcmpRelated);

        let quoted = &error.data[L3 + 28..];
        let at = checksum_at(&sent) - L3;
        let (mut wanted, mut named) = (comparable(&sent), comparable(&[&[0; L3], quoted].concat()));
        // The inner transport checksum is left as it was quoted.
        wanted[at..at + 2].fill(0);
        named[at..at + 2].fill(0);
        prop_assert_eq!(wanted, named);
        prop_assert_eq!(sum(&error.data[L3..L3 + 20]), 0);
        prop_assert_eq!(sum(&error.data[L3 + 20..]), 0);
        prop_assert_eq!(&error.data[L3 + 12..L3 + 16], SERVICE);
        prop_assert_eq!(&error.data[L3 + 16..L3 + 20], packet.src);
        prop_assert_eq!(wrongness(&sent).0, sum(&quoted[..header_length(&sent)]));
    }
}
