//! The networks of the scopes: who watches them, and how the news get to the single writer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::engine::Message;
use crate::model::ScopeId;
use crate::net::{
    HopId, HopKey, HopTable, NeighbourKeeper, NetError, NetNs, Network, Watch, WatchOptions, watch,
};

/// How often neighbours are asked for again: often enough for kernels that do not keep them by themselves.
const KEEPING: Duration = Duration::from_secs(5);

/// How much longer than it took is waited before it is done again because servers have come or gone: of thousands that are
/// added one by one, most are asked for together.
const IDLE_PARTS: u32 = 10;

/// How long is waited at most.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// How long after a watch has failed it is begun again.
const RETRY: Duration = Duration::from_secs(1);

/// A network, and the ids of its hops, also of those that are gone of late.
pub type Seen = (Arc<Network>, Vec<(HopKey, HopId)>);

/// Whoever watches namespaces for the engine; in tests, nobody.
pub trait Networks: Send {
    /// Begins to watch a scope's namespace and returns what it is like now. News come as messages to the engine.
    ///
    /// # Errors
    /// The namespace cannot be entered or read.
    fn start(
        &mut self,
        scope: ScopeId,
        netns: &NetNs,
        hops: &[(HopKey, HopId)],
    ) -> Result<Seen, NetError>;

    /// Says which real servers the scope has now: the way to them is to be kept fresh.
    fn servers(&mut self, scope: ScopeId, servers: BTreeSet<IpAddr>);

    /// The same of one real server that comes, or goes. Nothing happens while nobody watches.
    fn server(&mut self, scope: ScopeId, server: IpAddr, is_there: bool);

    /// Ends the watch on a scope and takes away what it left in the namespace.
    fn stop(&mut self, scope: ScopeId);
}

/// The watches, as tasks of a runtime that other threads drive.
pub struct Watchers {
    runtime: Runtime,
    messages: mpsc::UnboundedSender<Message>,
    running: BTreeMap<ScopeId, Running>,
}

struct Running {
    /// Its end tells the task to end.
    servers: channel::Sender<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

impl Watchers {
    pub(super) fn new(runtime: Runtime, messages: mpsc::UnboundedSender<Message>) -> Self {
        Self {
            runtime,
            messages,
            running: BTreeMap::new(),
        }
    }
}

impl Networks for Watchers {
    fn start(
        &mut self,
        scope: ScopeId,
        netns: &NetNs,
        hops: &[(HopKey, HopId)],
    ) -> Result<Seen, NetError> {
        let options = WatchOptions {
            hops: HopTable::restore(hops.iter().copied()),
            ..WatchOptions::default()
        };
        let watch = self.runtime.block_on(watch(netns, options))?;
        let first = (watch.current(), watch.hop_ids());
        let (servers, wanted) = channel::channel(BTreeSet::new());
        let task = Task {
            scope,
            netns: netns.try_clone()?,
            messages: self.messages.clone(),
            network: watch.current(),
            watch: Some(watch),
            wanted,
            keeper: None,
        };
        let task = self.runtime.spawn(task.run());
        self.running.insert(scope, Running { servers, task });
        Ok(first)
    }

    fn servers(&mut self, scope: ScopeId, servers: BTreeSet<IpAddr>) {
        if let Some(running) = self.running.get(&scope) {
            running.servers.send_if_modified(|there| {
                let differs = *there != servers;
                *there = servers;
                differs
            });
        }
    }

    fn server(&mut self, scope: ScopeId, server: IpAddr, is_there: bool) {
        if let Some(running) = self.running.get(&scope) {
            running.servers.send_if_modified(|there| {
                if is_there {
                    there.insert(server)
                } else {
                    there.remove(&server)
                }
            });
        }
    }

