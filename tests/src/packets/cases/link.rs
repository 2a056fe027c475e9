//! The Ethernet header: tags, other hosts, other protocols, ARP and ping for answered addresses.

use lb_common::{host::Bytes, packet::Arrival, verdict::Reason};

use crate::packets::{
    case::{Case, Check, Expected, Flow},
    packet::{Body, Frame, Ip4, Mac, Sum, flag, icmp, tcp, udp},
    world::{
        CLIENT, CLIENT_PORT, FRONT, FRONT_IP, FRONT_MAC, OTHER_SERVICE, PORT, SERVERS, SERVICE,
        World, asks, asks_at,
    },
};

const BROADCAST: Mac = [0xff; 6];

pub(super) fn cases() -> Vec<Case> {
    vec![
        tagged_bytes(),
        tagged_beside(),
        other_host(),
        other_ethertypes(),
        other_transports(),
        arp(),
        arp_not_ours(),
        arp_oddities(),
        arp_truncated(),
        arp_announcement(),
        arp_probe(),
        impossible_sources(),
        ping(),
        ping_not_ours(),
        ping_checksum(),
        ping_types(),
        local_ping(),
    ]
}

fn tagged_bytes() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    [vec![(0x8100, 5)], vec![(0x88a8, 7), (0x8100, 5)]]
        .into_iter()
        .fold(
            Case::new(
                "A tagged frame is left to the VLAN's own interface",
                World::usual(),
            ),
            |case, tags| {
                case.packet(
                    &sent.with(|frame| frame.tags = tags),
                    Expected::pass(Reason::Tagged),
                )
            },
        )
        .check(Check::Entries(0))
}

fn tagged_beside() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).bytes();
    let mut packet = Bytes::received(sent, FRONT);
    packet.arrival.tagged = true;
    Case::new(
        "A frame whose tag the kernel has put aside is left to the VLAN's own interface",
        World::usual(),
    )
    .packet(packet, Expected::pass(Reason::Tagged))
    .host_only("a tag beside the packet cannot be given to BPF_PROG_TEST_RUN")
}

fn other_host() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN))
        .with(|frame| frame.to = [2, 0, 0, 0, 7, 7]);
    let mut packet = Bytes::received(sent.bytes(), FRONT);
    packet.arrival = Arrival {
        to_host: false,
        ..packet.arrival
    };
    Case::new(
        "A frame that is merely bridged past is left alone",
        World::usual(),
    )
    .packet(packet, Expected::pass(Reason::NotToHost))
    .check(Check::Entries(0))
}

fn other_ethertypes() -> Case {
    let bytes = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).bytes();
    [0x86dd, 0x8847, 0x88cc, 0x05ff, 0x0000_u16]
        .into_iter()
        .fold(
            Case::new(
                "What is neither IPv4 nor ARP is passed untouched",
                World::usual(),
            ),
            |case, ethertype| {
                let mut bytes = bytes.clone();
                bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
                case.packet(Bytes::received(bytes, FRONT), Expected::pass(Reason::NotIp))
            },
        )
}

fn other_transports() -> Case {
    [0, 2, 4, 41, 47, 50, 58, 112, 132, 255].into_iter().fold(
        Case::new(
            "What is neither TCP, UDP nor ICMP is passed untouched",
            World::usual().answering(SERVICE),
        ),
        |case, protocol| {
            let sent = asks(&CLIENT, Body::Raw(protocol, vec![0; 40]));
            case.packet(&sent, Expected::pass(Reason::OtherProtocol))
        },
    )
}

/// An ARP packet.
fn arp_packet(to: Mac, operation: u16, sender: (Mac, Ip4), target: (Mac, Ip4)) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to);
    bytes.extend(sender.0);
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1);
    bytes.extend(target.0);
    bytes.extend(target.1);
    bytes
}

