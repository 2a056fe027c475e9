//! How long connections live, what keeps them alive, and what follows them.

use lb_common::{abi::SCOPE_NO_REUSE, conn::state, verdict::Reason};

use crate::packets::{
    case::{Case, Check, Expected, Flow},
    packet::{Frame, flag, tcp, udp},
    world::{
        CLIENT, CLIENT_PORT, PORT, SERVER_PORT, SERVERS, Service, TCP, UDP, World, answers, asks,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        half_open(),
        idle(),
        idle_from_behind(),
        kept_by_client(),
        kept_by_server(),
        written_once_a_second(),
        udp_idle(),
        udp_one_way(),
        closed_by_client(),
        closed_by_server(),
        reset(),
        late_answer(),
        port_again(),
        port_again_stays(),
        port_again_too_early(),
        expired_makes_room(),
        fins_cross(),
        settings(),
        own_timeouts(),
        half_closed(true, 7200),
        half_closed(false, 7200),
        half_closed(true, 30),
        half_closed(false, 30),
    ]
}

fn client(flags: u8) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT, PORT, flags))
}

fn server(flags: u8) -> Frame {
    answers(&SERVERS[0], CLIENT.ip, tcp(SERVER_PORT, CLIENT_PORT, flags))
}

fn flow() -> Flow {
    Flow::of(&client(0))
}

fn half_open() -> Case {
    Case::new(
        "A half-open connection lives for 60 s, and then a new one takes its place",
        World::usual(),
    )
    .asks(&client(flag::SYN), &SERVERS[2])
    .check(Check::State(flow(), state::SYN_RECV, 60))
    .wait(59)
    .asks(&client(flag::SYN), &SERVERS[2])
    .wait(61)
    .asks(&client(flag::SYN), &SERVERS[1])
    .check(Check::Entries(2))
    .check(Check::Counts(2, 0, 0))
}

