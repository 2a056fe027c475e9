//! A director with masquerade: who answers, in which turn, and what both ends see.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::setup::{ECHO, SERVICES, Setup, UDP, WEB, in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::host::Host;
use crate::load::{Kind, Load};
use crate::task::{Ports, Task};
use crate::topology::at;
use crate::topology::director::{CLIENT, DIRECTOR_INSIDE, Options, server_address};

pub(super) const CASES: &[Case] = &[
    case(
        "director/tcp-turn",
        "round robin that starts anywhere but at the newest server, or skips one",
        tcp_turn,
    ),
    case(
        "director/udp-turn",
        "UDP that is scheduled by datagram, or in another order than TCP",
        udp_turn,
    ),
    case(
        "director/udp-sticks",
        "a datagram of a known client port that goes to another server",
        udp_sticks,
    ),
    case(
        "director/even-under-load",
        "a scheduler that loses or doubles a turn when connections come at once",
        even_under_load,
    ),
    case(
        "director/not-forwarding",
        "a balancer that works only because the host forwards",
        not_forwarding,
    ),
    case(
        "director/forwarding",
        "a balancer that breaks, or doubles, what a forwarding host does",
        forwarding,
    ),
    case(
        "director/reverse-path-filter",
        "replies that the host's own checks throw away",
        reverse_path_filter,
    ),
    case(
        "director/other-traffic",
        "packets that are not for a service and are touched all the same",
        other_traffic,
    ),
    case(
        "director/own-sockets",
        "a socket of the director's that shares its port with a translated client, and gets no answers",
        own_sockets,
    ),
    case(
        "director/hairpin",
        "a real server that calls its own service and is answered from the wrong address",
        hairpin,
    ),
    case(
        "director/local-server",
        "a real server on the director itself that is not reached, or whose replies are not rewritten",
        local_server,
    ),
    case(
        "director/fwmark",
        "mark rules that are not applied before the service is looked for",
        fwmark,
    ),
    case(
        "director/two-services-one-server",
        "connections of two services to one server that are mixed up",
        two_services_one_server,
    ),
    case(
        "director/weights",
        "weighted round robin in another order than IPVS's",
        weights,
    ),
];

fn tcp_turn(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 7)?,
        &["rs3", "rs2", "rs1", "rs3", "rs2", "rs1", "rs3"],
    )
}

fn udp_turn(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let got: Vec<String> = (0..6)
        .map(|_| client::who_udp(&setup.net.client, at(UDP)))
        .collect::<Result<_>>()?;
    in_turn(&got, &["rs3", "rs2", "rs1", "rs3", "rs2", "rs1"])
}

fn udp_sticks(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let report = Load::new(Kind::Udp { fresh: false }, at(UDP))
        .clients(1)
        .count(30)
        .run(&setup.net.client)?;
    report.all_answered()?;
    same(
        "servers that answered one client port",
        &report.by_task.len(),
        &1,
    )
}

fn even_under_load(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let report = Load::new(Kind::Short, at(WEB))
        .clients(12)
        .count(900)
        .run(&setup.net.client)?;
    report.all_answered()?;
    ensure!(
        report.by_task.values().all(|&count| count == 300),
        "not 300 each: {report}"
    );
    Ok(())
}

fn not_forwarding(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let past = client::connect_result(&setup.net.client, at("10.0.1.11:8000"))?;
    ensure!(
        past.is_err(),
        "a connection past the service went through although the director does not forward"
    );
    let seen = client::get(&setup.net.client, at(WEB), "/client")?;
    ensure!(
        seen.contains(&format!("you are {CLIENT}:")),
        "the server does not see the client's address: {seen}"
    );
    client::who_udp(&setup.net.client, at(UDP)).map(drop)
}

fn forwarding(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            forward: true,
            servers: 3,
            ..Options::default()
        },
    )?;
    setup.services("")?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 3)?,
        &["rs3", "rs2", "rs1"],
    )?;
    in_turn(
        &client::turns(&setup.net.client, at("10.0.1.12:8000"), 2)?,
        &["rs2", "rs2"],
    )
}

