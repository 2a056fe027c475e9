//! The little network that the races take place in, and its packets.

use lb_common::{
    abi::{Be16, ConnKey, V4, Word},
    checksum,
    host::{Bytes, Capacity, HopSpec, Memory, ServerSpec, ServiceSpec},
    pipeline,
};

pub(crate) const CLIENT: [u8; 4] = [192, 0, 2, 10];
pub(crate) const SERVICE: [u8; 4] = [10, 0, 0, 100];
pub(crate) const SERVERS: [[u8; 4]; 3] = [[10, 0, 1, 11], [10, 0, 1, 12], [10, 0, 1, 13]];
pub(crate) const PORT: u16 = 80;
pub(crate) const CLIENT_PORT: u16 = 40_000;
pub(crate) const SERVER_PORT: u16 = 8080;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;
pub(crate) const RST: u8 = 4;

const SCOPE: u32 = 3;
const FRONT: u32 = 1;
const BACK: u32 = 2;

/// Tables with one TCP and one UDP service; the TCP service has this many real servers.
pub(crate) fn tables(servers: usize, capacity: Capacity) -> Memory<V4> {
    let mut memory = Memory::new(SCOPE, capacity);
    memory.set_hop(
        1,
        &HopSpec::forward(FRONT, [2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 0, 1]),
    );
    memory.set_hop(
        2,
        &HopSpec::forward(BACK, [2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 0, 2]),
    );
    memory.set_route(V4::new([0; 4]), 0, 1);
    memory.set_route(V4::new([10, 0, 1, 0]), 24, 2);
    for (protocol, count) in [(TCP, servers), (UDP, 1)] {
        let service = memory
            .add_service(&ServiceSpec::address(protocol, V4::new(SERVICE), PORT))
            .expect("room");
        for address in &SERVERS[..count] {
            let spec = ServerSpec {
                address: V4::new(*address),
                port: SERVER_PORT,
                weight: 1,
            };
            memory.add_server(service, &spec).expect("room");
        }
    }
    memory
}

/// Little room: four connections, two of them half-open.
pub(crate) const SMALL: Capacity = Capacity {
    entries: 16,
    half_open: 2,
    assured: 2,
    objects: 8,
    templates: 4,
    buckets: 0,
    localities: 0,
};
/// Room enough.
pub(crate) const USUAL: Capacity = Capacity {
    entries: 32,
    half_open: 16,
    assured: 16,
    objects: 8,
    templates: 4,
    buckets: 0,
    localities: 0,
};

fn packet(src: [u8; 4], dst: [u8; 4], protocol: u8, sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0];
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, protocol, 0, 0];
    ip.extend(src);
    ip.extend(dst);
    let sum = checksum::compute(&ip).to_ne_bytes();
    ip[10..12].copy_from_slice(&sum);
    bytes.extend(ip);
    bytes.extend(sport.to_be_bytes());
    bytes.extend(dport.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0x50, flags, 0xff, 0xff, 0x12, 0x34, 0, 0]);
    bytes
}

/// A packet of the client from this port.
pub(crate) fn from_client(protocol: u8, port: u16, flags: u8) -> Bytes {
    Bytes::received(packet(CLIENT, SERVICE, protocol, port, PORT, flags), FRONT)
}

/// The answer of a real server to this client port.
pub(crate) fn from_server(server: usize, protocol: u8, port: u16, flags: u8) -> Bytes {
    Bytes::received(
        packet(SERVERS[server], CLIENT, protocol, SERVER_PORT, port, flags),
        BACK,
    )
}

/// The key of the client's packets.
pub(crate) fn key(protocol: u8, port: u16) -> ConnKey<V4> {
    ConnKey {
        src: V4::new(CLIENT),
        dst: V4::new(SERVICE),
        sport: Be16::new(port),
        dport: Be16::new(PORT),
        scope_protocol: SCOPE << 8 | u32::from(protocol),
    }
}

/// The key of a real server's packets to this port.
pub(crate) fn reply_key(server: usize, protocol: u8, port: u16) -> ConnKey<V4> {
    ConnKey {
        src: V4::new(SERVERS[server]),
        dst: V4::new(CLIENT),
        sport: Be16::new(SERVER_PORT),
        dport: Be16::new(port),
        scope_protocol: SCOPE << 8 | u32::from(protocol),
    }
}

/// Handles packets before the race begins.
pub(crate) fn run(memory: &Memory<V4>, packets: &[Bytes]) {
    for packet in packets {
        let _ = pipeline::run(&mut packet.clone(), memory);
    }
}

/// The word of the client's connection.
pub(crate) fn word(memory: &Memory<V4>, protocol: u8, port: u16) -> Option<Word> {
    memory
        .entries()
        .get(&key(protocol, port))
        .map(|conn| Word(conn.word.load()))
}
