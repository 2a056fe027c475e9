//! Direct routing, one-packet scheduling, thresholds, and the settings that decide what opens a connection.

use lb_common::{
    abi::{
        METHOD_DIRECT, ONE_PACKET, RESET, SCHEDULER_FLAG_1, SCOPE_EXPIRE_REMOVED, SCOPE_NO_REUSE,
        SCOPE_RESETS, SCOPE_REUSE_FIN_WAIT, SCOPE_SLOPPY_TCP,
    },
    conn::state,
    verdict::Reason,
};

use crate::packets::{
    case::{Case, Change, Check, Expected, Flow},
    packet::{Body, Frame, Sum, Tcp, flag, tcp, udp},
    world::{
        BACK, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, FRONT_MAC, PORT, SERVER_PORT, SERVERS, Service,
        Station, TCP, UDP, World, answers, asks,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        direct(),
        direct_states(),
        direct_udp(),
        method_stays(),
        one_packet(),
        one_packet_is_for_udp(),
        upper_threshold(),
        lower_threshold(),
        sloppy(),
        drop_rate(),
        reset(),
        reset_without_a_number(),
        reset_of_nobody(),
        reuse_off(),
        reuse_in_fin_wait(),
        out_of_rotation(),
        ftp_data(),
    ]
}

fn syn(number: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

fn ack(number: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::ACK))
}

/// What leaves by direct routing: only the hop limit and the Ethernet addresses are new.
fn directly(sent: &Frame, server: &Station) -> Expected {
    let frame = sent.with(|frame| {
        (frame.to, frame.from) = (server.mac, BACK_MAC);
        frame.ip.ttl -= 1;
    });
    Expected::transmit(BACK, Reason::Forwarded, &frame)
}

fn direct_world(protocol: u8) -> World {
    World::empty().service(Service::usual(protocol).with(&[(SERVERS[0], PORT, 1)]))
}

fn direct() -> Case {
    let data = ack(0);
    Case::new(
        "By direct routing a packet reaches the real server as it is",
        direct_world(TCP),
    )
    .change(Change::Method(0, METHOD_DIRECT))
    .packet(&syn(0), directly(&syn(0), &SERVERS[0]))
    .packet(&data, directly(&data, &SERVERS[0]))
    .check(Check::Counts(0, 1, 0))
    .wait(2)
    .packet(&data, directly(&data, &SERVERS[0]))
}

fn direct_states() -> Case {
    let flow = Flow::of(&syn(0));
    let fin = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::FIN | flag::ACK));
    Case::new(
        "Of a connection by direct routing only the client is heard: its FIN leads to FIN_WAIT",
        direct_world(TCP),
    )
    .change(Change::Method(0, METHOD_DIRECT))
    .packet(&syn(0), directly(&syn(0), &SERVERS[0]))
    .check(Check::State(flow, state::SYN_RECV, 60))
    .packet(&ack(0), directly(&ack(0), &SERVERS[0]))
    .check(Check::State(flow, state::ESTABLISHED, 900))
    .packet(&fin, directly(&fin, &SERVERS[0]))
    .check(Check::State(flow, state::FIN_WAIT, 120))
    .check(Check::Counts(0, 0, 1))
}

fn direct_udp() -> Case {
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    // One slot in each ring: the flood of others would push out whoever is not known to go on.
    let world = direct_world(UDP).room(64, 1, 1);
    let other = |number| asks(&CLIENT, udp(CLIENT_PORT + number, PORT));
    Case::new(
        "By direct routing a UDP client that goes on is not pushed out by others",
        world,
    )
    .change(Change::Method(0, METHOD_DIRECT))
    .packet(&question, directly(&question, &SERVERS[0]))
    .wait(2)
    .packet(&question, directly(&question, &SERVERS[0]))
    .packet(&other(1), directly(&other(1), &SERVERS[0]))
    .packet(&other(2), directly(&other(2), &SERVERS[0]))
    .check(Check::Gone(Flow::of(&other(1))))
    .check(Check::State(Flow::of(&question), state::UDP, 300))
}

fn method_stays() -> Case {
    let world = direct_world(TCP);
    Case::new(
        "A connection keeps its forwarding method when the real server gets another one",
        world,
    )
    .change(Change::Method(0, METHOD_DIRECT))
    .packet(&syn(0), directly(&syn(0), &SERVERS[0]))
    .change(Change::Method(0, lb_common::abi::METHOD_MASQUERADE))
    .packet(&ack(0), directly(&ack(0), &SERVERS[0]))
    .packet(
        &syn(1),
        Expected::transmit(
            BACK,
            Reason::Forwarded,
            &crate::packets::world::to_server_port(&syn(1), &SERVERS[0], PORT),
        ),
    )
}

