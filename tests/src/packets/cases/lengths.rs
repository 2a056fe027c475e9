//! Options of every length, packets cut at every byte, and headers that contradict themselves.

use lb_common::{
    host::Bytes,
    verdict::{Action, Reason},
};

use crate::packets::{
    case::{Case, Check, Expected, Output},
    packet::{Body, Frame, flag, icmp, tcp, udp},
    world::{
        BACK, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, PORT, SERVER_PORT, SERVERS, SERVICE, World,
        answers, asks, to_client, to_server,
    },
};

/// An IPv4 frame shorter than this cannot be given to BPF_PROG_TEST_RUN.
const SHORTEST_TEST_RUN: usize = 34;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend((0..=10).map(ip_options));
    cases.extend((0..=10).map(tcp_options));
    cases.extend(truncated());
    cases.extend([
        padded(),
        too_short_for_transport(),
        cut_by_length(),
        version(),
        header_length(),
        total_zero(),
    ]);
    cases
}

fn options(words: usize) -> Vec<u8> {
    // No-operations, and an end at the end.
    let mut options = vec![1; words * 4];
    if let Some(last) = options.last_mut() {
        *last = 0;
    }
    options
}

fn ip_options(words: usize) -> Case {
    let with = |frame: Frame| frame.with(|frame| frame.ip.options = options(words));
    let bytes = words * 4;
    Case::new(
        format!("{bytes} bytes of IP options are kept, there and back"),
        World::single(),
    )
    .asks(
        &with(asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN))),
        &SERVERS[0],
    )
    .answers(&with(answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    )))
    .asks(&with(asks(&CLIENT, udp(CLIENT_PORT, PORT))), &SERVERS[0])
    .answers(&with(answers(
        &SERVERS[0],
        CLIENT.ip,
        udp(SERVER_PORT, CLIENT_PORT),
    )))
}

fn tcp_options(words: usize) -> Case {
    let with = |frame: Frame| frame.with(|frame| frame.tcp().options = options(words));
    let bytes = words * 4;
    Case::new(
        format!("{bytes} bytes of TCP options are kept, there and back"),
        World::single(),
    )
    .asks(
        &with(asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN))),
        &SERVERS[0],
    )
    .answers(&with(answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    )))
}

/// Packets of each kind that the pipeline reads headers of.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let inner = to_client(
        &answers(
            &SERVERS[0],
            CLIENT.ip,
            tcp(SERVER_PORT, CLIENT_PORT, flag::ACK),
        ),
        &CLIENT,
    );
    let error = asks(&CLIENT, icmp(3, 4, [0, 0, 5, 0], inner.ip.bytes()));
    let ping = asks(&CLIENT, icmp(8, 0, [0, 1, 0, 1], vec![7; 16]));
    let long = |frame: Frame| frame.with(|frame| frame.ip.options = options(10));
    vec![
        (
            "TCP segment",
            asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).bytes(),
        ),
        (
            "TCP segment with IP options",
            long(asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN))).bytes(),
        ),
        (
            "TCP segment of a known connection",
            asks(&CLIENT, tcp(CLIENT_PORT + 1, PORT, flag::ACK)).bytes(),
        ),
        (
            "answer",
            answers(
                &SERVERS[0],
                CLIENT.ip,
                tcp(SERVER_PORT, CLIENT_PORT + 1, flag::ACK),
            )
            .bytes(),
        ),
        (
            "UDP datagram",
            asks(&CLIENT, udp(CLIENT_PORT, PORT)).bytes(),
        ),
        ("ping", ping.bytes()),
        ("ICMP error", error.bytes()),
        ("ICMP error with IP options", long(error).bytes()),
    ]
}

