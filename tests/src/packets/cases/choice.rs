//! Real servers by their load, by a hash, by what is remembered: every scheduler but those that go in turn.
//!
//! A SYN makes an active connection, so each choice is made under the load of those before it. Which client falls on which
//! bucket has been recorded from the kernel (`lb-common/tests/recorded_choices.rs`); here it is known.

use lb_common::{
    abi::{
        SCHEDULER_DH, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCHEDULER_FO, SCHEDULER_LBLC,
        SCHEDULER_LBLCR, SCHEDULER_LC, SCHEDULER_MH, SCHEDULER_NONE, SCHEDULER_NQ, SCHEDULER_OVF,
        SCHEDULER_RR, SCHEDULER_SED, SCHEDULER_SH, SCHEDULER_TWOS, SCHEDULER_WLC,
    },
    conn::state,
    verdict::Reason,
};

use crate::packets::{
    case::{Case, Change, Check, Expected, Flow},
    packet::{Frame, Ip4, flag, tcp},
    world::{
        CLIENT, CLIENT_PORT, FAR_CLIENT, FRONT, OTHER_SERVICE, PORT, SERVER_PORT, SERVERS, SERVICE,
        Service, Station, TCP, World, asks, asks_at, rule,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        least_connection(),
        weighted_least_connection(),
        shortest_expected_delay(),
        never_queue(),
        failover(),
        overflow(),
        two_choices(),
        nobody(),
        destination(),
        source(),
        source_port(),
        source_fallback(),
        maglev(),
        maglev_port(),
        maglev_fallback(),
        locality(),
        locality_of_the_removed(),
        locality_forgotten(),
        locality_forgotten_early(),
        replicated(),
        another_scheduler(),
    ]
}

