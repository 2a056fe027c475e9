//! What can be read of the engine.

use std::collections::HashMap;

use super::engine::Engine;
use super::{Failure, early};
use crate::api::wire;
use crate::datapath::{ScopeCounters, ServiceCounters};
use crate::model::{ScopeId, Service, ServiceKey, Settings, TableError};
use crate::net::NetNs;

impl Engine {
    /// The table of a scope with counters; empty for a namespace that is no scope.
    pub(super) fn listing(&self, netns: &NetNs) -> Result<wire::Listing, Failure> {
        let Some(id) = self.find(netns) else {
            let settings = (&Settings::default()).into();
            return Ok(wire::Listing {
                settings,
                ..wire::Listing::default()
            });
        };
        let table = &self.scopes[&id].table;
        Ok(wire::Listing {
            services: self.services(id, &self.datapath.counters(id)?),
            marks: table.marks().iter().map(wire::MarkRule::from).collect(),
            settings: table.settings().into(),
        })
    }

    /// One service with its counters.
    pub(super) fn service(
        &self,
        netns: &NetNs,
        key: &ServiceKey,
    ) -> Result<wire::ListedService, Failure> {
        let missing = || TableError::NoSuchService(*key);
        let id = self.find(netns).ok_or_else(missing)?;
        let service = self.scopes[&id].table.service(key).ok_or_else(missing)?;
        let counted = self.datapath.service_counters(id, key)?;
        Ok(self.listed(id, service, Some(&counted)))
    }

    pub(super) fn settings(&self, netns: &NetNs) -> Vec<wire::Setting> {
        let there = self.find(netns);
        let settings = there.map_or_else(Settings::default, |id| {
            self.scopes[&id].table.settings().clone()
        });
        wire::all_settings(&settings)
    }

    pub(super) fn stats(&self, netns: &NetNs) -> Result<wire::Stats, Failure> {
        let Some(id) = self.find(netns) else {
            return Ok(wire::Stats::default());
        };
        let reasons = self.datapath.reasons(id)?.into_iter();
        let counters = self.datapath.counters(id)?;
        Ok(wire::Stats {
            counters: counters.counters.into(),
            rates: counters.rates.into(),
            services: self.services(id, &counters),
            reasons: reasons
                .map(|(reason, packets, bytes)| wire::Reason {
                    reason: reason.to_owned(),
                    packets,
                    bytes,
                })
                .collect(),
        })
    }

    pub(super) fn connections(&self, netns: &NetNs) -> Result<Vec<wire::Connection>, Failure> {
        let mut connections = Vec::new();
        if let Some(id) = self.find(netns) {
            self.datapath
                .connections(id, &mut |connection| connections.push(connection.into()))?;
        }
        Ok(connections)
    }

    /// Shows counts from now on. What is not there has nothing to show; a service that is not there is said.
    pub(super) fn zero(&mut self, netns: &NetNs, only: Option<&ServiceKey>) -> Result<(), Failure> {
        match (self.find(netns), only) {
            (Some(id), only) => Ok(self.datapath.zero(id, only)?),
            (None, Some(key)) => Err(TableError::NoSuchService(*key).into()),
            (None, None) => Ok(()),
        }
    }

    fn services(&self, id: ScopeId, counters: &ScopeCounters) -> Vec<wire::ListedService> {
        let counted: HashMap<_, _> = counters
            .services
            .iter()
            .map(|service| (service.key, service))
            .collect();
        let listed = self.scopes[&id].table.services().map(|service| {
            let counted = counted.get(&service.key).copied();
            self.listed(id, service, counted)
        });
        listed.collect()
    }

    fn listed(
        &self,
        id: ScopeId,
        service: &Service,
        counted: Option<&ServiceCounters>,
    ) -> wire::ListedService {
        let claims = self.claims(id);
        let source = if claims.is_some_and(|claims| claims.has_service(&service.key)) {
            "file"
        } else {
            "command"
        };
        let order = self.scopes[&id].births.get(&service.key).copied();
        wire::ListedService::new(service, source, order.unwrap_or(0), counted)
    }

    pub(super) fn status(&self) -> wire::Status {
        let scope = |(id, scope): (&ScopeId, &super::engine::Scope)| wire::ScopeStatus {
            id: id.get(),
            netns: self
                .journal
                .scopes
                .get(id)
                .map_or_else(String::new, |known| known.netns.label.clone()),
            services: scope.table.services().len(),
            servers: scope
                .table
                .services()
                .map(|service| service.servers.len())
                .sum(),
            marks: scope.table.marks().len(),
            interfaces: scope.attached.values().cloned().collect(),
            paths: early::paths(&scope.attached, &scope.early),
            taken_from_file: self
                .claims(*id)
                .map(|claims| claims.taken(&scope.table))
                .unwrap_or_default(),
            problems: scope.problems.clone(),
        };
        wire::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            socket_hook_problem: self.datapath.socket_hook_problem().map(str::to_owned),
            scopes: self.scopes.iter().map(scope).collect(),
            sweep: self.sweep,
        }
    }
}
