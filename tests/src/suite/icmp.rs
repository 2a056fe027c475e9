//! ICMP: what the host's stack did for a packet, bpvs has to do.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::setup::{Setup, UDP, WEB, in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::host::Host;
use crate::icmp::{Listener, Message, ping};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::{CLIENT, DIRECTOR, Options, SERVICE, server_address};

pub(super) const CASES: &[Case] = &[
    case(
        "icmp/no-server",
        "a service without servers that swallows connects instead of refusing them",
        no_server,
    ),
    case(
        "icmp/answer",
        "ARP and ping for an address nobody owns that stay unanswered",
        answer,
    ),
    case(
        "icmp/no-answer",
        "an address that is answered for although nobody asked for that",
        no_answer,
    ),
    case(
        "icmp/owned-address",
        "a ping of an address that the host owns and that the host cannot answer any more",
        owned_address,
    ),
    case(
        "icmp/ttl",
        "a packet at the end of its life that is passed on, or vanishes without a word",
        ttl,
    ),
    case(
        "icmp/from-server",
        "an error about the server's side that does not reach the client, or shows the server's address",
        from_server,
    ),
    case(
        "icmp/mtu-to-server",
        "packets too large for the server's side that are dropped without a word",
        mtu_to_server,
    ),
    case(
        "icmp/mtu-to-client",
        "replies too large for the client's side that are dropped without a word",
        mtu_to_client,
    ),
    case(
        "icmp/mtu-udp",
        "a datagram that never arrives because it is too large",
        mtu_udp,
    ),
];

fn no_server(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 0)?;
    let refused = client::connect_result(&setup.net.client, at(WEB))?.map_err(|error| error.kind());
    same("a connect", &refused, &Err(ErrorKind::ConnectionRefused))?;
    same(
        "a datagram",
        &datagram(&setup.net.client, at(UDP), 64)?,
        &Err(ErrorKind::ConnectionRefused),
    )?;
    // Weight 0 for all is the same as none at all.
    setup.bpvs("server add tcp:10.0.0.100:80 10.0.1.11:8000 --weight 0")?;
    let refused = client::connect_result(&setup.net.client, at(WEB))?.map_err(|error| error.kind());
    same(
        "a connect with all weights 0",
        &refused,
        &Err(ErrorKind::ConnectionRefused),
    )
}

fn answer(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            own: None,
            ..Options::default()
        },
    )?;
    setup.services("--answer")?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )?;
    let took = ping(&setup.net.client, SERVICE, client::patience())?;
    ensure!(took.is_some(), "the service address does not answer a ping");
    let other = ping(
        &setup.net.client,
        Ipv4Addr::new(10, 0, 0, 101),
        Duration::from_millis(300),
    )?;
    ensure!(other.is_none(), "an address of no service answers a ping");
    Ok(())
}

fn no_answer(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            own: None,
            ..Options::default()
        },
    )?;
    setup.services("")?;
    let took = ping(&setup.net.client, SERVICE, Duration::from_millis(500))?;
    ensure!(
        took.is_none(),
        "the address answers although the service does not say so"
    );
    let neighbour = setup.net.client.ip(&format!("neigh show {SERVICE}"))?;
    ensure!(
        !neighbour.contains("lladdr"),
        "ARP is answered although the service does not say so: {neighbour}"
    );
    Ok(())
}

fn owned_address(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    for address in [SERVICE, DIRECTOR] {
        let took = ping(&setup.net.client, address, client::patience())?;
        ensure!(took.is_some(), "{address} does not answer a ping");
    }
    Ok(())
}

fn ttl(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    let listener = Listener::open(&setup.net.client)?;
    let port = setup.net.client.run(|| -> Result<u16> {
        let socket = UdpSocket::bind((CLIENT, 0))?;
        socket.set_ttl(1)?;
        socket.send_to(b"short life", at(UDP))?;
        Ok(socket.local_addr()?.port())
    })??;
    let message = listener
        .next(client::patience(), |message| message.kind == 11)?
        .context("no time exceeded for a TTL of 1")?;
    ensure!(
        message.from == DIRECTOR || message.from == SERVICE,
        "time exceeded comes from {}",
        message.from
    );
    ensure_about(&message, at(UDP), Some(port))?;
    // One hop more is enough for the director, whose work counts as one hop, as that of any router.
    setup.net.client.run(|| -> Result<()> {
        let socket = UdpSocket::bind((CLIENT, 0))?;
        socket.set_ttl(2)?;
        socket.set_read_timeout(Some(client::patience()))?;
        socket.send_to(b"longer life", at(UDP))?;
        socket
            .recv(&mut [0; 64])
            .context("no answer to a TTL of 2")?;
        Ok(())
    })?
}

