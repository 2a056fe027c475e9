//! ICMP errors about packets that the kernel has not finished: those that bpvs makes, and those that it carries.
//!
//! What is unfinished in a packet stays so where an error quotes it; the error itself has to be whole.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::offload::{
    BYTES, Fragments, METHODS, WIRE, are_unfinished, arrived, burst, no_wrong_checksums,
    one_server, seen_by_server,
};
use super::setup::{SERVICES, Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::client;
use crate::host::Host;
use crate::icmp::{Listener, Message};
use crate::ip::Packet;
use crate::offload;
use crate::slow::patient;
use crate::tap::{Sum, Tap};
use crate::task::{Ports, Task};
use crate::topology::at;
use crate::topology::director::{CLIENT, Options, SERVICE, server_address};

pub(super) const CASES: &[Case] = &[
    case(
        "offload/mtu-to-server",
        "an error about a large packet that quotes it wrongly, or that nobody believes",
        mtu_to_server,
    ),
    case(
        "offload/mtu-to-client",
        "the same about a large reply",
        mtu_to_client,
    ),
    case(
        "offload/mtu-udp",
        "the same about a large packet of UDP",
        mtu_udp,
    ),
    case(
        "offload/refused",
        "an error about a small packet whose unfinished checksum spoils the error's own",
        refused,
    ),
    case(
        "offload/router-beyond",
        "another router's error about an unfinished packet that does not reach its sender, or is changed inside",
        router_beyond,
    ),
];

/// A network whose one side carries less than the other.
struct Narrow<'a> {
    /// Who sends what is too large.
    sender: &'a Host,
    /// Its address, and the one to which it sends.
    addresses: (Ipv4Addr, Ipv4Addr),
    /// Of the director: by which packets of the sender arrive, and the errors leave.
    towards: &'a str,
    /// The same, or the port of it where it is a bridge.
    cable: &'a str,
}

/// The MTU of the narrow side.
const LESS: u16 = 1300;

/// Sends by `transfer` what is too large, twice, and looks at what its sender is told.
fn too_large(setup: &Setup, narrow: &Narrow<'_>, transfer: impl Fn() -> Result<()>) -> Result<()> {
    let Narrow {
        sender,
        addresses: (own, other),
        towards,
        cable,
    } = *narrow;
    // The errors leave by an interface that finishes what is unfinished in them: nothing may be.
    offload::finish_sent(&setup.net.director, cable)?;
    offload::check_received(sender, "eth0")?;
    let listener = Listener::open(sender)?;
    let tap = Tap::open(&setup.net.director, towards)?;
    transfer()?;
    let mut errors = Vec::new();
    while let Some(error) = listener.next(Duration::from_millis(100), |_| true)? {
        is_about(&error, (own, other), (own, other))?;
        errors.push(error);
    }
    // The packet's own length: that of the large one, as the kernel quotes it.
    let large = |error: &Message| error.quoted().is_some_and(|packet| packet.total() > WIRE);
    ensure!(
        errors.iter().any(large),
        "of {} errors none was about a large packet, so this shows nothing",
        errors.len()
    );
    same("the path's MTU", &path_mtu(sender, other)?, &LESS.into())?;
    no_wrong_checksums(sender, "Icmp")?;

    // Now the segments fit, and it is by them that the large packets are judged.
    tap.passed()?;
    transfer()?;
    let frames = arrived(&tap, own, other)?;
    are_unfinished("the second time", &frames)?;
    let error = listener.next(Duration::from_millis(100), |_| true)?;
    ensure!(
        error.is_none(),
        "an error about a packet whose segments fit: {error:?}"
    );
    Ok(())
}

/// Fails unless the error is intact, says what fits, and quotes an unfinished packet between `addresses`, whose sum was
/// made for `summed`.
fn is_about(
    error: &Message,
    addresses: (Ipv4Addr, Ipv4Addr),
    summed: (Ipv4Addr, Ipv4Addr),
) -> Result<()> {
    ensure!(
        error.is_right,
        "the error's own checksum is wrong: {error:?}"
    );
    same("the MTU in it", &error.mtu(), &Some(LESS))?;
    let packet = error.quoted().context("nothing quoted")?;
    same("the packet inside", &packet.addresses(), &addresses)?;
    ensure!(
        packet.is_header_right(),
        "the checksum of the header inside is wrong: {packet:?}"
    );
    // The kernel quotes what it has at hand, and that is unfinished.
    same(
        "the checksum inside",
        &packet.transport_sum(),
        &packet.pseudo_sum(summed.0, summed.1),
    )
}

