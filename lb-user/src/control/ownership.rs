//! Who asked for what.
//!
//! Commands act on the table as it stands, whatever an entry's source, as with IPVS. A file removes only what it
//! brought: what each file declared at its last `apply` is kept as its claim, and whatever no claim has belongs to
//! commands. A claim also tells what was taken from a file since ([`Claims::taken`]).

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use super::{Op, changes};
use crate::model::{MarkRule, Server, Service, ServiceKey, Settings, Table, TableError};

/// What a file says about one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Services, mark rules, settings.
    pub table: Table,
    /// Whether the file gives settings; otherwise those in `table` mean nothing.
    pub has_settings: bool,
}

impl Declared {
    /// Whether the file says nothing about the scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && !self.has_settings
    }
}

/// The namespace in which a file was applied, by something that no other namespace has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub String);

/// Something that no file claims any more: a service, or one server of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The service.
    pub service: ServiceKey,
    /// Its one server; none for the whole service.
    pub server: Option<SocketAddr>,
}

/// The claims on the table of one scope.
///
/// A file is known by the namespace in which it was applied, not by its name: applying another file there replaces what
/// the first one brought, in its own scope and in those that it names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    files: BTreeMap<Origin, Declared>,
}

impl Claims {
    /// The claims of the files by the scopes in which they were applied.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<Origin, Declared> {
        &self.files
    }

    /// Whether no file claims anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a file claims this service.
    #[must_use]
    pub fn has_service(&self, key: &ServiceKey) -> bool {
        self.files
            .values()
            .any(|declared| declared.table.service(key).is_some())
    }

    /// Takes up a claim as it was kept.
    pub fn insert(&mut self, origin: Origin, declared: Declared) {
        if declared.is_empty() {
            self.files.remove(&origin);
        } else {
            self.files.insert(origin, declared);
        }
    }

    /// What becomes of `current` and of the claims when the file of `origin` now declares `wanted`.
    ///
    /// Entries that it declares become its own, whoever had them. Entries that it claimed and declares no longer go,
    /// but for a service that holds servers of others: that one stays with those.
    ///
    /// # Errors
    /// The outcome would have too many shapes of mark rules.
    pub fn declare(
        &self,
        origin: &Origin,
        wanted: Declared,
        current: &Table,
    ) -> Result<(Table, Self), TableError> {
        let nothing = Declared::default();
        let claimed = self.files.get(origin).unwrap_or(&nothing);
        let mut table = Table::new();
        for service in wanted.table.services() {
            let service = match current.service(&service.key) {
                Some(there) => merged(there, claimed.table.service(&service.key), service),
                None => service.clone(),
            };
            table.add_service(service)?;
        }
        for service in current
            .services()
            .filter(|there| wanted.table.service(&there.key).is_none())
        {
            let rest = match claimed.table.service(&service.key) {
                None => Some(service.clone()),
                Some(claim) => foreign(service, claim),
            };
            if let Some(rest) = rest {
                table.add_service(rest)?;
            }
        }
        table.set_marks(merged_marks(
            current.marks(),
            claimed.table.marks(),
            wanted.table.marks(),
        ))?;
        table.set_settings(match (wanted.has_settings, claimed.has_settings) {
            (true, _) => wanted.table.settings().clone(),
            (false, true) => Settings::default(),
            (false, false) => current.settings().clone(),
        })?;

        let mut claims = self.clone();
        for (other, declared) in &mut claims.files {
            if other != origin {
                for service in wanted.table.services() {
                    // Most were not there.
                    let _ = declared.table.remove_service(&service.key);
                }
            }
        }
        claims.files.retain(|_, declared| !declared.is_empty());
        claims.insert(origin.clone(), wanted);
        Ok((table, claims))
    }

    /// What a command takes out of the claims: what it adds is its own from now on, even if a file had declared it. Looks
    /// at nothing else.
    #[must_use]
    pub fn commanded(&self, op: &Op) -> Option<Released> {
        let released = match op {
            Op::AddService(service) => Released {
                service: service.key,
                server: None,
            },
            Op::AddServer { service, server } => Released {
                service: *service,
                server: Some(server.socket()),
            },
            Op::EditService(_)
            | Op::RemoveService(_)
            | Op::EditServer { .. }
            | Op::RemoveServer { .. }
            | Op::SetMarkRules(_)
            | Op::SetSettings(_) => return None,
        };
        let claimed = |declared: &Declared| {
            let there = declared.table.service(&released.service)?;
            released
                .server
                .is_none_or(|server| there.server(server).is_some())
                .then_some(())
        };
        let any = self
            .files
            .values()
            .any(|declared| claimed(declared).is_some());
        any.then_some(released)
    }

    /// Takes something out of the claims, whoever has it.
    pub fn release(&mut self, released: &Released) {
        for declared in self.files.values_mut() {
            // Removing what is not there is no loss.
            let _ = match released.server {
                None => declared.table.remove_service(&released.service).map(drop),
                Some(server) => declared
                    .table
                    .remove_server(&released.service, server)
                    .map(drop),
            };
        }
        self.files.retain(|_, declared| !declared.is_empty());
    }

    /// What commands have changed of what the files declared: the lines of the difference that applying each file once
    /// more would make.
    #[must_use]
    pub fn taken(&self, current: &Table) -> Vec<String> {
        let mut lines = Vec::new();
        for (origin, declared) in &self.files {
            if let Ok((restored, _)) = self.declare(origin, declared.clone(), current) {
                lines.extend(changes(current, &restored));
            }
        }
        lines
    }
}

