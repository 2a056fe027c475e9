//! The single writer: it owns the datapath, the journal and the scopes, and takes one message after the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::early::Early;
use super::journal::{Journal, JournalError, KnownNetNs, KnownScope, Own, Store};
use super::networks::Networks;
use super::reached::Reached;
use super::{Failure, FailureKind, Reply, Request, fault};
use crate::api::wire;
use crate::control::Claims;
use crate::datapath::{Datapath, DatapathError};
use crate::model::{ScopeId, ServiceKey, Table};
use crate::net::{HopId, HopKey, NetNs, Network};

/// How long a scope with nothing in it stays open: a script may be about to fill it again, and its connections with it.
const LINGER: std::time::Duration = std::time::Duration::from_secs(60);

/// How much time lies between two looks at the counters for rates: two seconds, but for ticks that come a little early.
const ESTIMATE_EVERY: std::time::Duration = std::time::Duration::from_millis(1900);

/// How many ticks lie between two looks for namespaces that nobody else holds any more.
const ABANDONED_EVERY: u64 = 30;

/// What the engine is told.
#[derive(Debug)]
pub enum Message {
    /// Somebody asks for something.
    Request {
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Reply, Failure>>,
    },
    /// A scope's network is different.
    Network {
        /// The scope.
        scope: ScopeId,
        /// Its network.
        network: Arc<Network>,
        /// The ids of its hops, also of those that are gone of late.
        hops: Vec<(HopKey, HopId)>,
    },
    /// A second has passed.
    Tick,
    /// End, and leave the datapath standing.
    Stop,
}

/// Takes away what no scope holds, when everything is to go.
pub type RemoveAll = Box<dyn FnOnce() -> Result<(), DatapathError> + Send>;

/// A scope that is open.
pub(super) struct Scope {
    pub(super) netns: NetNs,
    /// What the datapath serves: read from it when the scope was opened, and kept beside it since.
    pub(super) table: Table,
    /// The addresses of its real servers.
    pub(super) reached: Reached,
    /// When its services were added, as numbers: the higher the newer. A restart counts them anew, in the order of keys.
    pub(super) births: HashMap<ServiceKey, u64>,
    /// The interfaces to which the programs are attached, with their names.
    pub(super) attached: BTreeMap<u32, String>,
    /// Interfaces that an earlier daemon attached to: those that are not wanted are yet to be detached.
    pub(super) inherited: Vec<u32>,
    /// Which of them XDP is on, or why it is not where it was to be.
    pub(super) early: BTreeMap<u32, Early>,
    /// What the namespace is like; none while nothing is served.
    pub(super) network: Option<Arc<Network>>,
    /// Since when there is nothing in it.
    pub(super) empty_since: Option<Instant>,
    /// Whether the last look found nobody else that holds the namespace.
    pub(super) abandoned: bool,
    /// What does not work at present.
    pub(super) problems: Vec<String>,
}

/// The single writer.
pub struct Engine {
    pub(super) datapath: Box<dyn Datapath>,
    pub(super) networks: Box<dyn Networks>,
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) scopes: BTreeMap<ScopeId, Scope>,
    pub(super) sweep: wire::Sweep,
    pub(super) started: Instant,
    remove_all: Option<RemoveAll>,
    ticks: u64,
    /// How many services were added.
    pub(super) born: u64,
    /// When rates were last computed.
    estimated: Instant,
}

/// Why the engine could not take up its work.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error("scope {0} is in the datapath, and the journal does not know its namespace")]
    UnknownScope(ScopeId),
    #[error("a change that was cut short can be neither finished nor undone: {0}")]
    Unfinished(String),
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(_) | Self::UnknownScope(_) | Self::Unfinished(_) => Some(
                "`bpvs down` removes all that is left, with the connections; then start anew"
                    .into(),
            ),
            Self::Datapath(error) => error.hint(),
        }
    }
}

impl Engine {
    /// Takes up what an earlier daemon left: its scopes, and a change that was cut short.
    ///
    /// # Errors
    /// The journal and the datapath do not fit together, or one of them fails.
    pub fn start(
        datapath: Box<dyn Datapath>,
        networks: Box<dyn Networks>,
        store: Store,
        remove_all: RemoveAll,
    ) -> Result<Self, StartError> {
        let journal = store.load()?;
        let mut engine = Self {
            datapath,
            networks,
            store,
            journal,
            scopes: BTreeMap::new(),
            sweep: wire::Sweep::default(),
            started: Instant::now(),
            remove_all: Some(remove_all),
            ticks: 0,
            born: 0,
            estimated: Instant::now(),
        };
        engine.recover()?;
        Ok(engine)
    }

