//! What the services of a scope have together: what its flags, its answered addresses and its keys at the loopback
//! addresses depend on.
//!
//! It is kept by counting, so that a change of one service looks at that one only, however many others there are.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use lb_common::abi::{self, ANSWER, LOOPBACK, NO_SOCKET, RELAY, RESET, V4};

use super::loopback;
use super::maps::Maps;
use super::marks::Has;
use super::words;
use crate::model::{ScopeId, ServiceKey};

/// What one service contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    key: ServiceKey,
    at: u32,
    flags: u8,
    options: u8,
    loopback: Option<abi::ServiceKey<V4>>,
}

impl Part {
    /// As the maps have the service that is at this place.
    pub(super) fn read(maps: &Maps, scope: ScopeId, key: ServiceKey, at: u32) -> Self {
        let place = maps.services.at(at);
        Self::new(
            scope,
            key,
            at,
            place.flags.load(),
            place.options.load() & (LOOPBACK | NO_SOCKET | RELAY),
        )
    }

    fn new(scope: ScopeId, key: ServiceKey, at: u32, flags: u8, options: u8) -> Self {
        let own = words::service_key(scope, &key).ok();
        Self {
            key,
            at,
            flags: flags & (ANSWER | RESET),
            options,
            loopback: own
                .filter(|_| options & LOOPBACK != 0)
                .map(|own| abi::ServiceKey::loopback(own.scope, own.protocol, own.port)),
        }
    }

    /// The address that it answers for.
    pub(super) fn answered(&self) -> Option<IpAddr> {
        let answers = self.flags & ANSWER != 0;
        self.key
            .socket()
            .filter(|_| answers)
            .map(|socket| socket.ip())
    }

    /// The key by which it would be reached at the loopback addresses.
    pub(super) const fn loopback(&self) -> Option<abi::ServiceKey<V4>> {
        self.loopback
    }
}

/// The sum of the parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Together {
    fwmarks: usize,
    port_zero: usize,
    resets: usize,
    sockets: usize,
    relays: usize,
    answered: HashMap<IpAddr, usize>,
    /// Of several the first in a listing has it.
    loopbacks: HashMap<abi::ServiceKey<V4>, BTreeSet<(ServiceKey, u32)>>,
}

impl Together {
    /// A service is as `after` says, and was as `before`: none where it was not there, or is no more.
    pub(super) fn replace(&mut self, before: Option<&Part>, after: Option<&Part>) {
        if before == after {
            return;
        }
        if let Some(part) = before {
            self.count(part, |count| *count = count.saturating_sub(1));
            if let Some(address) = part.answered()
                && self.answered.get(&address) == Some(&0)
            {
                self.answered.remove(&address);
            }
            if let Some(key) = part.loopback
                && let Some(those) = self.loopbacks.get_mut(&key)
            {
                those.remove(&(part.key, part.at));
                if those.is_empty() {
                    self.loopbacks.remove(&key);
                }
            }
        }
        if let Some(part) = after {
            self.count(part, |count| *count += 1);
            if let Some(key) = part.loopback {
                let those = self.loopbacks.entry(key).or_default();
                those.insert((part.key, part.at));
            }
        }
    }

    fn count(&mut self, part: &Part, change: impl Fn(&mut usize)) {
        let socket = part.key.socket();
        let counted = [
            (socket.is_none(), &mut self.fwmarks),
            (
                socket.is_some_and(|socket| socket.port() == 0),
                &mut self.port_zero,
            ),
            (part.flags & RESET != 0, &mut self.resets),
            (part.options & NO_SOCKET == 0, &mut self.sockets),
            (part.options & RELAY != 0, &mut self.relays),
        ];
        counted
            .into_iter()
            .filter_map(|(counts, count)| counts.then_some(count))
            .for_each(&change);
        if let Some(address) = part.answered() {
            change(self.answered.entry(address).or_default());
        }
    }

    /// What the scope's flags depend on. Whether anything is answered depends on the network, too.
    pub(super) const fn has(&self, answers: bool) -> Has {
        Has {
            fwmarks: self.fwmarks > 0,
            port_zero: self.port_zero > 0,
            resets: self.resets > 0,
            sockets: self.sockets > 0,
            relays: self.relays > 0,
            answers,
        }
    }

    /// The addresses that any of them answers for.
    pub(super) fn answered(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.answered.keys().copied()
    }

    /// Whether any of them answers for this address.
    pub(super) fn answers(&self, address: IpAddr) -> bool {
        self.answered.contains_key(&address)
    }

    /// The keys at the loopback addresses, with the places of the services that have them.
    pub(super) fn loopbacks(&self) -> loopback::Keys {
        let all = self.loopbacks.keys();
        all.filter_map(|key| Some((*key, self.loopback(key)?)))
            .collect()
    }

    /// The service that has this key.
    pub(super) fn loopback(&self, key: &abi::ServiceKey<V4>) -> Option<u32> {
        let first = self.loopbacks.get(key)?.first()?;
        Some(first.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: &str, at: u32, flags: u8, options: u8) -> Part {
        Part::new(ScopeId::MIN, key.parse().unwrap(), at, flags, options)
    }

    #[test]
    fn what_one_loses_another_may_still_have() {
        let parts = [
            part("tcp:10.0.0.1:80", 1, ANSWER, LOOPBACK),
            part("tcp:10.0.0.1:0", 2, ANSWER | RESET, NO_SOCKET),
            part("tcp:10.0.0.2:80", 3, 0, LOOPBACK | NO_SOCKET),
            part("fwmark:7", 4, RESET, NO_SOCKET | RELAY),
        ];
        let mut together = Together::default();
        parts
            .iter()
            .for_each(|part| together.replace(None, Some(part)));
        let flags = |there: &Together| {
            let has = there.has(false);
            [
                has.fwmarks,
                has.port_zero,
                has.resets,
                has.sockets,
                has.relays,
            ]
        };
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(flags(&together), [true; 5]);
        assert_eq!(together.answered().collect::<Vec<_>>(), [address]);
        let key = parts[0].loopback().unwrap();
        assert_eq!(parts[2].loopback(), Some(key));
        assert_eq!(together.loopback(&key), Some(1));

        together.replace(Some(&parts[1]), None);
        assert_eq!(flags(&together), [true, false, true, true, true]);
        assert!(together.answers(address));
        together.replace(Some(&parts[0]), None);
        assert_eq!(flags(&together), [true, false, true, false, true]);
        assert!(!together.answers(address));
        assert_eq!(together.loopback(&key), Some(3));
        assert_eq!(together.loopbacks().len(), 1);
        together.replace(Some(&parts[3]), None);
        assert_eq!(flags(&together), [false; 5]);
        // An edit.
        let edited = part("tcp:10.0.0.2:80", 3, ANSWER, NO_SOCKET);
        together.replace(Some(&parts[2]), Some(&edited));
        assert_eq!(together.loopback(&key), None);
        assert!(together.answers("10.0.0.2".parse().unwrap()));
        together.replace(Some(&edited), None);
        assert_eq!(together, Together::default());
    }

    #[test]
    fn the_same_twice_changes_nothing() {
        let part = part("tcp:10.0.0.1:80", 1, ANSWER, LOOPBACK);
        let mut together = Together::default();
        together.replace(None, Some(&part));
        together.replace(Some(&part), Some(&part));
        together.replace(Some(&part), None);
        assert_eq!(together, Together::default());
    }
}