fn from_server(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 1,
            ..Options::default()
        },
    )?;
    setup.daemon.script(
        &setup.net.director,
        &format!(
            "service add udp:{UDP} --scheduler rr\nserver add udp:{UDP} {}:4",
            server_address(1)
        ),
    )?;
    let listener = Listener::open(&setup.net.client)?;
    same(
        "a datagram to a closed port",
        &datagram(&setup.net.client, at(UDP), 64)?,
        &Err(ErrorKind::ConnectionRefused),
    )?;
    let message = listener
        .next(client::patience(), |message| message.kind == 3)?
        .context("no port unreachable")?;
    same("who says so", &message.from, &SERVICE)?;
    ensure_about(&message, at(UDP), None)
}

/// Makes an interface of the director carry less, and gives the daemon time to hear of it.
fn set_mtu(setup: &Setup, interface: &str) -> Result<()> {
    setup
        .net
        .director
        .ip(&format!("link set {interface} mtu 1300"))?;
    std::thread::sleep(patient(Duration::from_millis(300)));
    Ok(())
}

fn mtu_to_server(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    set_mtu(&setup, "br0")?;
    let listener = Listener::open(&setup.net.client)?;
    client::upload(&setup.net.client, at(WEB), 8 << 20)?;
    client::upload(&setup.net.client, at(WEB), 8 << 20)?;
    let needed = listener.next(Duration::from_millis(100), |message| {
        message.mtu().is_some()
    })?;
    let needed =
        needed.context("the transfers went through, but no \"fragmentation needed\" was seen")?;
    same("the MTU in it", &needed.mtu(), &Some(1300))?;
    ensure_about(&needed, at(WEB), None)
}

fn mtu_to_client(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    set_mtu(&setup, "eth0")?;
    // The server learns it: it sees its own packet inside, and not the one that was rewritten.
    let listener = Listener::open(&setup.net.servers[1])?;
    client::download(&setup.net.client, at(WEB), 8 << 20)?;
    let needed = listener.next(Duration::from_millis(100), |message| {
        message.mtu().is_some()
    })?;
    let needed =
        needed.context("the transfer went through, but no \"fragmentation needed\" was seen")?;
    same(
        "the packet inside",
        &needed.inner(),
        &Some((server_address(2), CLIENT)),
    )?;
    client::download(&setup.net.client, at(WEB), 8 << 20)
}

fn mtu_udp(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    set_mtu(&setup, "br0")?;
    // The first is refused with the right MTU (the kernel sets "do not fragment"), and the sender
    // then makes fragments.
    let first = datagram(&setup.net.client, at(UDP), 1400)?;
    ensure!(
        first.is_err(),
        "a datagram of 1400 bytes passed a link of 1300"
    );
    for _ in 0..2 {
        same(
            "a datagram after the first",
            &datagram(&setup.net.client, at(UDP), 1400)?,
            &Ok(()),
        )?;
    }
    Ok(())
}

/// Sends one datagram and waits for its answer, or for the error that comes instead.
fn datagram(host: &Host, to: SocketAddrV4, bytes: usize) -> Result<Result<(), ErrorKind>> {
    host.run(|| -> Result<Result<(), ErrorKind>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(patient(Duration::from_secs(1))))?;
        socket.connect(to)?;
        socket.send(&vec![b'x'; bytes])?;
        Ok(socket
            .recv(&mut [0; 2048])
            .map(drop)
            .map_err(|error| error.kind()))
    })?
}

/// Fails unless the packet inside is one that the client sent to `service`.
fn ensure_about(message: &Message, service: SocketAddrV4, port: Option<u16>) -> Result<()> {
    same(
        "the packet inside",
        &message.inner(),
        &Some((CLIENT, *service.ip())),
    )?;
    let (source, destination) = message.inner_ports().context("no ports inside")?;
    same("the port inside", &destination, &service.port())?;
    port.map_or(Ok(()), |port| {
        same("the client's port inside", &source, &port)
    })
}
