//! Fragments: those that follow their first one follow it; those that come before it are passed.

use lb_common::verdict::Reason;

use crate::packets::{
    case::{Case, Check, Expected},
    packet::{Body, Frame, Ip, flag, icmp, tcp, udp},
    world::{
        BACK, CLIENT, CLIENT_PORT, FRONT, FRONT_MAC, PORT, SERVER_PORT, SERVERS, SERVICE, World,
        answers, asks, to_client, to_server,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        in_order(true),
        in_order(false),
        answer(),
        early(),
        another_packet(),
        late(),
        of_no_connection(),
        first_too_short(),
        ping(),
        translated(),
    ]
}

/// A datagram large enough to be cut.
fn large(mut body: Body) -> Body {
    let data: Vec<u8> = (0..200).collect();
    match &mut body {
        Body::Udp(udp) => udp.data = data,
        Body::Tcp(tcp) => tcp.data = data,
        _ => {}
    }
    body
}

fn frame_of(ip: Ip, like: &Frame) -> Frame {
    Frame { ip, ..like.clone() }
}

/// The fragments of a frame, and those that must leave when the whole would leave as `out`.
fn cut(sent: &Frame, out: &Frame, size: usize) -> Vec<(Frame, Frame)> {
    let outs = out.ip.fragments(size);
    let ins = sent.ip.fragments(size);
    ins.into_iter()
        .zip(outs)
        .map(|(a, b)| (frame_of(a, sent), frame_of(b, out)))
        .collect()
}

fn question() -> Frame {
    asks(&CLIENT, large(udp(CLIENT_PORT, PORT)))
}

fn in_order(in_udp: bool) -> Case {
    let (name, sent) = if in_udp {
        ("datagram", question())
    } else {
        (
            "segment",
            asks(&CLIENT, large(tcp(CLIENT_PORT, PORT, flag::SYN))),
        )
    };
    let out = to_server(&sent, &SERVERS[2]);
    cut(&sent, &out, 64).iter().fold(
        Case::new(
            format!("The fragments of a {name} follow the first one, its checksum covers them all"),
            World::usual(),
        ),
        |case, (sent, out)| case.packet(sent, Expected::transmit(BACK, Reason::Forwarded, out)),
    )
}

fn answer() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let back = answers(&SERVERS[0], CLIENT.ip, large(udp(SERVER_PORT, CLIENT_PORT)));
    let out = to_client(&back, &CLIENT);
    let case = Case::new(
        "The fragments of an answer follow the first one",
        World::single(),
    )
    .asks(&sent, &SERVERS[0]);
    cut(&back, &out, 104)
        .iter()
        .fold(case, |case, (sent, out)| {
            case.packet(sent, Expected::transmit(FRONT, Reason::Replied, out))
        })
}

fn early() -> Case {
    let sent = question();
    let out = to_server(&sent, &SERVERS[2]);
    let parts = cut(&sent, &out, 64);
    let case = Case::new(
        "A fragment that comes before its first one is passed and counted as such",
        World::usual(),
    );
    let case = parts.iter().skip(1).fold(case, |case, (sent, _)| {
        case.packet(sent, Expected::pass(Reason::FragmentEarly))
    });
    let case = case.check(Check::Entries(0));
    parts.iter().fold(case, |case, (sent, out)| {
        case.packet(sent, Expected::transmit(BACK, Reason::Forwarded, out))
    })
}

fn another_packet() -> Case {
    let sent = question();
    let out = to_server(&sent, &SERVERS[2]);
    let parts = cut(&sent, &out, 64);
    let (first, first_out) = &parts[0];
    let (later, _) = &parts[1];
    let other_id = later.with(|frame| frame.ip.id ^= 1);
    let other_source = later.with(|frame| frame.ip.src[3] ^= 1);
    let other_protocol = later.with(|frame| {
        if let Body::Raw(protocol, _) = &mut frame.ip.body {
            *protocol = 6;
        }
    });
    [other_id, other_source, other_protocol].iter().fold(
        Case::new(
            "A fragment of another packet does not follow",
            World::usual(),
        )
        .packet(
            first,
            Expected::transmit(BACK, Reason::Forwarded, first_out),
        ),
        |case, sent| case.packet(sent, Expected::pass(Reason::FragmentEarly)),
    )
}

