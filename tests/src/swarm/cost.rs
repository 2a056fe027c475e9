//! What a request costs on a Swarm's real path, in instructions: from a container to a service address, through the
//! sandbox, to a task on the same node or through the overlay to the other one.
//!
//! To be played in a guest whose clock counts instructions, which has one processor. One thread is client and server, so that
//! nothing waits; what engines and daemons do besides is in few of the samples, and the median has none of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::cluster::{Cluster, NETWORK, SERVICE};
use super::{Inside, scenes};
use crate::bench::statistics::median;
use crate::client;
use crate::demo::Transcript;

/// Where a guest says that its clock counts instructions.
const COUNTED: &str = "/run/guest/counted";
/// A port of the service address that nobody has published; the address takes all.
const OWN: u16 = 81;
/// Bytes of a request, and of an answer.
const SMALL: usize = 18;
/// Samples of each figure.
const SAMPLES: usize = 60;
/// Requests of a sample.
const REQUESTS: u32 = 10;

/// Where the task is that answers.
const PLACES: [&str; 2] = ["on this node", "on the other"];
const FIGURES: [&str; 2] = ["a request", "a connection"];

/// Instructions of each sample, by way, place and figure.
type Samples = BTreeMap<(&'static str, usize, usize), Vec<f64>>;

pub(super) fn play(out: &Transcript, cluster: &mut Cluster, options: &Inside) -> Result<()> {
    ensure!(
        Path::new(COUNTED).exists(),
        "the clock here does not count instructions: `cargo xtask demo --swarm --compare --instructions` has one that does"
    );
    let ends = Ends::new(cluster)?;
    let service = [SocketAddrV4::new(cluster.address(SERVICE)?, OWN); 2];
    let tasks = ends.tasks.map(|task| SocketAddrV4::new(task, OWN));
    let mut samples = Samples::new();
    out.heading("Without a balancer, and by the kernel's IPVS");
    ends.measure("the task itself", tasks, cluster, &mut samples)?;
    ends.measure("IPVS", service, cluster, &mut samples)?;
    scenes::start(out, cluster, &options.bpvs)?;
    ends.measure("bpvs", service, cluster, &mut samples)?;
    out.heading("Instructions, medians");
    for (figure, name) in FIGURES.iter().enumerate() {
        for (place, at) in PLACES.iter().enumerate() {
            let of = |way| {
                samples
                    .get(&(way, place, figure))
                    .map_or(0.0, |v| median(v))
            };
            let base = of("the task itself");
            let of = ["the task itself", "IPVS", "bpvs"].map(|way| (way, of(way)));
            let said = of.map(|(way, value)| format!("{way} {value:.0} ({:.2})", value / base));
            out.answer(&format!("{name}, task {at}: {}", said.join(", ")));
        }
    }
    let report: Vec<_> = samples
        .iter()
        .map(|((way, place, figure), values)| {
            json!({ "way": way, "task": PLACES[*place], "figure": FIGURES[*figure],
                    "median": median(values), "samples": values })
        })
        .collect();
    if let Some(path) = &options.report {
        fs::write(path, format!("{:#}\n", json!({ "instructions": report })))?;
    }
    Ok(())
}

/// Who listens in the tasks' containers, this node's first.
struct Ends {
    listeners: [TcpListener; 2],
    tasks: [Ipv4Addr; 2],
}

impl Ends {
    fn new(cluster: &Cluster) -> Result<Self> {
        let mut ends = Vec::new();
        for node in &cluster.nodes {
            let container = cluster.task_on(node)?;
            let format = format!("{{{{(index .NetworkSettings.Networks {NETWORK:?}).IPAddress}}}}");
            let address = node.docker_words(&["inspect", "--format", &format, &container])?;
            let listener = node
                .container(&container)?
                .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, OWN)))??;
            listener.set_nonblocking(true)?;
            ends.push((listener, address.parse()?));
        }
        let mut ends = ends.into_iter();
        let mut next = || ends.next().context("a Swarm of fewer than two nodes");
        let ((here, a), (there, b)) = (next()?, next()?);
        Ok(Self {
            listeners: [here, there],
            tasks: [a, b],
        })
    }

    fn measure(
        &self,
        way: &'static str,
        targets: [SocketAddrV4; 2],
        cluster: &Cluster,
        samples: &mut Samples,
    ) -> Result<()> {
        cluster.probes[0]
            .run(|| -> Result<()> {
                for (place, target) in targets.into_iter().enumerate() {
                    let mut pair = self.open_at(target, place)?;
                    for _ in 0..SAMPLES {
                        let begin = Instant::now();
                        for _ in 0..REQUESTS {
                            pair.exchange()?;
                        }
                        let each = begin.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS);
                        samples.entry((way, place, 0)).or_default().push(each);
                    }
                }
                for (_, target) in (0..SAMPLES).flat_map(|_| targets.into_iter().enumerate()) {
                    let begin = Instant::now();
                    let (mut pair, place) = self.open(target)?;
                    pair.exchange()?;
                    pair.close()?;
                    let all = begin.elapsed().as_secs_f64() * 1e9;
                    samples.entry((way, place, 1)).or_default().push(all);
                }
                Ok(())
            })?
            .with_context(|| way.to_owned())
    }

    /// Opens connections until one is to this task.
    fn open_at(&self, target: SocketAddrV4, place: usize) -> Result<Pair> {
        for _ in 0..8 {
            let (pair, at) = self.open(target)?;
            if at == place {
                return Ok(pair);
            }
        }
        anyhow::bail!("no connection to {target} is the task's {}", PLACES[place])
    }

    /// A connection, and which task has it.
    fn open(&self, target: SocketAddrV4) -> Result<(Pair, usize)> {
        let client = TcpStream::connect_timeout(&target.into(), client::patience())
            .with_context(|| format!("cannot connect to {target}"))?;
        let deadline = Instant::now() + client::patience();
        loop {
            for (place, listener) in self.listeners.iter().enumerate() {
                match listener.accept() {
                    Ok((server, _)) => {
                        server.set_nonblocking(false)?;
                        for end in [&client, &server] {
                            end.set_nodelay(true)?;
                            end.set_read_timeout(Some(client::patience()))?;
                        }
                        return Ok((Pair { client, server }, place));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ensure!(
                Instant::now() < deadline,
                "nobody got the connection to {target}"
            );
            std::thread::sleep(Duration::ZERO);
        }
    }
}

/// Both ends of a connection, in one hand.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn exchange(&mut self) -> Result<()> {
        let mut buffer = [0; SMALL];
        self.client.write_all(&buffer)?;
        self.server.read_exact(&mut buffer)?;
        self.server.write_all(&buffer)?;
        self.client.read_exact(&mut buffer)?;
        Ok(())
    }

    /// The server closes first, and the connection rests on its side.
    fn close(mut self) -> Result<()> {
        drop(self.server);
        ensure!(
            self.client.read(&mut [0; SMALL])? == 0,
            "more than the answer came"
        );
        Ok(())
    }
}