fn truncated() -> Vec<Case> {
    let world = || World::single().answering(SERVICE);
    let mut cases = Vec::new();
    for (what, whole) in samples() {
        let cut = |case: Case, lengths: std::ops::Range<usize>| {
            lengths.fold(case, |case, length| {
                let interface = if whole[..6] == BACK_MAC { BACK } else { FRONT };
                case.packet(
                    Bytes::received(whole[..length].to_vec(), interface),
                    Expected::pass(Reason::Malformed),
                )
            })
        };
        let case = Case::new(
            format!("A {what} cut at any byte is passed untouched"),
            world(),
        );
        cases.push(cut(
            case.opened(CLIENT_PORT + 1, &SERVERS[0]),
            SHORTEST_TEST_RUN..whole.len(),
        ));
        let case = Case::new(
            format!("A {what} cut before the end of its IP header is passed untouched"),
            world(),
        )
        .host_only("shorter frames than 34 bytes cannot be given to BPF_PROG_TEST_RUN");
        cases.push(cut(
            case.opened(CLIENT_PORT + 1, &SERVERS[0]),
            0..SHORTEST_TEST_RUN,
        ));
    }
    cases
}

fn padded() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| frame.padding = 6);
    Case::new(
        "The padding of a short frame is carried along and not counted",
        World::single(),
    )
    .asks(&sent, &SERVERS[0])
}

/// The frame is long enough, but the packet in it is not: what follows its end is padding, no header.
fn too_short_for_transport() -> Case {
    let kinds: [(u8, usize); 2] = [(6, 20), (17, 8)];
    let mut case = Case::new(
        "A packet that ends within its transport header is passed, however long its frame",
        World::single().answering(SERVICE),
    );
    for (protocol, header) in kinds {
        for length in 0..header {
            let mut body = vec![0; length];
            let ports = [CLIENT_PORT.to_be_bytes(), PORT.to_be_bytes()].concat();
            for (to, from) in body.iter_mut().zip(ports) {
                *to = from;
            }
            if let Some(flags) = body.get_mut(13) {
                *flags = flag::SYN;
            }
            let sent = asks(&CLIENT, Body::Raw(protocol, body)).with(|frame| frame.padding = 40);
            case = case.packet(&sent, Expected::pass(Reason::Malformed));
        }
    }
    for kind in [8, 3] {
        for length in 0..8 {
            let sent = asks(&CLIENT, Body::Raw(1, [kind; 8][..length].to_vec()))
                .with(|frame| frame.padding = 40);
            case = case.packet(&sent, Expected::pass(Reason::Malformed));
        }
    }
    case.check(Check::Entries(0))
}

fn cut_by_length() -> Case {
    let sent =
        asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| frame.ip.total = Some(41));
    Case::new(
        "A packet that says to be longer than its frame is passed untouched",
        World::single(),
    )
    .packet(&sent, Expected::pass(Reason::Malformed))
    .check(Check::Entries(0))
}

fn version() -> Case {
    let bytes = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).bytes();
    let mut case = Case::new(
        "A packet of another version than 4 behind IPv4's ethertype is passed untouched",
        World::single(),
    );
    for version in (0..16_u8).filter(|version| *version != 4) {
        let mut bytes = bytes.clone();
        bytes[14] = version << 4 | 5;
        case = case.packet(
            Bytes::received(bytes, FRONT),
            Expected::pass(Reason::Malformed),
        );
    }
    case
}

fn header_length() -> Case {
    let bytes = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).bytes();
    let mut case = Case::new(
        "A header that says to be shorter than 20 bytes is passed untouched",
        World::single(),
    );
    for words in 0..5_u8 {
        let mut bytes = bytes.clone();
        bytes[14] = 0x40 | words;
        case = case.packet(
            Bytes::received(bytes, FRONT),
            Expected::pass(Reason::Malformed),
        );
    }
    case
}

fn total_zero() -> Case {
    let sent =
        asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| frame.ip.total = Some(0));
    let out = to_server(&sent, &SERVERS[0]);
    let mut large = Bytes::received(sent.bytes(), FRONT);
    large.segment_size = 1000;
    let expected = Expected {
        action: Action::Transmit,
        ifindex: BACK,
        reason: Reason::Forwarded,
        output: Output::Bytes(out.bytes()),
    };
    Case::new(
        "A length of zero is a GSO packet beyond 64 KiB, and nothing else",
        World::single(),
    )
    .packet(&sent, Expected::pass(Reason::Malformed))
    .packet(large, expected)
    .host_only("a GSO packet without a length cannot be given to BPF_PROG_TEST_RUN")
}
