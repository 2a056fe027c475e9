//! Local sockets: led to servers when they connect, whatever their namespace.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::setup::{SERVICES, Setup, UDP, WEB, add_services, in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::daemon::Daemon;
use crate::host::Host;
use crate::slow::patient;
use crate::topology::director::{DIRECTOR_INSIDE, Options, server_address};
use crate::topology::{at, scopes};

pub(super) const CASES: &[Case] = &[
    case(
        "socket/tcp",
        "a director that cannot reach its own service, or a socket that is told of the server instead of the service",
        tcp,
    ),
    case(
        "socket/container",
        "a client in a namespace of its own that is not led to servers",
        container,
    ),
    case(
        "socket/weights",
        "sockets that are not spread by the scheduler that packets have",
        weights,
    ),
    case(
        "socket/persistence",
        "a socket that does not stay with its client's server",
        persistence,
    ),
    case(
        "socket/udp",
        "datagrams of one socket that go to several servers, or seem to come from a server",
        udp,
    ),
    case(
        "socket/loopback",
        "a service that is not reached at 127.0.0.1 though it says so, or is though it does not",
        loopback,
    ),
    case(
        "socket/off",
        "a hook that cannot be switched off for a scope or for a service",
        off,
    ),
    case(
        "socket/scopes",
        "a socket that meets a service of another namespace",
        several,
    ),
    case(
        "socket/once",
        "a connection that the hook has led and that is then balanced again, packet by packet",
        once,
    ),
    case(
        "socket/mapped",
        "an IPv6 socket that speaks IPv4 and is not led, or is told of the server",
        mapped,
    ),
    case(
        "socket/marks",
        "a socket that a mark rule does not lead to a fwmark service",
        marks,
    ),
];

/// Who answers a request on a connection.
pub(super) fn request(mut stream: TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(client::patience()))?;
    io::Write::write_all(
        &mut stream,
        b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
    )?;
    let mut answer = String::new();
    io::Read::read_to_string(&mut stream, &mut answer)?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    named(body.trim_end().as_bytes())
}

/// Who answered `times` connects from `host`, each by a socket of its own that is told of `to` as its peer.
fn turns(host: &Host, to: SocketAddrV4, times: usize) -> Result<Vec<String>> {
    (0..times)
        .map(|_| {
            let stream = connect(host, to)?;
            same("the peer", &stream.peer_addr()?, &SocketAddr::V4(to))?;
            client::who(host, to)
        })
        .collect()
}

pub(super) fn connect(host: &Host, to: SocketAddrV4) -> Result<TcpStream> {
    let stream = host.run(|| TcpStream::connect_timeout(&to.into(), client::patience()))?;
    stream.with_context(|| format!("{}: connecting to {to}", host.name()))
}

/// A UDP socket that is not connected.
pub(super) fn open_udp(host: &Host) -> Result<UdpSocket> {
    let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    socket.set_read_timeout(Some(client::patience()))?;
    Ok(socket)
}

/// Who answers a datagram; the answer has to come from `to`.
pub(super) fn ask(socket: &UdpSocket, to: SocketAddrV4) -> Result<String> {
    socket.send_to(b"hello", to)?;
    let mut answer = [0; 100];
    let (length, from) = socket
        .recv_from(&mut answer)
        .context("no answer to a datagram")?;
    same("the sender of the answer", &from, &SocketAddr::V4(to))?;
    named(&answer[..length])
}

pub(super) fn named(answer: &[u8]) -> Result<String> {
    let answer = String::from_utf8_lossy(answer);
    let name = answer
        .strip_prefix("I'm ")
        .and_then(|rest| rest.split(' ').next());
    Ok(name
        .with_context(|| format!("not a task's: {answer}"))?
        .into())
}

/// ActiveConn and InActConn of all servers of a service together.
pub(super) fn counts(daemon: &Daemon, host: &Host, key: &str) -> Result<(u64, u64)> {
    let listing: Value = serde_json::from_str(&daemon.bpvs(host, "list --json")?)?;
    let services = listing["services"].as_array().into_iter().flatten();
    let service = services
        .into_iter()
        .find(|service| service["address"] == key)
        .with_context(|| format!("no {key}"))?;
    let servers = service["servers"].as_array().cloned().unwrap_or_default();
    let sum = |name: &str| {
        servers
            .iter()
            .filter_map(|server| server[name].as_u64())
            .sum()
    };
    Ok((sum("active"), sum("inactive")))
}

