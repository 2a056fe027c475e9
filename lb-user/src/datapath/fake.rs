//! A datapath in memory, for tests of everything above the trait.
//!
//! It keeps what it is told, writes down every call in order, and fails on the step that a test asks it to fail on.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Connection, Counters, Datapath, DatapathError, ServerCounters, ServiceCounters, SweepReport,
};
use crate::control::Op;
use crate::model::{ScopeId, Server, Table};
use crate::net::{Interface, Network};

/// One scope in memory.
#[derive(Debug, Default)]
pub struct FakeScope {
    /// What it serves.
    pub table: Table,
    /// The indices of the interfaces that it is attached to.
    pub attached: BTreeSet<u32>,
    /// The last network that it was told of.
    pub network: Option<Network>,
    /// The connections that it says it has.
    pub connections: Vec<Connection>,
    /// Whether the daemon opened it; after [`FakeDatapath::restart`] it is only pinned.
    pub open: bool,
}

/// What the datapath holds; a test looks at it, and at the calls, from outside.
#[derive(Debug, Default)]
pub struct FakeState {
    /// The scopes by their ids.
    pub scopes: BTreeMap<ScopeId, FakeScope>,
    /// Every operation that was applied.
    pub applied: Vec<(ScopeId, Op)>,
    /// After how many more operations the next one fails, once.
    pub fail_after: Option<usize>,
}

/// The datapath in memory. A clone is another hold on the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeDatapath {
    state: Arc<Mutex<FakeState>>,
}

impl FakeDatapath {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A look inside. Must not be held while the datapath is used.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left when the daemon dies: everything but the mark rules, which cannot be read back from maps; and no
    /// scope is open.
    pub fn restart(&self) {
        for scope in self.state().scopes.values_mut() {
            scope.open = false;
            // No rules are always right.
            let _ = scope.table.set_marks(Vec::new());
        }
    }

    fn with<T>(
        &self,
        scope: ScopeId,
        act: impl FnOnce(&mut FakeScope) -> Result<T, DatapathError>,
    ) -> Result<T, DatapathError> {
        match self.state().scopes.get_mut(&scope) {
            Some(there) if there.open => act(there),
            _ => Err(DatapathError::NoSuchScope(scope)),
        }
    }
}

impl Datapath for FakeDatapath {
    fn apply(&mut self, scope: ScopeId, op: &Op) -> Result<(), DatapathError> {
        let fail_after = self.state().fail_after;
        match fail_after {
            Some(0) => {
                self.state().fail_after = None;
                return Err(DatapathError::Full {
                    what: "servers",
                    limit: 0,
                    hint: "a test asked for this",
                });
            }
            Some(more) => self.state().fail_after = Some(more - 1),
            None => {}
        }
        self.with(scope, |there| Ok(op.apply_to(&mut there.table)?))?;
        self.state().applied.push((scope, op.clone()));
        Ok(())
    }

    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError> {
        self.with(scope, |there| Ok(there.table.clone()))
    }

    fn counters(&self, scope: ScopeId) -> Result<Vec<ServiceCounters>, DatapathError> {
        let idle = |server: &Server| ServerCounters {
            address: server.socket(),
            active: 0,
            inactive: 0,
            counters: Counters::default(),
        };
        self.with(scope, |there| {
            let services = there.table.services().map(|service| ServiceCounters {
                key: service.key,
                counters: Counters::default(),
                servers: service.servers.iter().map(idle).collect(),
            });
            Ok(services.collect())
        })
    }

    fn reasons(&self, scope: ScopeId) -> Result<Vec<(&'static str, u64, u64)>, DatapathError> {
        self.with(scope, |_| {
            Ok(vec![("forwarded", 0, 0), ("no-server", 0, 0)])
        })
    }

    fn connections(
        &self,
        scope: ScopeId,
        visit: &mut dyn FnMut(Connection),
    ) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            there.connections.iter().cloned().for_each(visit);
            Ok(())
        })
    }

    fn open_scope(&mut self, scope: ScopeId, _netns: BorrowedFd<'_>) -> Result<(), DatapathError> {
        let mut state = self.state();
        let there = state.scopes.entry(scope).or_default();
        if there.open {
            return Err(DatapathError::ScopeExists(scope));
        }
        there.open = true;
        Ok(())
    }

    fn close_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        self.state().scopes.remove(&scope);
        Ok(())
    }

    fn attach(
        &mut self,
        scope: ScopeId,
        _netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            there.attached.insert(interface.ifindex);
            Ok(())
        })
    }

    fn detach(
        &mut self,
        scope: ScopeId,
        _netns: BorrowedFd<'_>,
        ifindex: u32,
    ) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            there.attached.remove(&ifindex);
            Ok(())
        })
    }

    fn set_network(&mut self, scope: ScopeId, network: &Network) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            there.network = Some(network.clone());
            Ok(())
        })
    }

    fn sweep(&mut self, _budget: u64) -> Result<SweepReport, DatapathError> {
        Ok(SweepReport::default())
    }

    fn attached(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.with(scope, |there| Ok(there.attached.iter().copied().collect()))
    }

    fn scopes(&self) -> Result<Vec<ScopeId>, DatapathError> {
        Ok(self.state().scopes.keys().copied().collect())
    }
}
