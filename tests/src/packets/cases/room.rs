//! Room: full tables, the ring of half-open connections, and what a flood costs.

use lb_common::{conn::state, verdict::Reason};

use crate::packets::{
    case::{Case, Check, Expected, Flow},
    packet::{Frame, flag, tcp, udp},
    world::{CLIENT, CLIENT_PORT, PORT, SERVER_PORT, SERVERS, World, answers, asks},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        table_full(),
        ring_comes_round(),
        slot_of_an_earlier_one(),
        flood(),
        udp_flood(),
        answered_flood(),
        answered_stay(),
        answered_ring_full(),
        many_times_round(),
    ]
}

fn syn(number: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

fn flow(number: u16) -> Flow {
    Flow::of(&syn(number))
}

fn table_full() -> Case {
    let case = Case::new(
        "When the table is full a new connection loses, and the others go on",
        World::single().room(4, 64, 64),
    );
    case.asks(&syn(0), &SERVERS[0])
        .asks(&syn(1), &SERVERS[0])
        .packet(&syn(2), Expected::drop(Reason::TableFull))
        .asks(&syn(0), &SERVERS[0])
        .check(Check::Entries(4))
        .check(Check::Counts(0, 2, 0))
}

fn ring_comes_round() -> Case {
    let case = Case::new(
        "A half-open connection makes room for another when the ring comes round to it",
        World::single().room(64, 4, 4),
    );
    let case = (0..4).fold(case, |case, number| case.asks(&syn(number), &SERVERS[0]));
    case.check(Check::Entries(8))
        .asks(&syn(4), &SERVERS[0])
        .check(Check::Entries(8))
        .check(Check::Gone(flow(0)))
        .check(Check::Counts(0, 4, 0))
}

fn slot_of_an_earlier_one() -> Case {
    let case = Case::new(
        "A slot that names an earlier connection of the same key does not cost the present one",
        World::single().room(64, 4, 4),
    );
    // The first slot, and then the second: the fifth ticket comes to the first again.
    let case = case
        .asks(&syn(0), &SERVERS[0])
        .wait(61)
        .asks(&syn(0), &SERVERS[0]);
    let case = (1..4).fold(case, |case, number| case.asks(&syn(number), &SERVERS[0]));
    case.check(Check::State(flow(0), state::SYN_RECV, 60))
        .check(Check::Entries(8))
}

fn flood() -> Case {
    let case = Case::new(
        "A flood of SYNs recycles its own kind and costs no answered connection",
        World::single().room(64, 4, 4),
    );
    let case = case.opened(CLIENT_PORT, &SERVERS[0]);
    let case = (1..200).fold(case, |case, number| case.asks(&syn(number), &SERVERS[0]));
    case.asks(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        &SERVERS[0],
    )
    .answers(&answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::ACK),
    ))
    .check(Check::Entries(10))
    .check(Check::Counts(0, 5, 0))
}

fn answered_flood() -> Case {
    let case = Case::new(
        "A flood whose SYNs the real server answers recycles its own kind too",
        World::single().room(64, 4, 4),
    );
    let case = case.opened(CLIENT_PORT, &SERVERS[0]);
    let answer = |number: u16| {
        let body = tcp(SERVER_PORT, CLIENT_PORT + number, flag::SYN | flag::ACK);
        answers(&SERVERS[0], CLIENT.ip, body)
    };
    let case = (1..50).fold(case, |case, number| {
        case.asks(&syn(number), &SERVERS[0])
            .answers(&answer(number))
    });
    case.asks(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        &SERVERS[0],
    )
    .check(Check::Entries(10))
    .check(Check::Counts(0, 5, 0))
}

fn udp_flood() -> Case {
    let question = |number| asks(&CLIENT, udp(CLIENT_PORT + number, PORT));
    let answer = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    let case = Case::new(
        "A flood of datagrams recycles its own kind and costs no answered connection",
        World::single().room(64, 4, 4),
    );
    let case = case.asks(&question(0), &SERVERS[0]).answers(&answer);
    let case = (1..50).fold(case, |case, number| {
        case.asks(&question(number), &SERVERS[0])
    });
    case.asks(&question(0), &SERVERS[0])
        .answers(&answer)
        .check(Check::Counts(1, 0, 5))
}

fn answered_stay() -> Case {
    let case = Case::new(
        "Answered connections are recycled only when they have expired",
        World::single().room(64, 4, 4),
    );
    let case = (0..4).fold(case, |case, number| {
        case.opened(CLIENT_PORT + number, &SERVERS[0])
    });
    let case = case.wait(901);
    let case = (4..8).fold(case, |case, number| {
        case.opened(CLIENT_PORT + number, &SERVERS[0])
    });
    case.check(Check::Entries(8))
        .check(Check::Counts(0, 4, 0))
        .check(Check::Gone(flow(0)))
}

fn answered_ring_full() -> Case {
    let case = Case::new(
        "An answered connection that finds no slot keeps working until it expires",
        World::single().room(64, 4, 4),
    );
    let case = (0..6).fold(case, |case, number| {
        case.opened(CLIENT_PORT + number, &SERVERS[0])
    });
    let case = (10..30).fold(case, |case, number| case.asks(&syn(number), &SERVERS[0]));
    (0..6).fold(case, |case, number| {
        case.asks(
            &asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::ACK)),
            &SERVERS[0],
        )
    })
}

fn many_times_round() -> Case {
    let case = Case::new(
        "One client port used again and again leaves nothing behind",
        World::single().room(64, 4, 4),
    );
    (0..20)
        .fold(case, |case, _| {
            case.opened(CLIENT_PORT, &SERVERS[0])
                .asks(
                    &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::RST)),
                    &SERVERS[0],
                )
                .wait(1)
        })
        .check(Check::Entries(2))
        .check(Check::Counts(0, 0, 1))
}
