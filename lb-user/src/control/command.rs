//! Commands: single changes as a person asks for them, judged against the table as it stands.

use std::net::SocketAddr;
use std::time::Duration;

use super::Op;
use crate::model::{
    ForwardingMethod, MarkRule, Scheduler, Server, Service, ServiceKey, SourceNat, Table,
    TableError,
};

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
        /// Another weight.
        weight: Option<u32>,
        /// Another forwarding method.
        method: Option<ForwardingMethod>,
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
}

/// Attributes of a service; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceEdit {
    /// Another scheduler.
    pub scheduler: Option<Scheduler>,
    /// Another source NAT.
    pub source_nat: Option<SourceNat>,
    /// Whether the address is answered for.
    pub answer: Option<bool>,
    /// A timeout of its own for established TCP connections, or (inner `None`) the scope's.
    pub tcp_timeout: Option<Option<Duration>>,
    /// A timeout of its own for UDP, or (inner `None`) the scope's.
    pub udp_timeout: Option<Option<Duration>>,
}

impl ServiceEdit {
    /// The service as it is to be.
    #[must_use]
    pub fn edited(&self, service: &Service) -> Service {
        let mut service = service.clone();
        service.scheduler = self.scheduler.unwrap_or(service.scheduler);
        service.source_nat = self.source_nat.unwrap_or(service.source_nat);
        service.answer = self.answer.unwrap_or(service.answer);
        service.timeouts.tcp = self.tcp_timeout.unwrap_or(service.timeouts.tcp);
        service.timeouts.udp = self.udp_timeout.unwrap_or(service.timeouts.udp);
        service
    }
}

impl Command {
    /// The operation that does it. That it fits the table is known only when it was applied to it.
    ///
    /// # Errors
    /// What it is about is not there, or is there already.
    pub fn op(&self, table: &Table) -> Result<Op, TableError> {
        let find = |key: &ServiceKey| table.service(key).ok_or(TableError::NoSuchService(*key));
        Ok(match self {
            Self::AddService(service) => Op::AddService(service.clone()),
            Self::EditService { key, edit } => {
                Op::EditService(edit.edited(find(key)?).without_servers())
            }
            Self::RemoveService(key) => Op::RemoveService(*key),
            Self::AddServer { service, server } => Op::AddServer {
                service: *service,
                server: *server,
            },
            Self::EditServer {
                service,
                address,
                weight,
                method,
            } => {
                let there = find(service)?
                    .server(*address)
                    .ok_or(TableError::NoSuchServer {
                        service: *service,
                        server: *address,
                    })?;
                let server = Server {
                    weight: weight.unwrap_or(there.weight),
                    method: method.unwrap_or(there.method),
                    ..*there
                };
                Op::EditServer {
                    service: *service,
                    server,
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::table;

    #[test]
    fn an_edit_changes_only_what_it_names() {
        let mut there = table("tcp:10.0.0.1:80 wrr 10.1.0.1:80/3");
        let key = "tcp:10.0.0.1:80".parse().unwrap();
        let edit = ServiceEdit {
            answer: Some(true),
            ..ServiceEdit::default()
        };
        Command::EditService { key, edit }
            .op(&there)
            .unwrap()
            .apply_to(&mut there)
            .unwrap();
        let service = there.service(&key).unwrap();
        assert!(service.answer);
        assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
        assert_eq!(service.servers.len(), 1);

        let address = "10.1.0.1:80".parse().unwrap();
        let quiesce = Command::EditServer {
            service: key,
            address,
            weight: Some(0),
            method: None,
        };
        quiesce.op(&there).unwrap().apply_to(&mut there).unwrap();
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
            weight: Some(0),
            method: None,
        };
        assert_eq!(
            edit.op(&there).unwrap_err().to_string(),
            "service tcp:10.0.0.1:80 has no server 10.1.0.1:80"
        );
        let rule = MarkRule::new("7".parse().unwrap());
        assert_eq!(
            Command::RemoveMark(rule)
                .op(&there)
                .unwrap_err()
                .to_string(),
            "there is no mark rule `--mark 7`"
        );
    }
}