fn syn(number: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

fn syn_to(address: Ip4, number: u16) -> Frame {
    asks_at(&CLIENT, address, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

/// Real servers of these weights, the last of them the newest.
fn weights(weights: [u32; 3]) -> [(Station, u16, u32); 3] {
    [0, 1, 2].map(|place| (SERVERS[place], SERVER_PORT, weights[place]))
}

fn world(scheduler: u8, of: [u32; 3]) -> World {
    World::empty().service(Service::usual(TCP).with(&weights(of)).scheduled(scheduler))
}

/// New connections of [`CLIENT`] reach these real servers, one after the other.
fn order(case: Case, first: u16, servers: &[usize]) -> Case {
    (first..).zip(servers).fold(case, |case, (number, server)| {
        case.asks(&syn(number), &SERVERS[*server])
    })
}

/// The same for connections to some address.
fn order_to(case: Case, address: Ip4, first: u16, servers: &[usize]) -> Case {
    (first..).zip(servers).fold(case, |case, (number, server)| {
        case.asks(&syn_to(address, number), &SERVERS[*server])
    })
}

/// A new connection finds nobody.
fn refused(case: Case, number: u16) -> Case {
    let sent = syn(number);
    let answer = Expected::transmit(FRONT, Reason::NoServer, &sent).whatever();
    case.packet(&sent, answer)
}

fn least_connection() -> Case {
    let case = Case::new(
        "Least connection takes the one with the fewest, the newest of equals, whatever the weights",
        world(SCHEDULER_LC, [1, 2, 4]),
    );
    let case = order(case, 0, &[2, 1, 0, 2, 1, 0]);
    // An ended connection counts next to nothing.
    let ended = [syn(2), syn(5)];
    let case = ended.iter().fold(case, |case, sent| {
        case.change(Change::State(Flow::of(sent), state::TIME_WAIT))
    });
    order(case, 6, &[0, 0]).change(Change::Weight(2, 0))
}

fn weighted_least_connection() -> Case {
    let case = Case::new(
        "Weighted least connection takes the one with the fewest for its weight",
        world(SCHEDULER_WLC, [1, 2, 4]),
    );
    let case = order(case, 0, &[2, 1, 0, 2, 2, 1, 2, 2, 1, 0]);
    order(case.change(Change::Weight(0, 100)), 10, &[0, 0, 0])
}

fn shortest_expected_delay() -> Case {
    let case = Case::new(
        "Shortest expected delay counts the new connection with the others",
        world(SCHEDULER_SED, [1, 2, 4]),
    );
    order(case, 0, &[2, 2, 1, 2, 2, 1, 0])
}

fn never_queue() -> Case {
    let case = Case::new(
        "Never queue takes whoever is idle first, and then goes by the shortest delay",
        world(SCHEDULER_NQ, [1, 2, 4]),
    );
    order(case, 0, &[2, 1, 0, 2, 2, 2, 1])
}

fn failover() -> Case {
    let case = Case::new(
        "Weighted failover takes the highest weight as long as it is there",
        world(SCHEDULER_FO, [1, 2, 4]),
    );
    let case = order(case, 0, &[2, 2, 2]).change(Change::Weight(2, 0));
    let case = order(case, 3, &[1, 1]).change(Change::RemoveServer(1));
    order(case, 5, &[0])
}

fn overflow() -> Case {
    let case = Case::new(
        "Weighted overflow fills the highest weight until it is exceeded, and then the next; at last nobody takes more",
        world(SCHEDULER_OVF, [1, 2, 4]),
    );
    let case = order(case, 0, &[2, 2, 2, 2, 2, 1, 1, 1, 0, 0]);
    let case = refused(case, 10);
    let ended = Flow::of(&syn(5));
    order(
        case.change(Change::State(ended, state::TIME_WAIT)),
        11,
        &[1],
    )
}

fn two_choices() -> Case {
    let case = Case::new(
        "Of two choices neither falls on a real server without weight",
        world(SCHEDULER_TWOS, [0, 3, 0]),
    );
    let case = order(case, 0, &[1, 1, 1, 1, 1, 1]).change(Change::Weight(1, 0));
    refused(case, 6)
}

fn nobody() -> Case {
    let case = Case::new(
        "A service without a scheduler has no real server to offer",
        world(SCHEDULER_NONE, [1, 1, 1]),
    );
    refused(case, 0)
}

fn destination() -> Case {
    let service = || {
        Service::usual(TCP)
            .with(&weights([1, 2, 4]))
            .scheduled(SCHEDULER_DH)
    };
    let world = World::empty()
        .service(service())
        .service(service().at(OTHER_SERVICE, PORT));
    let case = Case::new(
        "Destination hashing goes by the service address alone",
        world,
    );
    let case = order_to(case, SERVICE, 0, &[0, 0, 0]);
    let case = order_to(case, OTHER_SERVICE, 0, &[2, 2]);
    let case = refused(case.change(Change::Weight(0, 0)), 3);
    order_to(case, OTHER_SERVICE, 2, &[2])
}

fn from(client: &Station, number: u16) -> Frame {
    asks(client, tcp(CLIENT_PORT + number, PORT, flag::SYN))
}

fn source() -> Case {
    let case = Case::new(
        "Source hashing goes by the client's address alone, and refuses where its real server takes nothing",
        world(SCHEDULER_SH, [1, 1, 1]),
    );
    let case = order(case, 0, &[2, 2, 2])
        .asks(&from(&FAR_CLIENT, 0), &SERVERS[1])
        .asks(&from(&FAR_CLIENT, 1), &SERVERS[1]);
    let case = refused(case.change(Change::Weight(2, 0)), 3);
    case.asks(&from(&FAR_CLIENT, 2), &SERVERS[1])
}

fn flagged(scheduler: u8, of: [u32; 3], flags: u8) -> World {
    World::empty().service(
        Service::usual(TCP)
            .with(&weights(of))
            .scheduled(scheduler)
            .flagged(flags),
    )
}

fn source_port() -> Case {
    let case = Case::new(
        "Source hashing with the port spreads the connections of one client",
        flagged(SCHEDULER_SH, [1, 1, 1], SCHEDULER_FLAG_2),
    );
    order(case, 0, &[1, 2, 1, 2, 1, 0, 1, 2])
}

fn source_fallback() -> Case {
    let case = Case::new(
        "Source hashing with fallback looks for another real server",
        flagged(SCHEDULER_SH, [1, 1, 1], SCHEDULER_FLAG_1),
    );
    let case = order(case, 0, &[2])
        .change(Change::Weight(2, 0))
        .change(Change::Weight(1, 0));
    let case = order(case, 1, &[0, 0]).change(Change::Weight(0, 0));
    refused(case, 3)
}

fn maglev() -> Case {
    let case = Case::new(
        "Maglev hashing goes by the client's address, and a real server of weight 0 keeps its clients",
        world(SCHEDULER_MH, [1, 1, 1]),
    );
    let case = order(case, 0, &[2, 2]).asks(&from(&FAR_CLIENT, 0), &SERVERS[0]);
    let case = refused(case.change(Change::Weight(2, 0)), 2);
    let case = case.asks(&from(&FAR_CLIENT, 1), &SERVERS[0]);
    order(case.change(Change::Weight(2, 1)), 3, &[2])
}

fn maglev_port() -> Case {
    let case = Case::new(
        "Maglev hashing with the port spreads the connections of one client by the weights",
        flagged(SCHEDULER_MH, [1, 2, 4], SCHEDULER_FLAG_2),
    );
    order(case, 0, &[2, 1, 1, 2, 2, 2, 1, 2])
}

fn maglev_fallback() -> Case {
    let case = Case::new(
        "Maglev hashing with fallback looks for another real server as long as there is any",
        flagged(SCHEDULER_MH, [1, 1, 1], SCHEDULER_FLAG_1),
    );
    let case = order(case, 0, &[2]).change(Change::Weight(2, 0));
    let case = order(case, 1, &[0]).change(Change::RemoveServer(0));
    let case = order(case, 2, &[1]).change(Change::Weight(1, 0));
    refused(case, 3)
}

/// A service for all addresses.
fn everywhere(scheduler: u8, of: [u32; 3]) -> World {
    let service = Service::usual(TCP)
        .with(&weights(of))
        .scheduled(scheduler)
        .marked(7);
    World::empty().service(service).marks(&[rule(7)])
}

fn locality() -> Case {
    let case = Case::new(
        "With locality a destination stays with its real server until that has too much to do and another one is idle",
        everywhere(SCHEDULER_LBLC, [1, 1, 1]),
    );
    let case = order_to(case, SERVICE, 0, &[2, 2, 1]);
    let case = order_to(case, OTHER_SERVICE, 0, &[0]);
    order_to(case, SERVICE, 3, &[1, 1, 1])
}

fn locality_of_the_removed() -> Case {
    let case = Case::new(
        "With locality a destination gets another real server when its own is removed or has no weight",
        everywhere(SCHEDULER_LBLC, [1, 1, 1]),
    );
    let case = order_to(case, SERVICE, 0, &[2]).change(Change::RemoveServer(2));
    let case = order_to(case, SERVICE, 1, &[1]).change(Change::Weight(1, 0));
    let case = order_to(case, SERVICE, 2, &[0]).change(Change::Weight(1, 1));
    order_to(case, SERVICE, 3, &[0])
}

fn locality_forgotten() -> Case {
    let case = Case::new(
        "With locality a destination is forgotten after a day without connections",
        everywhere(SCHEDULER_LBLC, [1, 1, 1]),
    );
    let case = order_to(case, SERVICE, 0, &[2]).wait(23 * 60 * 60);
    let case = order_to(case, SERVICE, 1, &[2]).wait(25 * 60 * 60);
    order_to(case, SERVICE, 2, &[1])
}

fn locality_forgotten_early() -> Case {
    let case = Case::new(
        "With lblc_expiration a destination is forgotten after so long, from then on",
        everywhere(SCHEDULER_LBLC, [1, 1, 1]),
    );
    let case = order_to(case, SERVICE, 0, &[2]).change(Change::Expiration(600));
    let case = order_to(case.wait(590), SERVICE, 1, &[2]);
    order_to(case.wait(610), SERVICE, 2, &[1])
}

fn replicated() -> Case {
    let case = Case::new(
        "With replication a destination's set of real servers grows, and the least loaded of it serves",
        everywhere(SCHEDULER_LBLCR, [1, 1, 1]),
    );
    order_to(case, SERVICE, 0, &[2, 2, 1, 1, 0, 0, 0, 1])
}

fn another_scheduler() -> Case {
    let case = Case::new(
        "Another scheduler begins anew, with a table of its own and without what was remembered",
        everywhere(SCHEDULER_LBLC, [9, 9, 9]),
    );
    let case = order_to(case, SERVICE, 0, &[2, 2]).change(Change::Scheduler(0, SCHEDULER_DH));
    let case = order_to(case, OTHER_SERVICE, 10, &[2]);
    let case = order_to(case, SERVICE, 2, &[0]).change(Change::Scheduler(0, SCHEDULER_RR));
    let case = order_to(case, SERVICE, 3, &[2]).wait(30);
    let case = case.change(Change::Scheduler(0, SCHEDULER_LBLC));
    // It was the third's before.
    let case = order_to(case, SERVICE, 4, &[1]);
    case.check(Check::Counts(2, 4, 0))
}