    /// Takes messages until it is told to end, or everything is removed.
    pub fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        while let Some(message) = self.next(&mut messages) {
            match message {
                Message::Request {
                    request: Request::Down,
                    reply,
                } => {
                    // The asker may be gone by now.
                    let _ = reply.send(self.down().map(|()| Reply::Done));
                    return;
                }
                Message::Request { request, reply } => {
                    let _ = reply.send(self.handle(request));
                }
                Message::Network {
                    scope,
                    network,
                    hops,
                } => self.network(scope, network, hops),
                Message::Tick => self.tick(),
                Message::Stop => return,
            }
        }
    }

    /// The next message. While there is none, the datapath goes on with what it could not do at once.
    fn next(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) -> Option<Message> {
        while self.datapath.has_work() {
            match messages.try_recv() {
                Ok(message) => return Some(message),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            if let Err(error) = self.datapath.work() {
                error!("connections that are over are not taken apart: {error}");
            }
        }
        messages.blocking_recv()
    }

    /// Does what is asked for. [`Request::Down`] is not for here, since nothing can be asked after it.
    ///
    /// # Errors
    /// It cannot be done; then nothing is changed.
    pub fn handle(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Status => Ok(Reply::Status(self.status())),
            Request::Listing { netns } => self.listing(&netns).map(Reply::Listing),
            Request::Service { netns, key } => {
                let service = self.service(&netns, &key)?;
                Ok(Reply::Service(Box::new(service)))
            }
            Request::Stats { netns } => self.stats(&netns).map(Reply::Stats),
            Request::Connections { netns } => self.connections(&netns).map(Reply::Connections),
            Request::Zero { netns, service } => {
                self.zero(&netns, service.as_ref()).map(|()| Reply::Done)
            }
            Request::Settings { netns } => Ok(Reply::Settings(self.settings(&netns))),
            Request::Command { netns, command } => {
                let outcome = self.commands(&netns, &[command]).pop();
                outcome.unwrap_or(Ok(())).map(|()| Reply::Done)
            }
            Request::Commands { netns, commands } => {
                Ok(Reply::Outcomes(self.commands(&netns, &commands)))
            }
            Request::Apply { scopes, dry_run } => self.apply(scopes, dry_run).map(Reply::Changes),
            Request::Provide { provider, scopes } => {
                self.provide(&provider, scopes).map(|()| Reply::Done)
            }
            Request::Down => Err(Failure::new(FailureKind::Ending, "the daemon is ending")),
        }
    }

    /// The scope of a namespace, if there is one.
    pub(super) fn find(&self, netns: &NetNs) -> Option<ScopeId> {
        self.scopes
            .iter()
            .find(|(_, scope)| scope.netns == *netns)
            .map(|(id, _)| *id)
    }

    /// What files claim of a scope.
    pub(super) fn claims(&self, id: ScopeId) -> Option<&Claims> {
        let known = self.journal.scopes.get(&id)?;
        Some(&known.own.claims)
    }

    /// The scope of a namespace, made if there is none.
    pub(super) fn open(&mut self, netns: NetNs) -> Result<ScopeId, Failure> {
        if let Some(id) = self.find(&netns) {
            return Ok(id);
        }
        let id = self.journal.free_scope().ok_or_else(|| {
            Failure::new(
                FailureKind::Full,
                format!("all {} scopes are in use", ScopeId::MAX),
            )
            .hint("`bpvs status` lists them; a scope is given up a minute after its last service")
        })?;
        let known = KnownScope {
            netns: KnownNetNs::of(&netns),
            own: Own::default(),
            hops: Vec::new(),
        };
        info!(scope = %id, netns = %known.netns.label, "a new scope");
        // Should a scope of this number have left some.
        self.store.save_scope(id, &mut Own::default())?;
        let next = self.journal.next_scope;
        self.journal.next_scope = id.get() + 1;
        self.journal.scopes.insert(id, known);
        if let Err(error) = self.store.save(&self.journal) {
            self.journal.scopes.remove(&id);
            self.journal.next_scope = next;
            return Err(error.into());
        }
        fault::reached("scope-recorded");
        if let Err(error) = self.take_up(id, netns) {
            self.close(id);
            return Err(error.into());
        }
        fault::reached("scope-opened");
        Ok(id)
    }

    /// Opens a scope that the journal knows.
    pub(super) fn take_up(&mut self, id: ScopeId, netns: NetNs) -> Result<(), DatapathError> {
        use std::os::fd::AsFd;
        let known = self.journal.scopes.get(&id);
        let none = Own::default();
        let own = known.map_or(&none, |known| &known.own);
        self.datapath
            .open_scope(id, netns.as_fd(), &own.marks, &own.settings)?;
        let table = self.datapath.table(id)?;
        let inherited = self.datapath.attached(id)?;
        let early = self.datapath.attached_xdp(id)?;
        let keys = table.services().map(|service| service.key);
        let births = keys.zip(self.born + 1..).collect();
        self.born += table.services().len() as u64;
        let scope = Scope {
            netns,
            births,
            reached: Reached::of(&table),
            table,
            attached: BTreeMap::new(),
            inherited,
            early: early
                .into_iter()
                .map(|ifindex| (ifindex, Early::default()))
                .collect(),
            network: None,
            empty_since: None,
            abandoned: false,
            problems: Vec::new(),
        };
        self.scopes.insert(id, scope);
        Ok(())
    }

    /// Removes a scope with all that it has.
    pub(super) fn close(&mut self, id: ScopeId) {
        if self.scopes.remove(&id).is_some() {
            self.networks.stop(id);
        }
        if let Err(error) = self.datapath.close_scope(id) {
            // It stays in the journal, so that its number is not used and a later daemon tries again.
            error!(scope = %id, "cannot close the scope: {error}");
            return;
        }
        self.journal.scopes.remove(&id);
        // Its own file goes last: without its scope it is not looked at.
        let saved = self.store.save(&self.journal);
        if let Err(error) = saved.and_then(|()| self.store.save_scope(id, &mut Own::default())) {
            error!("{error}");
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.sweep.runs += 1;
        match self.datapath.sweep() {
            Ok(report) => self.sweep.deleted += report.deleted,
            Err(error) => {
                self.sweep.failed += 1;
                // Once is enough: it will be the same every second.
                if self.sweep.failed == 1 {
                    error!("the sweep of expired connections failed: {error}");
                }
            }
        }
        if self.estimated.elapsed() >= ESTIMATE_EVERY {
            let elapsed = std::mem::replace(&mut self.estimated, Instant::now()).elapsed();
            if let Err(error) = self.datapath.estimate(elapsed) {
                error!("cannot compute rates: {error}");
            }
        }
        let ailing: Vec<ScopeId> = self
            .scopes
            .iter()
            .filter(|(_, scope)| !scope.problems.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ailing.into_iter().for_each(|id| self.serve(id));
        let now = Instant::now();
        let mut over = Vec::new();
        for (id, scope) in &mut self.scopes {
            let empty = scope.table.is_empty()
                && self
                    .journal
                    .scopes
                    .get(id)
                    .is_none_or(|known| known.own.claims.is_empty());
            scope.empty_since = if empty {
                scope.empty_since.or(Some(now))
            } else {
                None
            };
            if scope
                .empty_since
                .is_some_and(|since| now.duration_since(since) >= LINGER)
            {
                over.push(*id);
            }
        }
        for id in over {
            info!(scope = %id, "the scope has been empty for a minute and is given up");
            self.close(id);
        }
        if self.ticks.is_multiple_of(ABANDONED_EVERY) {
            self.give_up_abandoned();
        }
    }

    /// Gives up scopes whose namespaces live only because this daemon holds them. Twice in a row nobody else must be
    /// found, for a namespace can be on its way from one holder to the next.
    fn give_up_abandoned(&mut self) {
        if !super::find::sees_all_processes() {
            return;
        }
        let ids = self.scopes.values().map(|scope| scope.netns.id()).collect();
        let held = super::find::held_by_others(&ids);
        let mut over = Vec::new();
        for (id, scope) in &mut self.scopes {
            let abandoned = !held.contains(&scope.netns.id());
            if abandoned && scope.abandoned {
                over.push(*id);
            }
            scope.abandoned = abandoned;
        }
        for id in over {
            warn!(scope = %id, "the scope's namespace is gone: nobody else holds it");
            self.close(id);
        }
    }

    fn down(&mut self) -> Result<(), Failure> {
        for id in self.journal.scopes.keys().copied().collect::<Vec<_>>() {
            self.close(id);
        }
        if let Some(remove_all) = self.remove_all.take() {
            remove_all()?;
        }
        self.store.remove()?;
        info!("everything is removed");
        Ok(())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::new(FailureKind::System, error.to_string())
    }
}
