//! Packets that the kernel has not finished: larger than any wire carries, to be cut on the way out (GSO), their checksums
//! to be filled in there. Nearly all packets of containers are of this kind, and `BPF_PROG_TEST_RUN` has none of them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::setup::{Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::client;
use crate::host::Host;
use crate::offload;
use crate::socket::set_option;
use crate::tap::{Frame, Sum, Tap};
use crate::task::{Ports, Task};
use crate::topology::at;
use crate::topology::director::{
    CLIENT, DIRECTOR, DIRECTOR_INSIDE, Options, SERVICE, server_address,
};

pub(super) const CASES: &[Case] = &[
    case(
        "offload/tcp-unfinished",
        "a checksum left to others that is rewritten as if it were finished, though every cable carries it",
        tcp_unfinished,
    ),
    case(
        "offload/tcp-finished",
        "a large packet that is cut, or whose checksum is finished, wrongly after the rewrite",
        tcp_finished,
    ),
    case("offload/udp", "the same for large packets of UDP", udp),
    case(
        "offload/local",
        "the same for what the director itself sends, as server and as client",
        local,
    ),
];

/// Bytes of one transfer: several times 64 KiB, and little enough for [`Tap`] to keep all of it.
pub(super) const BYTES: u64 = 2 << 20;
/// Bytes of an Ethernet frame on a wire of the usual MTU.
pub(super) const WIRE: usize = 14 + 1500;
/// With masquerade alone, and with the source replaced too.
pub(super) const METHODS: [&str; 2] = ["", "--source-nat"];

/// A director with one server and the usual services.
pub(super) fn one_server(context: &Context, method: &str) -> Result<Setup> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 1,
            ..Options::default()
        },
    )?;
    setup.services(method)?;
    Ok(setup)
}

/// Of what a tap saw, the packets with data that arrived from `source` for `destination`.
pub(super) fn arrived(tap: &Tap, source: Ipv4Addr, destination: Ipv4Addr) -> Result<Vec<Frame>> {
    let (frames, _) = tap.passed()?;
    Ok(of(frames, source, destination))
}

fn of(frames: Vec<Frame>, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<Frame> {
    let wanted = |frame: &Frame| {
        frame.packet().is_some_and(|packet| {
            packet.addresses() == (source, destination)
                && packet.total() > packet.header() + packet.transport_header()
        })
    };
    frames
        .into_iter()
        .filter(|frame| !frame.leaves && wanted(frame))
        .collect()
}

/// Fails unless there are large packets among these, unfinished, with the sum that belongs into them.
pub(super) fn are_unfinished(what: &str, frames: &[Frame]) -> Result<()> {
    for frame in frames {
        ensure!(
            frame.sum() != Sum::Wrong,
            "{what}: a wrong checksum: {:?}, {:?}",
            frame.unfinished,
            frame.packet()
        );
    }
    let large = frames
        .iter()
        .filter(|frame| frame.segment > 0 && frame.bytes.len() > WIRE)
        .filter(|frame| frame.sum() == Sum::Unfinished)
        .count();
    ensure!(
        large > 0,
        "{what}: of {} packets none was large and unfinished, so this shows nothing",
        frames.len()
    );
    Ok(())
}

/// Fails unless these carry at least `bytes`, each as a wire takes it and with a right checksum.
fn are_finished(what: &str, frames: &[Frame], bytes: u64) -> Result<()> {
    for frame in frames {
        ensure!(
            frame.segment == 0 && frame.bytes.len() <= WIRE && frame.sum() == Sum::Right,
            "{what}: a packet of {} bytes with segments of {}, its checksum is {:?}",
            frame.bytes.len(),
            frame.segment,
            frame.sum()
        );
    }
    let carried: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    ensure!(
        carried as u64 >= bytes,
        "{what}: {carried} bytes were seen of {bytes}"
    );
    Ok(())
}

/// Fails if the host has thrown away a packet of this protocol for its checksum.
pub(super) fn no_wrong_checksums(host: &Host, protocol: &str) -> Result<()> {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text
        .lines()
        .filter(|line| line.split(':').next() == Some(protocol));
    let (names, values) = (
        lines.next().context("no such protocol")?,
        lines.next().context("no values")?,
    );
    let value = names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "InCsumErrors")
        .context("no count of wrong checksums")?;
    ensure!(
        value.1 == "0",
        "{}: {} packets of {protocol} with a wrong checksum",
        host.name(),
        value.1
    );
    Ok(())
}

/// Who the server sees, and to whom it replies.
pub(super) fn seen_by_server(method: &str) -> Ipv4Addr {
    if method.is_empty() {
        CLIENT
    } else {
        DIRECTOR_INSIDE
    }
}

fn tcp_unfinished(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        let (server, seen) = (&setup.net.servers[0], seen_by_server(method));
        let at_server = Tap::open(server, "eth0")?;
        client::upload(&setup.net.client, at(WEB), BYTES)?;
        let frames = arrived(&at_server, seen, server_address(1))?;
        are_unfinished("to the server", &frames)?;
        let at_client = Tap::open(&setup.net.client, "eth0")?;
        client::download(&setup.net.client, at(WEB), BYTES)?;
        are_unfinished("to the client", &arrived(&at_client, SERVICE, CLIENT)?)?;
    }
    Ok(())
}

