//! Services and real servers in the maps.
//!
//! Every change is a store or two that the programs see at once, in an order in which each step by itself leaves a list
//! that can be walked: a daemon that is killed in between leaves nothing half-applied that matters.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{Ordering, fence};

use aya::maps::{MapError, MapIter};
use lb_common::abi::{self, AVAILABLE, Be16, Buckets, Cursor, V4};

use super::accounts::{Accounts, Owner, Pinned, Place};
use super::buckets::{self, Blocks};
use super::index::Index;
use super::leaving::{Identity, Leaving};
use super::maps::{Maps, Plain};
use super::reals::Reals;
use super::slots::Slots;
use super::together::Part;
use super::turns::{mend_cursor, weigh};
use super::{Counters, DatapathError, attributes, counters, ebpf_map, sys, words};
use crate::model::{Scheduler, ScopeId, Server, Service, ServiceKey, TableError};

/// What the daemon remembers of services and servers: their indexes. The maps are the truth.
pub(super) struct Services {
    index: Index,
    services: Slots,
    servers: Slots,
    blocks: Blocks,
    /// What was removed and is not yet gone.
    leaving: Leaving,
    pub(super) accounts: Accounts<Pinned>,
    reals: Reals,
}

impl Services {
    /// Takes up what is in the maps.
    pub(super) fn adopt(maps: &mut Maps, kept: Pinned) -> Result<Self, DatapathError> {
        let mut index = Index::default();
        let entries: MapIter<'_, Plain<abi::ServiceKey<V4>>, Plain<u32>, _> =
            maps.service_keys.iter();
        for entry in entries {
            let (Plain(key), Plain(at)) = entry.map_err(ebpf_map("read the services"))?;
            if let (Some(service), Ok(scope)) = (words::service(&key), ScopeId::new(key.scope)) {
                index.insert(scope, service, at);
            }
        }
        let mut listed = vec![false; maps.servers.len() as usize];
        for (.., service) in index.all() {
            for server in list(maps, service) {
                listed[server as usize] = true;
            }
            mend_cursor(maps, service, &listed);
        }
        let blocks = buckets::adopt(maps, index.all().map(|(.., at)| at))?;
        let in_use: HashSet<u32> = index.all().map(|(.., at)| at).collect();
        let accounts = Accounts::open(
            kept,
            |owner, from| match owner.place() {
                Place::Scope(scope) => !ScopeId::new(scope)
                    .is_ok_and(|scope| index.of(scope).any(|(_, at)| at == from)),
                Place::Service(at) => maps.servers.at(from).service.load() != at,
                Place::Server(_) => true,
            },
            |owner| match owner.place() {
                Place::Scope(_) => true,
                Place::Service(at) => in_use.contains(&at),
                Place::Server(at) => maps.servers.at(at).service.load() != 0,
            },
        )?;
        let mut leaving = Leaving::default();
        let mut waiting = HashSet::new();
        for at in 1..maps.servers.len() {
            let server = maps.servers.at(at);
            if listed[at as usize] || server.service.load() == 0 {
                continue;
            }
            server.flags.store(server.flags.load() & !AVAILABLE);
            let identity = identity(maps, at);
            leaving.push(identity, at);
            if !in_use.contains(&identity.0) {
                waiting.insert(identity.0);
            }
        }
        for &at in &waiting {
            leaving.hold(at, None);
        }
        let there: &Maps = maps;
        let servers: Vec<_> = index
            .all()
            .flat_map(|(scope, key, at)| {
                list(there, at).map(move |server| (scope, key, read_server(there, server)))
            })
            .collect();
        Ok(Self {
            reals: Reals::adopt(maps, servers.into_iter())?,
            services: Slots::new(maps.services.len(), |at| {
                in_use.contains(&at) || waiting.contains(&at)
            }),
            servers: Slots::new(maps.servers.len(), |at| {
                listed[at as usize] || maps.servers.at(at).service.load() != 0
            }),
            blocks,
            leaving,
            accounts,
            index,
        })
    }