/// The service as declared, with the servers of others that it has, and in the order that additions can make.
fn merged(there: &Service, claim: Option<&Service>, wanted: &Service) -> Service {
    let added = wanted
        .servers
        .iter()
        .filter(|server| there.server(server.socket()).is_none());
    let stay = there
        .servers
        .iter()
        .filter_map(|server| match wanted.server(server.socket()) {
            Some(declared) => Some(declared),
            None => is_foreign(server, claim).then_some(server),
        });
    Service {
        servers: added.chain(stay).copied().collect(),
        ..wanted.clone()
    }
}

/// What is left of a service that its file no longer declares: the servers of others, if there are any.
fn foreign(there: &Service, claim: &Service) -> Option<Service> {
    let servers: Vec<Server> = there
        .servers
        .iter()
        .filter(|server| is_foreign(server, Some(claim)))
        .copied()
        .collect();
    (!servers.is_empty()).then(|| Service {
        servers,
        ..there.clone()
    })
}

fn is_foreign(server: &Server, claim: Option<&Service>) -> bool {
    claim.is_none_or(|claim| claim.server(server.socket()).is_none())
}

/// The declared rules in one block, where the claimed ones were or else at the end, among the rules of others.
fn merged_marks(current: &[MarkRule], claimed: &[MarkRule], wanted: &[MarkRule]) -> Vec<MarkRule> {
    let own: HashSet<&MarkRule> = claimed.iter().chain(wanted).collect();
    let place = current
        .iter()
        .position(|rule| own.contains(rule))
        .unwrap_or(current.len());
    let before = current[..place].iter();
    let after = current[place..].iter().filter(|rule| !own.contains(rule));
    before.chain(wanted).chain(after).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::testing::{table, table_strategy};
    use crate::model::ModelError;

    fn origin() -> Origin {
        Origin("here".into())
    }

    fn file(text: &str) -> Declared {
        Declared {
            table: table(text),
            has_settings: false,
        }
    }

    #[test]
    fn a_file_removes_only_what_it_brought() {
        let current = table("tcp:10.0.0.9:80 rr 10.1.0.9:80/1; mark 9");
        let (current, mut claims) = Claims::default()
            .declare(
                &origin(),
                file("tcp:10.0.0.1:80 rr 10.1.0.1:80/1; udp:10.0.0.1:53 rr; mark 1"),
                &current,
            )
            .unwrap();
        assert_eq!(
            current,
            table(
                "tcp:10.0.0.9:80 rr 10.1.0.9:80/1; tcp:10.0.0.1:80 rr 10.1.0.1:80/1; udp:10.0.0.1:53 rr; mark 9; mark 1"
            )
        );
        assert_eq!(claims.taken(&current), Vec::<String>::new());

        // A command adds a server to the file's service and removes the file's other service.
        let mut current = current;
        let key = "tcp:10.0.0.1:80".parse().unwrap();
        let ops = [
            Op::AddServer {
                service: key,
                server: crate::control::testing::server(&key, "10.1.0.2:80/1"),
            },
            Op::RemoveService("udp:10.0.0.1:53".parse().unwrap()),
        ];
        for op in &ops {
            op.apply_to(&mut current).unwrap();
            let released = claims.commanded(op);
            released.iter().for_each(|it| claims.release(it));
        }
        assert_eq!(claims.taken(&current), ["+ service udp:10.0.0.1:53 rr"]);

        // An empty file takes back what is its own, and leaves the service that holds the command's server.
        let (current, claims) = claims.declare(&origin(), file(""), &current).unwrap();
        assert_eq!(
            current,
            table("tcp:10.0.0.9:80 rr 10.1.0.9:80/1; tcp:10.0.0.1:80 rr 10.1.0.2:80/1; mark 9")
        );
        assert!(claims.is_empty());
    }

    #[test]
    fn what_a_command_adds_again_is_its_own() {
        let (mut current, mut claims) = Claims::default()
            .declare(&origin(), file("tcp:10.0.0.1:80 rr"), &Table::new())
            .unwrap();
        for op in [
            Op::RemoveService("tcp:10.0.0.1:80".parse().unwrap()),
            Op::AddService(Service::new(
                "tcp:10.0.0.1:80".parse().unwrap(),
                "wrr".parse().unwrap(),
            )),
        ] {
            op.apply_to(&mut current).unwrap();
            let released = claims.commanded(&op);
            released.iter().for_each(|it| claims.release(it));
        }
        let (current, _) = claims.declare(&origin(), file(""), &current).unwrap();
        assert_eq!(current, table("tcp:10.0.0.1:80 wrr"));
    }

    #[test]
    fn settings_go_back_to_the_defaults_with_the_file() {
        let declared = Declared {
            table: table("tcp-timeout 60"),
            has_settings: true,
        };
        let (current, claims) = Claims::default()
            .declare(&origin(), declared, &Table::new())
            .unwrap();
        assert_eq!(current, table("tcp-timeout 60"));
        let (current, claims) = claims.declare(&origin(), file(""), &current).unwrap();
        assert_eq!((current, claims), (Table::new(), Claims::default()));
    }

    proptest! {
        #[test]
        fn applying_twice_changes_nothing(there in table_strategy(), first in table_strategy(), second in table_strategy()) {
            let declared = |table: &Table| Declared { table: table.clone(), has_settings: true };
            // Refused where a file makes a relay of a service with servers of a command that are not reached by direct
            // routing: nothing is applied then.
            let mixed = |outcome: &Result<_, TableError>| {
                matches!(outcome, Err(TableError::Model(ModelError::RelayMethod { .. })))
            };
            let outcome = Claims::default().declare(&origin(), declared(&first), &there);
            prop_assume!(!mixed(&outcome));
            let (current, claims) = outcome.unwrap();
            let outcome = claims.declare(&origin(), declared(&second), &current);
            prop_assume!(!mixed(&outcome));
            let (current, claims) = outcome.unwrap();
            let (again, same) = claims.declare(&origin(), declared(&second), &current).unwrap();
            prop_assert_eq!(&again, &current);
            prop_assert_eq!(&same, &claims);
            prop_assert_eq!(claims.taken(&current), Vec::<String>::new());
            // Everything that the file says is there.
            for service in second.services() {
                let got = current.service(&service.key).unwrap();
                prop_assert!(got.same_attributes(service));
                prop_assert!(service.servers.iter().all(|server| got.servers.contains(server)));
            }
            prop_assert!(second.marks().iter().all(|rule| current.marks().contains(rule)));
        }
    }
}
