//! Servers that were removed and still have connections or templates, and services that are gone but for those.
//!
//! IPVS keeps them in its trash, so that a server that is added again finds its connections: `ipvsadm -C` with `ipvsadm -R`
//! behind it breaks none. A service's place is therefore not given to another one before the last of its servers is gone.

use std::collections::{BTreeSet, HashMap};

use lb_common::abi::{Be16, Be32};

use crate::model::{ScopeId, ServiceKey};

/// By what a server that comes back is known: its service's place, its address, its port.
pub(super) type Identity = (u32, [Be32; 4], Be16);

/// What was removed and is not yet gone.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    servers: BTreeSet<(Identity, u32)>,
    /// Places of services without a key, with what they were; those that an earlier daemon removed are not known.
    services: HashMap<u32, Option<(ScopeId, ServiceKey)>>,
    /// The other way round.
    known: HashMap<(ScopeId, ServiceKey), u32>,
}

impl Leaving {
    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A server was taken out of its service's list.
    pub(super) fn push(&mut self, identity: Identity, index: u32) {
        self.servers.insert((identity, index));
    }

    /// Takes back a server, if it is still there.
    pub(super) fn take(&mut self, identity: Identity) -> Option<u32> {
        let found = *self
            .servers
            .range((identity, 0)..=(identity, u32::MAX))
            .next()?;
        self.servers.remove(&found);
        Some(found.1)
    }

    /// The servers that have left a service.
    pub(super) fn of(&self, service: u32) -> impl Iterator<Item = u32> + '_ {
        let first = ((service, [Be32::ZERO; 4], Be16::ZERO), 0);
        self.servers
            .range(first..)
            .take_while(move |((there, ..), _)| *there == service)
            .map(|(_, index)| *index)
    }

    /// A service is gone. Whether its place must wait for its servers; otherwise it is free.
    pub(super) fn hold(&mut self, service: u32, was: Option<(ScopeId, ServiceKey)>) -> bool {
        let waits = self.of(service).next().is_some();
        if waits {
            if let Some(was) = was {
                self.known.insert(was, service);
            }
            self.services.insert(service, was);
        }
        waits
    }

    /// Whether a place waits for its servers.
    pub(super) fn holds(&self, service: u32) -> bool {
        self.services.contains_key(&service)
    }

    /// Takes back the place that a service had.
    pub(super) fn revive(&mut self, was: (ScopeId, ServiceKey)) -> Option<u32> {
        let service = self.known.remove(&was)?;
        self.services.remove(&service);
        Some(service)
    }

    /// The servers of which `over` holds.
    pub(super) fn which(&self, over: impl Fn(u32) -> bool) -> Vec<(Identity, u32)> {
        let over = |(_, index): &&(Identity, u32)| over(*index);
        self.servers.iter().filter(over).copied().collect()
    }

    /// A server is gone for good. Its service's place, if that waited for this one only.
    pub(super) fn forget(&mut self, identity: Identity, index: u32) -> Option<u32> {
        self.servers.remove(&(identity, index));
        let service = identity.0;
        if !self.holds(service) || self.of(service).next().is_some() {
            return None;
        }
        if let Some(Some(was)) = self.services.remove(&service) {
            self.known.remove(&was);
        }
        Some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScopeId;

    fn at(service: u32, host: u32) -> Identity {
        let word = Be32::new(host);
        (
            service,
            [word, Be32::ZERO, Be32::ZERO, Be32::ZERO],
            Be16::new(80),
        )
    }

    fn web() -> (ScopeId, ServiceKey) {
        (ScopeId::MIN, "tcp:10.0.0.1:80".parse().unwrap())
    }

    #[test]
    fn a_server_comes_back_to_its_own_service_only() {
        let mut leaving = Leaving::default();
        leaving.push(at(1, 7), 40);
        leaving.push(at(2, 7), 41);
        leaving.push(at(2, 8), 42);
        assert_eq!(leaving.take(at(3, 7)), None);
        assert_eq!(leaving.take(at(2, 7)), Some(41));
        assert_eq!(leaving.take(at(2, 7)), None);
        assert_eq!(leaving.of(1).collect::<Vec<_>>(), [40]);
        assert_eq!(leaving.of(2).collect::<Vec<_>>(), [42]);
        assert!(leaving.of(3).next().is_none());
    }

    #[test]
    fn a_place_waits_for_the_last_of_its_servers() {
        let mut leaving = Leaving::default();
        assert!(!leaving.hold(1, Some(web())));
        leaving.push(at(1, 7), 40);
        leaving.push(at(1, 8), 41);
        // Of a service that is still there nothing becomes free.
        leaving.push(at(2, 8), 42);
        assert_eq!(leaving.forget(at(2, 8), 42), None);
        assert!(leaving.hold(1, Some(web())));
        assert_eq!(leaving.forget(at(1, 7), 40), None);
        assert!(leaving.holds(1));
        assert_eq!(leaving.forget(at(1, 8), 41), Some(1));
        assert!(!leaving.holds(1));
        assert_eq!(leaving.revive(web()), None);
    }

    #[test]
    fn a_service_that_is_added_again_gets_its_place_back() {
        let mut leaving = Leaving::default();
        leaving.push(at(1, 7), 40);
        assert!(leaving.hold(1, Some(web())));
        assert_eq!(leaving.revive((ScopeId::MAX, web().1)), None);
        assert_eq!(leaving.revive(web()), Some(1));
        assert!(!leaving.holds(1));
        assert_eq!(leaving.take(at(1, 7)), Some(40));
    }
}
