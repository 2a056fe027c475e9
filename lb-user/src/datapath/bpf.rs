//! The datapath in the kernel: its parts behind the one trait.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use lb_common::verdict::Reason;

use super::accounts::{Owner, Pinned};
use super::ahead::Ahead;
use super::connections::{self, Sweeper};
use super::defence::{self, Defence};
use super::hook::{self, Hook};
use super::loopback;
use super::maps::{self, Maps};
use super::marks::{Has, Rules};
use super::network::{Means, Networks};
use super::pins::{self, Direction, Pins};
use super::programs::{self, Programs};
use super::services::Services;
use super::statistics::Statistics;
use super::together::{Part, Together};
use super::xdp::Early;
use super::{
    Connection, Datapath, DatapathError, Options, ScopeCounters, ServiceCounters, SweepReport,
    counters, system,
};
use crate::control::Op;
use crate::model::{MarkRule, ScopeId, ServiceKey, Setting, Settings, Table};
use crate::net::{Interface, Network};

/// The datapath over BPF maps and programs.
pub(super) struct Bpf {
    options: Options,
    pins: Pins,
    maps: Maps,
    services: Services,
    networks: Networks,
    sweeper: Sweeper,
    scopes: BTreeMap<ScopeId, Open>,
    ahead: Ahead,
    statistics: Statistics,
    hook: Hook,
}

/// A scope that is open.
struct Open {
    netns: OwnedFd,
    programs: Programs,
    early: Early,
    rules: Rules,
    network: Option<Network>,
    /// The keys by which services are reached at the loopback addresses.
    loopbacks: loopback::Keys,
    together: Together,
}

impl Bpf {
    /// Takes up what is pinned, or makes it.
    pub(super) fn open(options: &Options) -> Result<Self, DatapathError> {
        let pins = Pins::open(&options.bpffs)?;
        let sweep = programs::base(&pins, options)?;
        let mut maps = Maps::open(&pins)?;
        let most = maps.services.len() + maps.servers.len() + maps::SCOPES;
        let kept = Pinned::open(&pins.map("ACCOUNTS"), most)?;
        let hook = Hook::open(&pins, options, maps.rings);
        let mut datapath = Self {
            hook,
            services: Services::adopt(&mut maps, kept)?,
            networks: Networks::adopt(&maps),
            sweeper: Sweeper::new(sweep),
            options: options.clone(),
            scopes: BTreeMap::new(),
            ahead: Ahead::default(),
            statistics: Statistics::default(),
            pins,
            maps,
        };
        datapath.load_ahead();
        Ok(datapath)
    }

    fn load_ahead(&mut self) {
        self.ahead.begin(&self.pins, &self.options, self.maps.rings);
    }

