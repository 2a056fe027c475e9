//! Counters and connections of the kernel's IPVS, put into the table in memory and listed by both programs.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_user::ipvsadm::memory::MemoryIpvs;
use lb_user::ipvsadm::names::Names;
use lb_user::ipvsadm::view::{Connection, DestinationId, Stats};
use lb_user::model::Protocol;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};

use super::memory;
use super::parity::{differs, listed};
use super::real::Real;
use super::transcript::words;

/// A service on loopback for each kind of entry: plain, persistent, of a mark, with an engine. Nothing may expire while a
/// slow guest sends.
const TABLE: &str = "\
--set 9000 9000 9000
-A -t 10.9.0.1:80 -s rr
-a -t 10.9.0.1:80 -r 127.0.0.1:8080 -m
-A -t 10.9.0.1:443 -s rr -p 5000
-a -t 10.9.0.1:443 -r 127.0.0.1:8080 -m
-A -u 10.9.0.1:53 -s rr
-a -u 10.9.0.1:53 -r 127.0.0.1:5353 -m
-A -f 7 -s rr -p 6000
-a -f 7 -r 127.0.0.1:8080 -m
-A -u 10.9.0.1:5060 -s rr --pe sip -p 4000
-a -u 10.9.0.1:5060 -r 127.0.0.1:5353 -m
";

/// How much is sent in one go: enough for numbers of bytes that are cut to thousands, then to millions.
const BULK: [u64; 2] = [150_000_000, 1_000_000_000];

/// Listings with numbers.
const LISTINGS: [&str; 10] = [
    "-L -n",
    "-L",
    "-L -n --stats",
    "-L --stats",
    "-L --stats --exact",
    "-L -n --persistent-conn",
    "-L -n --thresholds",
    "-L -c",
    "-L -n -c",
    "-L -n -c --persistent-conn",
];

/// By how many seconds two readings of what is left of a connection may differ.
const LATE: u32 = 30;

/// Whether nothing differed.
pub(super) fn run(real: &Real, names: &dyn Names) -> Result<bool> {
    let restore = words("ipvsadm -R");
    let outcome = real.run(&restore, TABLE.as_bytes())?;
    ensure!(outcome.status == Some(0), "the table was refused");
    let server = TcpListener::bind("127.0.0.1:8080")?;
    thread::spawn(move || {
        for stream in server.incoming().flatten() {
            thread::spawn(move || drain(stream));
        }
    });
    let datagrams = UdpSocket::bind("127.0.0.1:5353")?;
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..length], from);
        }
    });
    let mut same = true;
    let mut open = Vec::new();
    for bulk in BULK {
        let client = UdpSocket::bind("10.9.0.1:0")?;
        client.send_to(b"hello", "10.9.0.1:53")?;
        let call = b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1@b\r\n\r\n";
        client.send_to(call, "10.9.0.1:5060")?;
        open.push(marked()?);
        for port in [80, 443] {
            open.push(TcpStream::connect(("10.9.0.1", port)).context("a service on loopback")?);
        }
        if let Some(stream) = open.last_mut() {
            send(stream, bulk)?;
        }
        // The kernel shows counters anew every two seconds.
        thread::sleep(Duration::from_secs(3));
        same &= compare(real, names)?;
    }
    let verdict = if same { "agree" } else { "DIFFER" };
    println!(
        "traffic: {} listings {verdict}",
        LISTINGS.len() * BULK.len()
    );
    Ok(same)
}

/// A connection whose packets have the mark of a service. Its port is the real server's: persistence keeps it.
fn marked() -> Result<TcpStream> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::Mark, &7)?;
    connect(socket.as_raw_fd(), &SockaddrIn::new(10, 9, 0, 1, 8080))
        .context("the service of a mark")?;
    Ok(TcpStream::from(socket))
}

fn drain(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 18];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

