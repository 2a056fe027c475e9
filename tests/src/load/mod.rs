//! Load: many clients of one kind on one host, bounded in count and time, and what became of each
//! request.
//!
//! A load runs on one thread inside the host's namespace, with one event loop for all its clients.

mod echo;
mod report;
mod request;
mod udp;

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use report::{Failure, Report};

use crate::host::Host;
use crate::slow::patient;

/// What each client does.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A new connection for each HTTP request.
    Short,
    /// HTTP requests one after the other on a connection, and a new connection after this many (0:
    /// never).
    KeepAlive {
        /// Requests on one connection.
        requests: u32,
    },
    /// One connection for good, with a line to and fro every `pause`. A client whose connection
    /// breaks has failed and stops.
    Long,
    /// A datagram and its answer; `fresh`: from a new port each.
    Udp {
        /// A new socket for each request.
        fresh: bool,
    },
    /// Datagrams that nobody answers, of this many bytes, all of a client from one port.
    UdpOneWay {
        /// Length of each datagram.
        bytes: usize,
    },
}

/// A load; see [`Load::start`].
#[derive(Debug, Clone)]
pub struct Load {
    /// What each client does.
    pub kind: Kind,
    /// Where the requests go.
    pub to: SocketAddrV4,
    /// Target of HTTP requests.
    pub path: String,
    /// Clients at once.
    pub clients: u32,
    /// Requests altogether; the load ends after them.
    pub count: u64,
    /// The load ends after this time in any case.
    pub time: Duration,
    /// How long a client waits between its requests; the clients begin spread over one such pause.
    pub pause: Duration,
    /// After this time without an answer a request has failed.
    pub timeout: Duration,
    /// Connects again when refused (nothing was sent yet, so nothing can be lost), for at most
    /// `timeout`; counted apart.
    pub retry_refused: bool,
}

impl Load {
    /// A load with usual settings: 4 clients, no pause, 2 s to answer, at most 1000 requests and 30
    /// s.
    pub fn new(kind: Kind, to: SocketAddrV4) -> Self {
        Self {
            kind,
            to,
            path: "/".into(),
            clients: 4,
            count: 1000,
            time: patient(Duration::from_secs(30)),
            pause: Duration::ZERO,
            timeout: patient(Duration::from_secs(2)),
            retry_refused: false,
        }
    }

    /// Sets the number of clients.
    #[must_use]
    pub fn clients(mut self, clients: u32) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the number of requests.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// Sets the longest time.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets the pause between a client's requests.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets the target of HTTP requests.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Goes on until it is stopped, up to `time` on a usual machine: what the case does meanwhile
    /// takes longer on a slow one.
    #[must_use]
    pub fn endless(self, time: Duration) -> Self {
        self.count(u64::MAX).time(patient(time))
    }

    /// Starts the load on `host` and leaves it running.
    pub fn start(self, host: &Host) -> Result<Running> {
        let shared = Arc::new(Progress {
            load: self,
            stop: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let thread = host.spawn("load", move || drive(for_thread))?;
        Ok(Running {
            shared,
            thread: Some(thread),
        })
    }

    /// Runs the load on `host` to its end.
    pub fn run(self, host: &Host) -> Result<Report> {
        self.start(host)?.wait()
    }
}

/// A load that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Progress>,
    thread: Option<JoinHandle<Result<Result<Report>>>>,
}

impl Running {
    /// Requests that have been answered or have failed so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests have been answered or have failed, so that the load is
    /// known to run.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        self.reach(&self.shared.done, self.done() + more)
    }

    /// Waits until this many requests in all have been begun.
    pub fn wait_begun(&self, requests: u64) -> Result<()> {
        self.reach(&self.shared.begun, requests)
    }

    fn reach(&self, count: &AtomicU64, wanted: u64) -> Result<()> {
        let begin = Instant::now();
        while count.load(Ordering::Relaxed) < wanted {
            if begin.elapsed() > patient(Duration::from_secs(10))
                || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
            {
                return Err(anyhow!(
                    "the load does not get on: {} requests, wanted {wanted}; {} have failed",
                    count.load(Ordering::Relaxed),
                    self.shared.failed.load(Ordering::Relaxed)
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Lets every client finish what it has begun, and returns what became of all requests.
    pub fn stop(mut self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for the end by count or time.
    pub fn wait(mut self) -> Result<Report> {
        self.join()
    }

    fn join(&mut self) -> Result<Report> {
        let thread = self.thread.take().context("the load has been waited for")?;
        thread.join().map_err(|_| anyhow!("the load panicked"))??
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the clients of one load share.
#[derive(Debug)]
struct Progress {
    load: Load,
    stop: AtomicBool,
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    /// Takes one request off the count; `false` when there is none left, or the load is to stop.
    fn next(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
            && self.begun.fetch_add(1, Ordering::Relaxed) < self.load.count
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.begun.load(Ordering::Relaxed) >= self.load.count
    }

    /// Notes how a request ended.
    fn note(&self, report: &mut Report, result: Result<report::Answer, Failure>, start: Instant) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.failed
            .fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        report.note(result, start.elapsed());
    }

    /// Waits between two requests of a client, not longer than until the load is over.
    async fn pause(&self) {
        let end = Instant::now() + self.load.pause;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(50))).await;
        }
    }
}

fn drive(progress: Arc<Progress>) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let start = Instant::now();
    let clock = Arc::clone(&progress);
    let report = runtime.block_on(async move {
        tokio::spawn(async move {
            tokio::time::sleep(clock.load.time).await;
            clock.stop.store(true, Ordering::Relaxed);
        });
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..progress.load.clients {
            let progress = Arc::clone(&progress);
            clients.spawn(async move {
                // Spread over the first pause, or all clients would ask, and rest, at the same
                // moments.
                tokio::time::sleep(progress.load.pause * number / progress.load.clients).await;
                match progress.load.kind {
                    Kind::Short | Kind::KeepAlive { .. } => request::client(&progress).await,
                    Kind::Long => echo::client(&progress, number).await,
                    Kind::Udp { fresh } => udp::client(&progress, fresh, number).await,
                    Kind::UdpOneWay { bytes } => udp::one_way(&progress, bytes).await,
                }
            });
        }
        let mut report = Report::default();
        while let Some(client) = clients.join_next().await {
            report.merge(client?);
        }
        Ok::<_, tokio::task::JoinError>(report)
    });
    let mut report = report.context("a client panicked")?;
    report.took = start.elapsed();
    report.sort();
    Ok(report)
}
