//! Commands: single changes as a person asks for them, judged against the table as it stands.

use std::net::SocketAddr;

use super::{Op, ServerEdit, ServiceEdit};
use crate::model::{MarkRule, Server, Service, ServiceKey, SettingsEdit, Table, TableError};

/// One change, asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A new service, with servers if it has some.
    AddService(Service),
    /// Some attributes of a service that is there.
    EditService {
        /// Which.
        key: ServiceKey,
        /// What is to be different.
        edit: ServiceEdit,
    },
    /// A service and its servers go.
    RemoveService(ServiceKey),
    /// A new server.
    AddServer {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: Server,
    },
    /// Some attributes of a server that is there.
    EditServer {
        /// Its service.
        service: ServiceKey,
        /// Which.
        address: SocketAddr,
        /// What is to be different.
        edit: ServerEdit,
    },
    /// A server goes.
    RemoveServer {
        /// Its service.
        service: ServiceKey,
        /// Which.
        address: SocketAddr,
    },
    /// A new mark rule, after all others.
    AddMark(MarkRule),
    /// A mark rule goes.
    RemoveMark(MarkRule),
    /// All services go, with their servers: `ipvsadm -C`. Mark rules and settings stay.
    Flush,
    /// Some settings of the scope.
    EditSettings(SettingsEdit),
}

impl Command {
    /// The operations that do it, in their order; only [`Command::Flush`] can be more or fewer than one. That they fit
    /// the table is known only when they were applied to it.
    ///
    /// # Errors
    /// What it is about is not there, or is there already.
    pub fn ops(&self, table: &Table) -> Result<Vec<Op>, TableError> {
        let find = |key: &ServiceKey| table.service(key).ok_or(TableError::NoSuchService(*key));
        let op = match self {
            Self::AddService(service) => Op::AddService(service.clone()),
            Self::EditService { key, edit } => {
                Op::EditService(edit.edited(find(key)?)?.without_servers())
            }
            Self::RemoveService(key) => Op::RemoveService(*key),
            Self::AddServer { service, server } => Op::AddServer {
                service: *service,
                server: *server,
            },
            Self::EditServer {
                service,
                address,
                edit,
            } => {
                let there = find(service)?
                    .server(*address)
                    .ok_or(TableError::NoSuchServer {
                        service: *service,
                        server: *address,
                    })?;
                Op::EditServer {
                    service: *service,
                    server: edit.edited(there),
                }
            }
            Self::RemoveServer { service, address } => Op::RemoveServer {
                service: *service,
                address: *address,
            },
            Self::AddMark(rule) => {
                let rules = table.marks().iter().chain([rule]).cloned().collect();
                Op::SetMarkRules(rules)
            }
            Self::RemoveMark(rule) => {
                let place = table
                    .marks()
                    .iter()
                    .position(|there| there == rule)
                    .ok_or_else(|| TableError::NoSuchMarkRule(rule.clone()))?;
                let mut rules = table.marks().to_vec();
                rules.remove(place);
                Op::SetMarkRules(rules)
            }
            Self::Flush => {
                let all = table.services().map(|service| service.key);
                return Ok(all.map(Op::RemoveService).collect());
            }
            Self::EditSettings(edit) => Op::SetSettings(edit.edited(table.settings())),
        };
        Ok(vec![op])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::table;
    use crate::model::Scheduler;

    fn done(command: &Command, table: &mut Table) -> Result<(), TableError> {
        let ops = command.ops(table)?;
        ops.iter().try_for_each(|op| op.apply_to(table))
    }

    #[test]
    fn an_edit_changes_only_what_it_names() {
        let mut there = table("tcp:10.0.0.1:80 wrr 10.1.0.1:80/3");
        let key = "tcp:10.0.0.1:80".parse().unwrap();
        let edit = ServiceEdit {
            answer: Some(true),
            ..ServiceEdit::default()
        };
        done(&Command::EditService { key, edit }, &mut there).unwrap();
        let service = there.service(&key).unwrap();
        assert!(service.answer);
        assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
        assert_eq!(service.servers.len(), 1);

        let address = "10.1.0.1:80".parse().unwrap();
        let quiesce = Command::EditServer {
            service: key,
            address,
            edit: ServerEdit {
                weight: Some(0),
                ..ServerEdit::default()
            },
        };
        done(&quiesce, &mut there).unwrap();
        assert_eq!(there.service(&key).unwrap().servers[0].weight, 0);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let there = table("tcp:10.0.0.1:80 wrr");
        let key = "tcp:10.0.0.1:80".parse().unwrap();
        let address = "10.1.0.1:80".parse().unwrap();
        let edit = Command::EditServer {
            service: key,
            address,
            edit: ServerEdit::default(),
        };
        assert_eq!(
            edit.ops(&there).unwrap_err().to_string(),
            "service tcp:10.0.0.1:80 has no server 10.1.0.1:80"
        );
        let rule = MarkRule::new("7".parse().unwrap());
        assert_eq!(
            Command::RemoveMark(rule)
                .ops(&there)
                .unwrap_err()
                .to_string(),
            "there is no mark rule `--mark 7`"
        );
    }

    #[test]
    fn a_flush_takes_the_services_and_nothing_else() {
        let mut there =
            table("tcp:10.0.0.1:80 wrr 10.1.0.1:80/1; fwmark:7 rr; mark 7; tcp-timeout 60");
        done(&Command::Flush, &mut there).unwrap();
        assert_eq!(there, table("mark 7; tcp-timeout 60"));
        // Nothing to do is no error.
        assert_eq!(Command::Flush.ops(&there).unwrap(), vec![]);
    }

    #[test]
    fn settings_that_are_not_named_stay() {
        let mut there = table("tcp-timeout 60");
        let mut edit = SettingsEdit::default();
        edit.assign("sloppy_tcp", "1").unwrap();
        done(&Command::EditSettings(edit), &mut there).unwrap();
        assert_eq!(there.settings().read("sloppy_tcp").unwrap(), "1");
        assert_eq!(there.settings().timeouts.tcp.as_secs(), 60);
    }
}
