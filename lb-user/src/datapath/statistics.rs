//! What services and servers have counted, and at which rates.

use std::collections::BTreeSet;
use std::time::Duration;

use super::accounts::Owner;
use super::counters::Counts;
use super::estimates::Estimates;
use super::maps::Maps;
use super::rates::Estimate;
use super::services::{self, Services};
use super::{Counters, DatapathError, ScopeCounters, ServerCounters, ServiceCounters, counters};
use crate::model::{ScopeId, ServiceKey, TableError};

/// The rates, which begin anew with each daemon.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    estimates: Estimates,
    /// The scopes of the last step: what is new in them began at nothing.
    scopes: BTreeSet<ScopeId>,
    /// How many packets of services each scope had seen before the last step, if the step left all rates at nothing: until more come, or
    /// there is another server, no counter has to be read.
    rest: Option<Vec<(ScopeId, u64)>>,
}

/// What there is counted in one scope since the beginning.
struct Counted {
    total: Counters,
    services: Vec<(ServiceKey, u32, Counters)>,
    /// The places of all servers, and what they have counted.
    places: Vec<u32>,
    servers: Counts,
}

fn count(maps: &Maps, all: &Services, scope: ScopeId) -> Result<Counted, DatapathError> {
    let keys: Vec<(ServiceKey, u32)> = all.of(scope).collect();
    let places: Vec<u32> = keys
        .iter()
        .flat_map(|(_, at)| all.servers_of(maps, *at))
        .collect();
    let servers = counters::of_servers(maps, &places)?;
    let mut total = all.accounts.carried(Owner::scope(scope));
    let mut services = Vec::with_capacity(keys.len());
    for (key, at) in keys {
        let carried = all.accounts.carried(Owner::service(at));
        let counted = all
            .servers_of(maps, at)
            .fold(carried, |sum, index| sum.plus(servers.of(index)));
        total = total.plus(counted);
        services.push((key, at, counted));
    }
    services.sort_unstable_by_key(|(key, ..)| *key);
    Ok(Counted {
        total,
        services,
        places,
        servers,
    })
}

impl Statistics {
    /// What is shown of a scope: counts since they were zeroed, and rates.
    pub(super) fn of_scope(
        &self,
        maps: &Maps,
        all: &Services,
        scope: ScopeId,
    ) -> Result<ScopeCounters, DatapathError> {
        let counted = count(maps, all, scope)?;
        let services = counted
            .services
            .iter()
            .map(|(key, at, total)| self.shown(maps, all, (*key, *at), *total, &counted.servers));
        Ok(ScopeCounters {
            counters: all.accounts.since_zero(Owner::scope(scope), counted.total),
            rates: self.rates(Owner::scope(scope)),
            services: services.collect(),
        })
    }

    /// The same of one service, for which nothing else is looked at.
    pub(super) fn of_service(
        &self,
        maps: &Maps,
        all: &Services,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<ServiceCounters, DatapathError> {
        let at = all.find(scope, key)?;
        let places: Vec<u32> = all.servers_of(maps, at).collect();
        let servers = counters::of_servers(maps, &places)?;
        let carried = all.accounts.carried(Owner::service(at));
        let total = places
            .iter()
            .fold(carried, |sum, index| sum.plus(servers.of(*index)));
        Ok(self.shown(maps, all, (*key, at), total, &servers))
    }

    /// What is shown of a service that has counted so much, as have its servers.
    fn shown(
        &self,
        maps: &Maps,
        all: &Services,
        (key, at): (ServiceKey, u32),
        total: Counters,
        servers: &Counts,
    ) -> ServiceCounters {
        let shown = |owner, total| all.accounts.since_zero(owner, total);
        let server = |index: u32| {
            let place = maps.servers.at(index);
            let (active, connections) = (place.active.load(), place.total.load());
            let owner = Owner::server(index);
            ServerCounters {
                address: services::read_server(maps, index).socket(),
                active: active.into(),
                inactive: connections.saturating_sub(active).into(),
                persistent: place.templates.load().into(),
                counters: shown(owner, servers.of(index)),
                rates: self.rates(owner),
            }
        };
        ServiceCounters {
            key,
            counters: shown(Owner::service(at), total),
            rates: self.rates(Owner::service(at)),
            servers: services::list(maps, at).map(server).collect(),
        }
    }

    fn rates(&self, owner: Owner) -> Counters {
        self.estimates
            .get(owner)
            .map_or(Counters::default(), Estimate::rates)
    }

    /// Begins to show counts anew, and rates at nothing: of a service with its servers, or of everything in the scope.
    pub(super) fn zero(
        &mut self,
        maps: &Maps,
        all: &mut Services,
        scope: ScopeId,
        only: Option<&ServiceKey>,
    ) -> Result<(), DatapathError> {
        let counted = count(maps, all, scope)?;
        let mut owners = Vec::new();
        match only {
            None => owners.push((Owner::scope(scope), counted.total)),
            Some(key) if counted.services.iter().all(|(there, ..)| there != key) => {
                return Err(TableError::NoSuchService(*key).into());
            }
            Some(_) => {}
        }
        for (key, at, total) in &counted.services {
            if only.is_some_and(|only| only != key) {
                continue;
            }
            owners.push((Owner::service(*at), *total));
            let servers = all
                .servers_of(maps, *at)
                .map(|index| (Owner::server(index), counted.servers.of(index)));
            owners.extend(servers);
        }
        for (owner, total) in owners {
            all.accounts.zero(owner, total)?;
            if let Some(estimate) = self.estimates.get_mut(owner) {
                *estimate = Estimate::new(total);
            }
        }
        Ok(())
    }

    /// Moves the rates of these scopes by what was counted since the last step; those of all others go.
    pub(super) fn step(
        &mut self,
        maps: &Maps,
        all: &Services,
        scopes: &[ScopeId],
        elapsed: Duration,
    ) -> Result<(), DatapathError> {
        // Before the counters: what comes between is seen with the next step.
        let mut packets = Vec::with_capacity(scopes.len());
        for &scope in scopes {
            packets.push((scope, counters::served(maps, scope)?));
        }
        if self.rest.as_ref() == Some(&packets) {
            return Ok(());
        }
        let mut rests = true;
        self.estimates.begin();
        let seen = std::mem::replace(&mut self.scopes, scopes.iter().copied().collect());
        for &scope in scopes {
            let is_known = seen.contains(&scope);
            let estimates = &mut self.estimates;
            let mut step = |owner, total| {
                let new = if is_known { Counters::default() } else { total };
                let estimate = estimates.goes_on(owner, new);
                estimate.step(total, elapsed);
                rests &= estimate.rests();
            };
            let counted = count(maps, all, scope)?;
            step(Owner::scope(scope), counted.total);
            for (_, at, total) in &counted.services {
                step(Owner::service(*at), *total);
            }
            for index in &counted.places {
                step(Owner::server(*index), counted.servers.of(*index));
            }
        }
        self.rest = rests.then_some(packets);
        Ok(())
    }

    /// Services or servers are others now: the next step looks at all of them.
    pub(super) fn changed(&mut self) {
        self.rest = None;
    }
}
