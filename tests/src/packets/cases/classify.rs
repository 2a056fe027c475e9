//! Which service a packet is for: marks and mark rules, exact ports, port 0.

use lb_common::{
    abi::V4,
    host::{Bytes, MarkRule},
    verdict::Reason,
};

use crate::packets::{
    case::{Case, Check, Expected},
    packet::{Frame, flag, tcp, udp},
    world::{
        BACK, CLIENT, CLIENT_PORT, FAR_CLIENT, FRONT, OTHER_SERVICE, PORT, SERVERS, SERVICE,
        Service, TCP, UDP, World, asks, asks_at, rule, to_server_port,
    },
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        no_service(),
        no_syn(),
        port_zero(),
        port_zero_after_exact(),
        mark_of_the_packet(),
        mark_before_address(),
    ];
    cases.extend(each_field());
    cases.extend([
        last_match_wins(),
        masks(),
        masks_in_order(),
        ranges(),
        every_port(),
        unknown_mark(),
        sixteen_shapes(),
    ]);
    cases
}

fn syn(dport: u16) -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT, dport, flag::SYN))
}

fn no_service() -> Case {
    let pass = || Expected::pass(Reason::NoService);
    Case::new("What is for no service is passed untouched", World::usual())
        .packet(&syn(PORT + 1), pass())
        .packet(&asks(&CLIENT, udp(CLIENT_PORT, PORT + 1)), pass())
        .packet(
            &asks_at(&CLIENT, OTHER_SERVICE, tcp(CLIENT_PORT, PORT, flag::SYN)),
            pass(),
        )
        .check(Check::Entries(0))
}

fn no_syn() -> Case {
    let opens = |flags: u8| flags & flag::SYN != 0 && flags & flag::RST == 0;
    let case = Case::new(
        "A segment that opens no connection and belongs to none is passed untouched",
        World::usual(),
    );
    (0..=255)
        .filter(|flags| !opens(*flags))
        .fold(case, |case, flags| {
            case.packet(
                &asks(&CLIENT, tcp(CLIENT_PORT, PORT, flags)),
                Expected::pass(Reason::NoConnection),
            )
        })
        .check(Check::Entries(0))
}

/// A service for everything that the mark rules mark with 7; its real server keeps the packet's port.
fn marked_world(rules: &[MarkRule<V4>]) -> World {
    let service = |mark, server| Service::usual(0).with(&[(server, 0, 1)]).marked(mark);
    World::empty()
        .service(service(7, SERVERS[0]))
        .service(service(8, SERVERS[1]))
        .marks(rules)
}

fn reaches(case: Case, sent: &Frame, server: usize) -> Case {
    let port = *sent.clone().ports().1;
    let out = to_server_port(sent, &SERVERS[server], port);
    case.packet(sent, Expected::transmit(BACK, Reason::Forwarded, &out))
}

fn port_zero() -> Case {
    let world = World::empty().service(
        Service::usual(TCP)
            .with(&[(SERVERS[0], 0, 1)])
            .at(SERVICE, 0),
    );
    let case = Case::new(
        "A service on port 0 serves every port, and the real server keeps it",
        world,
    );
    let case = reaches(case, &syn(PORT), 0);
    let case = reaches(case, &syn(65535), 0);
    case.packet(
        &asks(&CLIENT, udp(CLIENT_PORT, PORT)),
        Expected::pass(Reason::NoService),
    )
}

fn port_zero_after_exact() -> Case {
    let world = World::empty()
        .service(
            Service::usual(TCP)
                .with(&[(SERVERS[0], 0, 1)])
                .at(SERVICE, 0),
        )
        .service(Service::usual(TCP).with(&[(SERVERS[1], 0, 1)]));
    let case = Case::new(
        "A service on the packet's port comes before one on port 0",
        world,
    );
    let case = reaches(case, &syn(PORT), 1);
    reaches(case, &syn(PORT + 1), 0)
}

