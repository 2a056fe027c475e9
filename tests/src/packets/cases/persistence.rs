//! Persistence: a client's connections go to the real server of its template.

use lb_common::{
    abi::{SCOPE_EXPIRE_QUIESCENT, SCOPE_EXPIRE_REMOVED, V4},
    conn::state,
    host::MarkRule,
    verdict::Reason,
};

use crate::packets::{
    case::{Case, Change, Check, Expected, Flow},
    packet::{Frame, flag, tcp, udp},
    world::{
        CLIENT, CLIENT_PORT, PORT, SERVER_PORT, SERVERS, SERVICE, Service, Station, TCP, UDP,
        World, answers, asks, asks_at, real, rule,
    },
};

const ONE: [u8; 4] = [255; 4];
/// Another client of the same network, behind the same hop.
const OTHER_CLIENT: Station = Station {
    ip: [CLIENT.ip[0], CLIENT.ip[1], CLIENT.ip[2], CLIENT.ip[3] + 1],
    ..CLIENT
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        stays(),
        for_each_client(),
        for_each_network(),
        ends(),
        lives_with_its_connections(),
        removed(),
        quiescent(
            "A real server without weight keeps the clients whose template names it",
            0,
            2,
        ),
        quiescent(
            "With expire_quiescent_template a real server without weight loses its templates",
            SCOPE_EXPIRE_QUIESCENT,
            1,
        ),
        quiescent(
            "With expire_nodest_conn it keeps them: what a template leads there is new, not to be begun anew",
            SCOPE_EXPIRE_REMOVED,
            2,
        ),
        groups(),
        every_port(),
        not_begun_anew(),
        full(),
    ]
}