fn one_packet() -> Case {
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let world = World::empty().service(Service::usual(UDP).flagged(ONE_PACKET));
    Case::new(
        "With one-packet scheduling each datagram takes the turn, and nothing is remembered",
        world,
    )
    .asks(&question, &SERVERS[2])
    .asks(&question, &SERVERS[1])
    .asks(&question, &SERVERS[0])
    .asks(&question, &SERVERS[2])
    .check(Check::Entries(0))
    .check(Check::Counts(2, 0, 0))
    .packet(
        &answers(&SERVERS[2], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT)),
        Expected::pass(Reason::NoService),
    )
}

fn one_packet_is_for_udp() -> Case {
    let world = World::empty().service(Service::usual(TCP).flagged(ONE_PACKET | SCHEDULER_FLAG_1));
    Case::new("One-packet scheduling leaves TCP connections alone", world)
        .asks(&syn(0), &SERVERS[2])
        .asks(&syn(0), &SERVERS[2])
        .check(Check::Entries(2))
}

fn upper_threshold() -> Case {
    Case::new(
        "A real server that has reached its upper threshold takes no new connections",
        World::usual(),
    )
    .change(Change::Thresholds(2, 2, 0))
    .asks(&syn(0), &SERVERS[2])
    .asks(&syn(1), &SERVERS[1])
    .asks(&syn(2), &SERVERS[0])
    .asks(&syn(3), &SERVERS[2])
    .asks(&syn(4), &SERVERS[1])
    .asks(&syn(5), &SERVERS[0])
    .asks(&syn(6), &SERVERS[1])
    .asks(&syn(0), &SERVERS[2])
    .check(Check::Counts(2, 2, 0))
}

fn lower_threshold() -> Case {
    let world = World::empty().service(Service::usual(TCP).with(&[(SERVERS[0], SERVER_PORT, 1)]));
    let gone = |case: Case, number: u16| {
        let reset = asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::RST));
        case.change(Change::State(Flow::of(&syn(number)), state::ESTABLISHED))
            .asks(&reset, &SERVERS[0])
            .wait(11)
            .packet(&ack(number), Expected::pass(Reason::NoConnection))
    };
    let case = (0..4).fold(
        Case::new(
            "It takes new ones again below its lower threshold, and not before",
            world,
        )
        .change(Change::Thresholds(0, 4, 3)),
        |case, number| case.asks(&syn(number), &SERVERS[0]),
    );
    let refused = |number| {
        move |case: Case| {
            case.packet(
                &syn(number),
                Expected::checked(FRONT, Reason::NoServer, |_| Ok(())),
            )
        }
    };
    let case = refused(10)(case);
    let case = gone(case, 0);
    let case = refused(11)(case);
    gone(case, 1)
        .asks(&syn(12), &SERVERS[0])
        .check(Check::Counts(0, 3, 0))
}

fn sloppy() -> Case {
    let flow = Flow::of(&ack(0));
    Case::new(
        "With sloppy_tcp a segment in the middle opens a connection, a reset does not",
        World::usual(),
    )
    .change(Change::Settings(SCOPE_SLOPPY_TCP))
    .asks(&ack(0), &SERVERS[2])
    .check(Check::State(flow, state::ESTABLISHED, 900))
    .packet(
        &asks(&CLIENT, tcp(CLIENT_PORT + 1, PORT, flag::RST)),
        Expected::pass(Reason::NoConnection),
    )
}

fn drop_rate() -> Case {
    let dropped = Expected::drop(Reason::DropDefence);
    Case::new(
        "With drop_packet one of so many new connections is dropped, and no other packet",
        World::usual(),
    )
    .asks(&syn(9), &SERVERS[2])
    .change(Change::DropRate(3))
    .asks(&syn(0), &SERVERS[1])
    .asks(&syn(9), &SERVERS[2])
    .asks(&syn(1), &SERVERS[0])
    .packet(&syn(2), dropped.clone())
    .asks(&syn(2), &SERVERS[2])
    .asks(&syn(3), &SERVERS[1])
    .packet(&syn(4), dropped)
}

/// The reset that answers a segment: sequence and acknowledgement number, flags.
fn reset_of(sent: &Frame, seq: u32, ack: u32, flags: u8) -> Expected {
    let frame = sent.with(|frame| {
        (frame.to, frame.from) = (CLIENT.mac, FRONT_MAC);
        (frame.ip.src, frame.ip.dst) = (frame.ip.dst, frame.ip.src);
        (frame.ip.ttl, frame.ip.id, frame.ip.dont_fragment) = (64, 0, true);
        frame.ip.body = Body::Tcp(Tcp {
            sport: PORT,
            dport: CLIENT_PORT,
            seq,
            ack,
            flags,
            window: 0,
            options: Vec::new(),
            data: Vec::new(),
            sum: Sum::Right,
        });
    });
    Expected::transmit(FRONT, Reason::Reset, &frame)
}

