//! A service that relays: every packet of its mark goes to the real server as it is.

use lb_common::{
    abi::{RELAY, SCOPE_RELAYS, V4},
    host::MarkRule,
    verdict::Reason,
};

use super::refusals::error;
use crate::packets::{
    case::{Case, Change, Check, Expected},
    packet::{Frame, Ip4, flag, tcp, udp},
    world::{
        BACK, BACK_IP, BACK_MAC, CLIENT, CLIENT_PORT, FAR_SERVER, GATEWAY, PORT, SERVERS, Service,
        Station, World, answers, rule,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        whatever_it_is(),
        nothing_else(),
        behind_a_gateway(),
        without_a_lease(),
        without_an_address(),
        nobody(),
        end_of_its_way(),
    ]
}

/// Whose packets are relayed.
const FROM: &Station = &SERVERS[1];

/// What comes from there goes to this server.
fn world(server: Station) -> World {
    let service = Service::usual(0).with(&[(server, 0, 1)]).marked(7);
    World::empty().service(service).marks(&[MarkRule {
        source: (V4::new(FROM.ip), 32),
        ..rule(7)
    }])
}

fn relaying(sentence: &str, world: World) -> Case {
    Case::new(sentence, world)
        .change(Change::Options(0, RELAY))
        .change(Change::Settings(SCOPE_RELAYS))
}

fn sent(flags: u8) -> Frame {
    answers(FROM, CLIENT.ip, tcp(PORT, CLIENT_PORT, flags))
}

fn relayed(sent: &Frame, to: &Station) -> Expected {
    let frame = sent.with(|frame| {
        (frame.to, frame.from) = (to.mac, BACK_MAC);
        frame.ip.ttl -= 1;
    });
    Expected::transmit(BACK, Reason::Forwarded, &frame)
}

fn whatever_it_is() -> Case {
    let case = relaying(
        "A service that relays sends every packet of its mark on as it is, and remembers nothing",
        world(SERVERS[0]),
    );
    let all = [
        flag::SYN | flag::ACK,
        flag::ACK,
        flag::FIN | flag::ACK,
        flag::RST,
        flag::SYN,
        0,
    ];
    let case = all.iter().fold(case, |case, flags| {
        case.packet(&sent(*flags), relayed(&sent(*flags), &SERVERS[0]))
    });
    let datagram = answers(FROM, CLIENT.ip, udp(PORT, CLIENT_PORT));
    case.packet(&datagram, relayed(&datagram, &SERVERS[0]))
        .check(Check::Entries(0))
        .check(Check::Counts(0, 0, 0))
}

fn nothing_else() -> Case {
    let other = |flags| answers(&SERVERS[2], CLIENT.ip, tcp(PORT, CLIENT_PORT, flags));
    relaying("What has not the mark is not relayed", world(SERVERS[0]))
        .packet(&other(flag::RST), Expected::pass(Reason::NoConnection))
        .packet(&other(flag::SYN), Expected::pass(Reason::NoService))
}

fn behind_a_gateway() -> Case {
    relaying(
        "What is relayed to behind a gateway goes to the gateway",
        world(FAR_SERVER),
    )
    .packet(&sent(flag::ACK), relayed(&sent(flag::ACK), &GATEWAY))
}

fn without_a_lease() -> Case {
    let world = world(SERVERS[0]).hop(SERVERS[0].hop, |hop| hop.lease = 0);
    relaying(
        "What is relayed goes by Ethernet addresses whose lease is over, for the kernel would ask for another neighbour",
        world,
    )
    .packet(&sent(flag::ACK), relayed(&sent(flag::ACK), &SERVERS[0]))
}

fn without_an_address() -> Case {
    let world = world(SERVERS[0]).hop(SERVERS[0].hop, |hop| hop.macs = None);
    relaying("What is relayed to nobody known ends here", world)
        .packet(&sent(flag::ACK), Expected::drop(Reason::NoRoute))
}

fn nobody() -> Case {
    let sent = sent(flag::ACK);
    relaying(
        "Without a real server the sender of what was to be relayed is told",
        world(SERVERS[0]),
    )
    .change(Change::RemoveServer(0))
    .packet(&sent, told(&sent, Reason::NoServer, CLIENT.ip, 3, 3))
}

fn end_of_its_way() -> Case {
    let last = sent(flag::ACK).with(|frame| frame.ip.ttl = 1);
    relaying(
        "Where a relayed packet's hop limit ends, its sender is told by the router that this is",
        world(SERVERS[0]),
    )
    .packet(&last, told(&last, Reason::TimeExceeded, BACK_IP, 11, 0))
}

fn told(sent: &Frame, reason: Reason, from: Ip4, kind: u8, code: u8) -> Expected {
    Expected::transmit(BACK, reason, &error(sent, from, kind, code, 0))
}
