//! What is measured: small loops over blocking sockets, so that what is seen is the kernel's work and little else. The
//! client's thread and with it the whole way through the director is on one processor, the server's on another.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::cost::Spent;
use super::opponents::{Group, Opponent};
use super::statistics::quantile;
use crate::host::Host;

/// Datagrams that are counted and not answered.
pub const DATAGRAMS: u16 = 5001;
/// Connections for one request each.
pub const SHORT: u16 = 5002;
/// Connections for many requests.
pub const LONG: u16 = 5003;
/// Connections that take whatever comes.
const SINK: u16 = 5004;

/// All of them with their protocols: each is a service.
pub const PORTS: [(&str, u16); 4] = [
    ("udp", DATAGRAMS),
    ("tcp", SHORT),
    ("tcp", LONG),
    ("tcp", SINK),
];

/// Bytes of a small datagram, and of a request and its answer.
pub const SMALL: usize = 18;
/// How long nothing may happen.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A figure that a workload gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// The ratio to plain routing that bpvs is to reach, in percent.
    goal: Option<u32>,
}

/// The share of a direct connection that a local client is to get through the socket hook.
const LOCAL_GOAL: f64 = 0.99;

impl Figure {
    /// The ratio that bpvs is to reach in this network.
    pub fn goal_of(&self, group: Group) -> Option<f64> {
        match group {
            Group::Bridge => self.goal.map(|percent| f64::from(percent) / 100.0),
            Group::Cable => None,
            Group::Local if self.more_is_better => self.goal.map(|_| LOCAL_GOAL),
            Group::Local => self.goal.map(|_| 1.0 / LOCAL_GOAL),
        }
    }
}

const fn more(name: &'static str, goal: Option<u32>) -> Figure {
    Figure {
        name,
        more_is_better: true,
        goal,
    }
}

const fn less(name: &'static str, goal: Option<u32>) -> Figure {
    Figure {
        name,
        more_is_better: false,
        goal,
    }
}

/// All figures, in the order in which [`measure`] gives them.
pub const FIGURES: [Figure; 9] = [
    more("small datagrams a second", Some(120)),
    less("processor time of a small datagram, ns", None),
    more("small datagrams a second, 500 flows", Some(120)),
    more(
        "new connections a second (open, one request, close)",
        Some(110),
    ),
    less("request latency, median, µs", Some(75)),
    less("request latency, 99 %, µs", None),
    less("request latency, 99.9 %, µs", None),
    more("bulk TCP, MB/s", Some(105)),
    less("processor time of a MB of bulk TCP, µs", None),
];

/// The server's end.
#[derive(Debug)]
pub struct Server {
    datagrams: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Server {
    /// Listens on all ports. Its threads end with the program.
    pub fn start(host: &Host) -> Result<Self> {
        let server = Self {
            datagrams: Arc::default(),
            bytes: Arc::default(),
        };
        let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DATAGRAMS)))??;
        let count = Arc::clone(&server.datagrams);
        spawn(host, move || {
            let mut buffer = [0; 2048];
            while socket.recv(&mut buffer).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        for port in [SHORT, LONG, SINK] {
            let listener = host.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
            let bytes = Arc::clone(&server.bytes);
            spawn(host, move || {
                for stream in listener.incoming().flatten() {
                    // A broken connection is the client's failure to tell.
                    let _ = serve(port, stream, &bytes);
                }
            })?;
        }
        Ok(server)
    }
}

fn serve(port: u16, mut stream: TcpStream, bytes: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; if port == SINK { 256 << 10 } else { SMALL }];
    loop {
        if port == SINK {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            bytes.fetch_add(length as u64, Ordering::Relaxed);
            continue;
        }
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
        if port == SHORT {
            return Ok(());
        }
    }
}

/// Flows of the workload that has many.
const FLOWS: usize = 500;

/// All figures of one round.
pub fn measure(opponent: &Opponent, server: &Server, time: Duration) -> Result<[f64; 9]> {
    let target = |port| SocketAddrV4::new(opponent.way.target(), port);
    let client = opponent.client();
    let [small, cost] = on(client, || datagrams(target(DATAGRAMS), 1, server, time))?;
    let [many, _] = on(client, || datagrams(target(DATAGRAMS), FLOWS, server, time))?;
    let connections = on(client, || connections(target(SHORT), time))?;
    let [median, most, nearly_all] = on(client, || latency(target(LONG), time))?;
    let [bulk, bulk_cost] = on(client, || bulk(target(SINK), server, time))?;
    Ok([
        small,
        cost,
        many,
        connections,
        median,
        most,
        nearly_all,
        bulk,
        bulk_cost,
    ])
}

