//! Translating the source: because the service says so, because the client is the real server's neighbour, or because
//! the client's port is taken at the real server.

use lb_common::{abi::V4, host::Bytes, host::ServerSpec, verdict::Reason};

use crate::packets::{
    case::{Case, Check, Expected},
    packet::{Body, Frame, Ip4, flag, tcp, udp},
    world::{
        BACK, BACK_IP, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, OTHER_SERVICE, PORT, SERVER_PORT,
        SERVERS, Service, Station, TCP, UDP, World, answers, asks, asks_at, to_client, to_server,
    },
};

/// An address of the scope to translate to.
const CHOSEN: Ip4 = [10, 0, 1, 77];

pub(super) fn cases() -> Vec<Case> {
    vec![
        translated(
            [0; 4],
            BACK_IP,
            "A service that translates the source uses the address of the way to the real server",
        ),
        translated(
            CHOSEN,
            CHOSEN,
            "A service that translates to an address of its own uses that one",
        ),
        apart_from_sockets(),
        apart_where_taken(),
        conflict(),
        two_services(),
        no_port_left(),
        hairpin(
            &SERVERS[0],
            "A real server that calls its own service reaches itself, from the director's address",
        ),
        hairpin(
            &SERVERS[1],
            "A client next to the real server gets its answers through the director",
        ),
        hairpin_untold(),
        no_address(),
    ]
}

/// As it leaves when the source is translated, keeping the port.
fn translated_to(sent: &Frame, server: &Station, address: Ip4) -> Frame {
    to_server(sent, server).with(|frame| frame.ip.src = address)
}