    fn check(&self, scope: ScopeId) -> Result<&Open, DatapathError> {
        self.scopes
            .get(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))
    }

    /// Writes what depends on services, rules and network together: answered addresses, rules, flags.
    fn write_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        let tells = self
            .check(scope)?
            .rules
            .settings
            .is_on(Setting::NatIcmpSend);
        self.services.tell_reals(&mut self.maps, scope, tells)?;
        let Some(open) = self.scopes.get_mut(&scope) else {
            return Err(DatapathError::NoSuchScope(scope));
        };
        let wanted = open.together.loopbacks();
        loopback::write(&mut self.maps, &mut open.loopbacks, wanted)?;
        let answers = self.networks.answer(
            &mut self.maps,
            scope,
            open.together.answered(),
            open.network.as_ref(),
        )?;
        let has = open.together.has(answers);
        open.rules
            .write(&mut self.maps, scope, open.network.as_ref(), has)
    }

    /// The same where one service is different: looks at nothing else.
    fn write_service(
        &mut self,
        scope: ScopeId,
        parts: [Option<Part>; 2],
    ) -> Result<(), DatapathError> {
        let Some(open) = self.scopes.get_mut(&scope) else {
            return Err(DatapathError::NoSuchScope(scope));
        };
        let parts = || parts.iter().flatten();
        for key in parts().filter_map(Part::loopback) {
            let at = open.together.loopback(&key);
            loopback::write_one(&mut self.maps, &mut open.loopbacks, key, at)?;
        }
        for address in parts().filter_map(Part::answered) {
            let wanted = open.together.answers(address);
            self.networks.answer_one(
                &mut self.maps,
                scope,
                (address, wanted),
                open.network.as_ref(),
            )?;
        }
        let has = open.together.has(self.networks.answers(scope));
        open.rules.write_flags(&mut self.maps, scope, has)
    }

    /// Adds, edits or removes a service, and writes what depends on that.
    fn change_service(
        &mut self,
        scope: ScopeId,
        key: &ServiceKey,
        change: impl FnOnce(&mut Services, &mut Maps) -> Result<(), DatapathError>,
    ) -> Result<(), DatapathError> {
        let before = self.services.part(&self.maps, scope, key);
        let outcome = change(&mut self.services, &mut self.maps);
        let after = self.services.part(&self.maps, scope, key);
        if let Some(open) = self.scopes.get_mut(&scope) {
            open.together.replace(before.as_ref(), after.as_ref());
        }
        outcome?;
        self.write_service(scope, [before, after])
    }

    /// Writes routes, hops and interfaces, and what XDP may do with them.
    fn write_network(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        let Some(open) = self.scopes.get_mut(&scope) else {
            return Err(DatapathError::NoSuchScope(scope));
        };
        let Some(network) = &open.network else {
            return Ok(());
        };
        open.early.look(open.netns.as_fd(), &network.interfaces)?;
        let means = Means {
            early: open.early.attached(),
            targets: open.early.targets(),
            shortcut: open.rules.settings.get(Setting::Shortcut),
        };
        self.networks.set(&mut self.maps, scope, network, means)
    }

    /// Looks whether other interfaces take redirected frames now: nobody announces that. What cannot be asked stays.
    fn look_at_targets(&mut self) {
        let mut changed = Vec::new();
        for (scope, open) in &mut self.scopes {
            let interfaces = open.network.as_ref().map(|network| &*network.interfaces);
            let looked = open
                .early
                .look(open.netns.as_fd(), interfaces.unwrap_or_default());
            match looked {
                Ok(true) => changed.push(*scope),
                Ok(false) => {}
                Err(error) => tracing::debug!(%scope, "{error}"),
            }
        }
        for scope in changed {
            if let Err(error) = self.write_network(scope) {
                tracing::debug!(%scope, "{error}");
            }
        }
    }

    /// Connections of servers that were removed go too, where the scope says so.
    fn servers_removed(&mut self, scope: ScopeId) {
        let open = self.scopes.get(&scope);
        if open.is_some_and(|open| open.rules.settings.is_on(Setting::ExpireNodestConn)) {
            self.sweeper.servers_removed();
        }
    }

    /// Measures up against a lack of memory, and says which scopes give up connections early.
    fn defend(&mut self) -> Result<BTreeSet<u32>, DatapathError> {
        let asked = self
            .scopes
            .values()
            .any(|open| defence::asks(&open.rules.settings));
        // Where that cannot be read there is no lack: the sweep must not end with it.
        let free = asked.then(defence::free_pages).and_then(Result::ok);
        let mut early = BTreeSet::new();
        for (scope, open) in &mut self.scopes {
            let settings = &open.rules.settings;
            if defence::drops_entries(settings, free) {
                early.insert(scope.get());
            }
            let defence = Defence::new(settings, free);
            open.rules.write_defence(&mut self.maps, *scope, defence)?;
        }
        Ok(early)
    }
}

impl Datapath for Bpf {
    fn apply(&mut self, scope: ScopeId, op: &Op) -> Result<(), DatapathError> {
        self.check(scope)?;
        self.statistics.changed();
        match op {
            Op::AddService(service) => self.change_service(scope, &service.key, |all, maps| {
                all.add(maps, scope, service)
            }),
            Op::EditService(service) => self.change_service(scope, &service.key, |all, maps| {
                all.edit(maps, scope, service)
            }),
            Op::RemoveService(key) => {
                // Of servers that went before, while the setting was off, IPVS leaves the connections alone until one more
                // server goes.
                let had_servers = self.services.has_servers(&self.maps, scope, key);
                self.change_service(scope, key, |all, maps| all.remove(maps, scope, key))?;
                if had_servers {
                    self.servers_removed(scope);
                }
                Ok(())
            }
            Op::AddServer { service, server } => {
                self.services
                    .add_server(&mut self.maps, scope, service, server)
            }
            Op::EditServer { service, server } => {
                self.services
                    .edit_server(&mut self.maps, scope, service, server)
            }
            Op::RemoveServer { service, address } => {
                self.services
                    .remove_server(&mut self.maps, scope, service, *address)?;
                self.servers_removed(scope);
                Ok(())
            }
            Op::SetMarkRules(rules) => {
                let open = self
                    .scopes
                    .get_mut(&scope)
                    .ok_or(DatapathError::NoSuchScope(scope))?;
                let before = std::mem::replace(&mut open.rules.rules, rules.clone());
                self.write_scope(scope).inspect_err(|_| {
                    if let Some(open) = self.scopes.get_mut(&scope) {
                        open.rules.rules = before;
                    }
                })
            }
            Op::SetSettings(settings) => {
                let open = self
                    .scopes
                    .get_mut(&scope)
                    .ok_or(DatapathError::NoSuchScope(scope))?;
                open.rules.settings = settings.clone();
                self.write_scope(scope)?;
                self.write_network(scope)?;
                // At once, and not only with the next tick.
                self.defend().map(drop)
            }
        }
    }

    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError> {
        let keys: Vec<ServiceKey> = self.services.of(scope).map(|(key, _)| key).collect();
        self.part(scope, &keys)
    }

