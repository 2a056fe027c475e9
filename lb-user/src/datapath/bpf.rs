//! The datapath in the kernel: its parts behind the one trait.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_common::abi::{self, ANSWER, LOOPBACK, NO_SOCKET, RELAY, RESET, V4};
use lb_common::verdict::Reason;

use super::accounts::{Owner, Pinned};
use super::connections::{self, Sweeper};
use super::defence::{self, Defence};
use super::hook::{self, Hook};
use super::loopback;
use super::maps::{self, Maps};
use super::marks::{Has, Rules};
use super::network::Networks;
use super::pins::{self, Direction, Pins};
use super::programs::{self, Programs};
use super::services::Services;
use super::statistics::Statistics;
use super::xdp::Early;
use super::{
    Connection, Datapath, DatapathError, Options, ScopeCounters, SweepReport, counters, system,
    words,
};
use crate::control::Op;
use crate::model::{MarkRule, ScopeId, Service, ServiceKey, Setting, Settings, Table};
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
    /// Loads the programs of the next scope.
    ahead: Option<JoinHandle<()>>,
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
            ahead: None,
            statistics: Statistics::default(),
            pins,
            maps,
        };
        datapath.load_ahead();
        Ok(datapath)
    }

    /// Begins to load the programs of the next scope, so that it will be there at once. Should that fail, it fails again
    /// when the scope is wanted, and is told then.
    fn load_ahead(&mut self) {
        self.finish_ahead();
        let taken = self.pins.scope_ids().unwrap_or_default();
        let free = (ScopeId::MIN.get()..=ScopeId::MAX.get())
            .find(|id| taken.iter().all(|there| there.get() != *id));
        let Some(Ok(scope)) = free.map(ScopeId::new) else {
            return;
        };
        let (pins, options, rings) = (self.pins.clone(), self.options.clone(), self.maps.rings);
        let load = move || drop(programs::prepare(&pins, &options, scope, rings));
        self.ahead = std::thread::Builder::new()
            .name("bpvs-ahead".into())
            .spawn(load)
            .ok();
    }

    fn finish_ahead(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            // A panic there is a scope that loads its programs itself.
            let _ = ahead.join();
        }
    }

    fn check(&self, scope: ScopeId) -> Result<&Open, DatapathError> {
        self.scopes
            .get(&scope)
            .ok_or(DatapathError::NoSuchScope(scope))
    }

    /// The services of a scope, as the maps have them, with their indexes.
    fn read(&self, scope: ScopeId) -> Vec<(u32, Service)> {
        let mut all: Vec<_> = self
            .services
            .of(scope)
            .map(|(key, at)| (at, self.services.read(&self.maps, key, at)))
            .collect();
        all.sort_unstable_by_key(|(_, service)| service.key);
        all
    }

    /// Writes what depends on services, rules and network together: answered addresses, rules, flags.
    fn write_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError> {
        let tells = self
            .check(scope)?
            .rules
            .settings
            .is_on(Setting::NatIcmpSend);
        self.services.tell_reals(&mut self.maps, scope, tells)?;
        let (mut has, mut answered) = (Has::default(), HashSet::<IpAddr>::new());
        let mut loopbacks = HashMap::<abi::ServiceKey<V4>, (ServiceKey, u32)>::new();
        for (key, at) in self.services.of(scope) {
            let flags = self.maps.services.at(at).flags.load();
            let options = self.maps.services.at(at).options.load();
            has.resets |= flags & RESET != 0;
            has.sockets |= options & NO_SOCKET == 0;
            has.relays |= options & RELAY != 0;
            if options & LOOPBACK != 0
                && let Ok(own) = words::service_key(scope, &key)
            {
                let loopback = abi::ServiceKey::loopback(own.scope, own.protocol, own.port);
                // Of several the first in a listing has it.
                let first = loopbacks.entry(loopback).or_insert((key, at));
                *first = (*first).min((key, at));
            }
            match key.socket() {
                None => has.fwmarks = true,
                Some(socket) => {
                    has.port_zero |= socket.port() == 0;
                    if flags & ANSWER != 0 {
                        answered.insert(socket.ip());
                    }
                }
            }
        }
        let Some(open) = self.scopes.get_mut(&scope) else {
            return Err(DatapathError::NoSuchScope(scope));
        };
        let loopbacks = loopbacks
            .into_iter()
            .map(|(loopback, (_, at))| (loopback, at))
            .collect();
        loopback::write(&mut self.maps, &mut open.loopbacks, loopbacks)?;
        has.answers =
            self.networks
                .answer(&mut self.maps, scope, &answered, open.network.as_ref())?;
        open.rules
            .write(&mut self.maps, scope, open.network.as_ref(), has)
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
        let (attached, targets) = (open.early.attached(), open.early.targets());
        self.networks
            .set(&mut self.maps, scope, network, attached, targets)
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
        match op {
            Op::AddService(service) => self.services.add(&mut self.maps, scope, service)?,
            Op::EditService(service) => self.services.edit(&self.maps, scope, service)?,
            Op::RemoveService(key) => {
                // Of servers that went before, while the setting was off, IPVS leaves the connections alone until one more
                // server goes.
                let had_servers = self.services.has_servers(&self.maps, scope, key);
                self.services.remove(&mut self.maps, scope, key)?;
                if had_servers {
                    self.servers_removed(scope);
                }
            }
            Op::AddServer { service, server } => {
                return self
                    .services
                    .add_server(&mut self.maps, scope, service, server);
            }
            Op::EditServer { service, server } => {
                return self
                    .services
                    .edit_server(&mut self.maps, scope, service, server);
            }
            Op::RemoveServer { service, address } => {
                self.services
                    .remove_server(&mut self.maps, scope, service, *address)?;
                self.servers_removed(scope);
                return Ok(());
            }
            Op::SetMarkRules(rules) => {
                let open = self
                    .scopes
                    .get_mut(&scope)
                    .ok_or(DatapathError::NoSuchScope(scope))?;
                let before = std::mem::replace(&mut open.rules.rules, rules.clone());
                return self.write_scope(scope).inspect_err(|_| {
                    if let Some(open) = self.scopes.get_mut(&scope) {
                        open.rules.rules = before;
                    }
                });
            }
            Op::SetSettings(settings) => {
                let open = self
                    .scopes
                    .get_mut(&scope)
                    .ok_or(DatapathError::NoSuchScope(scope))?;
                open.rules.settings = settings.clone();
                self.write_scope(scope)?;
                // At once, and not only with the next tick.
                return self.defend().map(drop);
            }
        }
        self.write_scope(scope)
    }

    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError> {
        let open = self.check(scope)?;
        let mut table = Table::new();
        for (_, service) in self.read(scope) {
            table.add_service(service)?;
        }
        table.set_marks(open.rules.rules.clone())?;
        table.set_settings(open.rules.settings.clone())?;
        Ok(table)
    }

    fn counters(&self, scope: ScopeId) -> Result<ScopeCounters, DatapathError> {
        self.check(scope)?;
        self.statistics.of_scope(&self.maps, &self.services, scope)
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
        self.sweeper.has_to_follow()
    }

    fn work(&mut self) -> Result<(), DatapathError> {
        let scopes: BTreeSet<u32> = self
            .scopes
            .iter()
            .filter(|(_, open)| open.rules.settings.is_on(Setting::ExpireNodestConn))
            .map(|(scope, _)| scope.get())
            .collect();
        self.sweeper
            .follow(&mut self.maps, |scope| scopes.contains(&scope))?;
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
        self.finish_ahead();
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
        self.scopes.insert(
            scope,
            Open {
                netns,
                programs,
                early,
                rules,
                network: None,
                loopbacks: loopback::read(&self.maps, scope)?,
            },
        );
        self.load_ahead();
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
        self.sweeper.purge(&mut self.maps, scope)?;
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

    fn sweep(&mut self, budget: u64) -> Result<SweepReport, DatapathError> {
        self.look_at_targets();
        self.networks.tick(&self.maps);
        let early = self.defend()?;
        let report = self.sweeper.sweep(&mut self.maps, budget, early)?;
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

impl Drop for Bpf {
    fn drop(&mut self) {
        // It must not pin anything after `remove_all`.
        self.finish_ahead();
    }
}
