//! What the hook leaves to packets, and how far it reaches.

use lb_common::{
    abi::{Be16, ConnKey, LOOPBACK, METHOD_DIRECT, NO_SOCKET, RESET, SCOPE_RESETS, V4},
    host::{Bytes, Capacity, MarkRule, Memory, ServerSpec, ServiceSpec},
    pipeline,
    socket::{self, Asked, Kind},
    verdict::Reason,
};

use crate::world::{
    ASKED, LOCALHOST, SCOPE, SERVICE, TCP, UDP, World, asked, led_to, left, server,
};

#[test]
fn two_services_with_one_server_are_told_apart_by_leaving_the_second_to_packets() {
    let mut world = World::new(UDP, &[1]);
    let address = V4::new([10, 0, 0, 101]);
    let second = world
        .memory
        .add_service(&ServiceSpec::address(UDP, address, 80))
        .expect("room");
    let spec = ServerSpec {
        address: server(1),
        port: 8000,
        weight: 1,
    };
    world.memory.add_server(second, &spec).expect("room");
    assert_eq!(world.send(&asked(UDP, 1)), led_to(1));
    let other = Asked {
        address,
        ..asked(UDP, 1)
    };
    assert_eq!(world.send(&other), left());
    assert_eq!(
        socket::receive(&world.memory, 1, UDP, server(1), Be16::new(8000)),
        Some(ASKED)
    );
    // Another socket may.
    assert_eq!(world.send(&Asked { cookie: 2, ..other }), led_to(1));
}

#[test]
fn what_the_hook_is_not_to_serve_is_left_and_moves_no_cursor() {
    let mut world = World::new(TCP, &[1, 1]);
    world.memory.set_socket_hook(false);
    assert_eq!(world.connect(&asked(TCP, 1)), left());
    world.memory.set_socket_hook(true);
    world.memory.set_options(world.service, NO_SOCKET);
    assert_eq!(world.connect(&asked(TCP, 1)), left());
    world.memory.set_options(world.service, 0);
    // Direct routing is about packets.
    world.memory.set_method(world.servers[1], METHOD_DIRECT);
    assert_eq!(world.connect(&asked(TCP, 1)), left());
    assert_eq!(world.connect(&asked(TCP, 1)), left());
    world.memory.set_method(world.servers[1], 0);
    assert_eq!(world.connect(&asked(TCP, 1)), led_to(2));
    assert_eq!(world.connect(&asked(UDP, 2)), left(), "another protocol");
    // A socket bound to a loopback address reaches no server elsewhere.
    let at_home = Asked {
        source: LOCALHOST,
        ..asked(TCP, 3)
    };
    assert_eq!(world.connect(&at_home), left());
    let here = ServerSpec {
        address: LOCALHOST,
        port: 8000,
        weight: 1,
    };
    for server in world.servers.clone() {
        world.memory.remove_server(server);
    }
    world.memory.add_server(world.service, &here).expect("room");
    assert_eq!(world.connect(&at_home).address, LOCALHOST);
}

#[test]
fn single_packet_scheduling_is_left_to_packets() {
    let mut spec = ServiceSpec::address(UDP, SERVICE, 80);
    spec.flags = lb_common::abi::ONE_PACKET;
    let world = World::with(spec, &[1], Capacity::default());
    assert_eq!(world.send(&asked(UDP, 1)), left());
    assert_eq!(world.connect(&asked(UDP, 1)), left());
}

#[test]
fn a_service_is_reached_at_loopback_addresses_only_where_it_says_so() {
    let mut world = World::new(TCP, &[1]);
    let at = |address, cookie| Asked {
        address,
        ..asked(TCP, cookie)
    };
    assert_eq!(world.connect(&at(LOCALHOST, 1)), left());
    world.memory.set_options(world.service, LOOPBACK);
    assert_eq!(world.connect(&at(LOCALHOST, 1)), led_to(1));
    assert_eq!(
        socket::peer(&world.memory, 1, TCP, server(1), Be16::new(8000)),
        Some((LOCALHOST, Be16::new(80))),
        "the socket sees what it asked for"
    );
    assert_eq!(world.connect(&at(V4::new([127, 8, 8, 8]), 2)), led_to(1));
    assert_eq!(world.connect(&at(V4::new([10, 0, 0, 1]), 3)), left());
    let other_port = Asked {
        port: Be16::new(81),
        ..at(LOCALHOST, 4)
    };
    assert_eq!(world.connect(&other_port), left());
    assert_eq!(
        world.connect(&Asked {
            protocol: UDP,
            ..at(LOCALHOST, 5)
        }),
        left()
    );
}

