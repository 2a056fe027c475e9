//! Keeping a [`Network`] fresh: a task that hears the namespace's events.
//!
//! The order is: join the multicast groups, dump everything, take in events. Bursts are put together (a namespace that
//! comes up brings hundreds of events in a few milliseconds) and what comes out is handed on only when it differs from
//! what was handed on before: most events, such as a neighbour going from reachable to stale, change nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attach::AttachSettings;
use super::connection::{
    Connection, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV4_RULE, GROUP_IPV6_ADDRESS,
    GROUP_LINK, GROUP_NEIGHBOUR, GROUP_NEXT_HOP, Received,
};
use super::error::NetError;
use super::hop_table::{HopKey, HopTable};
use super::hops;
use super::local_ports::LocalPorts;
use super::mirror::{Mirror, Table};
use super::netns::NetNs;
use super::network::{HopId, Network};
use super::reader;
use super::snapshot::Snapshot;

const GROUPS: u32 = GROUP_LINK
    | GROUP_NEIGHBOUR
    | GROUP_IPV4_ADDRESS
    | GROUP_IPV6_ADDRESS
    | GROUP_IPV4_ROUTE
    | GROUP_IPV4_RULE
    | GROUP_NEXT_HOP;

/// What the kernel announces before it is done (an interface going down precedes the removal of its routes) is read
/// again this much later.
const SETTLED: Duration = Duration::from_secs(1);

/// Refreshing takes at most one part in this many of the time.
const DUTY: u32 = 10;

/// How a namespace is watched.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Where the programs attach.
    pub attach: AttachSettings,
    /// Ids that hops had before.
    pub hops: HopTable,
    /// A burst of events is over when none came for this long.
    pub quiet: Duration,
    /// … or when it has lasted this long.
    pub longest: Duration,
    /// How often everything is read again, should an event have been misunderstood.
    pub audit: Duration,
    /// How many bytes of events may wait.
    pub queue: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            attach: AttachSettings::default(),
            hops: HopTable::new(),
            quiet: Duration::from_millis(5),
            longest: Duration::from_millis(50),
            audit: Duration::from_secs(300),
            queue: 4 << 20,
        }
    }
}

/// What a watch has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounters {
    /// Messages that concerned the snapshot, those of dumps not among them.
    pub events: u64,
    /// Tables read whole.
    pub dumps: u64,
    /// How often the kernel lost events.
    pub losses: u64,
    /// Values handed on.
    pub published: u64,
}

#[derive(Debug, Default)]
struct Shared {
    hops: Mutex<HopTable>,
    events: AtomicU64,
    dumps: AtomicU64,
    losses: AtomicU64,
    published: AtomicU64,
}

impl Shared {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn hops(&self) -> std::sync::MutexGuard<'_, HopTable> {
        // Every method leaves the table usable, so a panic elsewhere does not spoil it.
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace being watched. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    values: channel::Receiver<Arc<Network>>,
    shared: Arc<Shared>,
    task: JoinHandle<NetError>,
    /// The task's error has been given out.
    failed: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// The network as it was last seen.
    #[must_use]
    pub fn current(&self) -> Arc<Network> {
        self.values.borrow().clone()
    }

    /// Waits for a value that [`Watch::changed`] has not returned yet; the first call returns at once. Values that
    /// nobody waited for are skipped. Can be cancelled.
    ///
    /// # Errors
    /// The watch has failed: the first call says why. Watch anew, with [`Watch::hop_ids`].
    pub async fn changed(&mut self) -> Result<Arc<Network>, NetError> {
        match self.values.changed().await {
            Ok(()) => Ok(self.values.borrow_and_update().clone()),
            Err(_) if self.failed => Err(NetError::Ended),
            Err(_) => {
                // The task has dropped its end, so that it is over or just about to be.
                let outcome = (&mut self.task).await;
                self.failed = true;
                Err(outcome.unwrap_or(NetError::Ended))
            }
        }
    }

    /// The ids that hops have, resting ones too: what [`HopTable::restore`] takes.
    #[must_use]
    pub fn hop_ids(&self) -> Vec<(HopKey, HopId)> {
        self.shared.hops().ids().collect()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> WatchCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounters {
            events: read(&self.shared.events),
            dumps: read(&self.shared.dumps),
            losses: read(&self.shared.losses),
            published: read(&self.shared.published),
        }
    }
}

/// Reads a namespace once. Must be called inside a tokio runtime.
///
/// # Errors
/// It cannot be entered, or the kernel refuses.
pub async fn snapshot(netns: &NetNs) -> Result<Snapshot, NetError> {
    let mut connection = Connection::open(netns, 0, WatchOptions::default().queue)?;
    let mut mirror = Mirror::default();
    reader::read(
        &mut connection,
        &mut mirror,
        Table::ALL.into(),
        &mut reader::Tally::default(),
    )
    .await?;
    mirror.set_local_ports(LocalPorts::open(netns).read());
    Ok(mirror.into_snapshot())
}