fn idle() -> Case {
    Case::new(
        "An idle connection lives for 900 s and is gone after",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .wait(898)
    .asks(&client(flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::ESTABLISHED, 900))
    .wait(901)
    .packet(&client(flag::ACK), Expected::pass(Reason::NoConnection))
    .check(Check::Entries(0))
    .check(Check::Counts(0, 0, 0))
}

fn idle_from_behind() -> Case {
    Case::new(
        "An answer that comes after the connection has expired is passed untouched",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .wait(902)
    .packet(&server(flag::ACK), Expected::pass(Reason::NoConnection))
    .check(Check::Entries(0))
    .check(Check::Counts(0, 0, 0))
}

fn kept_by_client() -> Case {
    let case = Case::new(
        "A client that keeps talking keeps the answers' way open",
        World::single(),
    );
    (0..4)
        .fold(case.opened(CLIENT_PORT, &SERVERS[0]), |case, _| {
            case.wait(600).asks(&client(flag::ACK), &SERVERS[0])
        })
        .answers(&server(flag::ACK))
}

fn kept_by_server() -> Case {
    let case = Case::new(
        "A real server that keeps talking keeps the client's way open",
        World::single(),
    );
    (0..4)
        .fold(case.opened(CLIENT_PORT, &SERVERS[0]), |case, _| {
            case.wait(600).answers(&server(flag::ACK))
        })
        .asks(&client(flag::ACK), &SERVERS[0])
}

fn written_once_a_second() -> Case {
    Case::new(
        "Data defers the end of a connection, at most a second late",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .wait(10)
    .check(Check::State(flow(), state::ESTABLISHED, 890))
    .asks(&client(flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::ESTABLISHED, 900))
    .wait(10)
    .answers(&server(flag::ACK))
    .check(Check::State(flow(), state::ESTABLISHED, 900))
}

fn udp_idle() -> Case {
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let answer = answers(&SERVERS[2], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    Case::new(
        "An idle UDP connection lives for 300 s; the next datagram is scheduled anew",
        World::usual(),
    )
    .asks(&question, &SERVERS[2])
    .answers(&answer)
    .wait(298)
    .asks(&question, &SERVERS[2])
    .wait(301)
    .asks(&question, &SERVERS[1])
    .packet(&answer, Expected::pass(Reason::NoService))
    .check(Check::Counts(5, 0, 0))
    .check(Check::Counts(4, 0, 1))
}

fn udp_one_way() -> Case {
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let case = Case::new(
        "UDP in one direction for longer than its timeout stays one connection",
        World::usual(),
    );
    (0..5)
        .fold(case.asks(&question, &SERVERS[2]), |case, _| {
            case.wait(200).asks(&question, &SERVERS[2])
        })
        .check(Check::Entries(2))
        .check(Check::State(Flow::of(&question), state::UDP, 300))
}

fn closed_by_client() -> Case {
    Case::new(
        "A close by the client first goes through CLOSE_WAIT to TIME_WAIT",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .asks(&client(flag::FIN | flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::CLOSE_WAIT, 60))
    .check(Check::Counts(0, 0, 1))
    .answers(&server(flag::FIN | flag::ACK))
    .check(Check::State(flow(), state::TIME_WAIT, 120))
    .asks(&client(flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::TIME_WAIT, 120))
    .wait(121)
    .packet(&client(flag::ACK), Expected::pass(Reason::NoConnection))
}

fn closed_by_server() -> Case {
    Case::new(
        "A close by the real server first goes through FIN_WAIT to TIME_WAIT",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .answers(&server(flag::FIN | flag::ACK))
    .check(Check::State(flow(), state::FIN_WAIT, 120))
    .asks(&client(flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::FIN_WAIT, 120))
    .asks(&client(flag::FIN | flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::TIME_WAIT, 120))
    .answers(&server(flag::ACK))
    .check(Check::State(flow(), state::TIME_WAIT, 120))
}

fn fins_cross() -> Case {
    Case::new(
        "When both close at once the connection ends in TIME_WAIT",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .asks(&client(flag::FIN | flag::ACK), &SERVERS[0])
    .answers(&server(flag::FIN | flag::ACK))
    .answers(&server(flag::ACK))
    .asks(&client(flag::ACK), &SERVERS[0])
    .check(Check::State(flow(), state::TIME_WAIT, 120))
    .check(Check::Counts(0, 0, 1))
}

fn settings() -> Case {
    let world = World {
        timeouts: (100, 7, 20),
        ..World::single()
    };
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    Case::new(
        "The scope's timeouts count for established, closing and UDP connections",
        world,
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .check(Check::State(flow(), state::ESTABLISHED, 100))
    .answers(&server(flag::FIN | flag::ACK))
    .check(Check::State(flow(), state::FIN_WAIT, 7))
    .asks(&question, &SERVERS[0])
    .check(Check::State(Flow::of(&question), state::UDP, 20))
}

fn own_timeouts() -> Case {
    let only = [(SERVERS[0], SERVER_PORT, 1)];
    let service = |protocol| Service::usual(protocol).with(&only).timeouts(7200, 15);
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let world = World {
        timeouts: (100, 7, 20),
        ..World::empty()
    };
    Case::new(
        "A service's own timeouts come before the scope's",
        world.service(service(TCP)).service(service(UDP)),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .check(Check::State(flow(), state::ESTABLISHED, 7200))
    .wait(7000)
    .asks(&client(flag::ACK), &SERVERS[0])
    .asks(&question, &SERVERS[0])
    .check(Check::State(Flow::of(&question), state::UDP, 15))
}

/// Half a stream, of which either side has said that it has no more to say.
fn half_closed(by_client: bool, own: u32) -> Case {
    let (who, state) = if by_client {
        ("client", state::CLOSE_WAIT)
    } else {
        ("real server", state::FIN_WAIT)
    };
    let (sentence, left) = if own > 60 {
        (
            "lives as long as a whole one where the service says how long",
            own,
        )
    } else {
        (
            "lives no shorter for a service's own short timeout",
            if by_client { 60 } else { 120 },
        )
    };
    let service = Service::usual(TCP)
        .with(&[(SERVERS[0], SERVER_PORT, 1)])
        .timeouts(own, 0);
    let case = Case::new(
        format!("A stream that the {who} has closed {sentence}"),
        World::empty().service(service),
    )
    .opened(CLIENT_PORT, &SERVERS[0]);
    let case = if by_client {
        case.asks(&client(flag::FIN | flag::ACK), &SERVERS[0])
    } else {
        case.answers(&server(flag::FIN | flag::ACK))
    };
    let case = case.check(Check::State(flow(), state, left)).wait(left - 5);
    // The half that is still open goes on.
    let case = if by_client {
        case.answers(&server(flag::ACK))
    } else {
        case.asks(&client(flag::ACK), &SERVERS[0])
    };
    case.check(Check::State(flow(), state, left))
}

fn reset() -> Case {
    Case::new("A reset leaves 10 s", World::single())
        .opened(CLIENT_PORT, &SERVERS[0])
        .asks(&client(flag::RST), &SERVERS[0])
        .check(Check::State(flow(), state::CLOSE, 10))
        .check(Check::Counts(0, 0, 1))
        .wait(11)
        .packet(&client(flag::ACK), Expected::pass(Reason::NoConnection))
        .check(Check::Entries(0))
}

/// The reply entry's copy still says ESTABLISHED with minutes to go; the connection itself has ended.
fn late_answer() -> Case {
    Case::new(
        "An answer does not bring back a connection that the client reset and that has expired",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .answers(&server(flag::ACK))
    .asks(&client(flag::RST), &SERVERS[0])
    .wait(30)
    .packet(&server(flag::ACK), Expected::pass(Reason::NoConnection))
    .check(Check::Entries(0))
    .check(Check::Counts(0, 0, 0))
}

fn ended(world: World, sentence: &str) -> Case {
    Case::new(sentence, world)
        .opened(CLIENT_PORT, &SERVERS[2])
        .asks(&client(flag::FIN | flag::ACK), &SERVERS[2])
        .answers(&answers(
            &SERVERS[2],
            CLIENT.ip,
            tcp(SERVER_PORT, CLIENT_PORT, flag::FIN | flag::ACK),
        ))
        .check(Check::State(flow(), state::TIME_WAIT, 120))
}

fn port_again() -> Case {
    ended(
        World::usual(),
        "A port that is used again in TIME_WAIT is a new connection, scheduled anew",
    )
    .asks(&client(flag::SYN), &SERVERS[1])
    .check(Check::State(flow(), state::SYN_RECV, 60))
    .check(Check::Counts(2, 0, 0))
    .check(Check::Counts(1, 1, 0))
    .check(Check::Entries(2))
}

fn port_again_stays() -> Case {
    let world = World {
        flags: SCOPE_NO_REUSE,
        ..World::usual()
    };
    ended(
        world,
        "Where so set, a port that is used again in TIME_WAIT stays with its real server",
    )
    .asks(&client(flag::SYN), &SERVERS[2])
    .check(Check::State(flow(), state::SYN_RECV, 60))
    .check(Check::Counts(2, 1, 0))
}

fn port_again_too_early() -> Case {
    Case::new(
        "A SYN on a connection that has not ended stays with its real server",
        World::usual(),
    )
    .opened(CLIENT_PORT, &SERVERS[2])
    .asks(&client(flag::SYN), &SERVERS[2])
    .check(Check::State(flow(), state::ESTABLISHED, 900))
}

fn expired_makes_room() -> Case {
    Case::new(
        "An expired connection's port at the real server is taken over by the next",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .wait(901)
    .opened(CLIENT_PORT, &SERVERS[0])
    .check(Check::Entries(2))
    .check(Check::Counts(0, 1, 0))
}
