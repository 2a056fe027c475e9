//! A datapath in memory, for tests of everything above the trait.
//!
//! It keeps what it is told, writes down every call in order, and fails on the step that a test asks it to fail on.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{
    Connection, Counters, Datapath, DatapathError, ScopeCounters, ServerCounters, ServiceCounters,
    SweepReport,
};
use crate::control::Op;
use crate::model::{MarkRule, ScopeId, Server, ServiceKey, Settings, Table, TableError};
use crate::net::{Interface, Network};

/// One scope in memory.
#[derive(Debug, Default)]
pub struct FakeScope {
    /// What it serves.
    pub table: Table,
    /// The indices of the interfaces that it is attached to.
    pub attached: BTreeSet<u32>,
    /// Those of them that XDP is on.
    pub attached_xdp: BTreeSet<u32>,
    /// Those whose driver has no XDP.
    pub without_xdp: BTreeSet<u32>,
    /// The last network that it was told of.
    pub network: Option<Network>,
    /// The connections that it says it has.
    pub connections: Vec<Connection>,
    /// What it says that every service and server has counted.
    pub counters: Counters,
    /// And counts a second.
    pub rates: Counters,
    /// What was zeroed: a service, or everything.
    pub zeroed: Vec<Option<ServiceKey>>,
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
    /// After how many more operations all others fail.
    pub fail_from: Option<usize>,
    /// How many services were read as parts of a table.
    pub read: usize,
    /// How many parts of work it says it has to do.
    pub work: usize,
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

    /// What is left when the daemon dies: everything but mark rules and settings, which cannot be read back from maps; and
    /// no scope is open.
    pub fn restart(&self) {
        for scope in self.state().scopes.values_mut() {
            scope.open = false;
            // No rules and default settings are always right.
            let _ = scope.table.set_marks(Vec::new());
            let _ = scope.table.set_settings(Settings::default());
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
        let full = || {
            Err(DatapathError::Full {
                what: "servers",
                limit: 0,
                hint: "a test asked for this",
            })
        };
        let fail_after = self.state().fail_after;
        let fail_from = self.state().fail_from;
        match fail_after {
            Some(0) => {
                self.state().fail_after = None;
                return full();
            }
            Some(more) => self.state().fail_after = Some(more - 1),
            None => {}
        }
        match fail_from {
            Some(0) => return full(),
            Some(more) => self.state().fail_from = Some(more - 1),
            None => {}
        }
        self.with(scope, |there| Ok(op.apply_to(&mut there.table)?))?;
        self.state().applied.push((scope, op.clone()));
        Ok(())
    }

    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError> {
        self.with(scope, |there| Ok(there.table.clone()))
    }

    fn part(&self, scope: ScopeId, keys: &[ServiceKey]) -> Result<Table, DatapathError> {
        self.state().read += keys.len();
        self.with(scope, |there| {
            let mut table = there.table.clone();
            let others = there.table.services().map(|service| service.key);
            for key in others.filter(|key| !keys.contains(key)) {
                table.remove_service(&key)?;
            }
            Ok(table)
        })
    }

    fn service_counters(
        &self,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<ServiceCounters, DatapathError> {
        let services = self.counters(scope)?.services.into_iter();
        let mut found = services.filter(|service| service.key == *key);
        let missing = || TableError::NoSuchService(*key).into();
        found.next().ok_or_else(missing)
    }

    fn counters(&self, scope: ScopeId) -> Result<ScopeCounters, DatapathError> {
        self.with(scope, |there| {
            let (counters, rates) = (there.counters, there.rates);
            let server = |server: &Server| ServerCounters {
                address: server.socket(),
                active: 0,
                inactive: 0,
                persistent: 0,
                counters,
                rates,
            };
            let services = there.table.services().map(|service| ServiceCounters {
                key: service.key,
                counters,
                rates,
                servers: service.servers.iter().map(server).collect(),
            });
            Ok(ScopeCounters {
                counters,
                rates,
                services: services.collect(),
            })
        })
    }

    fn zero(&mut self, scope: ScopeId, only: Option<&ServiceKey>) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            if let Some(key) = only.filter(|key| there.table.service(key).is_none()) {
                return Err(TableError::NoSuchService(*key).into());
            }
            there.zeroed.push(only.copied());
            Ok(())
        })
    }

    fn estimate(&mut self, _elapsed: Duration) -> Result<(), DatapathError> {
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.state().work > 0
    }

    fn work(&mut self) -> Result<(), DatapathError> {
        let mut state = self.state();
        state.work = state.work.saturating_sub(1);
        Ok(())
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

    fn open_scope(
        &mut self,
        scope: ScopeId,
        _netns: BorrowedFd<'_>,
        marks: &[MarkRule],
        settings: &Settings,
    ) -> Result<(), DatapathError> {
        let mut state = self.state();
        let there = state.scopes.entry(scope).or_default();
        if there.open {
            return Err(DatapathError::ScopeExists(scope));
        }
        there.open = true;
        there.table.set_marks(marks.to_vec())?;
        Ok(there.table.set_settings(settings.clone())?)
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

    fn sweep(&mut self) -> Result<SweepReport, DatapathError> {
        Ok(SweepReport::default())
    }

    fn attached(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.with(scope, |there| Ok(there.attached.iter().copied().collect()))
    }

    fn attach_xdp(
        &mut self,
        scope: ScopeId,
        _netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<Option<&'static str>, DatapathError> {
        self.with(scope, |there| {
            if there.without_xdp.contains(&interface.ifindex) {
                return Err(DatapathError::Xdp("its driver has no XDP".into()));
            }
            there.attached_xdp.insert(interface.ifindex);
            Ok(None)
        })
    }

    fn detach_xdp(&mut self, scope: ScopeId, ifindex: u32) -> Result<(), DatapathError> {
        self.with(scope, |there| {
            there.attached_xdp.remove(&ifindex);
            Ok(())
        })
    }

    fn attached_xdp(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.with(scope, |there| {
            Ok(there.attached_xdp.iter().copied().collect())
        })
    }

    fn socket_hook_problem(&self) -> Option<&str> {
        None
    }

    fn scopes(&self) -> Result<Vec<ScopeId>, DatapathError> {
        Ok(self.state().scopes.keys().copied().collect())
    }
}