fn mark_of_the_packet() -> Case {
    let sent = syn(1234);
    let mut packet = Bytes::received(sent.bytes(), FRONT);
    packet.arrival.mark = 7;
    let out = to_server_port(&sent, &SERVERS[0], 1234);
    Case::new(
        "A mark that the packet already has counts",
        marked_world(&[]),
    )
    .packet(&sent, Expected::pass(Reason::NoService))
    .packet(packet, Expected::transmit(BACK, Reason::Forwarded, &out))
}

fn mark_before_address() -> Case {
    let world = marked_world(&[MarkRule {
        destination: (V4::new(SERVICE), 32),
        ..rule(7)
    }])
    .service(Service::usual(TCP).with(&[(SERVERS[2], 0, 1)]));
    reaches(
        Case::new(
            "A service by mark comes before one by address and port",
            world,
        ),
        &syn(PORT),
        0,
    )
}

fn unknown_mark() -> Case {
    let world = marked_world(&[rule(99)]).service(Service::usual(TCP).with(&[(SERVERS[2], 0, 1)]));
    reaches(
        Case::new(
            "A mark without a service leaves the choice to address and port",
            world,
        ),
        &syn(PORT),
        2,
    )
}

fn each_field() -> Vec<Case> {
    let client = V4::new(CLIENT.ip);
    let service = V4::new(SERVICE);
    let rules = [
        (
            "interface",
            MarkRule {
                ifindex: Some(FRONT),
                ..rule(7)
            },
            MarkRule {
                ifindex: Some(BACK),
                ..rule(7)
            },
        ),
        (
            "source address",
            MarkRule {
                source: (client, 32),
                ..rule(7)
            },
            MarkRule {
                source: (service, 32),
                ..rule(7)
            },
        ),
        (
            "source network",
            MarkRule {
                source: (client, 9),
                ..rule(7)
            },
            MarkRule {
                source: (V4::new([193, 0, 2, 10]), 8),
                ..rule(7)
            },
        ),
        (
            "destination",
            MarkRule {
                destination: (service, 32),
                ..rule(7)
            },
            MarkRule {
                destination: (V4::new(OTHER_SERVICE), 32),
                ..rule(7)
            },
        ),
        (
            "destination network",
            MarkRule {
                destination: (service, 31),
                ..rule(7)
            },
            MarkRule {
                destination: (V4::new([10, 0, 0, 102]), 31),
                ..rule(7)
            },
        ),
        (
            "protocol",
            MarkRule {
                protocol: Some(TCP),
                ..rule(7)
            },
            MarkRule {
                protocol: Some(UDP),
                ..rule(7)
            },
        ),
        (
            "port",
            MarkRule {
                ports: Some((PORT, PORT)),
                ..rule(7)
            },
            MarkRule {
                ports: Some((81, 81)),
                ..rule(7)
            },
        ),
        (
            "everything",
            MarkRule {
                ifindex: Some(FRONT),
                source: (client, 24),
                destination: (service, 24),
                protocol: Some(TCP),
                ports: Some((1, 1000)),
                ..rule(7)
            },
            MarkRule {
                ifindex: Some(FRONT),
                source: (client, 24),
                destination: (service, 24),
                protocol: Some(TCP),
                ports: Some((81, 1000)),
                ..rule(7)
            },
        ),
    ];
    let mut cases = Vec::new();
    for (field, matching, other) in rules {
        let case = Case::new(
            format!("A mark rule by {field} marks what matches"),
            marked_world(&[matching]),
        );
        cases.push(reaches(case, &syn(PORT), 0));
        let case = Case::new(
            format!("A mark rule by {field} leaves alone what does not match"),
            marked_world(&[other]),
        );
        cases.push(case.packet(&syn(PORT), Expected::pass(Reason::NoService)));
    }
    cases
}

