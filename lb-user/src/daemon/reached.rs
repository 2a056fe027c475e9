//! Which addresses a scope reaches its real servers and their clients by, so that the way to them is kept fresh: those of
//! the real servers, and the neighbours that they name.
//!
//! They are counted, for several services may have the same: a change looks at what it changes and at nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::control::Op;
use crate::model::{Server, ServiceKey, Table};

/// The addresses, with how often servers have each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    counts: BTreeMap<IpAddr, usize>,
}

impl Reached {
    /// Those of a table.
    pub(super) fn of(table: &Table) -> Self {
        let mut reached = Self::default();
        let servers = table.services().flat_map(|service| &service.servers);
        for address in servers.flat_map(of_server) {
            *reached.counts.entry(address).or_default() += 1;
        }
        reached
    }

    /// All of them.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.counts.keys().copied().collect()
    }

    /// Follows an operation, told before it is made on `table`. Gives the addresses that come (`true`) and go by it.
    pub(super) fn change(&mut self, table: &Table, op: &Op) -> Vec<(IpAddr, bool)> {
        let there = |key: &ServiceKey| table.service(key).map_or(&[][..], |it| &it.servers);
        let known = |key: &ServiceKey, socket: SocketAddr| {
            let server = there(key).iter().find(|it| it.socket() == socket);
            server.map_or(&[][..], std::slice::from_ref)
        };
        let (more, fewer): (&[Server], &[Server]) = match op {
            Op::AddService(service) => (&service.servers, &[]),
            Op::AddServer { server, .. } => (std::slice::from_ref(server), &[]),
            Op::EditServer { service, server } => (
                std::slice::from_ref(server),
                known(service, server.socket()),
            ),
            Op::RemoveService(key) => (&[], there(key)),
            Op::RemoveServer { service, address } => (&[], known(service, *address)),
            Op::EditService(_) | Op::SetMarkRules(_) | Op::SetSettings(_) => return Vec::new(),
        };
        let mut turned = Vec::new();
        // Those that come first: what an edit leaves as it was does not turn.
        for address in more.iter().flat_map(of_server) {
            let count = self.counts.entry(address).or_default();
            *count += 1;
            if *count == 1 {
                turned.push((address, true));
            }
        }
        for address in fewer.iter().flat_map(of_server) {
            if let Some(count) = self.counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&address);
                    turned.push((address, false));
                }
            }
        }
        turned
    }
}

fn of_server(server: &Server) -> impl Iterator<Item = IpAddr> {
    let all = [Some(server.address), server.via, server.return_via];
    all.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::diff;
    use crate::control::testing::table_strategy;

    proptest! {
        #[test]
        fn following_operations_is_counting_anew(old in table_strategy(), new in table_strategy()) {
            let mut table = old.clone();
            let mut reached = Reached::of(&old);
            let mut told = reached.addresses();
            for op in diff(&old, &new) {
                for (address, is_reached) in reached.change(&table, &op) {
                    let differs = if is_reached { told.insert(address) } else { told.remove(&address) };
                    prop_assert!(differs, "{op} tells of {address} again");
                }
                op.apply_to(&mut table).unwrap();
            }
            prop_assert_eq!(&reached, &Reached::of(&new));
            prop_assert_eq!(told, reached.addresses());
        }
    }
}