/// Datagrams a second that arrive, and nanoseconds of processor time for each.
fn datagrams(
    target: SocketAddrV4,
    flows: usize,
    server: &Server,
    time: Duration,
) -> Result<[f64; 2]> {
    let mut sockets = Vec::new();
    for _ in 0..flows {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        sockets.push(socket);
    }
    // The first one looks for neighbours, and opens the connection.
    let send = || -> io::Result<()> {
        for part in sockets.chunks(64) {
            part.iter()
                .try_for_each(|socket| socket.send(&[0; SMALL]).map(drop))?;
            // The receiver's queue is to hold them.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    let opened = settled(&server.datagrams, send)?;
    let (spent, start) = (Spent::now()?, Instant::now());
    while start.elapsed() < time {
        for socket in sockets.iter().cycle().take(flows.next_multiple_of(64)) {
            // A full queue of the receiver is no error to the sender; a full one of ours comes and goes.
            let _ = socket.send(&[0; SMALL]);
        }
    }
    let took = start.elapsed();
    std::thread::sleep(Duration::from_millis(20));
    let cost = spent.elapsed()?;
    let arrived = server.datagrams.load(Ordering::Relaxed) - opened;
    Ok([rate(arrived, took), 1e9 / rate(arrived.max(1), cost)])
}

/// Sends until something has arrived; what had arrived in all once nothing more came.
fn settled(count: &AtomicU64, send: impl Fn() -> io::Result<()>) -> Result<u64> {
    let before = count.load(Ordering::Relaxed);
    let start = Instant::now();
    while count.load(Ordering::Relaxed) == before {
        ensure!(start.elapsed() < PATIENCE, "nothing arrives at the server");
        send()?;
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(10));
    Ok(count.load(Ordering::Relaxed))
}

fn connections(target: SocketAddrV4, time: Duration) -> Result<f64> {
    let mut buffer = [0; SMALL];
    exchange(&mut connect(target)?, &mut buffer)?;
    let (mut made, start) = (0, Instant::now());
    while start.elapsed() < time {
        let mut stream = connect(target)?;
        exchange(&mut stream, &mut buffer)?;
        // The server closes first, and the connection rests on its side.
        ensure!(stream.read(&mut buffer)? == 0, "more than the answer came");
        made += 1;
    }
    Ok(rate(made, start.elapsed()))
}

fn latency(target: SocketAddrV4, time: Duration) -> Result<[f64; 3]> {
    let (mut stream, mut buffer) = (connect(target)?, [0; SMALL]);
    exchange(&mut stream, &mut buffer)?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while start.elapsed() < time {
        let asked = Instant::now();
        exchange(&mut stream, &mut buffer)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok([0.5, 0.99, 0.999].map(|share| quantile(&times, share)))
}

/// MB a second, and microseconds of processor time for each.
fn bulk(target: SocketAddrV4, server: &Server, time: Duration) -> Result<[f64; 2]> {
    let mut stream = connect(target)?;
    let block = vec![0x5a; 64 << 10];
    stream.write_all(&block)?;
    std::thread::sleep(Duration::from_millis(10));
    let (before, start) = (server.bytes.load(Ordering::Relaxed), Instant::now());
    let spent = Spent::now()?;
    while start.elapsed() < time {
        stream.write_all(&block)?;
    }
    let received = server.bytes.load(Ordering::Relaxed) - before;
    let took = start.elapsed();
    Ok([
        rate(received, took) / 1e6,
        1e6 / (rate(received.max(1), spent.elapsed()?) / 1e6),
    ])
}

fn connect(target: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    stream.write_all(buffer)?;
    match stream.read_exact(buffer) {
        Ok(()) => Ok(()),
        Err(error) => bail!("no answer: {error}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Runs a client on the first processor.
fn on<T: Send>(host: &Host, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    host.run(|| {
        pin(0);
        work()
    })?
}

/// Starts a thread of the server on the second processor, if there is one.
fn spawn(host: &Host, work: impl FnOnce() + Send + 'static) -> Result<()> {
    host.spawn("bench-server", move || {
        pin(1);
        work();
    })
    .map(drop)
}

/// Keeps the calling thread on this processor.
pub fn pin(processor: usize) {
    let mut set = CpuSet::new();
    // On a machine with one processor all are on that one.
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}