fn question(of: Ip4) -> Bytes {
    Bytes::received(
        arp_packet(BROADCAST, 1, (CLIENT.mac, CLIENT.ip), ([0; 6], of)),
        FRONT,
    )
}

fn arp() -> Case {
    let answer = arp_packet(CLIENT.mac, 2, (FRONT_MAC, SERVICE), (CLIENT.mac, CLIENT.ip));
    let mut padded = question(SERVICE);
    padded.data.resize(60, 0);
    let mut padded_answer = answer.clone();
    padded_answer.resize(60, 0);
    Case::new(
        "ARP for an answered address is answered with the interface's own address",
        World::usual().answering(SERVICE),
    )
    .packet(
        question(SERVICE),
        Expected::transmit_bytes(FRONT, Reason::ArpAnswered, answer),
    )
    .packet(
        padded,
        Expected::transmit_bytes(FRONT, Reason::ArpAnswered, padded_answer),
    )
}

fn arp_not_ours() -> Case {
    let sent = Bytes {
        arrival: Bytes::sent(Vec::new(), FRONT).arrival,
        ..question(SERVICE)
    };
    Case::new(
        "ARP for an address that is not answered for, or from this host itself, is passed",
        World::usual().answering(SERVICE),
    )
    .packet(question(OTHER_SERVICE), Expected::pass(Reason::NotIp))
    .packet(question(FRONT_IP), Expected::pass(Reason::NotIp))
    .packet(sent, Expected::pass(Reason::NotIp))
}

fn arp_oddities() -> Case {
    let reply = arp_packet(FRONT_MAC, 2, (CLIENT.mac, CLIENT.ip), (FRONT_MAC, SERVICE));
    let changed = |at: usize, value: u8| {
        let mut packet = question(SERVICE);
        packet.data[at] = value;
        packet
    };
    // Hardware, protocol, both lengths, operation.
    let case = [(15, 6), (16, 9), (18, 8), (19, 16), (21, 3)]
        .into_iter()
        .fold(
            Case::new(
                "ARP that is no request for an IPv4 address over Ethernet is passed",
                World::usual().answering(SERVICE),
            ),
            |case, (at, value)| case.packet(changed(at, value), Expected::pass(Reason::NotIp)),
        );
    case.packet(Bytes::received(reply, FRONT), Expected::pass(Reason::NotIp))
}

fn arp_truncated() -> Case {
    let whole = question(SERVICE).data;
    (14..whole.len()).fold(
        Case::new(
            "An ARP request cut at any byte is passed untouched",
            World::usual().answering(SERVICE),
        ),
        |case, length| {
            case.packet(
                Bytes::received(whole[..length].to_vec(), FRONT),
                Expected::pass(Reason::Malformed),
            )
        },
    )
}

fn arp_announcement() -> Case {
    let packet = arp_packet(BROADCAST, 1, (CLIENT.mac, SERVICE), ([0; 6], SERVICE));
    Case::new(
        "Who announces an answered address as its own is not disputed",
        World::usual().answering(SERVICE),
    )
    .packet(
        Bytes::received(packet, FRONT),
        Expected::pass(Reason::NotIp),
    )
}

fn arp_probe() -> Case {
    let packet = arp_packet(BROADCAST, 1, (CLIENT.mac, [0; 4]), ([0; 6], SERVICE));
    let answer = arp_packet(CLIENT.mac, 2, (FRONT_MAC, SERVICE), (CLIENT.mac, [0; 4]));
    Case::new(
        "Who asks whether an answered address is free learns that it is not",
        World::usual().answering(SERVICE),
    )
    .packet(
        Bytes::received(packet, FRONT),
        Expected::transmit_bytes(FRONT, Reason::ArpAnswered, answer),
    )
}