fn tcp_finished(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        let (director, server, seen) = (
            &setup.net.director,
            &setup.net.servers[0],
            seen_by_server(method),
        );
        for interface in ["eth0", "rs1"] {
            offload::finish_sent(director, interface)?;
        }
        for host in [&setup.net.client, server] {
            offload::check_received(host, "eth0")?;
        }
        let before = Tap::open(director, "eth0")?;
        let after = Tap::open(server, "eth0")?;
        client::upload(&setup.net.client, at(WEB), BYTES)?;
        are_unfinished("from the client", &arrived(&before, CLIENT, SERVICE)?)?;
        let frames = arrived(&after, seen, server_address(1))?;
        are_finished("to the server", &frames, BYTES)?;
        no_wrong_checksums(server, "Tcp")?;

        let before = Tap::open(director, "br0")?;
        let after = Tap::open(&setup.net.client, "eth0")?;
        client::download(&setup.net.client, at(WEB), BYTES)?;
        are_unfinished(
            "from the server",
            &arrived(&before, server_address(1), seen)?,
        )?;
        are_finished("to the client", &arrived(&after, SERVICE, CLIENT)?, BYTES)?;
        no_wrong_checksums(&setup.net.client, "Tcp")?;
    }
    Ok(())
}

/// Whether a datagram may be cut into fragments on its way. Of one that is sent as part of a large packet the kernel says
/// that it may, unless told otherwise.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fragments {
    Allowed,
    Forbidden,
}

/// Sends `count` datagrams of `bytes` bytes as one large packet; how many different ones came back.
pub(super) fn burst(
    host: &Host,
    bytes: usize,
    count: usize,
    fragments: Fragments,
) -> Result<std::io::Result<usize>> {
    host.run(|| -> Result<std::io::Result<usize>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(client::patience()))?;
        socket.connect(at(UDP))?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(bytes)?)
            .context("no segments for UDP")?;
        if fragments == Fragments::Forbidden {
            set_option(
                &socket,
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DO,
            )?;
        }
        let numbered = |number: usize| format!("{number:>bytes$}");
        if let Err(error) = socket.send((0..count).map(numbered).collect::<String>().as_bytes()) {
            return Ok(Err(error));
        }
        let mut left: Vec<usize> = (0..count).collect();
        let mut answer = vec![0; 65_536];
        while !left.is_empty() {
            let length = match socket.recv(&mut answer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Ok(Err(error)),
            };
            let text = String::from_utf8_lossy(&answer[..length]);
            left.retain(|number| !text.ends_with(&numbered(*number)));
        }
        Ok(Ok(count - left.len()))
    })?
}

fn udp(context: &Context) -> Result<()> {
    for method in METHODS {
        let setup = one_server(context, method)?;
        let before = Tap::open(&setup.net.director, "eth0")?;
        same(
            "answers",
            &burst(&setup.net.client, 1200, 40, Fragments::Allowed)??,
            &40,
        )?;
        for interface in ["eth0", "rs1"] {
            offload::finish_sent(&setup.net.director, interface)?;
        }
        for host in [&setup.net.client, &setup.net.servers[0]] {
            offload::check_received(host, "eth0")?;
        }
        let after = Tap::open(&setup.net.servers[0], "eth0")?;
        same(
            "answers",
            &burst(&setup.net.client, 1200, 40, Fragments::Allowed)??,
            &40,
        )?;
        let (frames, indescribable) = before.passed()?;
        if indescribable == 0 {
            are_unfinished("from the client", &of(frames, CLIENT, SERVICE))?;
        }
        let frames = arrived(&after, seen_by_server(method), server_address(1))?;
        are_finished("to the server", &frames, 40 * 1200)?;
        no_wrong_checksums(&setup.net.servers[0], "Udp")?;
        no_wrong_checksums(&setup.net.client, "Udp")?;
    }
    Ok(())
}

fn local(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 1,
            own: None,
            ..Options::default()
        },
    )?;
    let (director, server) = (&setup.net.director, &setup.net.servers[0]);
    let _own = Task::start(&setup.lab, director, "director", &Ports::default())?;
    setup.bpvs("service add tcp:10.0.0.100:80 --scheduler rr --answer")?;
    let own = format!("tcp:10.0.0.100:80 {DIRECTOR_INSIDE}:8000");
    setup.bpvs(&format!("server add {own}"))?;
    let at_client = Tap::open(&setup.net.client, "eth0")?;
    client::download(&setup.net.client, at(WEB), BYTES)?;
    let frames = arrived(&at_client, SERVICE, CLIENT)?;
    are_unfinished("from the director to the client", &frames)?;
    client::upload(&setup.net.client, at(WEB), BYTES)?;

    // As a client the director needs somebody to send to; the program takes it from there, where no socket is led.
    setup.bpvs("settings set socket_hook=0")?;
    director.ip(&format!(
        "neigh replace {SERVICE} lladdr 02:00:00:00:00:64 dev eth0 nud permanent"
    ))?;
    let other = server_address(1);
    setup.bpvs(&format!("server add tcp:10.0.0.100:80 {other}:8000"))?;
    setup.bpvs(&format!("server remove {own}"))?;
    let at_server = Tap::open(server, "eth0")?;
    client::upload(director, at(WEB), BYTES)?;
    let frames = arrived(&at_server, DIRECTOR, other)?;
    are_unfinished("from the director to the server", &frames)?;
    client::download(director, at(WEB), BYTES)?;
    // By eth0, to which the director believes it sends, packets stay large; the server's cable finishes them.
    offload::finish_sent(director, "rs1")?;
    offload::check_received(server, "eth0")?;
    at_server.passed()?;
    client::upload(director, at(WEB), BYTES)?;
    let frames = arrived(&at_server, DIRECTOR, other)?;
    are_finished("from the director to the server", &frames, BYTES)?;
    for host in [&setup.net.client, director, server] {
        no_wrong_checksums(host, "Tcp")?;
    }
    Ok(())
}