/// Waits until a service has these counts: what a closed socket counted ends with it.
pub(super) fn counts_become(
    daemon: &Daemon,
    host: &Host,
    key: &str,
    want: (u64, u64),
) -> Result<()> {
    let start = Instant::now();
    loop {
        let got = counts(daemon, host, key)?;
        if got == want || start.elapsed() > patient(Duration::from_secs(2)) {
            return same("ActiveConn and InActConn", &got, &want);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tcp(context: &Context) -> Result<()> {
    // The service address is the director's own: packets alone could not serve it.
    let setup = Setup::usual(context, 3)?;
    let director = &setup.net.director;
    let web = format!("tcp:{WEB}");
    let held: Vec<TcpStream> = (0..6)
        .map(|_| connect(director, at(WEB)))
        .collect::<Result<_>>()?;
    counts_become(&setup.daemon, director, &web, (6, 0))?;
    for stream in &held {
        same("the peer", &stream.peer_addr()?, &SocketAddr::V4(at(WEB)))?;
        same(
            "the own address",
            &stream.local_addr()?.ip(),
            &DIRECTOR_INSIDE.into(),
        )?;
    }
    let conns: Value = serde_json::from_str(&setup.bpvs("conns --json")?)?;
    let mut shown: Vec<String> = conns
        .as_array()
        .into_iter()
        .flatten()
        .filter(|conn| conn["socket"] == true && conn["state"] == "ESTABLISHED")
        .filter_map(|conn| Some(conn["client"].as_str()?.to_owned()))
        .collect();
    let mut want: Vec<String> = held
        .iter()
        .map(|stream| Ok(stream.local_addr()?.to_string()))
        .collect::<Result<_>>()?;
    shown.sort_unstable();
    want.sort_unstable();
    same("the clients of the connections", &shown, &want)?;
    drop(held);
    counts_become(&setup.daemon, director, &web, (0, 0))?;

    let turns = client::turns(director, at(WEB), 4)?;
    in_turn(&turns, &["rs3", "rs2", "rs1", "rs3"])?;
    client::download(director, at(WEB), 8 << 20)?;
    client::upload(director, at(WEB), 8 << 20)?;
    counts_become(&setup.daemon, director, &web, (0, 0))?;
    // Their servers are not told that they speak with nobody.
    setup.bpvs("settings set nat_icmp_send=1")?;
    in_turn(&client::turns(director, at(WEB), 2)?, &["rs3", "rs2"])?;
    let stats: Value = serde_json::from_str(&setup.bpvs("stats --json")?)?;
    let service = stats["services"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|service| service["address"] == web.as_str())
        })
        .context("no statistics of the service")?;
    same(
        "connections counted",
        &service["counters"]["connections"],
        &14.into(),
    )?;
    same(
        "packets counted",
        &service["counters"]["in_packets"],
        &0.into(),
    )?;
    same("sockets led", &setup.reasons()?.get("socket"), &Some(&14))?;
    // Clients elsewhere are served beside, and take their turn.
    let turns = client::turns(&setup.net.client, at(WEB), 3)?;
    in_turn(&turns, &["rs1", "rs3", "rs2"])
}

/// A network whose director forwards, and a service on its client: a namespace with nothing but one cable, and an address
/// for the service that nobody has.
fn container(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 2,
            forward: true,
            ..Options::default()
        },
    )?;
    let (client, to) = (&setup.net.client, at("10.96.0.1:80"));
    let bpvs = |arguments: &str| setup.daemon.bpvs(client, arguments);
    bpvs("service add tcp:10.96.0.1:80 --scheduler rr")?;
    for number in 1..=2 {
        bpvs(&format!(
            "server add tcp:10.96.0.1:80 {}:8000",
            server_address(number)
        ))?;
    }
    in_turn(&client::turns(client, to, 3)?, &["rs2", "rs1", "rs2"])?;
    turns(client, to, 2)?;
    counts_become(&setup.daemon, client, "tcp:10.96.0.1:80", (0, 0))?;
    // Nobody else's.
    ensure!(
        client::connect_result(&setup.net.director, to)?.is_err(),
        "the director reaches a service of its client's namespace"
    );
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
        "service add tcp:10.0.0.100:80 --scheduler wrr\n\
         server add tcp:10.0.0.100:80 10.0.1.11:8000 --weight 3\n\
         server add tcp:10.0.0.100:80 10.0.1.12:8000 --weight 1\n\
         server add tcp:10.0.0.100:80 10.0.1.13:8000 --weight 0",
    )?;
    let turns = client::turns(&setup.net.director, at(WEB), 40)?;
    let of = |name: &str| turns.iter().filter(|turn| *turn == name).count();
    same(
        "by weight 3, 1 and 0",
        &(of("rs1"), of("rs2"), of("rs3")),
        &(30, 10, 0),
    )
}