fn send(stream: &mut TcpStream, bytes: u64) -> Result<()> {
    let buffer = vec![0; 1 << 18];
    for _ in 0..bytes.div_ceil(buffer.len() as u64) {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

/// Whether both list the same, with the kernel's numbers in the table in memory.
fn compare(real: &Real, names: &dyn Names) -> Result<bool> {
    let mut ipvs = MemoryIpvs::default();
    memory::run(&mut ipvs, names, &words("ipvsadm -R"), TABLE.as_bytes());
    let numbers = numbers(real)?;
    fill(&mut ipvs, &numbers)?;
    ensure!(
        !ipvs.connections.is_empty(),
        "there are no connections: {:?}",
        numbers.connections
    );
    let mut same = true;
    for listing in LISTINGS {
        let words = words(&format!("ipvsadm {listing}"));
        let expected = real.run(&words, b"")?;
        if listing.split(' ').any(|word| word == "-c") {
            take_seconds(&mut ipvs.connections, &expected.out)?;
        }
        let found = memory::run(&mut ipvs, names, &words, b"");
        if let Some(difference) = differs(listing, &expected, &found) {
            println!("failed: {listing}\n{difference}");
            same = false;
        }
    }
    Ok(same)
}

/// Seconds pass between the kernel's own list and this one: each connection gets what is listed here, if that is close.
fn take_seconds(connections: &mut [Connection], listed: &[u8]) -> Result<()> {
    let listed = String::from_utf8_lossy(listed);
    for (connection, line) in connections.iter_mut().zip(listed.lines().skip(2)) {
        let left = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.split_once(':'))
            .context("no time in a line of a connection")?;
        let left = left.0.parse::<u32>()? * 60 + left.1.parse::<u32>()?;
        ensure!(
            connection.expires.abs_diff(left) <= LATE,
            "{} seconds are listed as {left}",
            connection.expires
        );
        connection.expires = left;
    }
    Ok(())
}

/// All that changes by itself, as the kernel and the real program tell it.
struct Numbers {
    connections: String,
    stats: String,
    counts: String,
    persistent: String,
}

fn numbers(real: &Real) -> Result<Numbers> {
    Ok(Numbers {
        connections: std::fs::read_to_string("/proc/net/ip_vs_conn")?,
        stats: listed(real, "-L -n --stats --exact")?,
        counts: listed(real, "-L -n")?,
        persistent: listed(real, "-L -n --persistent-conn")?,
    })
}

/// The kernel's numbers for the table in memory. The exact listings are in ipvsadm's order, as the table is here.
fn fill(ipvs: &mut MemoryIpvs, numbers: &Numbers) -> Result<()> {
    ipvs.connections = numbers
        .connections
        .lines()
        .skip(1)
        .map(connection)
        .collect::<Result<_>>()?;
    let rows = |text: &str| -> Vec<Vec<u64>> {
        // The columns behind the names; none in the lines above the table.
        let lines = text.lines().skip(3).map(|line| {
            let words = line.split_whitespace().rev();
            let mut numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            numbers.reverse();
            numbers
        });
        lines.collect()
    };
    // Sorted by address, then port; marks last.
    ipvs.services.sort_by_key(|service| match service.spec.id {
        lb_user::ipvsadm::view::ServiceId::Address { protocol, port, .. } => {
            (0, protocol == Protocol::Udp, port)
        }
        lb_user::ipvsadm::view::ServiceId::Fwmark { .. } => (1, false, 0),
    });
    let (stats, counts) = (rows(&numbers.stats), rows(&numbers.counts));
    let persistent = rows(&numbers.persistent);
    for (place, service) in ipvs.services.iter_mut().enumerate() {
        // Each has one destination.
        service.stats = of(stats.get(2 * place))?;
        let row = 2 * place + 1;
        let destination = service.destinations.first_mut().context("no destination")?;
        destination.stats = of(stats.get(row))?;
        let [.., active, inactive] = counts[row][..] else {
            bail!("no counts in\n{}", numbers.counts);
        };
        destination.active = u32::try_from(active)?;
        destination.inactive = u32::try_from(inactive)?;
        let [_, templates, ..] = persistent[row][..] else {
            bail!("no templates in\n{}", numbers.persistent);
        };
        destination.persistent = u32::try_from(templates)?;
    }
    Ok(())
}

fn of(row: Option<&Vec<u64>>) -> Result<Stats> {
    // A mark is a number, too.
    let Some(
        [
            ..,
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        ],
    ) = row.map(Vec::as_slice)
    else {
        bail!("no counters");
    };
    Ok(Stats {
        connections: *connections,
        in_packets: *in_packets,
        out_packets: *out_packets,
        in_bytes: *in_bytes,
        out_bytes: *out_bytes,
        ..Stats::default()
    })
}

/// A line of /proc/net/ip_vs_conn: addresses and ports in hexadecimal.
fn connection(line: &str) -> Result<Connection> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        protocol,
        c,
        c_port,
        v,
        v_port,
        d,
        d_port,
        state,
        expires,
        engine @ ..,
    ] = &words[..]
    else {
        bail!("not a connection: {line}");
    };
    let end = |address: &str, port: &str| -> Result<DestinationId> {
        let address = if address.contains(':') {
            IpAddr::V6(address.parse::<Ipv6Addr>()?)
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(address, 16)?))
        };
        let port = u16::from_str_radix(port, 16)?;
        Ok(DestinationId { address, port })
    };
    Ok(Connection {
        protocol: match *protocol {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            "IP" => None,
            other => bail!("protocol {other}"),
        },
        client: end(c, c_port)?,
        service: end(v, v_port)?,
        destination: end(d, d_port)?,
        state: (*state).to_owned(),
        expires: expires.parse()?,
        engine: match engine {
            [name, data] => Some(((*name).to_owned(), (*data).to_owned())),
            _ => None,
        },
    })
}
