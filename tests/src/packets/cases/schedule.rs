//! Real servers: in turn, newest first; weights; without weight; removed.

use lb_common::{
    abi::{SCHEDULER_WRR, SCOPE_EXPIRE_REMOVED},
    conn::state,
    verdict::Reason,
};

use crate::packets::{
    case::{Case, Change, Check, Expected, Flow},
    packet::{Frame, flag, tcp, udp},
    world::{
        CLIENT, CLIENT_PORT, PORT, SERVER_PORT, SERVERS, Service, TCP, World, answers, asks, real,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        in_turn(),
        one_connection_one_server(),
        added(),
        removed_from_the_turn(),
        only_made_ones_count(),
        weighted(),
        reweighted(),
        weight_zero(),
        removed(),
        removed_replies(),
        removed_begins_anew(),
        back_again(),
        service_removed(),
    ]
}

fn syn(number: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

/// New connections reach these real servers, one after the other.
fn order(case: Case, first: u16, servers: &[usize]) -> Case {
    (first..).zip(servers).fold(case, |case, (number, server)| {
        case.asks(&syn(number), &SERVERS[*server])
    })
}

fn in_turn() -> Case {
    let case = Case::new(
        "Round robin takes the newest real server first, and then each in turn",
        World::usual(),
    );
    let case = order(case, 0, &[2, 1, 0, 2, 1, 0]);
    case.check(Check::Counts(0, 2, 0))
        .check(Check::Counts(1, 2, 0))
        .check(Check::Counts(2, 2, 0))
}

fn one_connection_one_server() -> Case {
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let case = Case::new(
        "A connection stays with its real server, and only new ones take the turn",
        World::usual(),
    );
    let case = order(case, 0, &[2]).asks(&syn(0), &SERVERS[2]);
    let case = case
        .asks(&question, &SERVERS[2])
        .asks(&question, &SERVERS[2]);
    order(case, 1, &[1, 0])
}

fn added() -> Case {
    let world = World::empty().service(
        Service::usual(TCP).with(&[(SERVERS[0], SERVER_PORT, 1), (SERVERS[1], SERVER_PORT, 1)]),
    );
    let case = Case::new(
        "A real server that is added comes to the head of the list and the turn goes on",
        world,
    );
    let case = order(case, 0, &[1]).change(Change::AddServer(0, real(&SERVERS[2], SERVER_PORT)));
    order(case, 1, &[0, 2, 1, 0])
}

fn removed_from_the_turn() -> Case {
    let case = Case::new(
        "When the real server whose turn it was is removed, the turn goes on after it",
        World::usual(),
    );
    let case = order(case, 0, &[2, 1]).change(Change::RemoveServer(1));
    order(case, 2, &[0, 2, 0])
}

fn only_made_ones_count() -> Case {
    use crate::packets::world::NOWHERE;
    let world = World::usual()
        .without_route(SERVERS[1].ip)
        .route(SERVERS[1].ip, 32, NOWHERE);
    let case = Case::new("Only a connection that was made takes the turn", world);
    let case = order(case, 0, &[2]);
    case.packet(&syn(1), Expected::drop(Reason::NoRoute))
        .packet(&syn(2), Expected::drop(Reason::NoRoute))
        .change(Change::RemoveServer(1))
        .asks(&syn(1), &SERVERS[0])
}

fn weighted() -> Case {
    let servers = [
        (SERVERS[0], SERVER_PORT, 1),
        (SERVERS[1], SERVER_PORT, 2),
        (SERVERS[2], SERVER_PORT, 4),
    ];
    let world = World::empty().service(Service::usual(TCP).with(&servers).scheduled(SCHEDULER_WRR));
    let case = Case::new(
        "Weighted round robin falls from the largest weight by their common divisor",
        world,
    );
    // As the real servers were added the bar stood at 1, the first one's weight, where ip_vs_wrr leaves it.
    let case = order(case, 0, &[2, 1, 0]);
    order(case, 3, &[2, 2, 2, 1, 2, 1, 0, 2, 2, 2, 1, 2, 1, 0])
}

fn reweighted() -> Case {
    let servers = [(SERVERS[0], SERVER_PORT, 2), (SERVERS[1], SERVER_PORT, 2)];
    let world = World::empty().service(Service::usual(TCP).with(&servers).scheduled(SCHEDULER_WRR));
    let case = Case::new(
        "A changed weight sends weighted round robin back to the head of the list",
        world,
    );
    let case = order(case, 0, &[1, 0, 1]).change(Change::Weight(0, 4));
    // Step 2, start 3; the bar was at 1 and stays there for the rest of its round.
    order(case, 3, &[1, 0, 0, 1, 0])
}

fn weight_zero() -> Case {
    let flow = Flow::of(&syn(0));
    let case = Case::new(
        "A real server without weight gets no new connections and keeps the ones it has",
        World::usual(),
    );
    let case = case
        .opened(CLIENT_PORT, &SERVERS[2])
        .change(Change::Weight(2, 0));
    let case = order(case, 1, &[1, 0, 1, 0]);
    case.asks(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        &SERVERS[2],
    )
    .check(Check::State(flow, state::ESTABLISHED, 900))
    .change(Change::Weight(2, 3))
    .asks(&syn(5), &SERVERS[2])
}

fn removed() -> Case {
    let case = Case::new(
        "Packets for a real server that was removed are dropped, as IPVS does by default; a SYN begins anew",
        World::usual(),
    );
    case.opened(CLIENT_PORT, &SERVERS[2])
        .change(Change::RemoveServer(2))
        .packet(
            &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
            Expected::drop(Reason::ServerRemoved),
        )
        .asks(&syn(0), &SERVERS[1])
        .check(Check::Counts(2, 0, 0))
        .check(Check::Counts(1, 1, 0))
}

fn removed_replies() -> Case {
    Case::new(
        "The answers of a real server that was removed still reach their clients",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .change(Change::RemoveServer(0))
    .answers(&answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::ACK),
    ))
}

fn removed_begins_anew() -> Case {
    let world = World {
        flags: SCOPE_EXPIRE_REMOVED,
        ..World::usual()
    };
    Case::new(
        "Where so set, a connection of a removed real server ends, and a new one finds another",
        world,
    )
    .opened(CLIENT_PORT, &SERVERS[2])
    .change(Change::RemoveServer(2))
    .packet(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        Expected::pass(Reason::NoConnection),
    )
    .check(Check::Entries(0))
    .check(Check::Counts(2, 0, 0))
    .asks(&syn(0), &SERVERS[1])
}

fn back_again() -> Case {
    Case::new("A real server that is added again takes new connections; the old one's are not mixed up with them", World::single())
        .opened(CLIENT_PORT, &SERVERS[0])
        .change(Change::RemoveServer(0))
        .change(Change::AddServer(0, real(&SERVERS[0], SERVER_PORT)))
        .asks(&syn(1), &SERVERS[0])
        .check(Check::Counts(0, 1, 0))
        .check(Check::Counts(2, 1, 0))
}

fn service_removed() -> Case {
    Case::new(
        "Without its service a connection is dropped and a new one passed",
        World::single(),
    )
    .opened(CLIENT_PORT, &SERVERS[0])
    .change(Change::RemoveService(0))
    .packet(
        &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK)),
        Expected::drop(Reason::ServerRemoved),
    )
    .packet(&syn(1), Expected::pass(Reason::NoService))
}