fn persistence(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 3,
            ..Options::default()
        },
    )?;
    setup.services("--persistent=10m")?;
    let first = client::who(&setup.net.director, at(WEB))?;
    let all = client::turns(&setup.net.director, at(WEB), 6)?;
    ensure!(
        all.iter().all(|turn| *turn == first),
        "a client's sockets were led to {all:?} after {first}"
    );
    // Another client by packets has a template of its own, from the same turn.
    let other = client::turns(&setup.net.client, at(WEB), 2)?;
    ensure!(
        other[0] == other[1] && other[0] != first,
        "another client: {other:?}"
    );
    let templates = setup.bpvs("conns")?;
    ensure!(
        templates.contains("10.0.0.100:80"),
        "no template: {templates}"
    );
    Ok(())
}

fn udp(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let (director, to, key) = (&setup.net.director, at(UDP), format!("udp:{UDP}"));
    setup.bpvs("settings set timeouts.udp=2s")?;
    let sockets = [
        open_udp(director)?,
        open_udp(director)?,
        open_udp(director)?,
    ];
    for round in 0..5 {
        let answered: Vec<String> = sockets
            .iter()
            .map(|socket| ask(socket, to))
            .collect::<Result<_>>()?;
        in_turn(&answered, &["rs3", "rs2", "rs1"]).with_context(|| format!("round {round}"))?;
    }
    counts_become(&setup.daemon, director, &key, (0, 3))?;
    // Connected: until it is closed, and not by time.
    let connected = open_udp(director)?;
    connected.connect(to)?;
    same("the peer", &connected.peer_addr()?, &SocketAddr::V4(to))?;
    connected.send(b"hello")?;
    let mut answer = [0; 100];
    let (length, from) = connected.recv_from(&mut answer).context("no answer")?;
    same("the sender", &from, &SocketAddr::V4(to))?;
    same("the server", &named(&answer[..length])?, &"rs3".to_owned())?;
    std::thread::sleep(patient(Duration::from_millis(4500)));
    counts_become(&setup.daemon, director, &key, (0, 1))?;
    drop(connected);
    counts_become(&setup.daemon, director, &key, (0, 0))?;
    // The time of the first one's flow is over: it takes its turn.
    same("the next turn", &ask(&sockets[0], to)?, &"rs2".to_owned())
}

fn loopback(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let (director, here) = (&setup.net.director, at("127.0.0.1:80"));
    let reached = || Ok::<_, anyhow::Error>(client::connect_result(director, here)?.is_ok());
    ensure!(
        !reached()?,
        "reached at 127.0.0.1 though it does not say so"
    );
    setup.bpvs(&format!("service edit tcp:{WEB} --loopback"))?;
    in_turn(&client::turns(director, here, 3)?, &["rs2", "rs1", "rs2"])?;
    turns(director, here, 1)?;
    turns(director, at("127.1.2.3:80"), 1)?;
    ensure!(
        client::connect_result(director, at("127.0.0.1:7"))?.is_err(),
        "another service is reached at 127.0.0.1"
    );
    // Beside another one with the same port the first of a listing has it.
    setup.bpvs("service add tcp:10.0.0.101:80 --loopback")?;
    turns(director, here, 1)?;
    setup.bpvs(&format!("service edit tcp:{WEB} --loopback=false"))?;
    ensure!(
        !reached()?,
        "the service without servers does not have it now"
    );
    setup.bpvs("service remove tcp:10.0.0.101:80")?;
    ensure!(!reached()?, "still reached at 127.0.0.1");
    let shown = setup.bpvs("list")?;
    ensure!(!shown.contains("loopback"), "{shown}");
    Ok(())
}