fn reverse_path_filter(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    for interface in ["all", "eth0", "br0"] {
        setup
            .net
            .director
            .sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "1")?;
    }
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )
}

fn other_traffic(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let own = Task::start(
        &setup.lab,
        &setup.net.director,
        "director",
        &Ports {
            http: vec![8080],
            udp: vec![90],
            echo: vec![],
        },
    )?;
    // Another port of the service address, the director's other addresses, and from the director to
    // a server.
    for address in ["10.0.0.100:8080", "10.0.0.1:8080", "10.0.1.1:8080"] {
        same(
            address,
            &client::who(&setup.net.client, at(address))?.as_str(),
            &own.name(),
        )?;
    }
    same(
        "UDP",
        &client::who_udp(&setup.net.client, at("10.0.0.100:90"))?.as_str(),
        &own.name(),
    )?;
    same(
        "the director as a client",
        &client::who(&setup.net.director, at("10.0.1.12:8000"))?.as_str(),
        &"rs2",
    )?;
    let refused = client::connect_result(&setup.net.client, at("10.0.0.100:81"))?;
    same(
        "a port of no service",
        &refused.map_err(|error| error.kind()),
        &Err(std::io::ErrorKind::ConnectionRefused),
    )
}

fn hairpin(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let got = client::turns(&setup.net.servers[0], at(WEB), 4)?;
    in_turn(&got, &["rs2", "rs1", "rs2", "rs1"])?;
    let who = client::who_udp(&setup.net.servers[0], at(UDP))?;
    same("UDP", &who.as_str(), &"rs2")?;
    client::upload(&setup.net.servers[0], at(WEB), 1 << 20)
}

fn own_sockets(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    // Neighbours of the real servers come from an address of the director's.
    let mut held = Vec::new();
    let director = &setup.net.director;
    for port in [45_000, 45_001, 60_999] {
        held.push(setup.net.servers[0].run(|| client::connect_from(any(port), at(WEB)))??);
        let datagrams = |host: &Host, to| -> Result<String> {
            let socket = host.run(|| UdpSocket::bind(any(port)))??;
            socket.set_read_timeout(Some(client::patience()))?;
            socket.send_to(b"hello", to)?;
            let mut answer = [0; 100];
            let (length, _) = socket.recv_from(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        };
        datagrams(&setup.net.servers[0], at(UDP))?;
        for number in [1, 2] {
            let server = |port| SocketAddrV4::new(server_address(number), port);
            let name = format!("rs{number}");
            let stream = director
                .run(|| client::connect_from(any(port), server(8000)))?
                .with_context(|| format!("the director's own connection to {name}"))?;
            same("who", &super::socket::request(stream)?, &name)?;
            let said = datagrams(director, server(9000))
                .with_context(|| format!("the director's own datagram to {name}"))?;
            ensure!(said.contains(&name), "{said}");
        }
    }
    for stream in held {
        super::socket::request(stream)?;
    }
    Ok(())
}

fn local_server(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    let _own = Task::start(
        &setup.lab,
        &setup.net.director,
        "director",
        &Ports::default(),
    )?;
    for (service, port) in SERVICES {
        setup.bpvs(&format!("server add {service} {DIRECTOR_INSIDE}:{port}"))?;
    }
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 4)?,
        &["director", "rs1", "director", "rs1"],
    )?;
    same(
        "UDP",
        &client::who_udp(&setup.net.client, at(UDP))?.as_str(),
        &"director",
    )?;
    client::download(&setup.net.client, at(WEB), 4 << 20)?;
    client::download(&setup.net.client, at(WEB), 4 << 20)
}