fn last_match_wins() -> Case {
    let narrow = MarkRule {
        ports: Some((PORT, PORT)),
        ..rule(7)
    };
    let wide = MarkRule {
        destination: (V4::new(SERVICE), 8),
        ..rule(8)
    };
    let other = MarkRule {
        protocol: Some(UDP),
        ..rule(7)
    };
    let case = Case::new(
        "Of several mark rules the last that matches wins",
        marked_world(&[narrow, wide, other]),
    );
    let case = reaches(case, &syn(PORT), 1);
    reaches(case, &asks(&CLIENT, udp(CLIENT_PORT, PORT)), 0)
}

fn masks() -> Case {
    let low = MarkRule {
        mark: 7,
        mask: 0xff,
        ..rule(0)
    };
    let high = MarkRule {
        mark: 0x100,
        mask: 0xff00,
        protocol: Some(UDP),
        ..rule(0)
    };
    let world = World::empty()
        .service(Service::usual(0).with(&[(SERVERS[0], 0, 1)]).marked(7))
        .service(Service::usual(0).with(&[(SERVERS[1], 0, 1)]).marked(0x107))
        .marks(&[low, high]);
    let case = Case::new(
        "Mark rules with masks set their parts of the mark, one after the other",
        world,
    );
    let case = reaches(case, &syn(PORT), 0);
    reaches(case, &asks(&CLIENT, udp(CLIENT_PORT, PORT)), 1)
}

fn masks_in_order() -> Case {
    let all = MarkRule {
        ports: Some((PORT, PORT)),
        ..rule(0xffff)
    };
    let first = MarkRule {
        mark: 0x7,
        mask: 0xf,
        protocol: Some(TCP),
        ..rule(0)
    };
    let second = MarkRule {
        mark: 0,
        mask: 0xfff0,
        source: (V4::new(CLIENT.ip), 32),
        ..rule(0)
    };
    let case = Case::new(
        "A mask keeps what an earlier rule set, and a later rule changes it again",
        marked_world(&[all, first, second]),
    );
    reaches(case, &syn(PORT), 0)
}

fn ranges() -> Case {
    let range = (1003, 4099);
    let rules = [MarkRule {
        ports: Some(range),
        ..rule(7)
    }];
    let case = Case::new(
        "A range of ports matches from its first to its last",
        marked_world(&rules),
    );
    let inside = [1003, 1004, 1023, 1024, 2047, 2048, 4095, 4096, 4099];
    let case = inside
        .into_iter()
        .fold(case, |case, port| reaches(case, &syn(port), 0));
    [1, 1002, 4100, 65535].into_iter().fold(case, |case, port| {
        case.packet(&syn(port), Expected::pass(Reason::NoService))
    })
}

fn every_port() -> Case {
    let case = Case::new(
        "A service by mark serves every port and protocol, from near and far",
        marked_world(&[rule(7)]),
    );
    let case = reaches(case, &syn(1), 0);
    let case = reaches(case, &asks(&CLIENT, udp(CLIENT_PORT, 53)), 0);
    let case = reaches(
        case,
        &asks_at(&CLIENT, OTHER_SERVICE, tcp(CLIENT_PORT, 443, flag::SYN)),
        0,
    );
    let case = reaches(case, &asks(&FAR_CLIENT, udp(CLIENT_PORT, 53)), 0);
    case.packet(
        &asks(&CLIENT, tcp(CLIENT_PORT, 2, flag::ACK)),
        Expected::pass(Reason::NoConnection),
    )
}

fn sixteen_shapes() -> Case {
    let rules: Vec<_> = (0..16)
        .map(|prefix| MarkRule {
            destination: (V4::new([172, 16, 0, 0]), 17 + prefix),
            ..rule(8)
        })
        .chain([MarkRule {
            destination: (V4::new(SERVICE), 24),
            ..rule(7)
        }])
        .collect();
    let case = Case::new(
        "Sixteen shapes of mark rules are looked at, also the last",
        marked_world(&rules),
    );
    reaches(case, &syn(PORT), 0)
}