fn syn(client: usize, number: u16) -> Frame {
    let client = if client == 0 { &CLIENT } else { &OTHER_CLIENT };
    asks(client, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

fn persistent(sentence: &str, seconds: u32, netmask: [u8; 4]) -> Case {
    Case::new(sentence, World::usual()).change(Change::Persistent(0, seconds, netmask))
}

fn stays() -> Case {
    persistent(
        "A persistent client's connections all go to its first one's real server",
        300,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .asks(&syn(0, 1), &SERVERS[2])
    .asks(&syn(0, 2), &SERVERS[2])
    .check(Check::Counts(2, 3, 0))
    .check(Check::Templates(2, 1))
}

fn for_each_client() -> Case {
    persistent(
        "Each client has a real server of its own, in the scheduler's order",
        300,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .asks(&syn(1, 0), &SERVERS[1])
    .asks(&syn(0, 1), &SERVERS[2])
    .asks(&syn(1, 1), &SERVERS[1])
}

fn for_each_network() -> Case {
    persistent(
        "With a netmask all clients of a network are one",
        300,
        [255, 255, 255, 0],
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .asks(&syn(1, 0), &SERVERS[2])
    .check(Check::Templates(2, 1))
}

fn ends() -> Case {
    // The connection, in SYN_RECV, expires after 60 s each time.
    persistent(
        "A template without connections ends, counted from the last new one",
        100,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .wait(70)
    .asks(&syn(0, 0), &SERVERS[2])
    .wait(70)
    .asks(&syn(0, 0), &SERVERS[2])
    .wait(101)
    .asks(&syn(0, 0), &SERVERS[1])
    .check(Check::Templates(2, 0))
    .check(Check::Templates(1, 1))
}

fn lives_with_its_connections() -> Case {
    persistent(
        "A template outlives its time while it controls a connection",
        30,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .answers(&answers(
        &SERVERS[2],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    ))
    .asks(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        &SERVERS[2],
    )
    .wait(100)
    .asks(&syn(0, 1), &SERVERS[2])
    .check(Check::Templates(2, 1))
}

fn removed() -> Case {
    persistent(
        "A template whose real server was removed is void, and the client is scheduled anew",
        300,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .change(Change::RemoveServer(2))
    .asks(&syn(0, 1), &SERVERS[1])
    .asks(&syn(0, 2), &SERVERS[1])
    .check(Check::Templates(1, 1))
}

/// A client whose template names a real server without weight, with this setting: which server it gets.
fn quiescent(sentence: &str, setting: u32, server: usize) -> Case {
    persistent(sentence, 300, ONE)
        .asks(&syn(0, 0), &SERVERS[2])
        .change(Change::Settings(setting))
        .change(Change::Weight(2, 0))
        .asks(&syn(0, 1), &SERVERS[server])
        // Sent again.
        .asks(&syn(0, 1), &SERVERS[server])
}

fn groups() -> Case {
    let mark = |protocol| MarkRule {
        destination: (V4::new(SERVICE), 32),
        protocol: Some(protocol),
        ..rule(7)
    };
    let service = Service::usual(TCP).marked(7).with(&[
        (SERVERS[0], 0, 1),
        (SERVERS[1], 0, 1),
        (SERVERS[2], 0, 1),
    ]);
    let world = World::empty()
        .marks(&[mark(TCP), mark(UDP)])
        .service(service);
    let to = |frame: &Frame, port| crate::packets::world::to_server_port(frame, &SERVERS[2], port);
    let first = asks(&CLIENT, tcp(CLIENT_PORT, 80, flag::SYN));
    let second = asks(&CLIENT, tcp(CLIENT_PORT, 443, flag::SYN));
    let third = asks(&CLIENT, udp(CLIENT_PORT, 443));
    let there = |frame: &Frame, port| {
        Expected::transmit(
            crate::packets::world::BACK,
            Reason::Forwarded,
            &to(frame, port),
        )
    };
    Case::new(
        "A fwmark service's template covers all its ports and protocols",
        world,
    )
    .change(Change::Persistent(0, 300, ONE))
    .packet(&first, there(&first, 80))
    .packet(&second, there(&second, 443))
    .packet(&third, there(&third, 443))
    .check(Check::Templates(2, 1))
}

fn every_port() -> Case {
    let world = World::empty().service(Service::usual(TCP).at(SERVICE, 0));
    let to = |frame: &Frame, port| {
        let frame = crate::packets::world::to_server_port(frame, &SERVERS[2], port);
        Expected::transmit(crate::packets::world::BACK, Reason::Forwarded, &frame)
    };
    let [first, second] =
        [80, 443].map(|port| asks_at(&CLIENT, SERVICE, tcp(CLIENT_PORT, port, flag::SYN)));
    Case::new(
        "A persistent service without a port serves every port, and keeps it",
        world,
    )
    .change(Change::Persistent(0, 300, ONE))
    .packet(&first, to(&first, 80))
    .packet(&second, to(&second, 443))
    .check(Check::Templates(2, 1))
}

fn not_begun_anew() -> Case {
    let flow = Flow::of(&syn(0, 0));
    persistent(
        "A connection under a template is not begun anew when its port is used again",
        300,
        ONE,
    )
    .asks(&syn(0, 0), &SERVERS[2])
    .change(Change::State(flow, state::TIME_WAIT))
    .asks(&syn(0, 0), &SERVERS[2])
    .check(Check::State(flow, state::SYN_RECV, 60))
    .check(Check::Counts(2, 1, 0))
}

fn full() -> Case {
    let mut world = World::usual();
    world.capacity.templates = 2;
    // Slot 0 is never used: there is room for one.
    Case::new("Without room for a template there is no connection", world)
        .change(Change::Persistent(0, 300, ONE))
        .asks(&syn(0, 0), &SERVERS[2])
        .packet(&syn(1, 0), Expected::drop(Reason::TableFull))
        .asks(&syn(0, 1), &SERVERS[2])
        .change(Change::AddServer(0, real(&SERVERS[0], SERVER_PORT + 1)))
        .check(Check::Counts(2, 2, 0))
}
