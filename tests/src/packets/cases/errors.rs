//! ICMP errors about connections: from clients, from real servers, from routers on both sides, with and without source
//! translation, over TCP and UDP.

use lb_common::{host::Bytes, verdict::Reason};

use crate::packets::{
    case::{Case, Check, Expected, Flow},
    packet::{Body, Frame, Icmp, Ip, Ip4, Sum, flag, icmp, tcp, udp},
    world::{
        BACK, BACK_IP, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, FRONT_MAC, GATEWAY, PORT, ROUTER,
        SERVER_PORT, SERVERS, SERVICE, Station, World, answers, asks, to_server,
    },
};

/// The errors that IPVS follows, each with its codes, and the rest of the header.
const ERRORS: [(u8, u8, [u8; 4]); 19] = [
    (3, 0, [0; 4]),
    (3, 1, [0; 4]),
    (3, 2, [0; 4]),
    (3, 3, [0; 4]),
    (3, 4, [0, 0, 5, 0]),
    (3, 5, [0; 4]),
    (3, 6, [0; 4]),
    (3, 7, [0; 4]),
    (3, 8, [0; 4]),
    (3, 9, [0; 4]),
    (3, 10, [0; 4]),
    (3, 11, [0; 4]),
    (3, 12, [0; 4]),
    (3, 13, [0; 4]),
    (3, 14, [0; 4]),
    (3, 15, [0; 4]),
    (4, 0, [0; 4]),
    (11, 0, [0; 4]),
    (11, 1, [0; 4]),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for translated in [false, true] {
        for protocol in ["TCP", "UDP"] {
            for (who, from) in [
                ("the real server", SERVERS[0]),
                ("a router before it", GATEWAY),
            ] {
                cases.push(to_client(translated, protocol, who, &from));
            }
            for (who, from) in [("the client", CLIENT), ("a router before it", ROUTER)] {
                cases.push(to_real_server(translated, protocol, who, &from));
            }
        }
    }
    cases.extend([
        quoted_options(),
        quoted_length(),
        wrong_checksum(),
        unknown(),
        in_fragments(),
        about_a_fragment(),
    ]);
    cases.extend([
        about_other_protocols(),
        parameter_problem(),
        last_hop(),
        counted_only(),
        local_error(),
        after_expiry(),
    ]);
    cases
}

fn body(protocol: &str, sport: u16, dport: u16, flags: u8) -> Body {
    if protocol == "TCP" {
        tcp(sport, dport, flags)
    } else {
        udp(sport, dport)
    }
}

/// What of a packet an error quotes: its header and eight bytes more, at the least.
pub(super) fn quote(ip: &Ip) -> Vec<u8> {
    let bytes = ip.bytes();
    bytes[..20 + ip.options.len() + 8].to_vec()
}

/// An error frame.
fn error(
    to: [u8; 6],
    from: &Station,
    dst: Ip4,
    message: (u8, u8, [u8; 4]),
    quoted: Vec<u8>,
) -> Frame {
    let (kind, code, rest) = message;
    Frame {
        to,
        from: from.mac,
        tags: Vec::new(),
        ip: Ip::new(from.ip, dst, icmp(kind, code, rest, quoted)),
        padding: 0,
    }
}

/// A connection of [`CLIENT`] through a world with or without source translation, and what the packets look like on
/// the real server's side.
fn opened(sentence: String, translated: bool, protocol: &str) -> (Case, Frame, Frame) {
    let world = if translated {
        World::single().source_nat([0; 4])
    } else {
        World::single()
    };
    let sent = asks(&CLIENT, body(protocol, CLIENT_PORT, PORT, flag::SYN));
    let mut out = to_server(&sent, &SERVERS[0]);
    if translated {
        out.ip.src = BACK_IP;
    }
    let expected = Expected::transmit(BACK, Reason::Forwarded, &out);
    (
        Case::new(sentence, world).packet(&sent, expected),
        sent,
        out,
    )
}

/// The real server's side complains about a packet of the client.
fn to_client(translated: bool, protocol: &str, who: &str, from: &Station) -> Case {
    let how = if translated { "with" } else { "without" };
    let sentence = format!(
        "ICMP errors from {who} about {protocol} reach the client, {how} source translation"
    );
    let (case, sent, out) = opened(sentence, translated, protocol);
    // The client must find the packet that it sent, whatever the hop limit was underway.
    let quoted = quote(&sent.ip.with_ttl(out.ip.ttl));
    ERRORS.into_iter().fold(case, |case, message| {
        let complaint = error(BACK_MAC, from, out.ip.src, message, quote(&out.ip));
        let expected = Frame {
            to: CLIENT.mac,
            from: FRONT_MAC,
            ip: Ip {
                ttl: 63,
                ..with_quoted(&complaint.ip, SERVICE, CLIENT.ip, &quoted, &quote(&out.ip))
            },
            ..complaint.clone()
        };
        case.packet(
            &complaint,
            Expected::transmit(FRONT, Reason::IcmpRelated, &expected),
        )
    })
}