#[test]
fn marks_lead_to_fwmark_services() {
    let mut world = World::new(TCP, &[1]);
    let marked = world
        .memory
        .add_service(&ServiceSpec::fwmark(7))
        .expect("room");
    let spec = ServerSpec {
        address: server(3),
        port: 0,
        weight: 1,
    };
    world.memory.add_server(marked, &spec).expect("room");
    // By the socket's own mark, in which case the port stays.
    let own = Asked {
        mark: 7,
        address: V4::new([9, 9, 9, 9]),
        ..asked(TCP, 1)
    };
    let answer = world.connect(&own);
    assert_eq!(
        (answer.kind, answer.address, answer.port),
        (Kind::Lead, server(3), Be16::new(80))
    );
    // By a rule, which goes before the address.
    let rule = MarkRule {
        ifindex: None,
        source: (V4::default(), 0),
        destination: (SERVICE, 32),
        protocol: None,
        ports: None,
        mark: 7,
        mask: u32::MAX,
    };
    assert!(world.memory.set_mark_rules(&[rule]));
    assert_eq!(world.connect(&asked(TCP, 2)).address, server(3));
    let elsewhere = Asked {
        address: V4::new([9, 9, 9, 9]),
        ..asked(TCP, 3)
    };
    assert_eq!(world.connect(&elsewhere), left());
}

#[test]
fn packets_of_a_led_socket_are_known_as_such() {
    let mut world = World::new(TCP, &[1]);
    assert_eq!(world.connect(&asked(TCP, 1)), led_to(1));
    let packet = |dst, dport| ConnKey {
        src: V4::new([10, 0, 0, 1]),
        dst,
        sport: Be16::new(40_000),
        dport: Be16::new(dport),
        scope_protocol: SCOPE << 8 | u32::from(TCP),
    };
    let is_led = |cookie, key| socket::is_led(&world.memory, cookie, &key);
    assert!(is_led(1, packet(server(1), 8000)));
    assert!(!is_led(2, packet(server(1), 8000)), "another socket");
    assert!(!is_led(0, packet(server(1), 8000)), "no socket");
    assert!(!is_led(1, packet(server(2), 8000)), "another server");
    // Where the server's address is a service too the packet is not balanced again.
    let chained = ServiceSpec::address(TCP, server(1), 8000);
    let second = world.memory.add_service(&chained).expect("room");
    let spec = ServerSpec {
        address: server(2),
        port: 8000,
        weight: 1,
    };
    world.memory.add_server(second, &spec).expect("room");
    let mut syn = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    syn.extend([
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 1, 11,
    ]);
    syn.extend([
        0x9c, 0x40, 0x1f, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
    ]);
    let send = |memory: &Memory<V4>, flags: u8, cookie| {
        let mut bytes = syn.clone();
        bytes[47] = flags;
        let mut packet = Bytes::sent(bytes, 7);
        packet.cookie = cookie;
        pipeline::run(&mut packet, memory).reason
    };
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    assert_eq!(send(&world.memory, SYN, 1), Reason::NoService);
    // Nor is it reset, where the service resets what belongs to no connection.
    let resets = ServiceSpec {
        flags: RESET,
        ..ServiceSpec::address(TCP, server(1), 8000)
    };
    world.memory.remove_service(second);
    let second = world.memory.add_service(&resets).expect("room");
    world.memory.add_server(second, &spec).expect("room");
    world.memory.set_flag(SCOPE_RESETS, true);
    assert_eq!(send(&world.memory, ACK, 1), Reason::NoService);
    assert_eq!(send(&world.memory, ACK, 2), Reason::Reset);
    assert_eq!(send(&world.memory, SYN, 2), Reason::Forwarded);
}

#[test]
fn a_full_table_leaves_sockets_to_packets() {
    let capacity = Capacity {
        assured: 4,
        half_open: 4,
        ..Capacity::default()
    };
    let world = World::with(ServiceSpec::address(TCP, SERVICE, 80), &[1], capacity);
    for cookie in 1..=4 {
        assert_eq!(world.connect(&asked(TCP, cookie)), led_to(1));
    }
    assert_eq!(world.connect(&asked(TCP, 5)), left());
    world.release(3);
    assert_eq!(world.connect(&asked(TCP, 6)), led_to(1));
}