fn translated(set: Ip4, used: Ip4, sentence: &str) -> Case {
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let syn_ack = answers(
        &SERVERS[0],
        used,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let answer = answers(&SERVERS[0], used, udp(SERVER_PORT, CLIENT_PORT));
    [(syn, syn_ack), (question, answer)].iter().fold(
        Case::new(sentence, World::single().source_nat(set)),
        |case, (question, answer)| {
            let out = translated_to(question, &SERVERS[0], used);
            case.packet(question, Expected::transmit(BACK, Reason::Forwarded, &out))
                .answers(answer)
        },
    )
}

/// What left with a port of the director's choice: everything else must be as expected.
fn with_some_port(outputs: &[Vec<u8>], expected: &Frame, taken: u16) -> Result<u16, String> {
    let seen = outputs.last().ok_or("nothing came out")?;
    let port = source_port(seen);
    if port == taken || port < 1024 {
        return Err(format!("source port {port}"));
    }
    super::super::runner::same(
        &expected.with(|frame| *frame.ports().0 = port).bytes(),
        seen,
    )
    .map(|()| port)
}

fn source_port(bytes: &[u8]) -> u16 {
    bytes
        .get(34..36)
        .map_or(0, |port| u16::from(port[0]) << 8 | u16::from(port[1]))
}

/// Ports that the kernel gives to sockets; [`CLIENT_PORT`] is among them.
const LOCAL: (u16, u16) = (32_768, 60_999);

/// The one that a client with [`CLIENT_PORT`] gets instead, each time that it comes.
const INSTEAD: u16 = 1024 + (CLIENT_PORT - LOCAL.0);

fn apart_from_sockets() -> Case {
    let mut world = World::single().source_nat([0; 4]);
    world.local_ports = LOCAL;
    let out = |sent: &Frame| translated_to(sent, &SERVERS[0], BACK_IP);
    let instead = |sent: &Frame| out(sent).with(|frame| *frame.ports().0 = INSTEAD);
    let segment = |flags| asks(&CLIENT, tcp(CLIENT_PORT, PORT, flags));
    let answer = |flags| answers(&SERVERS[0], BACK_IP, tcp(SERVER_PORT, INSTEAD, flags));
    let back = |flags| {
        let body = tcp(SERVER_PORT, CLIENT_PORT, flags);
        to_client(&answers(&SERVERS[0], BACK_IP, body), &CLIENT)
    };
    let sends = |case: Case, flags| {
        let sent = segment(flags);
        case.packet(
            &sent,
            Expected::transmit(BACK, Reason::Forwarded, &instead(&sent)),
        )
    };
    let hears = |case: Case, flags| {
        case.packet(
            &answer(flags),
            Expected::transmit(FRONT, Reason::Replied, &back(flags)),
        )
    };
    let kept = [LOCAL.0 - 1, LOCAL.1 + 1].map(|port| asks(&CLIENT, udp(port, PORT)));
    let case = Case::new(
        "A translated client gets no port that the kernel may give to a socket of the director's, but always the same other one, and keeps any other",
        world,
    );
    let case = sends(case, flag::SYN);
    let case = hears(case, flag::SYN | flag::ACK);
    let case = sends(case, flag::ACK);
    // It comes again: the real server takes it at this port only.
    let case = hears(case, flag::RST);
    let case = sends(case, flag::SYN);
    kept.iter().fold(case, |case, sent| {
        case.packet(
            sent,
            Expected::transmit(BACK, Reason::Forwarded, &out(sent)),
        )
    })
}

/// One port is left beside those of sockets, and then none.
fn apart_where_taken() -> Case {
    const LEFT: u16 = 2000;
    let mut world = World::single().source_nat([0; 4]);
    world.local_ports = (1024, u16::MAX - 1);
    let last = asks(&CLIENT, udp(u16::MAX, PORT));
    let taken = asks(&CLIENT, udp(LEFT, PORT));
    let out = translated_to(&taken, &SERVERS[0], BACK_IP);
    let out_last = translated_to(&last, &SERVERS[0], BACK_IP);
    Case::new(
        "Where all other ports are taken a translated client gets one that a socket may have",
        world,
    )
    .packet(
        &last,
        Expected::transmit(BACK, Reason::Forwarded, &out_last),
    )
    .packet(
        &taken,
        Expected::checked(BACK, Reason::Forwarded, move |outputs| {
            with_some_port(outputs, &out, u16::MAX).map(drop)
        }),
    )
    .check(Check::Entries(4))
}

fn conflict() -> Case {
    let other = Station {
        ip: [192, 0, 2, 11],
        mac: [2, 0, 0, 0, 1, 0x11],
        hop: CLIENT.hop,
    };
    let first = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let second = asks(&other, udp(CLIENT_PORT, PORT));
    let world = World::single()
        .source_nat([0; 4])
        .route(other.ip, 32, CLIENT.hop);
    let out = translated_to(&first, &SERVERS[0], BACK_IP);
    let second_out = translated_to(&second, &SERVERS[0], BACK_IP);
    let again = second_out.clone();
    // The hop has the first client's Ethernet address: it is the same for both here.
    let back = to_client(
        &answers(&SERVERS[0], BACK_IP, udp(SERVER_PORT, CLIENT_PORT)),
        &CLIENT,
    )
    .with(|frame| frame.ip.dst = other.ip);
    Case::new("Two clients with the same port get different ones at the real server, and each its own answers", world)
        .packet(&first, Expected::transmit(BACK, Reason::Forwarded, &out))
        .packet(
            &second,
            Expected::checked(BACK, Reason::Forwarded, move |outputs| {
                with_some_port(outputs, &second_out, CLIENT_PORT).map(drop)
            }),
        )
        .then(
            |outputs| answer_to(outputs, 1),
            Expected::transmit(FRONT, Reason::Replied, &back),
        )
        .packet(
            &second,
            Expected::checked(BACK, Reason::Forwarded, move |outputs| {
                let port = with_some_port(outputs, &again, CLIENT_PORT)?;
                let before = source_port(&outputs[1]);
                if port == before { Ok(()) } else { Err(format!("port {before}, then {port}")) }
            }),
        )
        .answers(&answers(&SERVERS[0], BACK_IP, udp(SERVER_PORT, CLIENT_PORT)))
        .check(Check::Entries(4))
}

/// The real server's answer to what came out as the packet with this number.
fn answer_to(outputs: &[Vec<u8>], number: usize) -> Bytes {
    let port = outputs.get(number).map_or(0, |bytes| source_port(bytes));
    Bytes::received(
        answers(&SERVERS[0], BACK_IP, udp(SERVER_PORT, port)).bytes(),
        BACK,
    )
}

fn two_services() -> Case {
    let only = [(SERVERS[0], SERVER_PORT, 1)];
    let world = World::empty()
        .service(Service::usual(TCP).with(&only))
        .service(Service::usual(TCP).with(&only).at(OTHER_SERVICE, PORT));
    let first = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let second = asks_at(&CLIENT, OTHER_SERVICE, tcp(CLIENT_PORT, PORT, flag::SYN));
    let out = to_server(&second, &SERVERS[0]);
    let back = to_client(
        &answers(
            &SERVERS[0],
            CLIENT.ip,
            tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
        ),
        &CLIENT,
    )
    .with(|frame| frame.ip.src = OTHER_SERVICE);
    Case::new("Two services with one real server, called from one port: each answer comes from the right service", world)
        .asks(&first, &SERVERS[0])
        .packet(
            &second,
            Expected::checked(BACK, Reason::Forwarded, move |outputs| {
                with_some_port(outputs, &out, CLIENT_PORT).map(drop)
            }),
        )
        .then(
            |outputs| {
                let port = outputs.get(1).map_or(0, |bytes| source_port(bytes));
                let body = tcp(SERVER_PORT, port, flag::SYN | flag::ACK);
                Bytes::received(answers(&SERVERS[0], CLIENT.ip, body).bytes(), BACK)
            },
            Expected::transmit(FRONT, Reason::Replied, &back),
        )
        .answers(&answers(&SERVERS[0], CLIENT.ip, tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK)))
        .check(Check::Entries(4))
        .check(Check::Counts(0, 1, 0))
        .check(Check::Counts(1, 1, 0))
}