    /// The services of a scope with their indexes.
    pub(super) fn of(&self, scope: ScopeId) -> impl Iterator<Item = (ServiceKey, u32)> + '_ {
        self.index.of(scope)
    }

    /// Adds a service with its servers; it takes packets only once it is whole.
    pub(super) fn add(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        service: &Service,
    ) -> Result<(), DatapathError> {
        if self.index.get(scope, &service.key).is_some() {
            return Err(TableError::ServiceExists(service.key).into());
        }
        let key = words::service_key(scope, &service.key)?;
        buckets::check(
            words::scheduler_number(service.scheduler),
            service.servers.len(),
        )?;
        // One that is added again soon finds its servers again, as in IPVS, and counts from nothing.
        let at = match self.leaving.revive((scope, service.key)) {
            Some(at) => at,
            None => self.free_service(maps)?,
        };
        let already = counters::sum(maps, self.leaving.of(at))?;
        self.accounts.begin(Owner::service(at), already)?;
        let place = maps.services.at(at);
        place.head.store(0);
        place.buckets.store(0);
        place.kind.store(key.kind);
        attributes::write_key(place, &service.key);
        let made = attributes::write_service(place, service);
        let made = made
            .and_then(|()| self.bind(maps, at, service.scheduler))
            .and_then(|()| {
                service
                    .servers
                    .iter()
                    .rev()
                    .try_for_each(|server| self.link(maps, at, (scope, &service.key), server))
            })
            .map(|()| buckets::refill(maps, at))
            .and_then(|()| {
                maps.service_keys
                    .insert(Plain(key), Plain(at), 0)
                    .map_err(ebpf_map("add a service"))
            });
        if let Err(error) = made {
            self.give_up(maps, at, (scope, service.key))?;
            return Err(error);
        }
        self.index.insert(scope, service.key, at);
        Ok(())
    }

    /// Gives a service other attributes. A new scheduler begins anew.
    pub(super) fn edit(
        &mut self,
        maps: &Maps,
        scope: ScopeId,
        service: &Service,
    ) -> Result<(), DatapathError> {
        let at = self.find(scope, &service.key)?;
        let place = maps.services.at(at);
        let before = place.scheduler.load();
        // With the same scheduler its turn goes on, whatever else is edited (ip_vs_edit_service).
        let another = before != words::scheduler_number(service.scheduler);
        if another {
            self.bind(maps, at, service.scheduler)?;
        }
        if let Err(error) = attributes::write_service(place, service) {
            return self
                .bind(maps, at, words::scheduler(before))
                .and(Err(error));
        }
        if another {
            weigh(maps, at);
        }
        Ok(())
    }

    /// Whether a service has servers.
    pub(super) fn has_servers(&self, maps: &Maps, scope: ScopeId, key: &ServiceKey) -> bool {
        self.find(scope, key)
            .is_ok_and(|at| maps.services.at(at).head.load() != 0)
    }

    /// Removes a service. Its connections stay until they end, as in IPVS.
    pub(super) fn remove(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<(), DatapathError> {
        let at = self.find(scope, key)?;
        let place = words::service_key(scope, key)?;
        let counted = self.total(maps, at)?;
        self.accounts.carry(Owner::scope(scope), at, counted)?;
        maps.service_keys
            .remove(&Plain(place))
            .map_err(ebpf_map("remove a service"))?;
        self.index.remove(scope, key);
        self.accounts.settle(Owner::scope(scope))?;
        self.give_up(maps, at, (scope, *key))
    }

    /// Gives up the place of a service that has no key any more: at once, or when its servers are gone.
    fn give_up(
        &mut self,
        maps: &mut Maps,
        at: u32,
        was: (ScopeId, ServiceKey),
    ) -> Result<(), DatapathError> {
        self.unlink_all(maps, at, (was.0, &was.1))?;
        self.unbind(maps, at);
        if !self.leaving.hold(at, Some(was)) {
            self.services.give(at);
        }
        self.accounts.close(Owner::service(at))
    }

    /// What has passed through a service, also through servers that are gone.
    pub(super) fn total(&self, maps: &Maps, at: u32) -> Result<Counters, DatapathError> {
        let servers = counters::sum(maps, self.servers_of(maps, at))?;
        Ok(self.accounts.carried(Owner::service(at)).plus(servers))
    }

    /// All servers whose counts belong to a service: those in its list and those that are leaving it.
    pub(super) fn servers_of<'a>(
        &'a self,
        maps: &'a Maps,
        at: u32,
    ) -> impl Iterator<Item = u32> + 'a {
        list(maps, at).chain(self.leaving.of(at))
    }

    /// Adds a server at the head of the list.
    pub(super) fn add_server(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        key: &ServiceKey,
        server: &Server,
    ) -> Result<(), DatapathError> {
        let at = self.find(scope, key)?;
        if find_server(maps, at, server.socket()).is_some() {
            return Err(TableError::ServerExists {
                service: *key,
                server: server.socket(),
            }
            .into());
        }
        let scheduler = maps.services.at(at).scheduler.load();
        buckets::check(scheduler, list(maps, at).count() + 1)?;
        self.link(maps, at, (scope, key), server)?;
        buckets::refill(maps, at);
        Ok(())
    }

    /// Changes a server's attributes where it is.
    pub(super) fn edit_server(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        key: &ServiceKey,
        server: &Server,
    ) -> Result<(), DatapathError> {
        let at = self.find(scope, key)?;
        let socket = server.socket();
        let (_, index) = find_server(maps, at, socket).ok_or(TableError::NoSuchServer {
            service: *key,
            server: socket,
        })?;
        let before = read_server(maps, index);
        self.reals.add(maps, scope, key, server)?;
        self.reals.remove(maps, scope, key, &before)?;
        attributes::write_server(maps.servers.at(index), server, false);
        weigh(maps, at);
        buckets::refill(maps, at);
        Ok(())
    }

    /// Takes a server out of the list. Its connections stay until they end.
    pub(super) fn remove_server(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        key: &ServiceKey,
        socket: SocketAddr,
    ) -> Result<(), DatapathError> {
        let at = self.find(scope, key)?;
        let (before, index) = find_server(maps, at, socket).ok_or(TableError::NoSuchServer {
            service: *key,
            server: socket,
        })?;
        let server = read_server(maps, index);
        self.reals.remove(maps, scope, key, &server)?;
        let service = maps.services.at(at);
        let gone = maps.servers.at(index);
        let next = gone.next.load();
        if before == 0 {
            service.head.store(next);
        } else {
            maps.servers.at(before).next.store(next);
        }
        buckets::refill(maps, at);
        gone.flags.store(gone.flags.load() & !AVAILABLE);
        // The scheduler goes on where it stood: after the server before this one (ip_vs_rr_del_dest).
        sys::update64(&service.cursor, |word| {
            let cursor = Cursor::from_word(word);
            (cursor.server == index).then_some(
                Cursor {
                    server: before,
                    ..cursor
                }
                .word(),
            )
        });
        weigh(maps, at);
        self.leaving.push(identity(maps, index), index);
        Ok(())
    }

    /// Whether any server has a connection.
    pub(super) fn has_connections(&self, maps: &Maps) -> bool {
        !self.leaving.is_empty()
            || self
                .index
                .all()
                .flat_map(|(.., at)| list(maps, at))
                .any(|index| maps.servers.at(index).total.load() != 0)
    }

    /// A service as the maps have it; none if it is not there.
    pub(super) fn read(&self, maps: &Maps, scope: ScopeId, key: ServiceKey) -> Option<Service> {
        let at = self.index.get(scope, &key)?;
        Some(Service {
            servers: list(maps, at)
                .map(|index| read_server(maps, index))
                .collect(),
            ..attributes::read_service(maps.services.at(at), key)
        })
    }

    /// A place for a service. Where all are taken, those are freed first that wait for nothing any more.
    fn free_service(&mut self, maps: &Maps) -> Result<u32, DatapathError> {
        if let Some(at) = self.services.take() {
            return Ok(at);
        }
        self.tidy(maps)?;
        self.services.take().ok_or(DatapathError::Full {
            what: "services",
            limit: u64::from(maps.services.len() - 1),
            hint: "`bpvs run --services N` makes more room, after `bpvs down`",
        })
    }

    /// The same for a server.
    fn free_server(&mut self, maps: &Maps) -> Result<u32, DatapathError> {
        if let Some(index) = self.servers.take() {
            return Ok(index);
        }
        self.tidy(maps)?;
        self.servers.take().ok_or(DatapathError::Full {
            what: "servers",
            limit: u64::from(maps.servers.len() - 1),
            hint: "`bpvs run --servers N` makes more room, after `bpvs down`",
        })
    }

    /// Frees removed servers whose last connection and template have ended, and the places that waited for them.
    pub(super) fn tidy(&mut self, maps: &Maps) -> Result<(), DatapathError> {
        let over = |index| {
            let server = maps.servers.at(index);
            server.total.load() == 0 && server.templates.load() == 0
        };
        if self.leaving.which(over).is_empty() {
            return Ok(());
        }
        // A program may have chosen one before it was removed, and not counted its connection there yet.
        sys::wait_for_programs();
        for (identity, index) in self.leaving.which(over) {
            let owner = Owner::service(identity.0);
            // A service that is gone has been carried whole.
            let carried = !self.leaving.holds(identity.0);
            if carried {
                let counted = counters::of_server(maps, index)?;
                self.accounts.carry(owner, index, counted)?;
            }
            maps.servers.at(index).service.store(0);
            if carried {
                self.accounts.settle(owner)?;
            }
            self.accounts.close(Owner::server(index))?;
            self.servers.give(index);
            if let Some(service) = self.leaving.forget(identity, index) {
                self.services.give(service);
            }
        }
        Ok(())
    }

    /// What a service contributes to what those of its scope have together; none if it is not there.
    pub(super) fn part(&self, maps: &Maps, scope: ScopeId, key: &ServiceKey) -> Option<Part> {
        let at = self.index.get(scope, key)?;
        Some(Part::read(maps, scope, *key, at))
    }

    /// The place of a service.
    pub(super) fn find(&self, scope: ScopeId, key: &ServiceKey) -> Result<u32, DatapathError> {
        self.index
            .get(scope, key)
            .ok_or_else(|| TableError::NoSuchService(*key).into())
    }

    /// Whether the scope tells real servers of packets of no connection.
    pub(super) fn tell_reals(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        tells: bool,
    ) -> Result<(), DatapathError> {
        self.reals.tell(maps, scope, tells)
    }

    /// Puts a server at the head of a list.
    fn link(
        &mut self,
        maps: &mut Maps,
        at: u32,
        (scope, key): (ScopeId, &ServiceKey),
        server: &Server,
    ) -> Result<(), DatapathError> {
        server.check(key).map_err(TableError::from)?;
        self.reals.add(maps, scope, key, server)?;
        let linked = self.put_in_list(maps, at, server);
        if linked.is_err() {
            self.reals.remove(maps, scope, key, server)?;
        }
        linked
    }

    /// Puts a server at the head of a list. One that was removed and still has connections comes back with them.
    fn put_in_list(
        &mut self,
        maps: &mut Maps,
        at: u32,
        server: &Server,
    ) -> Result<(), DatapathError> {
        let address = words::address_words(server.address)?;
        let port = Be16::new(server.port);
        let index = match self.leaving.take((at, address, port)) {
            Some(index) => index,
            None => {
                let index = self.free_server(maps)?;
                counters::clear_server(maps, index)?;
                let place = maps.servers.at(index);
                place.address.store(address);
                place.port.store(port);
                place.active.store(0);
                place.total.store(0);
                place.templates.store(0);
                place.overload.store(0);
                place.life.store(place.life.load().wrapping_add(1));
                place.service.store(at);
                index
            }
        };
        let place = maps.servers.at(index);
        attributes::write_server(place, server, true);
        let service = maps.services.at(at);
        place.next.store(service.head.load());
        place.flags.store(AVAILABLE);
        // Whole before it can be found.
        fence(Ordering::Release);
        service.head.store(index);
        weigh(maps, at);
        Ok(())
    }

    /// The service's scheduler begins, without a cursor and without memories, on a table of its own if it needs one.
    fn bind(&mut self, maps: &Maps, at: u32, scheduler: Scheduler) -> Result<(), DatapathError> {
        let number = words::scheduler_number(scheduler);
        buckets::check(number, list(maps, at).count())?;
        let block = self.blocks.take(number)?;
        // Whole before it can be found.
        buckets::fill(maps, at, number, block);
        fence(Ordering::Release);
        let place = maps.services.at(at);
        let before = Buckets::from_word(place.buckets.load());
        place.bound.store(sys::now().0);
        sys::atomic64(&place.buckets).store(block.word(), Ordering::SeqCst);
        place.scheduler.store(number);
        sys::atomic64(&place.cursor).store(0, Ordering::SeqCst);
        self.blocks.give(before);
        Ok(())
    }

    /// Gives the service's table back.
    fn unbind(&mut self, maps: &Maps, at: u32) {
        let place = maps.services.at(at);
        let block = Buckets::from_word(place.buckets.load());
        sys::atomic64(&place.buckets).store(0, Ordering::SeqCst);
        self.blocks.give(block);
    }

    fn unlink_all(
        &mut self,
        maps: &mut Maps,
        at: u32,
        (scope, key): (ScopeId, &ServiceKey),
    ) -> Result<(), DatapathError> {
        let servers: Vec<u32> = list(maps, at).collect();
        maps.services.at(at).head.store(0);
        for index in servers {
            let server = read_server(maps, index);
            self.reals.remove(maps, scope, key, &server)?;
            let server = maps.servers.at(index);
            server.flags.store(server.flags.load() & !AVAILABLE);
            self.leaving.push(identity(maps, index), index);
        }
        Ok(())
    }
}

/// By what a server is known when it comes back.
fn identity(maps: &Maps, index: u32) -> Identity {
    let server = maps.servers.at(index);
    (
        server.service.load(),
        server.address.load(),
        server.port.load(),
    )
}

/// The servers of a service, newest first.
pub(super) fn list(maps: &Maps, service: u32) -> impl Iterator<Item = u32> + '_ {
    let first = maps.services.at(service).head.load();
    // A list is never longer than the array: a broken one ends.
    std::iter::successors(Some(first), |&index| {
        Some(maps.servers.at(index).next.load())
    })
    .take_while(|&index| index != 0)
    .take(maps.servers.len() as usize)
}

/// A server with the one before it (0: it is the head).
fn find_server(maps: &Maps, service: u32, socket: SocketAddr) -> Option<(u32, u32)> {
    let mut before = 0;
    for index in list(maps, service) {
        if read_server(maps, index).socket() == socket {
            return Some((before, index));
        }
        before = index;
    }
    None
}

/// A server as the maps have it.
pub(super) fn read_server(maps: &Maps, index: u32) -> Server {
    attributes::read_server(maps.servers.at(index))
}

/// The map's error of an element that is not there is no error of a removal.
pub(super) fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}
