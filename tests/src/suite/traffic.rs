//! Content: what arrives is what was sent, whatever its size and however the kernel cuts it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::setup::{ECHO, Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::client;
use crate::load::{Kind, Load};
use crate::offload;
use crate::topology::at;
use crate::topology::director::Options;

pub(super) const CASES: &[Case] = &[
    case(
        "traffic/download",
        "a wrong byte or a wrong checksum in large packets to the client",
        download,
    ),
    case(
        "traffic/upload",
        "a wrong byte or a wrong checksum in large packets to the server",
        upload,
    ),
    case(
        "traffic/no-offload",
        "code that relies on checksums that the interface has yet to fill in",
        no_offload,
    ),
    case(
        "traffic/keep-alive",
        "a connection that changes its server, or breaks, between requests",
        keep_alive,
    ),
    case(
        "traffic/long",
        "long connections that are forgotten while they live",
        long,
    ),
    case(
        "traffic/udp-zero-checksum",
        "a UDP checksum of zero that is taken for a number and made wrong",
        udp_zero_checksum,
    ),
    case(
        "traffic/udp-fragments",
        "later fragments of a datagram that do not follow the first one",
        udp_fragments,
    ),
    case(
        "traffic/crossing-ends",
        "connections whose both ends finish at the same moment and that lose their last bytes",
        crossing_ends,
    ),
    case(
        "traffic/udp-past-timeout",
        "one-way datagrams that change their server when the timeout is over, although they never stop",
        udp_past_timeout,
    ),
    case(
        "traffic/one-way-udp",
        "datagrams without answer that are lost, or spread over servers",
        one_way_udp,
    ),
];

/// Enough for full-size segments, for window growth and for several wraps of the pattern.
const LARGE: u64 = 64 << 20;

fn download(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    client::download(&setup.net.client, at(WEB), LARGE)?;
    client::download(&setup.net.client, at(WEB), LARGE)?;
    ensure_large_packets(&setup)
}

fn upload(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    client::upload(&setup.net.client, at(WEB), LARGE)?;
    client::upload(&setup.net.client, at(WEB), LARGE)?;
    ensure_large_packets(&setup)
}

/// The director saw packets larger than the MTU: segmentation was left to the interface, as it is
/// in real life.
fn ensure_large_packets(setup: &Setup) -> Result<()> {
    let statistics = setup.net.director.ip("-json -stats link show dev eth0")?;
    let statistics: serde_json::Value = serde_json::from_str(&statistics)?;
    let mean = |direction: &str| {
        let value = |name: &str| {
            statistics[0]["stats64"][direction][name]
                .as_u64()
                .unwrap_or(0)
        };
        value("bytes") / value("packets").max(1)
    };
    let largest = mean("rx").max(mean("tx"));
    ensure!(
        largest > 3000,
        "packets at the director had {largest} bytes on average, so this shows nothing about large ones"
    );
    Ok(())
}

fn no_offload(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    for host in [
        &setup.net.client,
        &setup.net.servers[0],
        &setup.net.servers[1],
    ] {
        offload::finish_sent(host, "eth0")?;
        offload::check_received(host, "eth0")?;
    }
    for _ in 0..2 {
        client::download(&setup.net.client, at(WEB), 8 << 20)?;
        client::upload(&setup.net.client, at(WEB), 8 << 20)?;
        client::who_udp(&setup.net.client, at(UDP))?;
    }
    Ok(())
}

fn keep_alive(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let report = Load::new(Kind::KeepAlive { requests: 50 }, at(WEB))
        .clients(6)
        .count(900)
        .run(&setup.net.client)?;
    report.all_answered()?;
    ensure!(
        report.connections <= 6 + 900 / 50,
        "{} connections for 900 requests of 50 a connection",
        report.connections
    );
    Ok(())
}

fn long(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let load = Load::new(Kind::Long, at(ECHO))
        .clients(50)
        .count(u64::MAX)
        .time(Duration::from_secs(5))
        .pause(Duration::from_millis(250));
    let report = load.run(&setup.net.client)?;
    report.all_answered()?;
    same("connections", &report.connections, &50)
}

fn udp_zero_checksum(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    for _ in 0..4 {
        client::ask_udp_unchecked(&setup.net.client, at(UDP), "no checksum")?;
    }
    Ok(())
}

fn udp_fragments(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            servers: 2,
            ..Options::default()
        },
    )?;
    setup.services("")?;
    for bytes in [1600, 4000, 9000] {
        let text: String = ('a'..='z').cycle().take(bytes).collect();
        let answer = client::ask_udp(&setup.net.client, at(UDP), &text)?;
        ensure!(
            answer.ends_with(&text),
            "a datagram of {bytes} bytes came back changed"
        );
    }
    Ok(())
}

fn crossing_ends(context: &Context) -> Result<()> {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    let setup = Setup::usual(context, 2)?;
    setup.net.client.run(|| -> Result<()> {
        for number in 0..200 {
            let mut stream =
                TcpStream::connect_timeout(&SocketAddr::V4(at(WEB)), client::patience())?;
            stream.set_read_timeout(Some(client::patience()))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
            // The server ends the connection after its answer; this end comes while that is under
            // way.
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .with_context(|| format!("connection {number}"))?;
            ensure!(
                answer.contains("I'm rs"),
                "connection {number} ended without its answer: {answer:?}"
            );
        }
        Ok(())
    })?
}

fn udp_past_timeout(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    setup.services("")?;
    setup.bpvs(&format!(
        "service edit udp:{UDP} --scheduler rr --udp-timeout 2s"
    ))?;
    let load = Load::new(Kind::UdpOneWay { bytes: 100 }, at(UDP))
        .clients(1)
        .count(60)
        .pause(Duration::from_millis(100));
    load.run(&setup.net.client)?.all_answered()?;
    datagrams_at_servers(&setup, &["0", "60"])
}

fn one_way_udp(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let load = Load::new(Kind::UdpOneWay { bytes: 200 }, at(UDP))
        .clients(1)
        .count(500)
        .pause(Duration::from_millis(1));
    load.run(&setup.net.client)?.all_answered()?;
    datagrams_at_servers(&setup, &["0", "500"])
}

/// Fails unless the servers got these numbers of datagrams, ascending.
fn datagrams_at_servers(setup: &Setup, want: &[&str]) -> Result<()> {
    std::thread::sleep(Duration::from_millis(100));
    let mut counts = Vec::new();
    for server in &setup.net.servers {
        let counters = client::get(server, at("127.0.0.1:8000"), "/counters")?;
        let count = counters
            .lines()
            .find_map(|line| line.strip_prefix("datagrams "));
        counts.push(count.unwrap_or("none").to_owned());
    }
    counts.sort();
    let counts: Vec<&str> = counts.iter().map(String::as_str).collect();
    same("datagrams that the servers got", &counts.as_slice(), &want)
}
