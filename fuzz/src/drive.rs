//! Plays a file as packets, changes and waits against the pipeline, and checks after each what must always hold. Used
//! by the fuzz target, and by an ordinary test on the kept files.

use std::time::Duration;

use lb_common::{
    abi::{
        Be16, Be32, ConnKey, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCOPE_EXPIRE_REMOVED,
        SCOPE_NO_REUSE, SweepItem, V4, Word,
    },
    conn::sweep::sweep,
    host::{Bytes, Capacity, HopSpec, MarkRule, Memory, ServerSpec, ServiceSpec},
    pipeline,
    tables::Tables as _,
    verdict::{Action, Reason},
};

const SERVICE: [u8; 4] = [10, 0, 0, 100];
const SCOPE: u32 = 2;
/// Ethernet, and an ICMP error at its longest.
const LONGEST_ERROR: usize = 14 + 576;

/// The file, byte by byte; zeros after its end.
struct Input<'d>(&'d [u8]);

impl Input<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes.to_vec()
    }
}

/// Plays a file.
///
/// # Panics
/// When a rule is broken: that is what it is for.
pub(crate) fn drive(data: &[u8]) {
    let mut input = Input(data);
    let mut memory = world(&mut input);
    let mut servers: Vec<u32> = (1..=4).collect();
    let mut steps = 0;
    while !input.0.is_empty() && steps < 64 {
        steps += 1;
        match input.u8() % 16 {
            0..=7 => handle(&memory, template(&mut input)),
            8 => {
                let length = usize::from(input.u8());
                handle(&memory, arrival(&mut input).with_data(input.bytes(length)));
            }
            9 | 10 => memory.advance(Duration::from_millis(u64::from(input.u16()) * 20)),
            11 => memory.set_weight(
                servers[usize::from(input.u8()) % servers.len()],
                u32::from(input.u16()),
            ),
            12 => memory.remove_server(servers[usize::from(input.u8()) % servers.len()]),
            13 => {
                let service = 1 + u32::from(input.u8()) % 3;
                if let Some(server) = memory.add_server(service, &server(&mut input)) {
                    servers.push(server);
                }
            }
            14 => force(&memory, &mut input),
            _ => {
                let mut keys = memory.entries().keys();
                keys.sort_by_key(|key| (key.src, key.dst, key.sport, key.dport));
                for key in keys {
                    sweep(&memory, &SweepItem::expired(key));
                }
            }
        }
        memory.audit().expect("the tables are sound");
    }
}

fn server(input: &mut Input<'_>) -> ServerSpec<V4> {
    let choice = input.u8();
    ServerSpec {
        // Sometimes this host, sometimes a client.
        address: V4::new(if choice & 0x80 == 0 {
            [10, 0, 1, 11 + (choice & 3)]
        } else {
            [192, 0, 2, choice & 3]
        }),
        port: if choice & 4 == 0 { 8080 } else { 0 },
        weight: u32::from(choice >> 3 & 3),
    }
}

