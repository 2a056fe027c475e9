//! A daemon that is killed in the middle of a change, for tests.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::control::Op;
use crate::datapath::fake::FakeDatapath;
use crate::datapath::{
    Connection, Datapath, DatapathError, ScopeCounters, ServiceCounters, SweepReport,
};
use crate::model::{MarkRule, ScopeId, ServiceKey, Settings, Table};
use crate::net::{Interface, Network};

/// A datapath that dies with the daemon before, or after, one of its operations.
pub(super) struct Dying {
    inner: FakeDatapath,
    /// How many operations are left.
    fuse: Arc<AtomicUsize>,
    after: bool,
}

impl Dying {
    /// It dies when `fuse` has counted down to 0.
    pub(super) fn new(inner: &FakeDatapath, fuse: &Arc<AtomicUsize>, after: bool) -> Self {
        Self {
            inner: inner.clone(),
            fuse: fuse.clone(),
            after,
        }
    }
}

impl Datapath for Dying {
    fn apply(&mut self, scope: ScopeId, op: &Op) -> Result<(), DatapathError> {
        if self.fuse.fetch_sub(1, Ordering::Relaxed) == 0 {
            if self.after {
                self.inner.apply(scope, op).unwrap();
            }
            std::panic::resume_unwind(Box::new("killed"));
        }
        self.inner.apply(scope, op)
    }
    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError> {
        self.inner.table(scope)
    }
    fn part(&self, scope: ScopeId, keys: &[ServiceKey]) -> Result<Table, DatapathError> {
        self.inner.part(scope, keys)
    }
    fn counters(&self, scope: ScopeId) -> Result<ScopeCounters, DatapathError> {
        self.inner.counters(scope)
    }
    fn service_counters(
        &self,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<ServiceCounters, DatapathError> {
        self.inner.service_counters(scope, key)
    }
    fn zero(&mut self, scope: ScopeId, only: Option<&ServiceKey>) -> Result<(), DatapathError> {
        self.inner.zero(scope, only)
    }
    fn estimate(&mut self, elapsed: Duration) -> Result<(), DatapathError> {
        self.inner.estimate(elapsed)
    }
    fn has_work(&self) -> bool {
        self.inner.has_work()
    }
    fn work(&mut self) -> Result<(), DatapathError> {
        self.inner.work()
    }
    fn reasons(&self, scope: ScopeId) -> Result<Vec<(&'static str, u64, u64)>, DatapathError> {
        self.inner.reasons(scope)
    }
    fn connections(
        &self,
        scope: ScopeId,
        visit: &mut dyn FnMut(Connection),
    ) -> Result<(), DatapathError> {
        self.inner.connections(scope, visit)
    }
    fn open_scope(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        marks: &[MarkRule],
        settings: &Settings,
    ) -> Result<(), DatapathError> {
        self.inner.open_scope(scope, netns, marks, settings)
    }
    fn close_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        self.inner.close_scope(scope)
    }
    fn attach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<(), DatapathError> {
        self.inner.attach(scope, netns, interface)
    }
    fn detach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        ifindex: u32,
    ) -> Result<(), DatapathError> {
        self.inner.detach(scope, netns, ifindex)
    }
    fn attach_xdp(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<Option<&'static str>, DatapathError> {
        self.inner.attach_xdp(scope, netns, interface)
    }
    fn detach_xdp(&mut self, scope: ScopeId, ifindex: u32) -> Result<(), DatapathError> {
        self.inner.detach_xdp(scope, ifindex)
    }
    fn set_network(&mut self, scope: ScopeId, network: &Network) -> Result<(), DatapathError> {
        self.inner.set_network(scope, network)
    }
    fn sweep(&mut self) -> Result<SweepReport, DatapathError> {
        self.inner.sweep()
    }
    fn attached(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.inner.attached(scope)
    }
    fn attached_xdp(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.inner.attached_xdp(scope)
    }
    fn socket_hook_problem(&self) -> Option<&str> {
        self.inner.socket_hook_problem()
    }

    fn scopes(&self) -> Result<Vec<ScopeId>, DatapathError> {
        self.inner.scopes()
    }
}
