//! Errors that bpvs sends in place of the host's stack: nobody serves, hop limit, size.

use lb_common::{host::Bytes, verdict::Reason};

use crate::packets::{
    case::{Case, Change, Check, Expected},
    packet::{Body, Frame, Ip, Ip4, Sum, flag, icmp, tcp, udp},
    world::{
        BACK, BACK_IP, CLIENT, CLIENT_PORT, FAR_CLIENT, FRONT, FRONT_IP, FRONT_MAC, PORT,
        SERVER_PORT, SERVERS, SERVICE, Service, TCP, UDP, World, answers, asks, to_server,
    },
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        no_server(),
        all_without_weight(),
        closed_port(),
        not_answered(),
        local_sender(),
        budget(),
    ];
    cases.extend([0, 1, 2, 3, 520, 548, 549, 600, 1400].map(quoted));
    cases.extend([
        hop_limit(),
        hop_limit_of_an_answer(),
        too_big(),
        too_big_answer(),
        to_be_fragmented(),
    ]);
    cases.extend([
        fits_as_segments(),
        segments_do_not_fit(),
        beyond_64_kib(),
        fragments(),
        too_big_local(),
        unfinished(),
    ]);
    cases
}

/// As it is quoted when it turns out too large on its way to a real server: its hop limit counted down.
pub(super) fn counted_down(sent: &Frame) -> Frame {
    sent.with(|frame| frame.ip.ttl -= 1)
}

/// The error about a packet, as it goes back to where the packet came from.
pub(super) fn error(about: &Frame, from: Ip4, kind: u8, code: u8, mtu: u16) -> Frame {
    let bytes = about.ip.bytes();
    let most = 576 - 20 - 8;
    // Whole words of four bytes are quoted.
    let length = bytes.len().min(most) & !3;
    let [high, low] = mtu.to_be_bytes();
    let body = icmp(kind, code, [0, 0, high, low], bytes[..length].to_vec());
    let ip = Ip {
        tos: 0xc0,
        id: 0,
        ..Ip::new(from, about.ip.src, body)
    };
    Frame {
        to: about.from,
        from: about.to,
        tags: Vec::new(),
        ip,
        padding: 0,
    }
}

fn unserved() -> World {
    World::empty()
        .service(Service::usual(TCP).with(&[]))
        .service(Service::usual(UDP).with(&[]))
}

fn no_server() -> Case {
    let segment = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let datagram = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let far =
        asks(&FAR_CLIENT, udp(CLIENT_PORT, PORT)).with(|frame| frame.ip.options = vec![1; 12]);
    let case = Case::new(
        "A service without a real server answers that the port is unreachable",
        unserved(),
    );
    [segment, datagram, far]
        .iter()
        .fold(case, |case, sent| {
            case.packet(
                sent,
                Expected::transmit(FRONT, Reason::NoServer, &error(sent, SERVICE, 3, 3, 0)),
            )
        })
        .packet(
            &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
            Expected::pass(Reason::NoConnection),
        )
        .check(Check::Entries(0))
}

fn all_without_weight() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    Case::new(
        "A service whose real servers have no weight answers that the port is unreachable",
        World::single(),
    )
    .change(Change::Weight(1, 0))
    .packet(
        &sent,
        Expected::transmit(FRONT, Reason::NoServer, &error(&sent, SERVICE, 3, 3, 0)),
    )
    .change(Change::Weight(1, 1))
    .asks(&sent, &SERVERS[0])
}

fn closed_port() -> Case {
    let segment = asks(&CLIENT, tcp(CLIENT_PORT, PORT + 1, flag::SYN));
    let datagram = asks(&CLIENT, udp(CLIENT_PORT, PORT + 1));
    let case = Case::new(
        "A port of an answered address that nobody serves is unreachable",
        World::single().answering(SERVICE),
    );
    [segment, datagram].iter().fold(case, |case, sent| {
        case.packet(
            sent,
            Expected::transmit(FRONT, Reason::PortClosed, &error(sent, SERVICE, 3, 3, 0)),
        )
    })
}

fn not_answered() -> Case {
    Case::new(
        "A port of an address that is not answered for is left to the host",
        World::single(),
    )
    .packet(
        &asks(&CLIENT, udp(CLIENT_PORT, PORT + 1)),
        Expected::pass(Reason::NoService),
    )
}

fn local_sender() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT)).with(|frame| {
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = (SERVERS[0].mac, FRONT_MAC);
    });
    Case::new(
        "This host's own packet for a service without a real server is answered to this host",
        unserved(),
    )
    .packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::receive(
            FRONT,
            Reason::NoServer,
            error(&sent, SERVICE, 3, 3, 0).bytes(),
        ),
    )
}

