//! Keeping a scope served: its namespace watched, its interfaces attached, while it has services; nothing otherwise.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::Failure;
use super::engine::Engine;
use crate::control::Op;
use crate::model::ScopeId;
use crate::net::{HopId, HopKey, Network};

impl Engine {
    /// Begins to watch the scope's namespace, if these operations give it its first services.
    pub(super) fn watch(&mut self, id: ScopeId, ops: &[Op]) -> Result<(), Failure> {
        let serves = ops.iter().any(|op| matches!(op, Op::AddService(_)));
        if serves { self.start_watch(id) } else { Ok(()) }
    }

    fn start_watch(&mut self, id: ScopeId) -> Result<(), Failure> {
        let Some(scope) = self.scopes.get_mut(&id) else {
            return Ok(());
        };
        if scope.network.is_some() {
            return Ok(());
        }
        let known = self
            .journal
            .scopes
            .get(&id)
            .map(|known| known.hops.clone())
            .unwrap_or_default();
        let (network, hops) = self.networks.start(id, &scope.netns, &known)?;
        self.remember_hops(id, hops);
        let outcome = self.datapath.set_network(id, &network);
        if let Some(scope) = self.scopes.get_mut(&id) {
            scope.network = Some(network);
        }
        self.tell_servers(id);
        outcome.map_err(Into::into)
    }

    /// Tells the watch on a scope's namespace of all its real servers. Of what changes later it is told with each operation.
    pub(super) fn tell_servers(&mut self, id: ScopeId) {
        if let Some(scope) = self.scopes.get(&id) {
            self.networks.servers(id, scope.reached.addresses());
        }
    }

    /// Hop ids are in the journal before the datapath uses them: one that were forgotten and given to another hop would
    /// send the packets of its connections there.
    fn remember_hops(&mut self, id: ScopeId, hops: Vec<(HopKey, HopId)>) {
        let Some(known) = self.journal.scopes.get_mut(&id) else {
            return;
        };
        if known.hops == hops {
            return;
        }
        known.hops = hops;
        if let Err(error) = self.store.save(&self.journal) {
            error!("{error}");
        }
    }

    /// A scope's network is different.
    pub(super) fn network(
        &mut self,
        id: ScopeId,
        network: Arc<Network>,
        hops: Vec<(HopKey, HopId)>,
    ) {
        // It may be old news of a scope that is served no more.
        if self
            .scopes
            .get(&id)
            .is_none_or(|scope| scope.network.is_none())
        {
            return;
        }
        self.remember_hops(id, hops);
        let outcome = self.datapath.set_network(id, &network);
        if let Some(scope) = self.scopes.get_mut(&id) {
            scope.network = Some(network);
            scope
                .problems
                .retain(|problem| !problem.starts_with("network:"));
            if let Err(error) = outcome {
                warn!(scope = %id, "cannot tell the datapath of the network: {error}");
                scope.problems.push(format!("network: {error}"));
            }
        }
        self.serve(id);
    }

    /// Brings watch and attachments in line with whether the scope has services.
    pub(super) fn serve(&mut self, id: ScopeId) {
        let Some(scope) = self.scopes.get(&id) else {
            return;
        };
        if scope.table.services().len() == 0 {
            self.rest(id);
            return;
        }
        if let Err(failure) = self.start_watch(id) {
            self.problem(id, "watch:", &failure.message);
            return;
        }
        if let Some(scope) = self.scopes.get_mut(&id) {
            scope
                .problems
                .retain(|problem| !problem.starts_with("watch:"));
        }
        self.attach(id);
        self.attach_early(id);
    }

    fn attach(&mut self, id: ScopeId) {
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        let Some(network) = scope.network.clone() else {
            return;
        };
        let mut problems = Vec::new();
        let wanted = || {
            network
                .interfaces
                .iter()
                .filter(|interface| interface.attach)
        };
        for interface in wanted() {
            if scope.attached.contains_key(&interface.ifindex) {
                continue;
            }
            match self.datapath.attach(id, scope.netns.as_fd(), interface) {
                Ok(()) => {
                    info!(scope = %id, interface = %interface.name, "attached");
                    scope
                        .attached
                        .insert(interface.ifindex, interface.name.clone());
                }
                Err(error) => problems.push(format!("interface {}: {error}", interface.name)),
            }
        }
        let kept: BTreeSet<u32> = wanted().map(|interface| interface.ifindex).collect();
        let inherited = std::mem::take(&mut scope.inherited);
        let there = scope.attached.keys().copied().chain(inherited);
        let gone: BTreeSet<u32> = there.filter(|ifindex| !kept.contains(ifindex)).collect();
        for ifindex in gone {
            self.detach_early(id, Some(ifindex));
            let Some(scope) = self.scopes.get_mut(&id) else {
                return;
            };
            let name = scope.attached.remove(&ifindex).unwrap_or_default();
            match self.datapath.detach(id, scope.netns.as_fd(), ifindex) {
                Ok(()) => info!(scope = %id, interface = %name, "detached"),
                Err(error) => warn!(scope = %id, interface = %name, "cannot detach: {error}"),
            }
        }
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        for interface in wanted() {
            // An interface can be renamed.
            if let Some(name) = scope.attached.get_mut(&interface.ifindex) {
                name.clone_from(&interface.name);
            }
        }
        scope
            .problems
            .retain(|problem| !problem.starts_with("interface ") || problems.contains(problem));
        for problem in problems {
            if !scope.problems.contains(&problem) {
                warn!(scope = %id, "{problem}");
                scope.problems.push(problem);
            }
        }
    }

    /// Nothing is served: nothing is attached, nothing watched.
    fn rest(&mut self, id: ScopeId) {
        self.detach_early(id, None);
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        let inherited = std::mem::take(&mut scope.inherited)
            .into_iter()
            .map(|ifindex| (ifindex, String::new()));
        for (ifindex, name) in std::mem::take(&mut scope.attached)
            .into_iter()
            .chain(inherited)
        {
            match self.datapath.detach(id, scope.netns.as_fd(), ifindex) {
                Ok(()) => info!(scope = %id, interface = %name, "detached"),
                Err(error) => warn!(scope = %id, interface = %name, "cannot detach: {error}"),
            }
        }
        scope.problems.clear();
        if scope.network.take().is_some() {
            self.networks.stop(id);
        }
    }

    /// Notes what does not work, and says it when it is news.
    fn problem(&mut self, id: ScopeId, kind: &str, message: &str) {
        let problem = format!("{kind} {message}");
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        if !scope.problems.contains(&problem) {
            warn!(scope = %id, "{problem}");
            scope.problems.retain(|there| !there.starts_with(kind));
            scope.problems.push(problem);
        }
    }
}