    fn stop(&mut self, scope: ScopeId) {
        if let Some(Running { servers, task }) = self.running.remove(&scope) {
            drop(servers);
            if let Err(error) = self.runtime.block_on(task) {
                warn!(%scope, "the watch on the network ended badly: {error}");
            }
        }
    }
}

impl Drop for Watchers {
    /// The daemon ends and the datapath stays, so that what the watches keep in the namespaces stays, too.
    fn drop(&mut self) {
        self.running
            .values()
            .for_each(|running| running.task.abort());
    }
}

/// One scope's watch.
struct Task {
    scope: ScopeId,
    netns: NetNs,
    messages: mpsc::UnboundedSender<Message>,
    network: Arc<Network>,
    /// None while it has failed and is to be begun again.
    watch: Option<Watch>,
    wanted: channel::Receiver<BTreeSet<IpAddr>>,
    keeper: Option<NeighbourKeeper>,
}

/// What a watch was waiting for.
enum Event {
    Network(Result<Arc<Network>, NetError>),
    Servers,
    Tick,
    End,
}

impl Task {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(KEEPING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hops = Vec::new();
        let mut rested = Instant::now();
        loop {
            let event = tokio::select! {
                changed = next(&mut self.watch) => Event::Network(changed),
                changed = later(rested, &mut self.wanted) => if changed.is_ok() { Event::Servers } else { Event::End },
                _ = tick.tick() => Event::Tick,
            };
            match event {
                Event::Network(Ok(network)) => {
                    self.network = network;
                    hops = self.watch.as_ref().map(Watch::hop_ids).unwrap_or_default();
                    self.tell(&hops);
                    self.keep().await;
                }
                Event::Network(Err(error)) => {
                    warn!(scope = %self.scope, "the watch on the network failed and is begun again: {error}");
                    hops = self.watch.take().map_or(hops, |watch| watch.hop_ids());
                    tokio::time::sleep(RETRY).await;
                    self.watch = self.again(&hops).await;
                }
                Event::Tick if self.watch.is_none() => self.watch = self.again(&hops).await,
                Event::Servers | Event::Tick => {
                    let begun = Instant::now();
                    self.keep().await;
                    let took = begun.elapsed();
                    rested = Instant::now() + (took * IDLE_PARTS).min(LONGEST_REST);
                }
                Event::End => break,
            }
        }
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.release().await
        {
            debug!(scope = %self.scope, "neighbours could not be given up: {error}");
        }
    }

    fn tell(&self, hops: &[(HopKey, HopId)]) {
        let network = Arc::clone(&self.network);
        // If the engine is gone, the end is near for this task, too.
        let _ = self.messages.send(Message::Network {
            scope: self.scope,
            network,
            hops: hops.to_vec(),
        });
    }

    async fn again(&self, hops: &[(HopKey, HopId)]) -> Option<Watch> {
        let options = WatchOptions {
            hops: HopTable::restore(hops.iter().copied()),
            ..WatchOptions::default()
        };
        watch(&self.netns, options).await.ok()
    }

    /// Has the kernel keep the neighbours by which the servers are reached.
    async fn keep(&mut self) {
        let wanted: BTreeSet<(u32, IpAddr)> = self
            .wanted
            .borrow()
            .iter()
            .filter_map(|server| self.network.neighbour_for(*server))
            .collect();
        if self.keeper.is_none() {
            self.keeper = NeighbourKeeper::open(&self.netns).await.ok();
        }
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        match keeper.keep(&wanted).await {
            Ok(report) => {
                for (ifindex, address, error) in report.failed {
                    debug!(scope = %self.scope, "neighbour {address} on interface {ifindex} is refused: {error}");
                }
            }
            Err(error) => {
                debug!(scope = %self.scope, "neighbours cannot be kept: {error}");
                self.keeper = None;
            }
        }
    }
}

/// Waits until the servers are others, and at least until then.
async fn later(
    rested: Instant,
    wanted: &mut channel::Receiver<BTreeSet<IpAddr>>,
) -> Result<(), channel::error::RecvError> {
    tokio::time::sleep_until(rested).await;
    wanted.changed().await
}

async fn next(watch: &mut Option<Watch>) -> Result<Arc<Network>, NetError> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