/// The client's side complains about an answer.
fn to_real_server(translated: bool, protocol: &str, who: &str, from: &Station) -> Case {
    let how = if translated { "with" } else { "without" };
    let sentence = format!(
        "ICMP errors from {who} about {protocol} reach the real server, {how} source translation (from the client's side)"
    );
    let (case, _, out) = opened(sentence, translated, protocol);
    let near = out.ip.src;
    let answer = answers(
        &SERVERS[0],
        near,
        body(protocol, SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    let seen = answer.with(|frame| {
        (frame.ip.src, frame.ip.dst) = (SERVICE, CLIENT.ip);
        *frame.ports().0 = PORT;
    });
    let (before, after) = (quote(&seen.ip), quote(&answer.ip));
    ERRORS.into_iter().fold(case, |case, message| {
        let complaint = error(FRONT_MAC, from, SERVICE, message, before.clone());
        let source = if translated { near } else { from.ip };
        let expected = Frame {
            to: SERVERS[0].mac,
            from: BACK_MAC,
            ip: Ip {
                ttl: 63,
                ..with_quoted(&complaint.ip, source, SERVERS[0].ip, &after, &before)
            },
            ..complaint.clone()
        };
        case.packet(
            &complaint,
            Expected::transmit(BACK, Reason::IcmpRelated, &expected),
        )
    })
}

/// The error with other addresses and another packet inside. The inner transport checksum stays as it was.
pub(super) fn with_quoted(ip: &Ip, src: Ip4, dst: Ip4, quoted: &[u8], before: &[u8]) -> Ip {
    let mut ip = Ip {
        src,
        dst,
        ..ip.clone()
    };
    if let Body::Icmp(Icmp { data, .. }) = &mut ip.body {
        let mut quoted = quoted.to_vec();
        let header = usize::from(quoted[0] & 15) * 4;
        // UDP's checksum is among the eight quoted bytes.
        if quoted[9] == 17 {
            quoted[header + 6..header + 8].copy_from_slice(&before[header + 6..header + 8]);
        }
        *data = quoted;
    }
    ip
}

impl Ip {
    fn with_ttl(&self, ttl: u8) -> Self {
        Self {
            ttl,
            ..self.clone()
        }
    }
}

fn established() -> (Case, Frame) {
    let (case, _, out) = opened(String::new(), false, "TCP");
    (case, out)
}

fn named(case: Case, sentence: &str) -> Case {
    Case {
        sentence: sentence.to_owned(),
        ..case
    }
}

/// A complaint of the real server about a packet, and what the client must see.
fn complaint(quoted: Vec<u8>) -> (Frame, Frame) {
    let sent = error(
        BACK_MAC,
        &SERVERS[0],
        CLIENT.ip,
        (3, 1, [0; 4]),
        quoted.clone(),
    );
    let header = usize::from(quoted[0] & 15) * 4;
    let mut inner = quoted;
    inner[16..20].copy_from_slice(&SERVICE);
    inner[header + 2..header + 4].copy_from_slice(&PORT.to_be_bytes());
    // The inner header's checksum for the new address, from scratch.
    inner[10..12].copy_from_slice(&[0, 0]);
    let sum = lb_common::checksum::compute(&inner[..header]).to_ne_bytes();
    inner[10..12].copy_from_slice(&sum);
    let expected = sent.with(|frame| {
        (frame.to, frame.from) = (CLIENT.mac, FRONT_MAC);
        frame.ip.src = SERVICE;
        frame.ip.ttl = 63;
        if let Body::Icmp(icmp) = &mut frame.ip.body {
            icmp.data = inner;
        }
    });
    (sent, expected)
}

fn quoted_options() -> Case {
    let (mut case, out) = established();
    for words in [1, 5, 10] {
        let with_options = Ip {
            options: vec![1; words * 4],
            ..out.ip.clone()
        };
        let (sent, expected) = complaint(quote(&with_options));
        case = case.packet(
            &sent,
            Expected::transmit(FRONT, Reason::IcmpRelated, &expected),
        );
        let outer = |frame: &Frame| frame.with(|frame| frame.ip.options = vec![1; words * 4]);
        case = case.packet(
            &outer(&sent),
            Expected::transmit(FRONT, Reason::IcmpRelated, &outer(&expected)),
        );
    }
    named(
        case,
        "The packet inside of an error may have options, and the error itself",
    )
}

fn quoted_length() -> Case {
    let (mut case, out) = established();
    let whole = out.ip.bytes();
    for length in [28, 29, 32, 40, whole.len()] {
        let (sent, expected) = complaint(whole[..length].to_vec());
        case = case.packet(
            &sent,
            Expected::transmit(FRONT, Reason::IcmpRelated, &expected),
        );
    }
    for length in 0..24 {
        let sent = error(
            BACK_MAC,
            &SERVERS[0],
            CLIENT.ip,
            (3, 1, [0; 4]),
            whole[..length].to_vec(),
        );
        case = case.packet(&sent, Expected::pass(Reason::Malformed));
        // Nor is what follows in the frame a part of it; without the protocol's number it is about
        // nothing.
        let reason = if length == 0 || length > 9 {
            Reason::Malformed
        } else {
            Reason::IcmpUnrelated
        };
        case = case.packet(
            &sent.with(|frame| frame.padding = 60),
            Expected::pass(reason),
        );
    }
    named(
        case,
        "An error may quote as much as it likes, but not less than the ports",
    )
}

fn wrong_checksum() -> Case {
    let (case, out) = established();
    let (sent, expected) = complaint(quote(&out.ip));
    let off = |frame: &Frame| {
        frame.with(|frame| {
            if let Body::Icmp(icmp) = &mut frame.ip.body {
                icmp.sum = Sum::Off(0x0f0f);
            }
        })
    };
    let case = case.packet(
        &off(&sent),
        Expected::transmit(FRONT, Reason::IcmpRelated, &off(&expected)),
    );
    named(
        case,
        "An error with a wrong checksum stays wrong by the same amount",
    )
}

fn unknown() -> Case {
    let (case, out) = established();
    let other = out.with(|frame| *frame.ports().0 ^= 1);
    let sent = error(
        BACK_MAC,
        &SERVERS[0],
        CLIENT.ip,
        (3, 1, [0; 4]),
        quote(&other.ip),
    );
    named(
        case.packet(&sent, Expected::pass(Reason::IcmpUnrelated)),
        "An error about no known connection is passed untouched",
    )
}

fn in_fragments() -> Case {
    let (case, out) = established();
    let (sent, _) = complaint(out.ip.bytes());
    let parts = sent.ip.fragments(40);
    let case = parts
        .iter()
        .zip([Reason::IcmpUnrelated, Reason::OtherProtocol])
        .fold(case, |case, (part, reason)| {
            case.packet(
                &Frame {
                    ip: part.clone(),
                    ..sent.clone()
                },
                Expected::pass(reason),
            )
        });
    named(case, "An error that comes in fragments is passed untouched")
}

fn about_a_fragment() -> Case {
    let (case, out) = established();
    let later = Ip {
        offset: 64,
        ..out.ip.clone()
    };
    let sent = error(
        BACK_MAC,
        &SERVERS[0],
        CLIENT.ip,
        (3, 1, [0; 4]),
        quote(&later),
    );
    named(
        case.packet(&sent, Expected::pass(Reason::IcmpUnrelated)),
        "An error about a later fragment, which has no ports, is passed",
    )
}

fn about_other_protocols() -> Case {
    let (case, _) = established();
    let case = [1, 47, 50, 132].into_iter().fold(case, |case, protocol| {
        let inner = Ip::new(CLIENT.ip, SERVERS[0].ip, Body::Raw(protocol, vec![0; 16]));
        let sent = error(
            BACK_MAC,
            &SERVERS[0],
            CLIENT.ip,
            (3, 1, [0; 4]),
            inner.bytes(),
        );
        case.packet(&sent, Expected::pass(Reason::IcmpUnrelated))
    });
    named(case, "An error about neither TCP nor UDP is passed")
}

fn parameter_problem() -> Case {
    let (case, out) = established();
    let sent = error(
        BACK_MAC,
        &SERVERS[0],
        CLIENT.ip,
        (12, 0, [0; 4]),
        quote(&out.ip),
    );
    named(
        case.packet(&sent, Expected::pass(Reason::OtherProtocol)),
        "A parameter problem is passed, as IPVS does",
    )
}

fn last_hop() -> Case {
    let (case, out) = established();
    let (sent, _) = complaint(quote(&out.ip));
    let sent = sent.with(|frame| frame.ip.ttl = 1);
    named(
        case.packet(&sent, Expected::drop(Reason::TimeExceeded)),
        "An error whose hop limit ends is dropped, and no error is sent about it",
    )
}

fn counted_only() -> Case {
    let (case, out) = established();
    let (sent, expected) = complaint(quote(&out.ip));
    let flow = Flow::of(&asks(&CLIENT, tcp(CLIENT_PORT, PORT, 0)));
    let case = case
        .wait(30)
        .packet(
            &sent,
            Expected::transmit(FRONT, Reason::IcmpRelated, &expected),
        )
        .check(Check::State(flow, lb_common::conn::state::SYN_RECV, 30));
    named(
        case,
        "An error is counted for the real server and defers nothing",
    )
}

fn local_error() -> Case {
    let (case, out) = established();
    let (sent, expected) = complaint(quote(&out.ip));
    // This host itself, as a router, complains to the client in the real server's name; it is on its way already.
    let sent = sent.with(|frame| (frame.to, frame.from) = (CLIENT.mac, FRONT_MAC));
    let expected = expected.with(|frame| frame.ip.ttl = 64);
    let case = case.packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::pass_as(Reason::IcmpRelated, &expected),
    );
    named(
        case,
        "An error that this host itself sends about a connection is rewritten on its way",
    )
}

fn after_expiry() -> Case {
    let (case, out) = established();
    let (sent, _) = complaint(quote(&out.ip));
    let case = case
        .wait(61)
        .packet(&sent, Expected::pass(Reason::IcmpUnrelated))
        .check(Check::Entries(0));
    named(
        case,
        "An error about an expired connection is passed untouched",
    )
}
