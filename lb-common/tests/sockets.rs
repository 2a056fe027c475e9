//! The way of local sockets: the choices, counts and lives that packets have too.

use std::time::Duration;

use lb_common::{
    abi::{
        Address as _, Be16, ConnKey, LOOPBACK, METHOD_DIRECT, NO_SOCKET, RESET, SCHEDULER_WRR,
        SCOPE_RESETS, SOCKET, SOCKET_FLOW, SWEEP_TEMPLATE, SweepItem, TEMPLATE_ASSURED, V4, Word,
        socket_cookie, socket_end, socket_protocol,
    },
    conn::{socket as sockets, state, sweep::sweep},
    host::{Bytes, Capacity, HopSpec, MarkRule, Memory, ServerSpec, ServiceSpec},
    pipeline,
    socket::{self, Answer, Asked, Direct, Kind, Sockets as _},
    tables::{Ring, Tables as _},
    verdict::Reason,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SERVICE: V4 = V4::new([10, 0, 0, 100]);
const LOCALHOST: V4 = V4::new([127, 0, 0, 1]);
const SCOPE: u32 = 3;

fn server(number: u8) -> V4 {
    V4::new([10, 0, 1, 10 + number])
}

/// A service at 10.0.0.100:80 of this protocol, with servers of these weights.
struct World {
    memory: Memory<V4>,
    service: u32,
    servers: Vec<u32>,
}

impl World {
    fn new(protocol: u8, weights: &[u32]) -> Self {
        Self::with(
            ServiceSpec::address(protocol, SERVICE, 80),
            weights,
            Capacity::default(),
        )
    }

    fn with(spec: ServiceSpec<V4>, weights: &[u32], capacity: Capacity) -> Self {
        let mut memory = Memory::new(SCOPE, capacity);
        memory.set_hop(
            1,
            &HopSpec {
                address: V4::new([10, 0, 0, 1]).words(),
                ..HopSpec::forward(7, [2; 6], [4; 6])
            },
        );
        memory.set_hop(2, &HopSpec::local());
        memory.set_route(V4::default(), 0, 1);
        memory.set_route(SERVICE, 32, 2);
        memory.set_socket_hook(true);
        let service = memory.add_service(&spec).expect("room for a service");
        let servers = (1..)
            .zip(weights)
            .map(|(number, weight)| {
                let spec = ServerSpec {
                    address: server(number),
                    port: 8000,
                    weight: *weight,
                };
                memory
                    .add_server(service, &spec)
                    .expect("room for a server")
            })
            .collect();
        Self {
            memory,
            service,
            servers,
        }
    }

    fn connect(&self, asked: &Asked<V4>) -> Answer<V4> {
        let answer = socket::connect(&self.memory, asked, &mut Direct::new(&self.memory));
        self.memory.audit().expect("the tables are sound");
        answer
    }

    fn send(&self, asked: &Asked<V4>) -> Answer<V4> {
        let answer = socket::send(&self.memory, asked, &mut Direct::new(&self.memory));
        self.memory.audit().expect("the tables are sound");
        answer
    }

    fn release(&self, cookie: u64) {
        socket::release(&self.memory, cookie);
        self.memory.audit().expect("the tables are sound");
    }

    /// Active and all connections of a server.
    fn counts(&self, index: usize) -> (u32, u32) {
        let server = self.memory.server(self.servers[index]).expect("a server");
        (server.active.load(), server.total.load())
    }
}

fn asked(protocol: u8, cookie: u64) -> Asked<V4> {
    Asked {
        cookie,
        address: SERVICE,
        source: V4::default(),
        port: Be16::new(80),
        sport: Be16::ZERO,
        mark: 0,
        protocol,
    }
}

fn led_to(number: u8) -> Answer<V4> {
    Answer {
        kind: Kind::Lead,
        address: server(number),
        port: Be16::new(8000),
    }
}

fn left() -> Answer<V4> {
    Answer {
        kind: Kind::Leave,
        address: V4::default(),
        port: Be16::ZERO,
    }
}

const ASKED: (V4, Be16) = (SERVICE, Be16::new(80));

#[test]
fn connects_go_round_are_counted_and_end_with_their_sockets() {
    let world = World::new(TCP, &[1, 1]);
    // Cookies of which the lower half is the same.
    let cookies = [1, 1 << 32 | 1, 2, 3];
    let turns = cookies.map(|cookie| world.connect(&asked(TCP, cookie)));
    assert_eq!(turns, [led_to(2), led_to(1), led_to(2), led_to(1)]);
    assert_eq!([world.counts(0), world.counts(1)], [(2, 2), (2, 2)]);
    assert_eq!(world.memory.server_stats(world.servers[0]).conns, 2);
    assert_eq!(world.memory.reason(Reason::Socket), [4, 0]);
    for (cookie, number) in cookies.into_iter().zip([2, 1, 2, 1]) {
        let peer =
            |number| socket::peer(&world.memory, cookie, TCP, server(number), Be16::new(8000));
        assert_eq!(peer(number), Some(ASKED));
        assert_eq!(peer(3 - number), None);
    }
    // They last for longer than any timeout, and no sweep takes them.
    world.memory.advance(Duration::from_secs(300 * 86_400));
    for key in world.memory.entries().keys() {
        sweep(&world.memory, &SweepItem { key, force: 0 });
    }
    assert_eq!(world.memory.entries().len(), 8);
    world.release(1);
    assert_eq!([world.counts(0), world.counts(1)], [(2, 2), (1, 1)]);
    assert_eq!(
        socket::peer(&world.memory, 1, TCP, server(2), Be16::new(8000)),
        None
    );
    for cookie in cookies {
        world.release(cookie);
    }
    assert_eq!([world.counts(0), world.counts(1)], [(0, 0), (0, 0)]);
    assert!(world.memory.entries().is_empty());
    assert_eq!(world.memory.sockets(), 0);
    // What has been counted stays.
    assert_eq!(world.memory.server_stats(world.servers[0]).conns, 2);
}

#[test]
fn weights_are_exact_and_one_cursor_serves_sockets_and_packets() {
    let mut world = World::new(TCP, &[3, 1]);
    assert!(world.memory.set_scheduler(world.service, SCHEDULER_WRR));
    let mut heavy = 0;
    for cookie in 1..=40 {
        heavy += u32::from(world.connect(&asked(TCP, cookie)) == led_to(1));
    }
    assert_eq!(heavy, 30);

    let world = World::new(UDP, &[1, 1, 1]);
    let mut datagram = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    datagram.extend([
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0, 11, 0, 0, 2, 10, 0, 0, 100,
    ]);
    datagram.extend([0x9c, 0x40, 0, 80, 0, 8, 0, 0]);
    let mut packet = Bytes::received(datagram, 1);
    assert_eq!(world.connect(&asked(UDP, 1)), led_to(3));
    assert_eq!(
        pipeline::run(&mut packet, &world.memory).reason,
        Reason::Forwarded
    );
    assert_eq!(packet.data[30..34], [10, 0, 1, 12]);
    assert_eq!(world.connect(&asked(UDP, 2)), led_to(1));
}

#[test]
fn a_socket_that_connects_again_leaves_its_first_server() {
    let world = World::new(TCP, &[1, 1]);
    assert_eq!(world.connect(&asked(TCP, 5)), led_to(2));
    assert_eq!(world.connect(&asked(TCP, 5)), led_to(1));
    assert_eq!([world.counts(0), world.counts(1)], [(1, 1), (0, 0)]);
    // And with something else no server at all.
    let elsewhere = Asked {
        address: V4::new([8, 8, 8, 8]),
        ..asked(TCP, 5)
    };
    assert_eq!(world.connect(&elsewhere), left());
    assert_eq!(world.counts(0), (0, 0));
    assert_eq!(world.memory.sockets(), 0);
}

#[test]
fn a_client_stays_with_its_template() {
    let mut world = World::new(TCP, &[1, 1, 1]);
    world
        .memory
        .set_persistent(world.service, 360, V4::new([255; 4]));
    let first = world.connect(&asked(TCP, 1));
    for cookie in 2..6 {
        assert_eq!(world.connect(&asked(TCP, cookie)), first);
    }
    // Another source address is another client.
    let other = |cookie| Asked {
        source: V4::new([10, 0, 0, 9]),
        ..asked(TCP, cookie)
    };
    let second = world.connect(&other(10));
    assert_ne!(second, first);
    assert_eq!(world.connect(&other(11)), second);
    let children = |memory: &Memory<V4>| -> u32 {
        let slots = 0..memory.slots(Ring::Templates);
        slots
            .filter_map(|index| memory.template(index))
            .map(|slot| slot.children.load())
            .sum()
    };
    assert_eq!(children(&world.memory), 7);
    let assured = |memory: &Memory<V4>| {
        let slots = 0..memory.slots(Ring::Templates);
        let words = slots
            .filter_map(|index| memory.template(index))
            .map(|slot| Word(slot.word.load()));
        words
            .filter(|word| word.state() == TEMPLATE_ASSURED)
            .count()
    };
    assert_eq!(assured(&world.memory), 2);
    for cookie in (1..6).chain([10, 11]) {
        world.release(cookie);
    }
    assert_eq!(children(&world.memory), 0);
    // The template outlives its connections, and ends by its own time.
    assert_eq!(world.connect(&asked(TCP, 20)), first);
    world.release(20);
    world.memory.advance(Duration::from_secs(361));
    let item = |index| SweepItem {
        key: ConnKey {
            scope_protocol: u32::from(SWEEP_TEMPLATE),
            ..ConnKey::default()
        },
        force: index,
    };
    for index in 0..world.memory.slots(Ring::Templates) {
        sweep(&world.memory, &item(index));
    }
    assert_ne!(world.connect(&asked(TCP, 21)), first);
}

#[test]
fn an_overloaded_server_takes_no_sockets_and_none_at_all_refuses() {
    let mut world = World::new(TCP, &[1, 1]);
    world.memory.set_thresholds(world.servers[0], 1, 0);
    let turns: Vec<_> = (1..=4)
        .map(|cookie| world.connect(&asked(TCP, cookie)))
        .collect();
    assert_eq!(turns, [led_to(2), led_to(1), led_to(2), led_to(2)]);
    world.memory.set_thresholds(world.servers[1], 4, 0);
    assert_eq!(world.connect(&asked(TCP, 5)), led_to(2));
    let refused = world.connect(&asked(TCP, 6));
    assert_eq!(refused.kind, Kind::Refuse);
    assert_eq!(world.memory.reason(Reason::NoServer)[0], 1);
    // Below three quarters again.
    for cookie in [1, 3, 4, 5] {
        world.release(cookie);
    }
    assert_eq!(world.connect(&asked(TCP, 7)), led_to(2));
}

#[test]
fn what_a_socket_sends_stays_with_one_server_until_its_timeout() {
    let mut world = World::new(UDP, &[1, 1]);
    world.memory.set_timeouts(0, 0, 20);
    assert_eq!(world.send(&asked(UDP, 1)), led_to(2));
    assert_eq!(world.send(&asked(UDP, 2)), led_to(1));
    for _ in 0..10 {
        world.memory.advance(Duration::from_secs(15));
        assert_eq!(world.send(&asked(UDP, 1)), led_to(2));
    }
    // UDP is never active; the other's flow has expired meanwhile, and goes when it is met.
    assert_eq!(world.counts(1), (0, 1));
    let receive = |cookie, number| {
        socket::receive(&world.memory, cookie, UDP, server(number), Be16::new(8000))
    };
    assert_eq!(receive(1, 2), Some(ASKED));
    assert_eq!(receive(1, 1), None);
    assert_eq!(receive(9, 2), None);
    // An answer defers the end too.
    world.memory.advance(Duration::from_secs(15));
    assert_eq!(receive(1, 2), Some(ASKED));
    world.memory.advance(Duration::from_secs(15));
    assert_eq!(world.send(&asked(UDP, 1)), led_to(2));
    // The next in turn is the other server.
    assert_eq!(world.connect(&asked(UDP, 3)), led_to(2));
    world.memory.advance(Duration::from_secs(21));
    assert_eq!(
        world.send(&asked(UDP, 1)),
        led_to(1),
        "its time was over, and the choice is a new one"
    );
    assert_eq!(world.memory.server_stats(world.servers[0]).conns, 2);
    world.release(3);
    assert_eq!(world.counts(1), (0, 0));
}

#[test]
fn a_flood_of_unanswered_flows_costs_no_answered_one() {
    let capacity = Capacity {
        half_open: 8,
        assured: 8,
        ..Capacity::default()
    };
    let world = World::with(ServiceSpec::address(UDP, SERVICE, 80), &[1], capacity);
    assert_eq!(world.send(&asked(UDP, 1)), led_to(1));
    socket::receive(&world.memory, 1, UDP, server(1), Be16::new(8000));
    for cookie in 100..200 {
        assert_eq!(world.send(&asked(UDP, cookie)), led_to(1));
    }
    assert_eq!(world.counts(0), (0, 9));
    assert_eq!(
        socket::receive(&world.memory, 1, UDP, server(1), Be16::new(8000)),
        Some(ASKED)
    );
}

#[test]
fn a_removed_server_keeps_its_connected_sockets_and_loses_its_flows() {
    let mut world = World::new(UDP, &[1, 1]);
    assert_eq!(world.connect(&asked(UDP, 1)), led_to(2));
    assert_eq!(world.send(&asked(UDP, 2)), led_to(1));
    assert_eq!(world.send(&asked(UDP, 3)), led_to(2));
    world.memory.remove_server(world.servers[1]);
    assert_eq!(world.send(&asked(UDP, 3)), led_to(1));
    assert_eq!(world.counts(1), (0, 1), "the connected one");
    assert_eq!(
        socket::peer(&world.memory, 1, UDP, server(2), Be16::new(8000)),
        Some(ASKED)
    );
    // Connecting again chooses among those that are there.
    assert_eq!(world.connect(&asked(UDP, 1)), led_to(1));
    assert_eq!(world.counts(1), (0, 0));
}

#[test]
fn a_connected_socket_that_also_sends_elsewhere_keeps_both_apart() {
    let mut world = World::new(UDP, &[1]);
    let mut other = ServiceSpec::address(UDP, V4::new([10, 0, 0, 101]), 53);
    other.key.port = Be16::new(53);
    let second = world.memory.add_service(&other).expect("room");
    let spec = ServerSpec {
        address: server(2),
        port: 5353,
        weight: 1,
    };
    world.memory.add_server(second, &spec).expect("room");
    assert_eq!(world.connect(&asked(UDP, 1)), led_to(1));
    let question = Asked {
        address: V4::new([10, 0, 0, 101]),
        port: Be16::new(53),
        ..asked(UDP, 1)
    };
    assert_eq!(world.send(&question).address, server(2));
    let from =
        |number, port| socket::receive(&world.memory, 1, UDP, server(number), Be16::new(port));
    assert_eq!(from(1, 8000), Some(ASKED));
    assert_eq!(
        from(2, 5353),
        Some((V4::new([10, 0, 0, 101]), Be16::new(53)))
    );
    world.release(1);
    assert_eq!(
        world.counts(0),
        (0, 0),
        "the connection ended, the flow has its timeout"
    );
    assert_eq!(world.memory.entries().len(), 2);
}

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

#[test]
fn keys_of_sockets_are_nobody_elses() {
    let cookie = 0x0000_abcd_1234_5678;
    let (address, port): (V4, Be16) = socket_end(cookie);
    assert_eq!(socket_cookie(address, port), cookie);
    assert_eq!(socket_protocol(TCP), None);
    assert_eq!(socket_protocol(UDP), None);
    assert_eq!(socket_protocol(TCP | SOCKET), Some(TCP));
    assert_eq!(socket_protocol(UDP | SOCKET | SOCKET_FLOW), Some(UDP));
    let key = sockets::key(
        cookie,
        SCOPE << 8 | u32::from(TCP),
        SOCKET,
        SERVICE,
        Be16::new(80),
    );
    assert_eq!((key.scope(), key.protocol()), (SCOPE, TCP | SOCKET));
    let world = World::new(TCP, &[1]);
    assert_eq!(world.connect(&asked(TCP, cookie)), led_to(1));
    let conn = world.memory.conn(&key).expect("its forward entry");
    let word = Word(conn.word.load());
    assert_eq!(word.state(), state::ESTABLISHED);
    assert_eq!(world.memory.socket(cookie), Some(key));
}
