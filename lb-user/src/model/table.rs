//! The table of a scope: its services with their servers, its mark rules, its settings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;

use thiserror::Error;

use super::{MAX_MARK_SHAPES, MarkRule, ModelError, Server, Service, ServiceKey, Settings};

/// What a scope is to serve, or serves.
///
/// Services are kept in the order of their keys, for among services order has no meaning; a service's servers are
/// newest first, and mark rules are in the order in which they apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    services: BTreeMap<ServiceKey, Service>,
    marks: Vec<MarkRule>,
    settings: Settings,
}

/// A change that does not fit the table as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum TableError {
    #[error("service {0} is there already")]
    ServiceExists(ServiceKey),
    #[error("there is no service {0}")]
    NoSuchService(ServiceKey),
    #[error("server {server} is there already in service {service}")]
    ServerExists {
        service: ServiceKey,
        server: SocketAddr,
    },
    #[error("service {service} has no server {server}")]
    NoSuchServer {
        service: ServiceKey,
        server: SocketAddr,
    },
    #[error("mark rule `{0}` is there already")]
    MarkRuleExists(MarkRule),
    #[error("there is no mark rule `{0}`")]
    NoSuchMarkRule(MarkRule),
    #[error("{shapes} shapes of mark rules are more than the {MAX_MARK_SHAPES} that there may be")]
    TooManyMarkShapes { shapes: usize },
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl TableError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::ServiceExists(key) => Some(format!("to change it: bpvs service edit {key} …")),
            Self::NoSuchService(key) => Some(format!("to make it: bpvs service add {key}; to see what is there: bpvs list")),
            Self::ServerExists { service, server } => {
                Some(format!("to change it: bpvs server edit {service} {server} …"))
            }
            Self::NoSuchServer { .. } => Some("to see what is there: bpvs list".into()),
            Self::MarkRuleExists(_) => None,
            Self::NoSuchMarkRule(_) => {
                Some("give all fields of the rule as `bpvs mark list` shows them".into())
            }
            Self::TooManyMarkShapes { .. } => Some(
                "a shape is which fields a rule gives, and with which prefix lengths (a range of ports has several); \
                 write the rules with fewer of them"
                    .into(),
            ),
            Self::Model(error) => error.hint(),
        }
    }
}

impl Table {
    /// An empty table with default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it says nothing: no services, no mark rules, default settings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.marks.is_empty() && self.settings == Settings::default()
    }

    /// The services in the order of their keys.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.services.values()
    }

    /// One service.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// The mark rules in the order in which they apply: the last that matches wins.
    #[must_use]
    pub fn marks(&self) -> &[MarkRule] {
        &self.marks
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a service with its servers.
    ///
    /// # Errors
    /// It is there already, or its parts do not fit together, or it has a server twice.
    pub fn add_service(&mut self, service: Service) -> Result<(), TableError> {
        if self.services.contains_key(&service.key) {
            return Err(TableError::ServiceExists(service.key));
        }
        let service = service.checked()?;
        let mut sockets: Vec<SocketAddr> = service.servers.iter().map(Server::socket).collect();
        sockets.sort_unstable();
        if let Some(pair) = sockets.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(TableError::ServerExists {
                service: service.key,
                server: pair[0],
            });
        }
        self.services.insert(service.key, service);
        Ok(())
    }

    /// Gives a service other attributes; its servers stay, those of the argument are not looked at.
    ///
    /// # Errors
    /// It is not there, or its parts do not fit together.
    pub fn edit_service(&mut self, service: &Service) -> Result<(), TableError> {
        let attributes = service.without_servers().checked()?;
        let there = self.service_mut(&service.key)?;
        let servers = std::mem::take(&mut there.servers);
        *there = Service {
            servers,
            ..attributes
        };
        Ok(())
    }

    /// Removes a service with its servers and returns it.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_service(&mut self, key: &ServiceKey) -> Result<Service, TableError> {
        self.services
            .remove(key)
            .ok_or(TableError::NoSuchService(*key))
    }

    /// Adds a server at the head of the service's list.
    ///
    /// # Errors
    /// The service is not there, or the server already is, or it does not fit the service.
    pub fn add_server(&mut self, key: &ServiceKey, server: Server) -> Result<(), TableError> {
        server.check(key)?;
        let service = self.service_mut(key)?;
        if service.server(server.socket()).is_some() {
            return Err(TableError::ServerExists {
                service: *key,
                server: server.socket(),
            });
        }
        service.servers.insert(0, server);
        Ok(())
    }

    /// Gives a server another weight or forwarding method; its place in the list stays.
    ///
    /// # Errors
    /// The service or the server is not there, or it does not fit the service.
    pub fn edit_server(&mut self, key: &ServiceKey, server: Server) -> Result<(), TableError> {
        server.check(key)?;
        let socket = server.socket();
        let service = self.service_mut(key)?;
        let there = service
            .servers
            .iter_mut()
            .find(|there| there.socket() == socket)
            .ok_or(TableError::NoSuchServer {
                service: *key,
                server: socket,
            })?;
        *there = server;
        Ok(())
    }

    /// Removes a server and returns it.
    ///
    /// # Errors
    /// The service or the server is not there.
    pub fn remove_server(
        &mut self,
        key: &ServiceKey,
        socket: SocketAddr,
    ) -> Result<Server, TableError> {
        let service = self.service_mut(key)?;
        let place = service
            .servers
            .iter()
            .position(|there| there.socket() == socket)
            .ok_or(TableError::NoSuchServer {
                service: *key,
                server: socket,
            })?;
        Ok(service.servers.remove(place))
    }

    /// Replaces the mark rules.
    ///
    /// # Errors
    /// A rule is there twice or does not fit together, or there are too many shapes of them.
    pub fn set_marks(&mut self, marks: Vec<MarkRule>) -> Result<(), TableError> {
        let mut seen = HashSet::with_capacity(marks.len());
        for rule in &marks {
            rule.clone().checked()?;
            if !seen.insert(rule) {
                return Err(TableError::MarkRuleExists(rule.clone()));
            }
        }
        let shapes = marks
            .iter()
            .flat_map(MarkRule::shapes)
            .collect::<BTreeSet<_>>()
            .len();
        if shapes > MAX_MARK_SHAPES {
            return Err(TableError::TooManyMarkShapes { shapes });
        }
        self.marks = marks;
        Ok(())
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// A timeout is out of range.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), TableError> {
        settings.timeouts.checked()?;
        self.settings = settings;
        Ok(())
    }

    fn service_mut(&mut self, key: &ServiceKey) -> Result<&mut Service, TableError> {
        self.services
            .get_mut(key)
            .ok_or(TableError::NoSuchService(*key))
    }
}