fn impossible_sources() -> Case {
    let sources = [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 1, 1, 1],
        [240, 0, 0, 1],
        [255; 4],
        SERVICE,
    ];
    let case = Case::new(
        "A packet from an address that no other host can have opens nothing and is answered by nothing",
        World::usual().answering(SERVICE),
    );
    let frames = sources.into_iter().flat_map(|source| {
        let bodies = [
            tcp(CLIENT_PORT, PORT, flag::SYN),
            udp(CLIENT_PORT, PORT),
            udp(CLIENT_PORT, PORT + 1),
        ];
        let ping = ping_of(SERVICE).ip.body;
        bodies
            .into_iter()
            .chain([ping])
            .map(move |body| asks(&CLIENT, body).with(|frame| frame.ip.src = source))
    });
    frames
        .fold(case, |case, frame| {
            case.packet(&frame, Expected::pass(Reason::Malformed))
        })
        .check(Check::Entries(0))
}

fn ping_of(address: Ip4) -> Frame {
    asks_at(
        &CLIENT,
        address,
        icmp(8, 0, [0x12, 0x34, 0, 1], (0..57).collect()),
    )
}

fn pong(ping: &Frame) -> Frame {
    ping.with(|frame| {
        (frame.to, frame.from) = (frame.from, frame.to);
        (frame.ip.src, frame.ip.dst) = (frame.ip.dst, frame.ip.src);
        frame.ip.ttl = 64;
        if let Body::Icmp(icmp) = &mut frame.ip.body {
            icmp.kind = 0;
        }
    })
}

fn ping() -> Case {
    let usual = ping_of(SERVICE);
    let old = usual.with(|frame| frame.ip.ttl = 1);
    let young = usual.with(|frame| frame.ip.ttl = 255);
    let with_options = usual.with(|frame| frame.ip.options = vec![1; 40]);
    [usual, old, young, with_options].iter().fold(
        Case::new(
            "A ping of an answered address is answered, whatever its hop limit and options",
            World::usual().answering(SERVICE),
        ),
        |case, sent| {
            case.packet(
                sent,
                Expected::transmit(FRONT, Reason::PingAnswered, &pong(sent)),
            )
        },
    )
}

fn ping_not_ours() -> Case {
    Case::new(
        "A ping of an address that is not answered for is passed to the host",
        World::usual(),
    )
    .packet(&ping_of(SERVICE), Expected::pass(Reason::OtherProtocol))
    .packet(&ping_of(FRONT_IP), Expected::pass(Reason::OtherProtocol))
}

fn ping_checksum() -> Case {
    let sent = ping_of(SERVICE).with(|frame| {
        frame.ip.sum = Sum::Off(0x1234);
        if let Body::Icmp(icmp) = &mut frame.ip.body {
            icmp.sum = Sum::Off(0x4321);
        }
    });
    Case::new(
        "A ping with wrong checksums gets an answer that is wrong by as much",
        World::usual().answering(SERVICE),
    )
    .packet(
        &sent,
        Expected::transmit(FRONT, Reason::PingAnswered, &pong(&sent)),
    )
}

fn ping_types() -> Case {
    [0, 5, 9, 10, 12, 13, 15, 17, 30, 42].into_iter().fold(
        Case::new(
            "ICMP that is neither a ping nor an error that IPVS follows is passed",
            World::usual().answering(SERVICE),
        ),
        |case, kind| {
            case.packet(
                &asks(&CLIENT, icmp(kind, 0, [0; 4], vec![0; 48])),
                Expected::pass(Reason::OtherProtocol),
            )
        },
    )
}

fn local_ping() -> Case {
    let sent = ping_of(SERVICE).with(|frame| {
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = (SERVERS[0].mac, FRONT_MAC);
    });
    let flow = Flow::of(&asks(&CLIENT, udp(CLIENT_PORT, PORT)));
    Case::new(
        "A ping that this host itself sends to an answered address is answered too",
        World::usual().answering(SERVICE),
    )
    .packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::receive(FRONT, Reason::PingAnswered, pong(&sent).bytes()),
    )
    .check(Check::Gone(flow))
}