/// The MTU that the host believes in for this destination.
fn path_mtu(host: &Host, to: Ipv4Addr) -> Result<u64> {
    let route = host.ip(&format!("-json route get {to}"))?;
    let route: serde_json::Value = serde_json::from_str(&route)?;
    let metrics = &route[0]["metrics"][0]["mtu"];
    metrics
        .as_u64()
        .with_context(|| format!("nothing was learnt about the way to {to}: {route}"))
}

/// Makes one side of the director carry less, and gives the daemon time to hear of it.
fn narrow(setup: &Setup, interface: &str) -> Result<()> {
    let director = &setup.net.director;
    director.ip(&format!("link set {interface} mtu {LESS}"))?;
    std::thread::sleep(patient(Duration::from_millis(300)));
    Ok(())
}

fn mtu_to_server(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        narrow(&setup, "br0")?;
        let client = &setup.net.client;
        let from_client = Narrow {
            sender: client,
            addresses: (CLIENT, SERVICE),
            towards: "eth0",
            cable: "eth0",
        };
        too_large(&setup, &from_client, || {
            client::upload(client, at(WEB), BYTES)
        })?;
    }
    Ok(())
}

fn mtu_to_client(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        narrow(&setup, "eth0")?;
        let from_server = Narrow {
            sender: &setup.net.servers[0],
            addresses: (server_address(1), seen_by_server(method)),
            towards: "br0",
            cable: "rs1",
        };
        too_large(&setup, &from_server, || {
            client::download(&setup.net.client, at(WEB), BYTES)
        })?;
    }
    Ok(())
}

fn mtu_udp(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        narrow(&setup, "br0")?;
        let client = &setup.net.client;
        offload::finish_sent(&setup.net.director, "eth0")?;
        offload::check_received(client, "eth0")?;
        let listener = Listener::open(client)?;
        let first = burst(client, 1400, 20, Fragments::Forbidden)?;
        ensure!(
            first.is_err(),
            "datagrams of 1400 bytes passed a link of {LESS}: {first:?}"
        );
        let error = listener
            .next(client::patience(), |_| true)?
            .context("no error about a large packet of UDP")?;
        is_about(&error, (CLIENT, SERVICE), (CLIENT, SERVICE))?;
        same(
            "bytes of the packet inside",
            &error.quoted().map(|packet| packet.total()),
            &Some(28 + 20 * 1400),
        )?;
        same("the path's MTU", &path_mtu(client, SERVICE)?, &LESS.into())?;
        // 28 bytes of headers and 1272 make 1300.
        same(
            "answers",
            &burst(client, 1272, 20, Fragments::Forbidden)??,
            &20,
        )?;
    }
    // What may be cut into fragments is: by the host's stack, where that forwards.
    let setup = Setup::new(
        context,
        &Options {
            servers: 1,
            forward: true,
            ..Options::default()
        },
    )?;
    setup.services("")?;
    narrow(&setup, "br0")?;
    let answers = burst(&setup.net.client, 1400, 20, Fragments::Allowed)??;
    same("answers to what was cut", &answers, &20)
}

