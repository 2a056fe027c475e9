//! Masquerade: new addresses, ports and Ethernet addresses, there and back, over each kind of hop.

use lb_common::{
    abi::{ENTER, ServerStats},
    conn::state,
    host::{Bytes, HopSpec},
    verdict::{Action, Reason},
};

use crate::packets::{
    case::{Case, Check, Expected, Flow, Output},
    packet::{flag, tcp, udp},
    world::{
        BACK, BACK_IP, CLIENT, CLIENT_PORT, FAR_CLIENT, FAR_SERVER, FRONT, FRONT_IP, FRONT_MAC,
        LOCAL, NOWHERE, PORT, SERVER_PORT, SERVERS, SERVICE, Service, Station, TCP, UDP, World,
        answers, asks, to_client, to_server,
    },
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        tcp_there_and_back(),
        udp_there_and_back(),
        far_away(),
        same_port(),
    ];
    cases.extend(hops());
    cases.extend(short_ways());
    cases.extend([
        local_server(),
        reply_of_a_local_server(),
        local_client(),
        local_client_of_a_local_server(),
    ]);
    cases.push(route_changes());
    cases
}

fn tcp_there_and_back() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    Case::new(
        "A TCP connection reaches a real server, and its answers come back from the service",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .answers(&answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::ACK),
    ))
    .check(Check::State(Flow::of(&sent), state::ESTABLISHED, 900))
    .check(Check::Counts(0, 1, 0))
    .check(Check::Stats(
        0,
        ServerStats {
            conns: 1,
            in_packets: 2,
            in_bytes: 40 + 56,
            out_packets: 2,
            out_bytes: 40 + 56,
        },
    ))
    .check(Check::Entries(2))
}

fn udp_there_and_back() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let answer = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    Case::new(
        "A UDP datagram reaches a real server, and the answer comes back from the service",
        World::single(),
    )
    .asks(&sent, &SERVERS[0])
    .check(Check::State(Flow::of(&sent), state::UDP, 300))
    .answers(&answer)
    .asks(&sent, &SERVERS[0])
    .answers(&answer)
    .check(Check::Counts(1, 0, 1))
}

fn far_away() -> Case {
    let world = World::empty().service(Service::usual(TCP).with(&[(FAR_SERVER, SERVER_PORT, 1)]));
    let sent = asks(&FAR_CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let answer = answers(
        &FAR_SERVER,
        FAR_CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    let out = to_client(&answer, &FAR_CLIENT);
    Case::new("Client and real server may both be behind gateways", world)
        .asks(&sent, &FAR_SERVER)
        .packet(&answer, Expected::transmit(FRONT, Reason::Replied, &out))
}

fn same_port() -> Case {
    let world = World::empty().service(Service::usual(UDP).with(&[(SERVERS[0], PORT, 1)]));
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let out = to_server(&sent, &SERVERS[0]).with(|frame| *frame.ports().1 = PORT);
    Case::new(
        "A real server on the service's own port keeps the port",
        world,
    )
    .packet(&sent, Expected::transmit(BACK, Reason::Forwarded, &out))
    .answers(&answers(&SERVERS[0], CLIENT.ip, udp(PORT, CLIENT_PORT)))
}

/// The Ethernet addresses stay as they came: the kernel writes them.
fn unresolved(world: World, sentence: &str) -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let out =
        to_server(&sent, &SERVERS[0]).with(|frame| (frame.to, frame.from) = (sent.to, sent.from));
    Case::new(sentence, world).packet(&sent, Expected::resolve(BACK, Reason::Forwarded, &out))
}

fn hops() -> Vec<Case> {
    let hop = SERVERS[0].hop;
    let with = |change: &dyn Fn(&mut HopSpec)| World::single().hop(hop, change);
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let refused = |sentence: &str, world| {
        Case::new(sentence, world)
            .packet(&sent, Expected::drop(Reason::NoRoute))
            .check(Check::Entries(0))
    };
    vec![
        unresolved(
            with(&|hop| hop.macs = None),
            "A hop whose neighbour is unknown is left to the kernel to resolve",
        ),
        unresolved(
            with(&|hop| hop.torn = true),
            "A hop that is being written is left to the kernel to resolve",
        ),
        unresolved(
            with(&|hop| hop.lease = 0),
            "A hop whose lease has run out is left to the kernel to resolve",
        ),
        refused(
            "A real server whose route forbids it gets no connection",
            World::single()
                .route([10, 0, 1, 0], 24, NOWHERE)
                .without_route(SERVERS[0].ip),
        ),
        refused(
            "A real server without a route gets no connection",
            World::single()
                .without_route(SERVERS[0].ip)
                .without_route([0; 4]),
        ),
        Case::new(
            "An answer to a client that has no route any more is dropped",
            World::single()
                .without_route([0; 4])
                .without_route(CLIENT.ip)
                .route(CLIENT.ip, 32, NOWHERE),
        )
        .asks(&sent, &SERVERS[0])
        .packet(
            &answers(
                &SERVERS[0],
                CLIENT.ip,
                tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
            ),
            Expected::drop(Reason::NoRoute),
        ),
    ]
}

/// A port of the bridge that [`BACK`] is.
const SERVERS_PORT: u32 = 21;

fn short_ways() -> Vec<Case> {
    let world = |exit| {
        World::single().hop(SERVERS[0].hop, move |hop| {
            // A bridge takes no frames from XDP, and neither does what is behind it.
            (hop.exit, hop.closed) = (Some(exit), true);
        })
    };
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let arrives = |sentence, exit| {
        let expected = Expected::transmit(exit, Reason::Forwarded, &to_server(&sent, &SERVERS[0]));
        Case::new(sentence, world(exit))
            .packet(&sent, expected.clone())
            .packet(&sent, expected)
            .answers(&answers(
                &SERVERS[0],
                CLIENT.ip,
                tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
            ))
    };
    let own = sent.with(|frame| {
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = ([2, 0, 0, 0, 9, 9], FRONT_MAC);
    });
    let own_out = to_server(&own, &SERVERS[0]).with(|frame| frame.ip.ttl = 64);
    vec![
        arrives(
            "A real server behind a bridge is reached by the bridge's port",
            SERVERS_PORT,
        ),
        arrives(
            "A real server in another namespace of this host is reached there at once",
            BACK | ENTER,
        ),
        Case::new(
            "What this host sends itself takes the short way, too",
            world(SERVERS_PORT | ENTER),
        )
        .packet(
            Bytes::sent(own.bytes(), FRONT),
            Expected::transmit(SERVERS_PORT | ENTER, Reason::Forwarded, &own_out),
        ),
        unresolved(
            World::single().hop(SERVERS[0].hop, |hop| {
                (hop.exit, hop.lease) = (Some(SERVERS_PORT), 0);
            }),
            "A short way whose lease has run out is left, and the kernel resolves the long one",
        ),
    ]
}

/// The director itself, as a real server.
const DIRECTOR: Station = Station {
    ip: BACK_IP,
    mac: FRONT_MAC,
    hop: LOCAL,
};

fn local_world() -> World {
    World::empty().service(Service::usual(TCP).with(&[(DIRECTOR, SERVER_PORT, 1)]))
}

fn local_server() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let out = sent.with(|frame| {
        frame.ip.dst = DIRECTOR.ip;
        *frame.ports().1 = SERVER_PORT;
    });
    let last = sent.with(|frame| frame.ip.ttl = 1);
    let last_out = out.with(|frame| frame.ip.ttl = 1);
    Case::new(
        "A real server that is this host gets the packet passed up, its hop limit as it came",
        local_world(),
    )
    .packet(&sent, Expected::pass_as(Reason::Forwarded, &out))
    .packet(&last, Expected::pass_as(Reason::Forwarded, &last_out))
}

