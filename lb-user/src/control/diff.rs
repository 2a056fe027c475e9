//! From one table to another, in an order that is safe for the packets that pass meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Op;
use crate::model::{Server, Service, Table};

/// The operations that lead from `old` to `new`, in this order:
///
/// 1. settings, and new services with their servers;
/// 2. in services that stay: new servers, then other attributes, then weights, those that rise first;
/// 3. mark rules: the services that they point to are there already, and those that they no longer point to still are;
/// 4. removals: servers, then services.
///
/// So a service that can serve before and after can serve after each single step, and no mark ever leads to a service
/// that is missing. The price is room for old and new at once.
///
/// **Order of servers.** Operations cannot move a server. Servers that stay keep their order among themselves, and new
/// ones come before them in their order in `new`: what `ipvsadm -d` and `-a` would have made of the list.
/// A list that is only in another order is no difference.
#[must_use]
pub fn diff(old: &Table, new: &Table) -> Vec<Op> {
    let mut first = Vec::new();
    let mut edits = Vec::new();
    let mut last = Vec::new();

    if old.settings() != new.settings() {
        first.push(Op::SetSettings(new.settings().clone()));
    }
    for service in new.services() {
        match old.service(&service.key) {
            None => first.push(Op::AddService(service.clone())),
            Some(there) => diff_service(there, service, &mut edits, &mut last),
        }
    }
    if old.marks() != new.marks() {
        edits.push(Op::SetMarkRules(new.marks().to_vec()));
    }
    let gone = old
        .services()
        .filter(|service| new.service(&service.key).is_none());
    last.extend(gone.map(|service| Op::RemoveService(service.key)));

    first.append(&mut edits);
    first.append(&mut last);
    first
}

/// The difference of a service that stays: into `edits` what comes before all removals, into `removals` the rest.
fn diff_service(old: &Service, new: &Service, edits: &mut Vec<Op>, removals: &mut Vec<Op>) {
    let by_socket = |service: &Service| -> HashMap<SocketAddr, Server> {
        service
            .servers
            .iter()
            .map(|server| (server.socket(), *server))
            .collect()
    };
    let (before, after) = (by_socket(old), by_socket(new));
    let service = new.key;

    // Each goes to the head: the oldest first.
    let added = new
        .servers
        .iter()
        .rev()
        .filter(|server| !before.contains_key(&server.socket()));
    edits.extend(added.map(|server| Op::AddServer {
        service,
        server: *server,
    }));

    if !old.same_attributes(new) {
        edits.push(Op::EditService(new.without_servers()));
    }

    let changed = |rises: bool| {
        let before = &before;
        new.servers.iter().rev().filter(move |server| {
            before
                .get(&server.socket())
                .is_some_and(|there| there != *server && (server.weight > there.weight) == rises)
        })
    };
    for rises in [true, false] {
        edits.extend(changed(rises).map(|server| Op::EditServer {
            service,
            server: *server,
        }));
    }

    let gone = old
        .servers
        .iter()
        .map(Server::socket)
        .filter(|socket| !after.contains_key(socket));
    removals.extend(gone.map(|address| Op::RemoveServer { service, address }));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::control::testing::table_strategy;
    use crate::model::ServiceKey;

    /// The servers that new connections can go to.
    fn open(table: &Table, key: &ServiceKey) -> bool {
        table
            .service(key)
            .is_some_and(|service| service.servers.iter().any(|server| server.weight > 0))
    }

    /// What the list is after the operations, by the rule in the documentation of [`diff`].
    fn expected_order(old: &Service, new: &Service) -> Vec<SocketAddr> {
        let sockets = |service: &Service| {
            service
                .servers
                .iter()
                .map(Server::socket)
                .collect::<Vec<_>>()
        };
        let (before, after) = (sockets(old), sockets(new));
        let added = after.iter().filter(|socket| !before.contains(socket));
        let stay = before.iter().filter(|socket| after.contains(socket));
        added.chain(stay).copied().collect()
    }

    proptest! {
        #[test]
        fn leads_to_the_new_table_and_never_past_an_empty_service(old in table_strategy(), new in table_strategy()) {
            let mut table = old.clone();
            for op in diff(&old, &new) {
                op.apply_to(&mut table).unwrap();
                for service in new.services() {
                    if open(&old, &service.key) && open(&new, &service.key) {
                        prop_assert!(open(&table, &service.key), "{op} leaves {} without a server", service.key);
                    }
                }
                for rule in table.marks() {
                    for there in [&old, &new] {
                        let fwmark = there.services().find(|service| {
                            matches!(service.key, ServiceKey::Fwmark { mark, .. } if mark == rule.mark)
                        });
                        if let (true, Some(service)) = (there.marks().contains(rule), fwmark) {
                            let both = [&old, &new].iter().all(|t| t.service(&service.key).is_some());
                            prop_assert!(!both || table.service(&service.key).is_some());
                        }
                    }
                }
            }
            // The same but for the order of servers, and that by the rule.
            prop_assert_eq!(diff(&table, &new), vec![]);
            prop_assert_eq!(table.marks(), new.marks());
            for service in table.services() {
                let wanted = new.service(&service.key).unwrap();
                prop_assert!(service.same_attributes(wanted));
                let set = |service: &Service| service.servers.iter().map(|s| (s.socket(), s.weight)).collect::<BTreeSet<_>>();
                prop_assert_eq!(set(service), set(wanted));
                if let Some(before) = old.service(&service.key) {
                    let order: Vec<_> = service.servers.iter().map(Server::socket).collect();
                    prop_assert_eq!(order, expected_order(before, wanted));
                } else {
                    prop_assert_eq!(service, wanted);
                }
            }
        }

        #[test]
        fn between_equal_tables_there_is_nothing(table in table_strategy()) {
            prop_assert_eq!(diff(&table, &table), vec![]);
        }
    }

    #[test]
    fn the_order_of_operations() {
        use crate::control::testing::table;
        let old =
            table("tcp:10.0.0.1:80 rr 10.1.0.1:80/1 10.1.0.2:80/5; tcp:10.0.0.2:80 rr; mark 1");
        let new = table(
            "fwmark:7 rr 10.1.0.9:80/1; tcp:10.0.0.1:80 wrr 10.1.0.3:80/1 10.1.0.2:80/0 10.1.0.4:80/1; mark 7",
        );
        let ops: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(
            ops,
            [
                "add service fwmark:7",
                "add server 10.1.0.4:80 to tcp:10.0.0.1:80",
                "add server 10.1.0.3:80 to tcp:10.0.0.1:80",
                "edit service tcp:10.0.0.1:80",
                "edit server 10.1.0.2:80 of tcp:10.0.0.1:80",
                "set 1 mark rules",
                "remove server 10.1.0.1:80 from tcp:10.0.0.1:80",
                "remove service tcp:10.0.0.2:80",
            ]
        );
    }
}