    fn part(&self, scope: ScopeId, keys: &[ServiceKey]) -> Result<Table, DatapathError> {
        let open = self.check(scope)?;
        let mut table = Table::new();
        for key in keys {
            if let Some(service) = self.services.read(&self.maps, scope, *key) {
                table.add_service(service)?;
            }
        }
        table.set_marks(open.rules.rules.clone())?;
        table.set_settings(open.rules.settings.clone())?;
        Ok(table)
    }

    fn counters(&self, scope: ScopeId) -> Result<ScopeCounters, DatapathError> {
        self.check(scope)?;
        self.statistics.of_scope(&self.maps, &self.services, scope)
    }

    fn service_counters(
        &self,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<ServiceCounters, DatapathError> {
        self.check(scope)?;
        self.statistics
            .of_service(&self.maps, &self.services, scope, key)
    }

    fn zero(&mut self, scope: ScopeId, only: Option<&ServiceKey>) -> Result<(), DatapathError> {
        self.check(scope)?;
        self.statistics
            .zero(&self.maps, &mut self.services, scope, only)
    }

    fn estimate(&mut self, elapsed: Duration) -> Result<(), DatapathError> {
        let wanted: Vec<ScopeId> = self
            .scopes
            .iter()
            .filter(|(_, open)| open.rules.settings.is_on(Setting::RunEstimation))
            .map(|(scope, _)| *scope)
            .collect();
        self.statistics
            .step(&self.maps, &self.services, &wanted, elapsed)
    }

    fn has_work(&self) -> bool {
        self.ahead.wanted || self.sweeper.has_to_follow()
    }

    fn work(&mut self) -> Result<(), DatapathError> {
        if self.ahead.wanted {
            self.load_ahead();
            return Ok(());
        }
        let scopes: BTreeSet<u32> = self
            .scopes
            .iter()
            .filter(|(_, open)| open.rules.settings.is_on(Setting::ExpireNodestConn))
            .map(|(scope, _)| scope.get())
            .collect();
        self.sweeper
            .follow(&self.maps, |scope| scopes.contains(&scope))?;
        let open = &self.scopes;
        self.sweeper.close_doomed(|scope| {
            let scope = ScopeId::new(scope).ok()?;
            Some(open.get(&scope)?.netns.as_fd())
        });
        Ok(())
    }

    fn reasons(&self, scope: ScopeId) -> Result<Vec<(&'static str, u64, u64)>, DatapathError> {
        self.check(scope)?;
        Reason::ALL
            .iter()
            .map(|&reason| {
                let [packets, bytes] = counters::of_reason(&self.maps, scope, reason)?;
                Ok((reason.name(), packets, bytes))
            })
            .collect()
    }

    fn connections(
        &self,
        scope: ScopeId,
        visit: &mut dyn FnMut(Connection),
    ) -> Result<(), DatapathError> {
        let open = self.check(scope)?;
        connections::read(&self.maps, scope, open.netns.as_fd(), visit)
    }

    fn open_scope(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        marks: &[MarkRule],
        settings: &Settings,
    ) -> Result<(), DatapathError> {
        if self.scopes.contains_key(&scope) {
            return Err(DatapathError::ScopeExists(scope));
        }
        self.ahead.finish();
        let mut rules = Rules::open(&self.maps, scope)?;
        let adopted = rules.is_written() && self.pins.scope(scope).exists();
        rules.rules = marks.to_vec();
        rules.settings = settings.clone();
        self.networks.open(&self.maps, scope)?;
        hook::admit(&mut self.maps, scope, netns)?;
        // Before the others: what a build before this one pinned goes once they are open.
        let early = Early::open(&self.pins, &self.options, scope, netns, self.maps.rings)?;
        let programs = Programs::open(&self.pins, &self.options, scope, netns, self.maps.rings)?;
        let netns = netns
            .try_clone_to_owned()
            .map_err(system("keep the network namespace".into()))?;
        let mut together = Together::default();
        for (key, _) in self.services.of(scope) {
            together.replace(None, self.services.part(&self.maps, scope, &key).as_ref());
        }
        self.scopes.insert(
            scope,
            Open {
                netns,
                programs,
                early,
                rules,
                network: None,
                loopbacks: loopback::read(&self.maps, scope)?,
                together,
            },
        );
        self.ahead.wanted = true;
        if adopted {
            // What an earlier daemon wrote serves. Without the network the rules that name an interface cannot be written
            // anew, and would be missing until it is known.
            return Ok(());
        }
        self.write_scope(scope)
    }

    fn close_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        // The links first: from then on no packet meets what is being removed.
        if let Some(open) = self.scopes.get(&scope) {
            Programs::detach_filters(&self.pins, scope, open.netns.as_fd())?;
        }
        hook::dismiss(&mut self.maps, scope)?;
        let folder = self.pins.scope(scope);
        pins::remove_folder(&folder).map_err(system(format!("remove {}", folder.display())))?;
        let mut loopbacks = loopback::read(&self.maps, scope)?;
        loopback::write(&mut self.maps, &mut loopbacks, loopback::Keys::new())?;
        let keys: Vec<ServiceKey> = self.services.of(scope).map(|(key, _)| key).collect();
        for key in keys {
            self.services.remove(&mut self.maps, scope, &key)?;
        }
        self.services.tell_reals(&mut self.maps, scope, false)?;
        self.sweeper.purge(&self.maps, scope)?;
        self.services.tidy(&self.maps)?;
        self.services.accounts.close(Owner::scope(scope))?;
        self.networks.close(&mut self.maps, scope)?;
        let mut rules = Rules::open(&self.maps, scope)?;
        rules.write(&mut self.maps, scope, None, Has::default())?;
        counters::clear_reasons(&mut self.maps, scope)?;
        self.scopes.remove(&scope);
        Ok(())
    }

