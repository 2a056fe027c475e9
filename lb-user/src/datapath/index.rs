//! Where services are in their map.

use std::collections::{BTreeMap, HashMap};

use crate::model::{ScopeId, ServiceKey};

/// The places of the services, apart by scopes: what is done to one scope does not depend on the others.
#[derive(Debug, Default)]
pub(super) struct Index {
    scopes: BTreeMap<ScopeId, HashMap<ServiceKey, u32>>,
}

impl Index {
    /// The place of a service.
    pub(super) fn get(&self, scope: ScopeId, key: &ServiceKey) -> Option<u32> {
        self.scopes.get(&scope)?.get(key).copied()
    }

    /// A service is at this place.
    pub(super) fn insert(&mut self, scope: ScopeId, key: ServiceKey, at: u32) {
        self.scopes.entry(scope).or_default().insert(key, at);
    }

    /// A service is no more.
    pub(super) fn remove(&mut self, scope: ScopeId, key: &ServiceKey) {
        if let Some(services) = self.scopes.get_mut(&scope) {
            services.remove(key);
            if services.is_empty() {
                self.scopes.remove(&scope);
            }
        }
    }

    /// The services of a scope.
    pub(super) fn of(&self, scope: ScopeId) -> impl Iterator<Item = (ServiceKey, u32)> + '_ {
        let services = self.scopes.get(&scope).into_iter().flatten();
        services.map(|(key, at)| (*key, *at))
    }

    /// All services.
    pub(super) fn all(&self) -> impl Iterator<Item = (ScopeId, ServiceKey, u32)> + Clone + '_ {
        self.scopes
            .iter()
            .flat_map(|(scope, services)| services.iter().map(move |(key, at)| (*scope, *key, *at)))
    }
}