fn fwmark(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    setup.daemon.script(
        &setup.net.director,
        "mark add --mark 256 --destination 10.0.0.100/32 --protocol tcp --ports 8080-8081
         service add fwmark:256 --scheduler rr
         server add fwmark:256 10.0.1.11:8000
         server add fwmark:256 10.0.1.12:8000
         mark add --mark 257 --destination 10.0.0.100/32 --protocol udp
         service add fwmark:257 --scheduler rr
         server add fwmark:257 10.0.1.11:0",
    )?;
    in_turn(
        &client::turns(&setup.net.client, at("10.0.0.100:8080"), 2)?,
        &["rs2", "rs1"],
    )?;
    in_turn(
        &client::turns(&setup.net.client, at("10.0.0.100:8081"), 2)?,
        &["rs2", "rs1"],
    )?;
    // Port 0 at the server: the port stays as the client sent it.
    same(
        "UDP",
        &client::who_udp(&setup.net.client, at("10.0.0.100:9000"))?.as_str(),
        &"rs1",
    )?;
    let refused = client::connect_result(&setup.net.client, at("10.0.0.100:8082"))?;
    ensure!(refused.is_err(), "a port outside the rule is served");
    Ok(())
}

fn two_services_one_server(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 1,
            ..Options::default()
        },
    )?;
    for port in [80, 81] {
        setup.bpvs(&format!("service add tcp:10.0.0.100:{port} --scheduler rr"))?;
        setup.bpvs(&format!("server add tcp:10.0.0.100:{port} 10.0.1.11:7000"))?;
    }
    let one = Load::new(Kind::Long, at("10.0.0.100:80"))
        .clients(20)
        .count(400)
        .pause(Duration::from_millis(10));
    let other = Load {
        to: at("10.0.0.100:81"),
        ..one.clone()
    };
    let (one, other) = (
        one.start(&setup.net.client)?,
        other.start(&setup.net.client)?,
    );
    one.wait()?.all_answered()?;
    other.wait()?.all_answered()?;
    // The same client port to both at once: the second connection's reply would have the key of the
    // first's.
    setup
        .net
        .client
        .run(|| same_port_to_both(at("10.0.0.100:80"), at("10.0.0.100:81")))?
}

fn same_port_to_both(one: SocketAddrV4, other: SocketAddrV4) -> Result<()> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let streams = runtime.block_on(async {
        let mut streams = Vec::new();
        for to in [one, other] {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind("10.0.0.2:34567".parse()?)?;
            streams.push(
                tokio::time::timeout(client::patience(), socket.connect(to.into()))
                    .await??
                    .into_std()?,
            );
        }
        anyhow::Ok(streams)
    })?;
    for (number, mut stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(client::patience()))?;
        writeln!(stream, "line {number}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        same(
            "an answer",
            &answer.trim_end(),
            &format!("I'm rs1 line {number}").as_str(),
        )?;
    }
    Ok(())
}

fn weights(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 3,
            ..Options::default()
        },
    )?;
    setup.daemon.script(
        &setup.net.director,
        "service add tcp:10.0.0.100:80 --scheduler wrr
         server add tcp:10.0.0.100:80 10.0.1.11:8000 --weight 1
         server add tcp:10.0.0.100:80 10.0.1.12:8000 --weight 2
         server add tcp:10.0.0.100:80 10.0.1.13:8000 --weight 3",
    )?;
    // Newest first. The bar stands where the first server, alone with its weight of 1, left it: all reach it. Then
    // those with weight 3, then 2 and more, then all again (tried against the kernel's IPVS).
    let turn = [
        "rs3", "rs2", "rs1", "rs3", "rs3", "rs2", "rs3", "rs2", "rs1", "rs3", "rs3", "rs2",
    ];
    in_turn(&client::turns(&setup.net.client, at(WEB), 12)?, &turn)?;
    // Long connections are served by it as well.
    setup.daemon.script(
        &setup.net.director,
        "service add tcp:10.0.0.100:7 --scheduler wrr\nserver add tcp:10.0.0.100:7 10.0.1.11:7000",
    )?;
    Load::new(Kind::Long, at(ECHO))
        .clients(4)
        .count(40)
        .run(&setup.net.client)?
        .all_answered()
}