    fn attach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<(), DatapathError> {
        let open = self
            .scopes
            .get_mut(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))?;
        open.programs
            .attach(&self.pins, scope, netns, interface.ifindex, &interface.name)
    }

    fn detach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        ifindex: u32,
    ) -> Result<(), DatapathError> {
        self.check(scope)?;
        Programs::detach(&self.pins, scope, netns, ifindex)
    }

    fn attach_xdp(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<Option<&'static str>, DatapathError> {
        let open = self
            .scopes
            .get_mut(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))?;
        let note = open.early.attach(
            &self.pins,
            &self.options,
            scope,
            netns,
            self.maps.rings,
            interface,
        )?;
        self.write_network(scope)?;
        Ok(note)
    }

    fn detach_xdp(&mut self, scope: ScopeId, ifindex: u32) -> Result<(), DatapathError> {
        let open = self
            .scopes
            .get_mut(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))?;
        open.early.detach(&self.pins, scope, ifindex)?;
        self.write_network(scope)
    }

    fn set_network(&mut self, scope: ScopeId, network: &Network) -> Result<(), DatapathError> {
        let open = self
            .scopes
            .get_mut(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))?;
        open.network = Some(network.clone());
        self.write_network(scope)?;
        // Who owns an address, and which index an interface has, may be different now.
        self.write_scope(scope)
    }

    fn sweep(&mut self) -> Result<SweepReport, DatapathError> {
        self.look_at_targets();
        self.networks.tick(&self.maps);
        let early = self.defend()?;
        let connections = self.services.has_connections(&self.maps);
        let report = self.sweeper.sweep(&self.maps, early, connections)?;
        let scopes = &self.scopes;
        self.sweeper.audit_sockets(&mut self.maps, |scope| {
            let scope = ScopeId::new(scope).ok()?;
            Some(scopes.get(&scope)?.netns.as_fd())
        })?;
        self.services.tidy(&self.maps)?;
        for open in self.scopes.values_mut() {
            open.programs.drain_logs();
        }
        Ok(report)
    }

    fn attached(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        self.check(scope)?;
        let links = |direction| {
            self.pins
                .links(scope, direction)
                .map_err(system("look for links".into()))
        };
        let mut attached = links(Direction::Ingress)?;
        attached.extend(links(Direction::Egress)?);
        attached.sort_unstable();
        attached.dedup();
        Ok(attached)
    }

    fn attached_xdp(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError> {
        let open = self.check(scope)?;
        Ok(open.early.attached().iter().copied().collect())
    }

    fn socket_hook_problem(&self) -> Option<&str> {
        self.hook.problem()
    }

    fn scopes(&self) -> Result<Vec<ScopeId>, DatapathError> {
        self.pins
            .scope_ids()
            .map_err(system("look for scopes".into()))
    }
}