fn budget() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let answer = error(&sent, SERVICE, 3, 3, 0);
    Case::new("Errors are not sent without limit", unserved())
        .change(Change::ErrorBudget(1))
        .packet(&sent, Expected::transmit(FRONT, Reason::NoServer, &answer))
        .packet(&sent, Expected::drop(Reason::NoServer))
        .host_only("the kernel's bucket refills with real time")
}

fn quoted(data: usize) -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT))
        .with(|frame| frame.udp().data = (0..data).map(|at| at as u8).collect());
    let padded = sent.with(|frame| frame.padding = 7);
    let answer = error(&sent, SERVICE, 3, 3, 0);
    Case::new(
        format!("An error about a datagram of {data} bytes quotes as much as 576 bytes hold"),
        unserved(),
    )
    .packet(&sent, Expected::transmit(FRONT, Reason::NoServer, &answer))
    .packet(
        &padded,
        Expected::transmit(FRONT, Reason::NoServer, &answer),
    )
}

fn hop_limit() -> Case {
    let case = Case::new(
        "A packet whose hop limit ends here is answered by time exceeded, from the service",
        World::single(),
    );
    let case = [0, 1].into_iter().fold(case, |case, ttl| {
        let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT)).with(|frame| frame.ip.ttl = ttl);
        case.packet(
            &sent,
            Expected::transmit(
                FRONT,
                Reason::TimeExceeded,
                &error(&sent, SERVICE, 11, 0, 0),
            ),
        )
    });
    case.asks(
        &asks(&CLIENT, udp(CLIENT_PORT, PORT)).with(|frame| frame.ip.ttl = 2),
        &SERVERS[0],
    )
}

fn hop_limit_of_an_answer() -> Case {
    let answer = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT))
        .with(|frame| frame.ip.ttl = 1);
    Case::new(
        "An answer whose hop limit ends here is answered by time exceeded, from the interface",
        World::single(),
    )
    .asks(&asks(&CLIENT, udp(CLIENT_PORT, PORT)), &SERVERS[0])
    .packet(
        &answer,
        Expected::transmit(
            BACK,
            Reason::TimeExceeded,
            &error(&answer, BACK_IP, 11, 0, 0),
        ),
    )
}

fn large(mut body: Body, bytes: usize) -> Body {
    let data = (0..bytes).map(|at| (at * 7) as u8).collect();
    match &mut body {
        Body::Tcp(tcp) => tcp.data = data,
        Body::Udp(udp) => udp.data = data,
        _ => {}
    }
    body
}

/// A world whose way to the real server, or to the client, carries 1000 bytes.
fn narrow(hop: u32) -> World {
    World::single().hop(hop, |hop| hop.mtu = 1000)
}

fn too_big() -> Case {
    let sized = |bytes: usize| {
        asks(&CLIENT, large(udp(CLIENT_PORT, PORT), bytes - 28))
            .with(|frame| frame.ip.dont_fragment = true)
    };
    let sent = sized(1001);
    Case::new(
        "A packet too large for the real server's link is answered with the size that fits",
        narrow(SERVERS[0].hop),
    )
    .packet(
        &sent,
        Expected::transmit(
            FRONT,
            Reason::TooBig,
            &error(&counted_down(&sent), SERVICE, 3, 4, 1000),
        ),
    )
    .asks(&sized(1000), &SERVERS[0])
}

fn too_big_answer() -> Case {
    let answer = answers(
        &SERVERS[0],
        CLIENT.ip,
        large(udp(SERVER_PORT, CLIENT_PORT), 1400),
    )
    .with(|frame| frame.ip.dont_fragment = true);
    Case::new(
        "An answer too large for the client's link is answered to the real server",
        narrow(CLIENT.hop),
    )
    .asks(&asks(&CLIENT, udp(CLIENT_PORT, PORT)), &SERVERS[0])
    .packet(
        &answer,
        Expected::transmit(BACK, Reason::TooBig, &error(&answer, BACK_IP, 3, 4, 1000)),
    )
}

fn to_be_fragmented() -> Case {
    let sent = asks(&CLIENT, large(udp(CLIENT_PORT, PORT), 1400));
    let out = to_server(&sent, &SERVERS[0])
        .with(|frame| (frame.to, frame.from, frame.ip.ttl) = (sent.to, sent.from, sent.ip.ttl));
    Case::new(
        "A packet that may be fragmented is rewritten and left to the host's stack to fragment",
        narrow(SERVERS[0].hop),
    )
    .packet(&sent, Expected::pass_as(Reason::Forwarded, &out))
}

fn gso(frame: &Frame, segment: u32) -> Bytes {
    Bytes {
        segment_size: segment,
        ..Bytes::received(frame.bytes(), FRONT)
    }
}

