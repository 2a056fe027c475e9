//! The operations: the smallest changes of a table, each of which the datapath makes whole.

use std::fmt;
use std::net::SocketAddr;

use crate::model::{MarkRule, Server, Service, ServiceKey, Settings, Table, TableError};

/// One change of a scope's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new service with its servers, newest first.
    AddService(Service),
    /// Other attributes for a service that is there. Its servers stay; those of the argument are not looked at.
    EditService(Service),
    /// A service goes, with its servers.
    RemoveService(ServiceKey),
    /// A new server, at the head of its service's list.
    AddServer {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: Server,
    },
    /// Another weight or forwarding method for a server that is there. Its place in the list stays.
    EditServer {
        /// Its service.
        service: ServiceKey,
        /// The server, known by its address and port.
        server: Server,
    },
    /// A server goes.
    RemoveServer {
        /// Its service.
        service: ServiceKey,
        /// Its address and port.
        address: SocketAddr,
    },
    /// All mark rules of the scope, in place of those that were there.
    SetMarkRules(Vec<MarkRule>),
    /// The settings of the scope.
    SetSettings(Settings),
}

impl Op {
    /// Makes the change on a table in memory. What this does defines what the operation means.
    ///
    /// # Errors
    /// The change does not fit the table, which is then as before.
    pub fn apply_to(&self, table: &mut Table) -> Result<(), TableError> {
        match self {
            Self::AddService(service) => table.add_service(service.clone()),
            Self::EditService(service) => table.edit_service(service),
            Self::RemoveService(key) => table.remove_service(key).map(drop),
            Self::AddServer { service, server } => table.add_server(service, *server),
            Self::EditServer { service, server } => table.edit_server(service, *server),
            Self::RemoveServer { service, address } => {
                table.remove_server(service, *address).map(drop)
            }
            Self::SetMarkRules(rules) => table.set_marks(rules.clone()),
            Self::SetSettings(settings) => table.set_settings(settings.clone()),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(service) => write!(f, "add service {}", service.key),
            Self::EditService(service) => write!(f, "edit service {}", service.key),
            Self::RemoveService(key) => write!(f, "remove service {key}"),
            Self::AddServer { service, server } => {
                write!(f, "add server {} to {service}", server.socket())
            }
            Self::EditServer { service, server } => {
                write!(f, "edit server {} of {service}", server.socket())
            }
            Self::RemoveServer { service, address } => {
                write!(f, "remove server {address} from {service}")
            }
            Self::SetMarkRules(rules) => write!(f, "set {} mark rules", rules.len()),
            Self::SetSettings(_) => write!(f, "set the settings"),
        }
    }
}
