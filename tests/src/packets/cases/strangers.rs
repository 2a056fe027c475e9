//! Packets of no known connection that are not left alone: a real server's, of which it is told (`nat_icmp_send`), and ICMP
//! errors, which may open one (`schedule_icmp`).

use lb_common::{
    abi::{METHOD_DIRECT, SCOPE_SCHEDULE_ICMP, SCOPE_TELLS_REALS},
    conn::state,
    verdict::Reason,
};

use super::errors::{quote, with_quoted};
use super::refusals;
use crate::packets::{
    case::{Case, Change, Check, Expected, Flow},
    packet::{Frame, Ip, Ip4, flag, icmp, tcp, udp},
    world::{
        BACK, BACK_IP, BACK_MAC, CLIENT, CLIENT_PORT, FRONT_IP, FRONT_MAC, PORT, SERVER_PORT,
        SERVERS, SERVICE, Service, TCP, World, answers, asks,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        told(),
        told_of_a_mark(),
        told_by_masquerading_only(),
        opened_by_an_error(),
        error_of_nobody(),
    ]
}

/// One real server, of a TCP service.
fn tcp_only() -> World {
    World::empty().service(Service::usual(TCP).with(&[(SERVERS[0], SERVER_PORT, 1)]))
}

/// A segment of the real server, to a client that has no connection.
fn stray(flags: u8) -> Frame {
    answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT + 7, flags),
    )
}

/// What it is told: of a packet on its way through, with its hop limit counted down.
fn told_from(stray: &Frame, from: Ip4) -> Expected {
    let seen = if from == BACK_IP {
        refusals::counted_down(stray)
    } else {
        stray.clone()
    };
    let error = refusals::error(&seen, from, 3, 3, 0);
    Expected::transmit(BACK, Reason::UnknownReply, &error)
}

fn told() -> Case {
    let passed = Expected::pass(Reason::NoConnection);
    let data = stray(flag::ACK);
    let elsewhere = answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT + 1, CLIENT_PORT, flag::ACK),
    );
    let other_protocol = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    let to_director = data.with(|frame| frame.ip.dst = FRONT_IP);
    Case::new(
        "With nat_icmp_send a real server is told that there is no connection of its packet",
        tcp_only(),
    )
    .packet(&data, passed.clone())
    .change(Change::Settings(SCOPE_TELLS_REALS))
    .packet(&data, told_from(&data, BACK_IP))
    .packet(&to_director, told_from(&to_director, FRONT_IP))
    .packet(&stray(flag::RST), passed.clone())
    .packet(&elsewhere, passed.clone())
    .packet(&other_protocol, Expected::pass(Reason::NoService))
    .change(Change::RemoveServer(0))
    .packet(&data, passed)
}

fn told_of_a_mark() -> Case {
    let datagram = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    let data = stray(flag::ACK);
    Case::new(
        "With nat_icmp_send a fwmark service's real server is told by either protocol",
        World::empty().service(Service::usual(TCP).marked(5)),
    )
    .change(Change::Settings(SCOPE_TELLS_REALS))
    .packet(&data, told_from(&data, BACK_IP))
    .packet(&datagram, told_from(&datagram, BACK_IP))
}

fn told_by_masquerading_only() -> Case {
    Case::new(
        "With nat_icmp_send a real server of direct routing is told nothing: it answers clients itself",
        tcp_only(),
    )
    .change(Change::Settings(SCOPE_TELLS_REALS))
    .change(Change::Method(0, METHOD_DIRECT))
    .packet(&stray(flag::ACK), Expected::pass(Reason::NoConnection))
}

/// An error from the client about an answer that it has got from the service.
fn complaint() -> (Frame, Ip) {
    let seen = Ip::new(SERVICE, CLIENT.ip, tcp(PORT, CLIENT_PORT, flag::ACK));
    let frame = Frame {
        to: FRONT_MAC,
        from: CLIENT.mac,
        tags: Vec::new(),
        ip: Ip::new(CLIENT.ip, SERVICE, icmp(3, 4, [0, 0, 5, 0], quote(&seen))),
        padding: 0,
    };
    (frame, seen)
}

fn opened_by_an_error() -> Case {
    let (complaint, seen) = complaint();
    // Newest first: round robin begins with the last one that was added.
    let server = SERVERS[2];
    let answer = answers(&server, CLIENT.ip, tcp(SERVER_PORT, CLIENT_PORT, flag::ACK));
    let inner = quote(&Ip {
        src: server.ip,
        body: answer.ip.body.clone(),
        ..seen.clone()
    });
    let expected = Frame {
        to: server.mac,
        from: BACK_MAC,
        ip: Ip {
            ttl: 63,
            ..with_quoted(&complaint.ip, CLIENT.ip, server.ip, &inner, &quote(&seen))
        },
        ..complaint.clone()
    };
    let flow = Flow::of(&asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)));
    Case::new(
        "With schedule_icmp an error about no known connection opens it, and reaches the real server",
        World::usual(),
    )
    .packet(&complaint, Expected::pass(Reason::IcmpUnrelated))
    .change(Change::Settings(SCOPE_SCHEDULE_ICMP))
    .packet(
        &complaint,
        Expected::transmit(BACK, Reason::IcmpRelated, &expected),
    )
    .check(Check::State(flow, state::NONE, 3))
    .check(Check::Counts(2, 0, 1))
    .asks(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)),
        &SERVERS[2],
    )
    .asks(
        &asks(&CLIENT, tcp(CLIENT_PORT + 1, PORT, flag::SYN)),
        &SERVERS[1],
    )
}

fn error_of_nobody() -> Case {
    let (complaint, _) = complaint();
    Case::new(
        "With schedule_icmp an error about a service without real servers ends, and is answered by none",
        World::empty().service(Service::usual(TCP).with(&[])),
    )
    .change(Change::Settings(SCOPE_SCHEDULE_ICMP))
    .packet(&complaint, Expected::drop(Reason::NoServer))
}