fn reply_of_a_local_server() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let answer = answers(
        &DIRECTOR,
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    )
    .with(|frame| (frame.to, frame.from) = (CLIENT.mac, FRONT_MAC));
    let out = answer.with(|frame| {
        frame.ip.src = SERVICE;
        *frame.ports().0 = PORT;
    });
    Case::new(
        "The answer of a real server on this host gets its source and stays on its way",
        local_world(),
    )
    .packet(
        &sent,
        Expected::pass_as(
            Reason::Forwarded,
            &sent.with(|frame| {
                frame.ip.dst = DIRECTOR.ip;
                *frame.ports().1 = SERVER_PORT;
            }),
        ),
    )
    .packet(
        Bytes::sent(answer.bytes(), FRONT),
        Expected::pass_as(Reason::Replied, &out),
    )
}

fn local_client() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| {
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = ([2, 0, 0, 0, 9, 9], FRONT_MAC);
    });
    let out = to_server(&sent, &SERVERS[0]).with(|frame| frame.ip.ttl = 64);
    let answer = answers(
        &SERVERS[0],
        FRONT_IP,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    let up = answer.with(|frame| {
        frame.ip.src = SERVICE;
        *frame.ports().0 = PORT;
    });
    Case::new(
        "A client on this host reaches a real server, and the answer is passed up to it",
        World::single(),
    )
    .packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::transmit(BACK, Reason::Forwarded, &out),
    )
    .packet(&answer, Expected::pass_as(Reason::Replied, &up))
}

fn local_client_of_a_local_server() -> Case {
    let sent = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN)).with(|frame| {
        frame.ip.src = FRONT_IP;
        (frame.to, frame.from) = ([2, 0, 0, 0, 9, 9], FRONT_MAC);
    });
    let out = sent.with(|frame| {
        frame.ip.dst = DIRECTOR.ip;
        *frame.ports().1 = SERVER_PORT;
        frame.to = FRONT_MAC;
    });
    Case::new(
        "What this host sends to a real server on itself is received again",
        local_world(),
    )
    .packet(
        Bytes::sent(sent.bytes(), FRONT),
        Expected::receive(FRONT, Reason::Forwarded, out.bytes()),
    )
}

fn route_changes() -> Case {
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let ack = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK));
    let expected = Expected {
        action: Action::Transmit,
        ifindex: BACK,
        reason: Reason::Forwarded,
        output: Output::Bytes(to_server(&ack, &SERVERS[0]).bytes()),
    };
    Case::new(
        "A connection goes on when nothing has changed, packet after packet",
        World::single(),
    )
    .asks(&syn, &SERVERS[0])
    .packet(&ack, expected.clone())
    .packet(&ack, expected.clone())
    .wait(2)
    .packet(&ack, expected)
}