fn refused(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 0)?;
    let client = &setup.net.client;
    offload::finish_sent(&setup.net.director, "eth0")?;
    offload::check_received(client, "eth0")?;
    let listener = Listener::open(client)?;
    let tap = Tap::open(&setup.net.director, "eth0")?;
    let is_right = |what: &str| -> Result<()> {
        let error = listener.next(client::patience(), |error| error.kind == 3)?;
        let error = error.with_context(|| format!("{what}: no error"))?;
        ensure!(error.is_right, "{what}: a wrong checksum: {error:?}");
        let packet = error.quoted().context("nothing quoted")?;
        same(what, &packet.addresses(), &(CLIENT, SERVICE))?;
        ensure!(
            packet.is_unfinished(),
            "{what}: another checksum inside: {packet:?}"
        );
        Ok(())
    };
    let connected = client::connect_result(client, at(WEB))?.map_err(|error| error.kind());
    same("a connect", &connected, &Err(ErrorKind::ConnectionRefused))?;
    is_right("a connect")?;
    // As small as can be, not of whole words, and as large as is quoted or larger.
    for bytes in [0, 1, 3, 4, 17, 519, 520, 521, 1400] {
        let answer = send(client, at(UDP), bytes)?;
        let what = format!("a datagram with {bytes} bytes");
        same(&what, &answer, &Err(ErrorKind::ConnectionRefused))?;
        is_right(&what)?;
    }
    no_wrong_checksums(client, "Icmp")?;
    let (frames, _) = tap.passed()?;
    let unfinished = frames
        .iter()
        .filter(|frame| !frame.leaves && frame.sum() == Sum::Unfinished)
        .count();
    ensure!(
        unfinished >= 10,
        "{unfinished} unfinished packets, so this shows nothing"
    );
    Ok(())
}

/// Sends a datagram and waits for what comes back.
fn send(host: &Host, to: SocketAddrV4, bytes: usize) -> Result<Result<(), ErrorKind>> {
    host.run(|| -> Result<Result<(), ErrorKind>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(client::patience()))?;
        socket.connect(to)?;
        socket.send(&vec![b'x'; bytes])?;
        let answer = socket.recv(&mut [0; 2048]);
        Ok(answer.map(drop).map_err(|error| error.kind()))
    })?
}

fn router_beyond(context: &Context) -> Result<()> {
    /// The server behind the router.
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 2);
    for method in METHODS {
        let setup = Setup::new(
            context,
            &Options {
                servers: 1,
                ..Options::default()
            },
        )?;
        let (router, client) = (&setup.net.servers[0], &setup.net.client);
        let far = setup.lab.host("far")?;
        let mut net = setup.lab.wiring();
        net.veth(router, "eth1", &far, "eth0")
            .address(router, "eth1", "10.0.3.1/24")
            .mtu(router, "eth1", LESS.into())
            .sysctl(router, "net.ipv4.ip_forward", "1")
            .route(
                &setup.net.director,
                &format!("10.0.3.0/24 via {}", server_address(1)),
            );
        net.address(&far, "eth0", &format!("{FAR}/24"))
            .route(&far, "default via 10.0.3.1")
            .apply()?;
        let _task = Task::start(&setup.lab, &far, "far", &Ports::default())?;
        for (service, port) in SERVICES {
            setup.bpvs(&format!("service add {service} --scheduler rr {method}"))?;
            setup.bpvs(&format!("server add {service} {FAR}:{port}"))?;
        }
        // What the router says, as it says it, and as the client hears it.
        let said = Tap::open(&setup.net.director, "br0")?;
        let heard = Listener::open(client)?;
        offload::finish_sent(&setup.net.director, "eth0")?;
        offload::check_received(client, "eth0")?;
        client::upload(client, at(WEB), BYTES)?;
        let error = heard
            .next(Duration::from_millis(100), |error| error.mtu().is_some())?
            .context("the transfer went through, but no error was heard")?;
        // Nobody can check what is quoted in part, so nobody makes it right: it stays what the router had.
        let outside = (seen_by_server(method), FAR);
        is_about(&error, (CLIENT, SERVICE), outside)?;
        let quoted = error.quoted().context("nothing quoted")?;
        same("the client's port", &quoted.ports().1, &80)?;
        same("the path's MTU", &path_mtu(client, SERVICE)?, &LESS.into())?;
        no_wrong_checksums(client, "Icmp")?;
        // The kernel itself, without any balancer, quotes an unfinished checksum.
        let (frames, _) = said.passed()?;
        let by_router = frames
            .iter()
            .filter(|frame| !frame.leaves)
            .find_map(|frame| Packet::quoted_in(frame.bytes.get(14..)?))
            .context("the router was not seen to say anything")?;
        same(
            "inside, as the router said it",
            &by_router.addresses(),
            &outside,
        )?;
        ensure!(
            by_router.is_unfinished(),
            "the router quotes a finished checksum: {by_router:?}"
        );
        // Every byte arrives, by segments that fit.
        client::upload(client, at(WEB), BYTES)?;
        client::download(client, at(WEB), BYTES)?;
    }
    Ok(())
}