fn late() -> Case {
    let sent = question();
    let out = to_server(&sent, &SERVERS[2]);
    let parts = cut(&sent, &out, 64);
    let case = Case::new(
        "A fragment that comes more than 30 s after its first one is passed",
        World::usual(),
    )
    .packet(
        &parts[0].0,
        Expected::transmit(BACK, Reason::Forwarded, &parts[0].1),
    )
    .wait(29)
    .packet(
        &parts[1].0,
        Expected::transmit(BACK, Reason::Forwarded, &parts[1].1),
    )
    .wait(2);
    case.packet(&parts[2].0, Expected::pass(Reason::FragmentEarly))
}

fn of_no_connection() -> Case {
    let sent = asks(&CLIENT, large(udp(CLIENT_PORT, PORT + 1)));
    let parts = sent.ip.fragments(64);
    let (first, rest) = parts.split_at(1);
    let case = Case::new(
        "The fragments of a packet for no service are passed",
        World::usual(),
    )
    .packet(
        &frame_of(first[0].clone(), &sent),
        Expected::pass(Reason::NoService),
    );
    rest.iter().fold(case, |case, part| {
        case.packet(
            &frame_of(part.clone(), &sent),
            Expected::pass(Reason::FragmentEarly),
        )
    })
}

fn first_too_short() -> Case {
    let sent = asks(&CLIENT, large(tcp(CLIENT_PORT, PORT, flag::SYN)));
    let parts = sent.ip.fragments(16);
    Case::new(
        "A first fragment without the whole transport header is passed untouched",
        World::usual(),
    )
    .packet(
        &frame_of(parts[0].clone(), &sent),
        Expected::pass(Reason::Malformed),
    )
    .packet(
        &frame_of(parts[1].clone(), &sent),
        Expected::pass(Reason::FragmentEarly),
    )
    .check(Check::Entries(0))
}

fn ping() -> Case {
    let sent = asks(&CLIENT, icmp(8, 0, [1, 2, 3, 4], (0..200).collect()));
    let out = sent.with(|frame| {
        (frame.to, frame.from) = (CLIENT.mac, FRONT_MAC);
        (frame.ip.src, frame.ip.dst) = (SERVICE, CLIENT.ip);
        if let Body::Icmp(icmp) = &mut frame.ip.body {
            icmp.kind = 0;
        }
    });
    let parts = cut(&sent, &out, 64);
    let case = Case::new(
        "A ping in fragments is answered in fragments",
        World::usual().answering(SERVICE),
    )
    .packet(&parts[1].0, Expected::pass(Reason::OtherProtocol));
    parts.iter().fold(case, |case, (sent, out)| {
        case.packet(sent, Expected::transmit(FRONT, Reason::PingAnswered, out))
    })
}

fn translated() -> Case {
    use crate::packets::world::BACK_IP;
    let sent = question();
    let out = to_server(&sent, &SERVERS[0]).with(|frame| frame.ip.src = BACK_IP);
    let back = answers(&SERVERS[0], BACK_IP, large(udp(SERVER_PORT, CLIENT_PORT)));
    let back_out = to_client(&back, &CLIENT);
    let case = cut(&sent, &out, 64).iter().fold(
        Case::new(
            "Fragments follow their first one through source translation, there and back",
            World::single().source_nat([0; 4]),
        ),
        |case, (sent, out)| case.packet(sent, Expected::transmit(BACK, Reason::Forwarded, out)),
    );
    cut(&back, &back_out, 64)
        .iter()
        .fold(case, |case, (sent, out)| {
            case.packet(sent, Expected::transmit(FRONT, Reason::Replied, out))
        })
}
