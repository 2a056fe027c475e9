//! What real servers send from, for scopes that tell them of packets of no connection (`nat_icmp_send`,
//! ip_vs_has_real_service).
//!
//! Several services may have one real server. The map has it for as long as any of them does; and for the scopes only that
//! ask for it, so that nobody else pays for it.

use std::collections::{HashMap, HashSet};

use aya::maps::MapIter;
use lb_common::abi::{Be16, RealKey, SCOPE_TELLS_REALS, V4};

use super::maps::{Maps, Plain};
use super::services::ignore_missing;
use super::{DatapathError, ebpf_map, words};
use crate::model::{ForwardingMethod, Protocol, ScopeId, Server, ServiceKey};

/// All of them, and the scopes whose are in the map.
#[derive(Default)]
pub(super) struct Reals {
    counts: HashMap<RealKey<V4>, u32>,
    told: HashSet<ScopeId>,
}

impl Reals {
    /// Takes up what there is: `servers` of all services, and the map as an earlier daemon left it.
    pub(super) fn adopt(
        maps: &mut Maps,
        servers: impl Iterator<Item = (ScopeId, ServiceKey, Server)>,
    ) -> Result<Self, DatapathError> {
        let mut reals = Self::default();
        for (scope, service, server) in servers {
            for key in keys(scope, &service, &server)? {
                reals.more(key);
            }
            let flags = maps
                .scopes
                .get(&scope.get(), 0)
                .map_or(0, |Plain(scope)| scope.flags);
            if flags & SCOPE_TELLS_REALS != 0 {
                reals.told.insert(scope);
            }
        }
        let entries: MapIter<'_, Plain<RealKey<V4>>, Plain<u32>, _> = maps.reals.iter();
        let there = entries
            .map(|entry| entry.map(|(Plain(key), _)| key))
            .collect::<Result<HashSet<_>, _>>()
            .map_err(ebpf_map("read the real servers"))?;
        let wanted: HashSet<_> = reals
            .counts
            .keys()
            .copied()
            .filter(|key| reals.is_told(key))
            .collect();
        for key in there.difference(&wanted) {
            take_out(maps, *key)?;
        }
        for key in wanted.difference(&there) {
            put_in(maps, *key)?;
        }
        Ok(reals)
    }

    /// A service gets a real server.
    pub(super) fn add(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        service: &ServiceKey,
        server: &Server,
    ) -> Result<(), DatapathError> {
        for key in keys(scope, service, server)? {
            if self.more(key) && self.is_told(&key) {
                put_in(maps, key)?;
            }
        }
        Ok(())
    }

    /// A service loses a real server.
    pub(super) fn remove(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        service: &ServiceKey,
        server: &Server,
    ) -> Result<(), DatapathError> {
        for key in keys(scope, service, server)? {
            if self.fewer(key) && self.is_told(&key) {
                take_out(maps, key)?;
            }
        }
        Ok(())
    }

    /// Whether the scope tells its real servers.
    pub(super) fn tell(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        tells: bool,
    ) -> Result<(), DatapathError> {
        if self.told.contains(&scope) == tells {
            return Ok(());
        }
        let of_scope = |key: &&RealKey<V4>| key.scope_protocol >> 8 == scope.get();
        for key in self.counts.keys().filter(of_scope) {
            if tells {
                put_in(maps, *key)?;
            } else {
                take_out(maps, *key)?;
            }
        }
        if tells {
            self.told.insert(scope);
        } else {
            self.told.remove(&scope);
        }
        Ok(())
    }

    fn is_told(&self, key: &RealKey<V4>) -> bool {
        ScopeId::new(key.scope_protocol >> 8).is_ok_and(|scope| self.told.contains(&scope))
    }

    /// `true`: it is the first.
    fn more(&mut self, key: RealKey<V4>) -> bool {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count == 1
    }

    /// `true`: it was the last.
    fn fewer(&mut self, key: RealKey<V4>) -> bool {
        let Some(count) = self.counts.get_mut(&key) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.counts.remove(&key);
        true
    }
}

/// What a real server sends from: a fwmark service's by either protocol. One that is not reached by masquerading answers
/// clients itself, and one without a port of its own is not known (ip_vs_rs_hash).
fn keys(
    scope: ScopeId,
    service: &ServiceKey,
    server: &Server,
) -> Result<Vec<RealKey<V4>>, DatapathError> {
    if server.method != ForwardingMethod::Masquerade || server.port == 0 {
        return Ok(Vec::new());
    }
    let address = words::v4(server.address)?;
    Ok([Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .filter(|protocol| service.takes(*protocol))
        .map(|protocol| {
            let scope_protocol = scope.get() << 8 | u32::from(protocol.number());
            RealKey::new(scope_protocol, address, Be16::new(server.port))
        })
        .collect())
}

fn put_in(maps: &mut Maps, key: RealKey<V4>) -> Result<(), DatapathError> {
    maps.reals
        .insert(Plain(key), Plain(1), 0)
        .map_err(ebpf_map("note a real server"))
}

fn take_out(maps: &mut Maps, key: RealKey<V4>) -> Result<(), DatapathError> {
    ignore_missing(maps.reals.remove(&Plain(key))).map_err(ebpf_map("forget a real server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str, server: &str, method: ForwardingMethod) -> Vec<(u32, u16)> {
        let service: ServiceKey = service.parse().unwrap();
        let server = Server::new(&service, server.parse().unwrap(), 1, method).unwrap();
        keys(ScopeId::new(3).unwrap(), &service, &server)
            .unwrap()
            .into_iter()
            .map(|key| (key.scope_protocol, key.port.get()))
            .collect()
    }

    #[test]
    fn what_a_real_server_sends_from() {
        let (masquerade, direct) = (ForwardingMethod::Masquerade, ForwardingMethod::Direct);
        assert_eq!(
            of("tcp:10.0.0.1:80", "10.1.0.1:8080", masquerade),
            [(0x306, 8080)]
        );
        assert_eq!(
            of("fwmark:7", "10.1.0.1:53", masquerade),
            [(0x306, 53), (0x311, 53)]
        );
        assert_eq!(of("fwmark:7", "10.1.0.1:0", masquerade), []);
        assert_eq!(of("tcp:10.0.0.1:80", "10.1.0.1:80", direct), []);
    }

    #[test]
    fn it_is_known_while_one_service_has_it() {
        let key = RealKey::new(0x306, V4::new([10, 1, 0, 1]), Be16::new(80));
        let mut reals = Reals::default();
        assert_eq!([reals.more(key), reals.more(key)], [true, false]);
        assert_eq!(
            [reals.fewer(key), reals.fewer(key), reals.fewer(key)],
            [false, true, false]
        );
    }
}
