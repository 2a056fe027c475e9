//! Many changes in one request, each made or refused by itself.

use serde::{Deserialize, Serialize};

use super::{Error, Server, ServerEdit, Service, ServiceEdit};
use crate::control::Command;
use crate::model::{self, ModelError, ServiceKey};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// As `POST /v1/services`.
    AddService {
        /// The service.
        value: Box<Service>,
    },
    /// As `PATCH /v1/services/KEY`.
    EditService {
        /// Its key.
        service: String,
        /// What is to be different.
        value: Box<ServiceEdit>,
    },
    /// As `DELETE /v1/services/KEY`.
    RemoveService {
        /// Its key.
        service: String,
    },
    /// As `POST /v1/services/KEY/servers`.
    AddServer {
        /// The service's key.
        service: String,
        /// The server.
        value: Server,
    },
    /// As `PATCH /v1/services/KEY/servers/ADDRESS`.
    EditServer {
        /// The service's key.
        service: String,
        /// The server's address and port.
        server: String,
        /// What is to be different.
        value: ServerEdit,
    },
    /// As `DELETE /v1/services/KEY/servers/ADDRESS`.
    RemoveServer {
        /// The service's key.
        service: String,
        /// The server's address and port.
        server: String,
    },
}

/// What has become of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The status that it would have had as a request of its own.
    pub status: u16,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Whether it was refused for a server that is not there, in a service that is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_server: bool,
}

impl TryFrom<Change> for Command {
    type Error = ModelError;

    fn try_from(change: Change) -> Result<Self, ModelError> {
        let address = |text: &str, key: &ServiceKey| model::Server::parse_socket(text, key);
        Ok(match change {
            Change::AddService { value } => Self::AddService((*value).try_into()?),
            Change::EditService { service, value } => {
                let key = service.parse()?;
                let edit = value.of(&key)?;
                Self::EditService { key, edit }
            }
            Change::RemoveService { service } => Self::RemoveService(service.parse()?),
            Change::AddServer { service, value } => {
                let service = service.parse()?;
                let server = value.of(&service)?;
                Self::AddServer { service, server }
            }
            Change::EditServer {
                service,
                server,
                value,
            } => {
                let service = service.parse()?;
                Self::EditServer {
                    service,
                    address: address(&server, &service)?,
                    edit: value.try_into()?,
                }
            }
            Change::RemoveServer { service, server } => {
                let service = service.parse()?;
                Self::RemoveServer {
                    service,
                    address: address(&server, &service)?,
                }
            }
        })
    }
}