fn world(input: &mut Input<'_>) -> Memory<V4> {
    let options = input.u16();
    let on = |bit: u32| options >> bit & 1 != 0;
    let small = Capacity {
        entries: 12,
        half_open: 2,
        assured: 2,
        objects: 16,
        buckets: 3 * 4093,
        ..Capacity::default()
    };
    let usual = Capacity {
        entries: 64,
        half_open: 8,
        assured: 8,
        objects: 16,
        buckets: 3 * 4093,
        ..Capacity::default()
    };
    let mut memory = Memory::new(SCOPE, if on(0) { small } else { usual });
    memory.seed(u64::from(options));
    for (oif, octet) in [(1, 1), (2, 2)] {
        memory.set_interface(
            oif,
            [2, 0, 0, 0, 0, octet],
            Be32::from_octets([10, 0, octet, 1]),
        );
    }
    let front = HopSpec {
        on_link: on(1),
        ..HopSpec::forward(1, [2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 1])
    };
    let address = lb_common::abi::Address::words(V4::new([10, 0, 1, 1]));
    let macs = if on(2) { None } else { front.macs };
    memory.set_hop(1, &front);
    memory.set_hop(
        2,
        &HopSpec {
            oif: if on(3) { 1 } else { 2 },
            address,
            macs,
            mtu: if on(4) { 100 } else { 1500 },
            ..front
        },
    );
    memory.set_hop(3, &HopSpec::local());
    memory.set_hop(4, &HopSpec::blackhole());
    memory.set_route(V4::default(), 0, 1);
    memory.set_route(V4::new([10, 0, 1, 0]), 24, 2);
    memory.set_route(V4::new([192, 0, 2, 1]), 32, 3);
    memory.set_route(V4::new([10, 0, 1, 14]), 32, 4);
    for (index, protocol) in [(0, 6), (1, 17), (2, 0)] {
        let mut spec = if protocol == 0 {
            ServiceSpec::fwmark(7)
        } else {
            ServiceSpec::address(protocol, V4::new(SERVICE), if on(5) { 0 } else { 80 })
        };
        spec.source_nat = on(6 + index);
        spec.answer = protocol != 0 && on(9);
        // Any of the fifteen, and with it any flags.
        if on(10) {
            spec.scheduler = (options % 15) as u8;
            spec.flags = (options >> 4) as u8 & (SCHEDULER_FLAG_1 | SCHEDULER_FLAG_2);
        }
        let service = memory.add_service(&spec).expect("room for a service");
        for number in 0..2 {
            let spec = ServerSpec {
                address: V4::new([10, 0, 1, 11 + number]),
                port: if protocol == 0 { 0 } else { 8080 },
                weight: 1,
            };
            memory
                .add_server(service, &spec)
                .expect("room for a real server");
        }
    }
    memory.set_flag(SCOPE_NO_REUSE, on(11));
    memory.set_flag(SCOPE_EXPIRE_REMOVED, on(12));
    if on(13) {
        let low = MarkRule {
            mark: 7,
            mask: if on(14) { 0xff } else { u32::MAX },
            ports: Some((1000, 2000)),
            ..MarkRule::default()
        };
        let all = MarkRule {
            mark: 0x700,
            mask: 0xff00,
            protocol: Some(17),
            source: (V4::new([192, 0, 2, 0]), 24),
            ..MarkRule::default()
        };
        memory.set_mark_rules(&[low, all]);
    }
    if on(15) {
        memory.set_error_budget(2);
    }
    memory
}

/// An empty packet that arrived somehow.
struct Arrived(Bytes);

impl Arrived {
    fn with_data(self, data: Vec<u8>) -> Bytes {
        Bytes { data, ..self.0 }
    }
}

fn arrival(input: &mut Input<'_>) -> Arrived {
    let how = input.u8();
    let mut packet = Bytes::received(Vec::new(), 1 + u32::from(how & 1));
    packet.arrival.egress = how & 2 != 0;
    packet.arrival.to_host = how & 0x0c != 0x0c;
    packet.arrival.tagged = how & 0x70 == 0x70;
    packet.arrival.mark = if how & 0x30 == 0x30 { 7 } else { 0 };
    packet.partial = how & 0xc0 == 0xc0;
    packet.segment_size = if how & 0xa0 == 0xa0 { 60 } else { 0 };
    Arrived(packet)
}

/// A packet that is nearly right: a few bytes of it are then changed.
fn template(input: &mut Input<'_>) -> Bytes {
    let arrived = arrival(input);
    let (shape, ports) = (input.u8(), input.u8());
    let client = [192, 0, 2, ports >> 6];
    let server = [10, 0, 1, 11 + (shape >> 4 & 3)];
    let port = 1000 + u16::from(ports & 7);
    let options = usize::from(ports >> 3 & 7) * 4;
    let flags = input.u8();
    let data = match shape & 7 {
        0 | 1 => transport(client, SERVICE, port, 80, flags, options, shape & 1 == 0),
        2 | 3 => transport(server, client, 8080, port, flags, options, shape & 1 == 0),
        4 => {
            // About the last packet's connection, from either side.
            let inner = if flags & 1 == 0 {
                transport(SERVICE, client, 80, port, 16, options, shape & 8 == 0)
            } else {
                transport(client, server, port, 8080, 16, options, shape & 8 == 0)
            };
            let message = [
                &[
                    [3, 11, 4, 12][usize::from(flags >> 1 & 3)],
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                ],
                &inner[14..],
            ]
            .concat();
            let outer = if flags & 1 == 0 {
                (client, SERVICE)
            } else {
                (server, client)
            };
            ip(outer.0, outer.1, 1, 0, &message)
        }
        5 => ip(client, SERVICE, 1, options, &[8, 0, 0, 0, 1, 2, 3, 4, 5]),
        6 => {
            let mut arp = vec![0xff; 6];
            arp.extend([
                2, 0, 0, 0, 1, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 1,
            ]);
            arp.extend(client);
            arp.extend([0; 6]);
            arp.extend(SERVICE);
            arp
        }
        _ => {
            // A fragment: offset and flags from the file.
            let mut data = transport(client, SERVICE, port, 80, 2, options, shape & 8 == 0);
            data[20] = flags & 0x7f;
            data[21] = flags >> 4;
            data
        }
    };
    let mut packet = arrived.with_data(data);
    for _ in 0..input.u8() % 4 {
        let (at, value) = (usize::from(input.u8()), input.u8());
        let length = packet.data.len();
        packet.data[at % length] = value;
    }
    match input.u8() {
        cut @ 1..100 => packet.data.truncate(usize::from(cut)),
        pad @ 100..130 => packet
            .data
            .resize(packet.data.len() + usize::from(pad - 99), 0),
        grow @ 130..140 => packet
            .data
            .resize(packet.data.len() + usize::from(grow) * 10, 7),
        _ => {}
    }
    packet
}

