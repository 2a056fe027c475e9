//! Source ports towards one real server when very many clients are translated to one address.

use std::collections::HashSet;

use lb_common::{
    abi::V4,
    host::{Bytes, Capacity, HopSpec, Memory, ServerSpec, ServiceSpec},
    pipeline,
    verdict::Reason,
};

const UDP: u8 = 17;
/// As many ports as may be given out: 1024 and up.
const PORTS: usize = 65_536 - 1024;

fn datagram(client: u32) -> Bytes {
    let mut data = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    data.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0]);
    data.extend((0x0b00_0000 + client).to_be_bytes());
    data.extend([10, 0, 0, 100]);
    // Everybody asks from the same port.
    data.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    Bytes::received(data, 1)
}

/// Every connection has a port of its own; when few are left new connections lose, are counted, and leave nothing.
#[test]
fn every_connection_has_its_own_until_they_run_out() {
    run_out((0, 0));
}

/// The same where most of them are left to sockets for as long as there are others.
#[test]
fn where_sockets_have_theirs() {
    run_out((32_768, 60_999));
    run_out((2000, 65_000));
}

fn run_out((first_local, last_local): (u16, u16)) {
    let capacity = Capacity {
        entries: 4 * PORTS,
        half_open: 1 << 17,
        assured: 1 << 4,
        objects: 4,
        ..Capacity::default()
    };
    let mut memory: Memory<V4> = Memory::new(1, capacity);
    memory.set_local_ports(first_local, last_local);
    memory.set_hop(1, &HopSpec::forward(1, [2; 6], [4; 6]));
    memory.set_hop(2, &HopSpec::forward(2, [2; 6], [4; 6]));
    memory.set_route(V4::default(), 0, 1);
    memory.set_route(V4::new([10, 0, 1, 0]), 24, 2);
    let mut spec = ServiceSpec::address(UDP, V4::new([10, 0, 0, 100]), 53);
    (spec.source_nat, spec.nat_address) = (true, V4::new([10, 0, 1, 1]));
    let service = memory.add_service(&spec).expect("room for a service");
    let server = ServerSpec {
        address: V4::new([10, 0, 1, 11]),
        port: 53,
        weight: 1,
    };
    memory
        .add_server(service, &server)
        .expect("room for a real server");

    let mut ports = HashSet::new();
    let mut lost = 0;
    for client in 0..PORTS as u32 {
        let mut packet = datagram(client);
        match pipeline::run(&mut packet, &memory).reason {
            Reason::Forwarded => {
                let port = u16::from(packet.data[34]) << 8 | u16::from(packet.data[35]);
                assert!(port >= 1024, "{port}");
                assert!(ports.insert(port), "{port} was given out twice");
            }
            Reason::NoPort => lost += 1,
            reason => panic!("{}", reason.name()),
        }
        // Sixteen tries among all find one of the free half with certainty, nearly.
        assert!(
            lost == 0 || ports.len() > PORTS / 3,
            "the first was lost at {}",
            ports.len()
        );
    }
    assert!(lost > 0, "they run out");
    assert!(
        ports.len() > PORTS * 4 / 5,
        "{} ports were given out",
        ports.len()
    );
    assert_eq!(memory.entries().len(), 2 * ports.len());
    memory.audit().expect("the tables are sound");
}
