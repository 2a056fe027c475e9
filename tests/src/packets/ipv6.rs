//! One TCP connection with 128-bit addresses: the address family is a parameter of the pipeline.

use lb_common::{
    abi::{Be32, V6, Word},
    conn::state,
    family::Ipv6,
    host::{Bytes, Capacity, HopSpec, Memory, ServerSpec, ServiceSpec},
    pipeline,
    verdict::{Action, Reason, Verdict},
};

use super::{
    packet::flag,
    runner::same,
    world::{
        BACK, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, FRONT_MAC, PORT, SERVER_PORT, SERVERS, TCP,
    },
};

type Ip6 = [u16; 8];

const CLIENT_IP: Ip6 = [0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10];
const SERVICE: Ip6 = [0xfd00, 0, 0, 0, 0, 0, 0, 0x100];
const SERVER: Ip6 = [0xfd00, 0, 0, 1, 0xabcd, 0xffff, 0, 0x11];

fn address(ip: Ip6) -> V6 {
    let word = |at: usize| Be32::new(u32::from(ip[at]) << 16 | u32::from(ip[at + 1]));
    V6([word(0), word(2), word(4), word(6)])
}

fn octets(ip: Ip6) -> Vec<u8> {
    ip.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A TCP segment over IPv6, its checksum computed from scratch.
fn segment(
    macs: ([u8; 6], [u8; 6]),
    hops: u8,
    from: (Ip6, u16),
    to: (Ip6, u16),
    flags: u8,
) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(from.1.to_be_bytes());
    tcp.extend(to.1.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(b"hello");
    let addresses = [octets(from.0), octets(to.0)].concat();
    let covered = [
        addresses.clone(),
        vec![0, 0, 0, tcp.len() as u8, 0, 0, 0, TCP],
        tcp.clone(),
    ]
    .concat();
    let sum = covered.chunks(2).fold(0_u32, |sum, pair| {
        let sum = sum + (u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
        (sum & 0xffff) + (sum >> 16)
    });
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut bytes = [macs.0, macs.1].concat();
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, tcp.len() as u8, TCP, hops]);
    bytes.extend(addresses);
    bytes.extend(tcp);
    bytes
}

fn tables() -> Result<Memory<V6>, String> {
    let mut memory = Memory::new(6, Capacity::default());
    memory.set_hop(1, &HopSpec::forward(FRONT, CLIENT.mac, FRONT_MAC));
    memory.set_hop(2, &HopSpec::forward(BACK, SERVERS[0].mac, BACK_MAC));
    memory.set_route(address([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32, 1);
    memory.set_route(address([0xfd00, 0, 0, 1, 0, 0, 0, 0]), 64, 2);
    let spec = ServiceSpec::address(TCP, address(SERVICE), PORT);
    let service = memory.add_service(&spec).ok_or("no room for a service")?;
    let server = ServerSpec {
        address: address(SERVER),
        port: SERVER_PORT,
        weight: 1,
    };
    memory
        .add_server(service, &server)
        .ok_or("no room for a real server")?;
    Ok(memory)
}

/// Opens a connection, sends data both ways, closes it.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn check() -> Result<(), String> {
    let memory = tables()?;
    let exchange = [
        (true, flag::SYN, state::SYN_RECV),
        (false, flag::SYN | flag::ACK, state::SYN_RECV),
        (true, flag::ACK, state::ESTABLISHED),
        (false, flag::ACK, state::ESTABLISHED),
        (true, flag::FIN | flag::ACK, state::CLOSE_WAIT),
        (false, flag::FIN | flag::ACK, state::TIME_WAIT),
    ];
    let client = (CLIENT_IP, CLIENT_PORT);
    for (step, (asks, flags, then)) in (1..).zip(exchange) {
        let (input, output, verdict) = if asks {
            (
                segment((FRONT_MAC, CLIENT.mac), 64, client, (SERVICE, PORT), flags),
                segment(
                    (SERVERS[0].mac, BACK_MAC),
                    63,
                    client,
                    (SERVER, SERVER_PORT),
                    flags,
                ),
                Verdict::new(Action::Transmit, BACK, Reason::Forwarded),
            )
        } else {
            (
                segment(
                    (BACK_MAC, SERVERS[0].mac),
                    64,
                    (SERVER, SERVER_PORT),
                    client,
                    flags,
                ),
                segment((CLIENT.mac, FRONT_MAC), 63, (SERVICE, PORT), client, flags),
                Verdict::new(Action::Transmit, FRONT, Reason::Replied),
            )
        };
        let mut packet = Bytes::received(input, if asks { FRONT } else { BACK });
        let seen = pipeline::network(&mut pipeline::Direct::<Ipv6, _, _>::new(
            &mut packet,
            &memory,
        ));
        if seen != verdict {
            return Err(format!("packet {step}: {seen:?}, not {verdict:?}"));
        }
        same(&output, &packet.data).map_err(|fault| format!("packet {step}: {fault}"))?;
        memory.audit()?;
        let keys = memory.entries().keys();
        let words = keys
            .iter()
            .filter(|key| key.dst == address(SERVICE))
            .filter_map(|key| memory.entries().get(key));
        let states: Vec<u8> = words.map(|conn| Word(conn.word.load()).state()).collect();
        if states != [then] {
            return Err(format!("packet {step}: states {states:?}, not {then}"));
        }
    }
    truncated(&memory)
}

/// Cut anywhere, it is passed untouched.
fn truncated(memory: &Memory<V6>) -> Result<(), String> {
    let whole = segment(
        (FRONT_MAC, CLIENT.mac),
        64,
        (CLIENT_IP, CLIENT_PORT),
        (SERVICE, PORT),
        flag::SYN,
    );
    for length in 0..whole.len() {
        let mut packet = Bytes::received(whole[..length].to_vec(), FRONT);
        let seen = pipeline::network(&mut pipeline::Direct::<Ipv6, _, _>::new(
            &mut packet,
            memory,
        ));
        if seen != Verdict::pass(Reason::Malformed) || packet.data != whole[..length] {
            return Err(format!("cut at {length}: {seen:?}"));
        }
    }
    Ok(())
}