/// A segment with these flags: data and options, and numbers that would be confused if anything were.
fn segment(flags: u8) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT, PORT, flags)).with(|frame| {
        if let Body::Tcp(tcp) = &mut frame.ip.body {
            (tcp.seq, tcp.ack) = (0xffff_fff0, 0x1234_5678);
            tcp.options = vec![1; 12];
            tcp.data = vec![0xa5; 101];
        }
    })
}

fn resetting() -> World {
    World::empty().service(Service::usual(TCP).flagged(RESET))
}

fn reset() -> Case {
    let sent = segment(flag::ACK);
    let with_options = sent.with(|frame| frame.ip.options = vec![1; 8]);
    Case::new(
        "A segment of no known connection is reset where the service says so",
        resetting(),
    )
    .change(Change::Settings(SCOPE_RESETS))
    .packet(&sent, reset_of(&sent, 0x1234_5678, 0, flag::RST))
    .packet(
        &with_options,
        reset_of(&with_options, 0x1234_5678, 0, flag::RST),
    )
    .asks(&syn(0), &SERVERS[2])
}

fn reset_without_a_number() -> Case {
    let sent = segment(flag::FIN);
    let taken = 0xffff_fff0_u32.wrapping_add(102);
    Case::new(
        "A reset without a number to go by acknowledges what the segment takes",
        resetting(),
    )
    .change(Change::Settings(SCOPE_RESETS))
    .packet(&sent, reset_of(&sent, 0, taken, flag::RST | flag::ACK))
    .packet(&segment(flag::RST), Expected::pass(Reason::NoConnection))
}

fn reset_of_nobody() -> Case {
    let elsewhere = asks(&CLIENT, tcp(CLIENT_PORT, PORT + 1, flag::ACK));
    let world = resetting().service(Service::usual(UDP));
    Case::new("Nothing is reset that no such service is for", world)
        .change(Change::Settings(SCOPE_RESETS))
        .packet(&elsewhere, Expected::pass(Reason::NoConnection))
        .change(Change::RemoveService(0))
        .packet(&segment(flag::ACK), Expected::pass(Reason::NoConnection))
}

fn reuse_off() -> Case {
    let flow = Flow::of(&syn(0));
    Case::new(
        "With conn_reuse_mode 0 a port that is used again stays with its real server",
        World::usual(),
    )
    .change(Change::Settings(SCOPE_NO_REUSE))
    .asks(&syn(0), &SERVERS[2])
    .change(Change::State(flow, state::TIME_WAIT))
    .asks(&syn(0), &SERVERS[2])
    .check(Check::State(flow, state::SYN_RECV, 60))
}

fn reuse_in_fin_wait() -> Case {
    let flow = Flow::of(&syn(0));
    let world = World::empty()
        .service(Service::usual(TCP).with(&[(SERVERS[0], PORT, 1), (SERVERS[1], PORT, 1)]));
    let both = |case: Case| {
        case.change(Change::Method(0, METHOD_DIRECT))
            .change(Change::Method(1, METHOD_DIRECT))
    };
    let case = Case::new(
        "With bit 2 of conn_reuse_mode a direct connection in FIN_WAIT begins anew too",
        world,
    );
    both(case)
        .packet(&syn(0), directly(&syn(0), &SERVERS[1]))
        .change(Change::State(flow, state::FIN_WAIT))
        .packet(&syn(0), directly(&syn(0), &SERVERS[1]))
        .change(Change::State(flow, state::FIN_WAIT))
        .change(Change::Settings(SCOPE_REUSE_FIN_WAIT))
        .packet(&syn(0), directly(&syn(0), &SERVERS[0]))
}

fn out_of_rotation() -> Case {
    Case::new(
        "With expire_nodest_conn a SYN leaves a real server that has no weight, data does not",
        World::usual(),
    )
    .asks(&syn(0), &SERVERS[2])
    .change(Change::Settings(SCOPE_EXPIRE_REMOVED))
    .change(Change::Weight(2, 0))
    .asks(&ack(0), &SERVERS[2])
    .asks(&syn(0), &SERVERS[1])
}

fn ftp_data() -> Case {
    let sent = asks(&CLIENT, tcp(20, PORT, flag::SYN));
    Case::new(
        "What comes from FTP's data port is never scheduled",
        World::usual(),
    )
    .packet(&sent, Expected::pass(Reason::NoConnection))
}