fn no_port_left() -> Case {
    // One entry of room: the reply entry fits, the forward entry does not.
    let world = World::single().room(1, 64, 64);
    Case::new(
        "A connection of which one half finds no room leaves nothing behind",
        world,
    )
    .packet(
        &asks(&CLIENT, udp(CLIENT_PORT, PORT)),
        Expected::drop(Reason::TableFull),
    )
    .check(Check::Entries(0))
}

fn hairpin(client: &'static Station, sentence: &str) -> Case {
    let body = |sport, dport, flags| tcp(sport, dport, flags);
    let sent = asks(client, body(CLIENT_PORT, PORT, flag::SYN)).with(|frame| frame.to = BACK_MAC);
    let out = translated_to(&sent, &SERVERS[0], BACK_IP);
    let answer = answers(
        &SERVERS[0],
        BACK_IP,
        body(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    let back = to_client(&answer, client).with(|frame| frame.from = BACK_MAC);
    Case::new(sentence, World::single())
        .packet(&sent, Expected::transmit(BACK, Reason::Forwarded, &out))
        .packet(&answer, Expected::transmit(BACK, Reason::Replied, &back))
}

/// A real server behind a gateway is nobody's neighbour, and yet it cannot call itself untranslated.
fn hairpin_untold() -> Case {
    use crate::packets::world::FAR_SERVER;
    let world = World::empty().service(Service::usual(UDP).with(&[(FAR_SERVER, SERVER_PORT, 1)]));
    let sent = asks(&FAR_SERVER, udp(CLIENT_PORT, PORT)).with(|frame| frame.to = BACK_MAC);
    let out = translated_to(&sent, &FAR_SERVER, BACK_IP);
    Case::new(
        "A real server behind a gateway that calls its own service is translated too",
        world,
    )
    .packet(&sent, Expected::transmit(BACK, Reason::Forwarded, &out))
}

fn no_address() -> Case {
    let world = World::single()
        .source_nat([0; 4])
        .hop(SERVERS[0].hop, |hop| {
            hop.address = crate::packets::world::words([0; 4])
        });
    let spec: ServerSpec<V4> = crate::packets::world::real(&SERVERS[1], SERVER_PORT);
    let sent: Body = udp(CLIENT_PORT, PORT);
    Case::new(
        "Without an address to translate to there is no connection",
        world,
    )
    .packet(
        &asks(&CLIENT, sent.clone()),
        Expected::drop(Reason::NoRoute),
    )
    .check(Check::Entries(0))
    .change(super::super::case::Change::AddServer(1, spec))
    .packet(
        &asks(&CLIENT, sent.clone()),
        Expected::transmit(
            BACK,
            Reason::Forwarded,
            &translated_to(&asks(&CLIENT, sent), &SERVERS[1], BACK_IP),
        ),
    )
}