/// Reads a namespace and goes on to watch it, on a task of its own. Returns when the first value is there. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub async fn watch(netns: &NetNs, options: WatchOptions) -> Result<Watch, NetError> {
    let mut connection = Connection::open(netns, GROUPS, options.queue)?;
    let shared = Arc::new(Shared {
        hops: Mutex::new(options.hops.clone()),
        ..Shared::default()
    });
    let mut mirror = Mirror::default();
    let mut tally = reader::Tally::default();
    reader::read(&mut connection, &mut mirror, Table::ALL.into(), &mut tally).await?;

    let mut watcher = Watcher {
        label: netns.to_string(),
        warned_of_policy: false,
        local_ports: LocalPorts::open(netns),
        connection,
        mirror,
        options,
        shared: Arc::clone(&shared),
        values: channel::Sender::new(Arc::new(Network::default())),
    };
    let stale = std::mem::take(&mut tally.stale);
    watcher.count(tally);
    let mut values = watcher.values.subscribe();
    watcher.publish();
    values.mark_changed();
    let task = tokio::spawn(watcher.run(stale));
    Ok(Watch {
        values,
        shared,
        task,
        failed: false,
    })
}

/// The task's side.
struct Watcher {
    label: String,
    warned_of_policy: bool,
    local_ports: LocalPorts,
    connection: Connection,
    mirror: Mirror,
    options: WatchOptions,
    shared: Arc<Shared>,
    values: channel::Sender<Arc<Network>>,
}

/// What is to be done, and when.
struct Agenda {
    /// When the first and the last event of the present burst came.
    burst: Option<(Instant, Instant)>,
    /// Tables to read before anything is handed on.
    stale: BTreeSet<Table>,
    /// Read these tables again when things have settled.
    settle: Option<Instant>,
    /// Read everything again.
    audit: Instant,
    /// Not before this.
    pause: Instant,
}

impl Agenda {
    fn note(&mut self, now: Instant) {
        let (first, _) = self.burst.unwrap_or((now, now));
        self.burst = Some((first, now));
    }

    /// When to wake if no event comes.
    fn next(&self, options: &WatchOptions) -> Instant {
        let burst = self
            .burst
            .map(|(first, last)| (last + options.quiet).min(first + options.longest));
        [burst, self.settle, Some(self.audit)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.audit)
            .max(self.pause)
    }
}

impl Watcher {
    async fn run(mut self, stale: BTreeSet<Table>) -> NetError {
        let start = Instant::now();
        let mut agenda = Agenda {
            burst: (!stale.is_empty()).then_some((start, start)),
            stale,
            settle: None,
            audit: start + self.options.audit,
            pause: start,
        };
        loop {
            let wake = agenda.next(&self.options);
            tokio::select! {
                // Due work first, or a flood of events would keep it off for ever.
                biased;
                () = tokio::time::sleep_until(wake) => {
                    if let Err(error) = self.refresh(&mut agenda).await {
                        return error;
                    }
                }
                received = self.connection.receive() => {
                    match received {
                        Err(error) => return error,
                        Ok(Received::Lost) => {
                            Shared::add(&self.shared.losses, 1);
                            tracing::debug!(netns = self.label, "netlink events were lost; reading everything again");
                            agenda.stale.extend(Table::ALL);
                            agenda.note(Instant::now());
                        }
                        Ok(Received::Messages(envelopes)) => {
                            let (applied, events) = reader::take_in(&mut self.mirror, envelopes);
                            Shared::add(&self.shared.events, events);
                            if applied.changed || !applied.stale.is_empty() {
                                agenda.note(Instant::now());
                                agenda.stale.extend(applied.stale);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Reads what is stale and hands on what came out.
    async fn refresh(&mut self, agenda: &mut Agenda) -> Result<(), NetError> {
        let start = Instant::now();
        agenda.burst = None;
        let mut tables = std::mem::take(&mut agenda.stale);
        if tables.contains(&Table::Routes) && agenda.settle.is_none() {
            agenda.settle = Some(start + SETTLED);
        } else if agenda.settle.is_some_and(|at| at <= start) {
            agenda.settle = None;
            tables.extend([Table::Addresses, Table::Routes]);
        }
        if agenda.audit <= start {
            agenda.audit = start + self.options.audit;
            tables.extend(Table::ALL);
        }
        if !tables.is_empty() {
            let mut tally = reader::Tally::default();
            let read =
                reader::read(&mut self.connection, &mut self.mirror, tables, &mut tally).await;
            agenda.stale.append(&mut tally.stale);
            if !agenda.stale.is_empty() {
                agenda.note(Instant::now());
            }
            self.count(tally);
            read?;
        }
        self.publish();
        let end = Instant::now();
        agenda.pause = end + (end - start) * (DUTY - 1);
        Ok(())
    }

    fn count(&self, tally: reader::Tally) {
        Shared::add(&self.shared.dumps, tally.dumps);
        Shared::add(&self.shared.losses, tally.losses);
        Shared::add(&self.shared.events, tally.events);
    }

    fn publish(&mut self) {
        let policy = self.mirror.snapshot().policy;
        if !policy.is_default() && !self.warned_of_policy {
            self.warned_of_policy = true;
            tracing::warn!(
                netns = self.label,
                others = policy.others,
                "this namespace has routing policy rules beside the default ones; next hops are taken from the tables \
                 local, main and default alone"
            );
        }
        self.mirror.set_local_ports(self.local_ports.read());
        let network = hops::compute(
            self.mirror.snapshot(),
            &mut self.shared.hops(),
            &self.options.attach,
            std::time::Instant::now(),
        );
        let published = self.values.send_if_modified(|current| {
            let differs = **current != network;
            if differs {
                *current = Arc::new(network);
            }
            differs
        });
        if published {
            Shared::add(&self.shared.published, 1);
        }
    }
}
