//! The way of local sockets: the choices, counts and lives that packets have too.

mod left;
mod world;

use std::time::Duration;

use lb_common::{
    abi::{
        Be16, SCHEDULER_WRR, SOCKET, SOCKET_FLOW, SWEEP_TEMPLATE, SweepItem, TEMPLATE_ASSURED, V4,
        Word, socket_cookie, socket_end, socket_protocol,
    },
    conn::{socket as sockets, state, sweep::sweep},
    host::{Bytes, Capacity, Memory, ServerSpec, ServiceSpec},
    pipeline,
    socket::{self, Asked, Kind, Sockets as _},
    tables::{Ring, Tables as _},
    verdict::Reason,
};

use world::{ASKED, SCOPE, SERVICE, TCP, UDP, World, asked, led_to, left, server};

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
        sweep(&world.memory, &SweepItem::expired(key));
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
    let item = |index| SweepItem::numbered(SWEEP_TEMPLATE, index);
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