fn transport(
    src: [u8; 4],
    dst: [u8; 4],
    sport: u16,
    dport: u16,
    flags: u8,
    options: usize,
    tcp: bool,
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(sport.to_be_bytes());
    body.extend(dport.to_be_bytes());
    if tcp {
        body.extend([
            0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0x12, 0x34, 0, 0, 9,
        ]);
    } else {
        body.extend([0, 9, 0, 0, 9]);
    }
    ip(src, dst, if tcp { 6 } else { 17 }, options, &body)
}

fn ip(src: [u8; 4], dst: [u8; 4], protocol: u8, options: usize, body: &[u8]) -> Vec<u8> {
    let options = options.min(40);
    let mut data = vec![
        2,
        0,
        0,
        0,
        0,
        1,
        2,
        0,
        0,
        0,
        1,
        1,
        8,
        0,
        0x45 + (options / 4) as u8,
        0,
    ];
    data.extend(((20 + options + body.len()) as u16).to_be_bytes());
    data.extend([0, 7, 0, 0, 64, protocol, 0, 0]);
    data.extend(src);
    data.extend(dst);
    data.extend(std::iter::repeat_n(1, options));
    data.extend(body);
    data
}

fn handle(memory: &Memory<V4>, packet: Bytes) {
    let counted = memory.packets();
    let mut handled = packet.clone();
    let verdict = pipeline::run(&mut handled, memory);
    assert_eq!(memory.packets(), counted + 1, "a packet is counted once");
    let followed = matches!(
        verdict.reason,
        Reason::Forwarded | Reason::Replied | Reason::IcmpRelated
    );
    if verdict.action == Action::Pass && !followed {
        assert_eq!(
            handled,
            packet,
            "what is passed for {} is untouched",
            verdict.reason.name()
        );
    }
    if followed || matches!(verdict.reason, Reason::PingAnswered | Reason::ArpAnswered) {
        assert_eq!(
            handled.data.len(),
            packet.data.len(),
            "rewriting keeps the length"
        );
        assert_ne!(verdict.action, Action::Drop);
    } else if matches!(verdict.action, Action::Transmit | Action::Receive) {
        assert!(
            handled.data.len() <= LONGEST_ERROR,
            "an error is no longer than 576 bytes"
        );
    }
    if matches!(
        verdict.action,
        Action::Transmit | Action::Resolve | Action::Receive
    ) {
        assert_ne!(verdict.ifindex, 0, "an interface is named");
    }
}

/// Takes a connection apart as the daemon does when it must.
fn force(memory: &Memory<V4>, input: &mut Input<'_>) {
    let ports = input.u8();
    let key = ConnKey {
        src: V4::new([192, 0, 2, ports >> 6]),
        dst: V4::new(SERVICE),
        sport: Be16::new(1000 + u16::from(ports & 7)),
        dport: Be16::new(80),
        scope_protocol: SCOPE << 8 | if ports & 8 == 0 { 6 } else { 17 },
    };
    let Some(conn) = memory.conn(&key) else {
        return;
    };
    let key = if ports & 16 == 0 {
        key
    } else {
        conn.to().reversed().key(key.scope_protocol)
    };
    let generation = Word(conn.word.load()).generation();
    sweep(memory, &SweepItem::forced(key, generation));
}