fn off(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let director = &setup.net.director;
    // The service address is the director's, and nobody listens there: without the hook it refuses.
    let reached = || Ok::<_, anyhow::Error>(client::connect_result(director, at(WEB))?.is_ok());
    for (off, on) in [
        ("settings set socket_hook=0", "settings set socket_hook=1"),
        (
            "service edit tcp:10.0.0.100:80 --socket=false",
            "service edit tcp:10.0.0.100:80 --socket",
        ),
    ] {
        ensure!(reached()?, "not reached before {off}");
        setup.bpvs(off)?;
        ensure!(!reached()?, "reached after {off}");
        client::who(&setup.net.client, at(WEB))?;
        setup.bpvs(on)?;
    }
    ensure!(reached()?, "not reached again");
    Ok(())
}

fn several(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let networks = scopes::build(&lab, 3)?;
    let daemon = context.daemon(&lab, &networks[0].director)?;
    for network in &networks[..2] {
        add_services(&daemon, &network.director, 2, "--loopback")?;
    }
    for (network, number) in networks.iter().zip(1..3) {
        let (one, two) = (format!("s{number}-rs1"), format!("s{number}-rs2"));
        for to in [WEB, "127.0.0.1:80"] {
            in_turn(&client::turns(&network.director, at(to), 2)?, &[&two, &one])?;
        }
        let socket = open_udp(&network.director)?;
        same("the server", &ask(&socket, at(UDP))?, &two)?;
        same(
            "connections",
            &counts(&daemon, &network.director, SERVICES[0].0)?,
            &(0, 0),
        )?;
    }
    // The third has no services, and the others' are nothing to it.
    for to in [WEB, "127.0.0.1:80"] {
        ensure!(
            client::connect_result(&networks[2].director, at(to))?.is_err(),
            "{to} is reached in a namespace without services"
        );
    }
    daemon.bpvs(&networks[0].director, "service clear")?;
    ensure!(
        client::connect_result(&networks[0].director, at(WEB))?.is_err(),
        "a removed service is reached"
    );
    client::who(&networks[1].director, at(WEB)).map(drop)
}

fn once(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let director = &setup.net.director;
    // Where the first server is, there is a service too.
    let chained = format!("tcp:{}:8000", server_address(1));
    setup.bpvs(&format!("service add {chained}"))?;
    setup.bpvs(&format!("server add {chained} {}:8000", server_address(2)))?;
    setup.bpvs(&format!(
        "server remove tcp:{WEB} {}:8000",
        server_address(2)
    ))?;
    in_turn(
        &client::turns(director, at(WEB), 3)?,
        &["rs1", "rs1", "rs1"],
    )?;
    let to = SocketAddrV4::new(server_address(1), 8000);
    in_turn(&client::turns(director, to, 2)?, &["rs2", "rs2"])?;
    same(
        "packets forwarded",
        &setup.reasons()?.get("forwarded"),
        &None,
    )
}

fn mapped(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let director = &setup.net.director;
    let of = |to: &str| -> Result<SocketAddr> {
        let to = at(to);
        Ok(SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()))
    };
    let web = of(WEB)?;
    let connect = || TcpStream::connect_timeout(&web, client::patience());
    for want in ["rs2", "rs1"] {
        let stream = director.run(connect)??;
        same("the peer", &stream.peer_addr()?, &web)?;
        same("who answers", &request(stream)?, &want.to_owned())?;
    }
    counts_become(&setup.daemon, director, &format!("tcp:{WEB}"), (0, 0))?;
    let udp = of(UDP)?;
    let socket = director.run(|| UdpSocket::bind("[::]:0"))??;
    socket.set_read_timeout(Some(client::patience()))?;
    for _ in 0..2 {
        socket.send_to(b"hello", udp)?;
        let mut answer = [0; 100];
        let (length, from) = socket.recv_from(&mut answer).context("no answer")?;
        same("the sender of the answer", &from, &udp)?;
        same("who answers", &named(&answer[..length])?, &"rs2".to_owned())?;
    }
    Ok(())
}

fn marks(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    setup.daemon.script(
        &setup.net.director,
        "service add fwmark:7\n\
         server add fwmark:7 10.0.1.11:0\n\
         mark add --mark 7 --destination 10.0.0.77/32 --protocol tcp --ports 8000",
    )?;
    let to = at("10.0.0.77:8000");
    in_turn(&client::turns(&setup.net.director, to, 2)?, &["rs1", "rs1"])?;
    turns(&setup.net.director, to, 1)?;
    Ok(())
}