fn fits_as_segments() -> Case {
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let sent = asks(&CLIENT, large(tcp(CLIENT_PORT, PORT, flag::ACK), 4000)).with(|frame| {
        frame.ip.dont_fragment = true;
        frame.tcp().options = vec![1; 12];
    });
    let out = to_server(&sent, &SERVERS[0]);
    Case::new(
        "A GSO packet is judged by its segments: headers and 948 bytes make 1000",
        narrow(SERVERS[0].hop),
    )
    .asks(&syn, &SERVERS[0])
    .packet(
        gso(&sent, 948),
        Expected::transmit(BACK, Reason::Forwarded, &out),
    )
}

fn segments_do_not_fit() -> Case {
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let sent = asks(&CLIENT, large(tcp(CLIENT_PORT, PORT, flag::ACK), 4000)).with(|frame| {
        frame.ip.dont_fragment = true;
        frame.tcp().options = vec![1; 12];
    });
    Case::new(
        "A GSO packet whose segments are too large is answered with the size that fits",
        narrow(SERVERS[0].hop),
    )
    .asks(&syn, &SERVERS[0])
    .packet(
        gso(&sent, 949),
        Expected::transmit(
            FRONT,
            Reason::TooBig,
            &error(&counted_down(&sent), SERVICE, 3, 4, 1000),
        ),
    )
}

fn beyond_64_kib() -> Case {
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let sent = asks(&CLIENT, large(tcp(CLIENT_PORT, PORT, flag::ACK), 4000)).with(|frame| {
        frame.ip.dont_fragment = true;
        frame.ip.total = Some(0);
    });
    Case::new(
        "A GSO packet beyond 64 KiB, which has no length, is judged by its segments too",
        narrow(SERVERS[0].hop),
    )
    .asks(&syn, &SERVERS[0])
    .packet(
        gso(&sent, 960),
        Expected::transmit(BACK, Reason::Forwarded, &to_server(&sent, &SERVERS[0])),
    )
    .packet(
        gso(&sent, 961),
        Expected::transmit(
            FRONT,
            Reason::TooBig,
            &error(&counted_down(&sent), SERVICE, 3, 4, 1000),
        ),
    )
    .host_only("a GSO packet cannot be given to BPF_PROG_TEST_RUN")
}

fn unfinished() -> Case {
    let case = Case::new(
        "An error quotes a checksum that was left to the hardware as it is, and leaves nothing to the hardware itself",
        unserved(),
    )
    .host_only("a partial checksum cannot be given to BPF_PROG_TEST_RUN");
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| {
        frame.tcp().sum = Sum::Partial;
        frame.ip.options = vec![1; 40];
    });
    let datagrams = [0, 1, 47, 48, 520, 1400].map(|length| {
        asks(&CLIENT, large(udp(CLIENT_PORT, PORT), length))
            .with(|frame| frame.udp().sum = Sum::Partial)
    });
    [syn].iter().chain(&datagrams).fold(case, |case, sent| {
        let packet = Bytes {
            partial: true,
            ..Bytes::received(sent.bytes(), FRONT)
        };
        let expected = error(sent, SERVICE, 3, 3, 0);
        case.packet(
            packet,
            Expected::transmit(FRONT, Reason::NoServer, &expected),
        )
    })
}

fn fragments() -> Case {
    let sent = asks(&CLIENT, large(udp(CLIENT_PORT, PORT), 100));
    let parts: Vec<Frame> = sent
        .ip
        .fragments(64)
        .into_iter()
        .map(|ip| Frame { ip, ..sent.clone() })
        .collect();
    let last = parts[1].with(|frame| frame.ip.ttl = 1);
    let whole = to_server(&sent, &SERVERS[0]);
    let first_out = Frame {
        ip: whole.ip.fragments(64)[0].clone(),
        ..whole
    };
    Case::new("No error is sent about a later fragment", World::single())
        .packet(
            &parts[0],
            Expected::transmit(BACK, Reason::Forwarded, &first_out),
        )
        .packet(&last, Expected::drop(Reason::TimeExceeded))
}

fn too_big_local() -> Case {
    let sent = asks(&CLIENT, large(udp(CLIENT_PORT, PORT), 1400)).with(|frame| {
        frame.ip.dont_fragment = true;
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = (SERVERS[0].mac, FRONT_MAC);
    });
    Case::new(
        "This host's own packet that is too large is answered to this host",
        narrow(SERVERS[0].hop),
    )
    .packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::receive(
            FRONT,
            Reason::TooBig,
            error(&sent, SERVICE, 3, 4, 1000).bytes(),
        ),
    )
}
