//! Services and servers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control;
use crate::model::{self, ModelError, ServiceKey, check_timeout, format_duration, parse_duration};

/// A virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its key: `tcp:10.0.0.100:80`, `fwmark:256`.
    pub address: String,
    /// `rr` unless given.
    #[serde(default = "default_scheduler")]
    pub scheduler: String,
    /// `false` unless given.
    #[serde(default)]
    pub source_nat: SourceNat,
    /// Whether ARP and ping for the address are answered; `false` unless given.
    #[serde(default)]
    pub answer: bool,
    /// Where its timeouts differ from the scope's.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// Its servers, newest first.
    #[serde(default)]
    pub servers: Vec<Server>,
}

/// `false`, `true` (the address of the output interface), or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SourceNat {
    /// Off, or to the address of the output interface.
    Switch(bool),
    /// To this address.
    Address(String),
}

/// Timeouts of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// Of an established TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// Of a UDP exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<String>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `10.0.1.11:80`; without a port the service's, or the packet's own for a fwmark service.
    pub address: String,
    /// 1 unless given.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// `masq` unless given.
    #[serde(default = "default_method")]
    pub method: String,
}

/// Attributes of a service that are to be different; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdit {
    /// Another scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Another source NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_nat: Option<SourceNat>,
    /// Whether ARP and ping for the address are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<bool>,
    /// A duration, or `default` for the scope's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_timeout: Option<Edited>,
    /// A duration, or `default` for the scope's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<Edited>,
}

/// A duration, or `default`.
pub type Edited = String;

/// Attributes of a server that are to be different; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerEdit {
    /// Another weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Another forwarding method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

fn default_scheduler() -> String {
    model::Scheduler::default().to_string()
}

fn default_method() -> String {
    model::ForwardingMethod::default().to_string()
}

const fn default_weight() -> u32 {
    1
}

/// A timeout in range.
pub(super) fn timeout(text: &str) -> Result<Duration, ModelError> {
    parse_duration(text).and_then(check_timeout)
}

impl Default for SourceNat {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl From<model::SourceNat> for SourceNat {
    fn from(source_nat: model::SourceNat) -> Self {
        match source_nat {
            model::SourceNat::Off => Self::Switch(false),
            model::SourceNat::Interface => Self::Switch(true),
            model::SourceNat::Address(address) => Self::Address(address.to_string()),
        }
    }
}

impl TryFrom<SourceNat> for model::SourceNat {
    type Error = ModelError;

    fn try_from(source_nat: SourceNat) -> Result<Self, ModelError> {
        match source_nat {
            SourceNat::Switch(false) => Ok(Self::Off),
            SourceNat::Switch(true) => Ok(Self::Interface),
            SourceNat::Address(text) => text
                .parse()
                .map(Self::Address)
                .map_err(|_| ModelError::Address(text)),
        }
    }
}

impl Timeouts {
    /// Whether none is given.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tcp.is_none() && self.udp.is_none()
    }
}

impl From<&model::Service> for Service {
    fn from(service: &model::Service) -> Self {
        Self {
            address: service.key.to_string(),
            scheduler: service.scheduler.to_string(),
            source_nat: service.source_nat.into(),
            answer: service.answer,
            timeouts: Timeouts {
                tcp: service.timeouts.tcp.map(format_duration),
                udp: service.timeouts.udp.map(format_duration),
            },
            servers: service.servers.iter().map(Server::from).collect(),
        }
    }
}

impl TryFrom<Service> for model::Service {
    type Error = ModelError;

    fn try_from(wire: Service) -> Result<Self, ModelError> {
        let mut service = Self::new(wire.address.parse()?, wire.scheduler.parse()?);
        service.source_nat = wire.source_nat.try_into()?;
        service.answer = wire.answer;
        service.timeouts.tcp = wire.timeouts.tcp.as_deref().map(timeout).transpose()?;
        service.timeouts.udp = wire.timeouts.udp.as_deref().map(timeout).transpose()?;
        service.servers = wire
            .servers
            .into_iter()
            .map(|server| server.of(&service.key))
            .collect::<Result<_, _>>()?;
        service.checked()
    }
}

impl From<&model::Server> for Server {
    fn from(server: &model::Server) -> Self {
        Self {
            address: server.socket().to_string(),
            weight: server.weight,
            method: server.method.to_string(),
        }
    }
}

impl Server {
    /// As a server of this service.
    ///
    /// # Errors
    /// Something in it is wrong, or does not fit the service.
    pub fn of(self, service: &ServiceKey) -> Result<model::Server, ModelError> {
        let address = model::Server::parse_socket(&self.address, service)?;
        model::Server::new(service, address, self.weight, self.method.parse()?)
    }
}

impl TryFrom<ServiceEdit> for control::ServiceEdit {
    type Error = ModelError;

    fn try_from(wire: ServiceEdit) -> Result<Self, ModelError> {
        let edited = |text: Option<Edited>| -> Result<Option<Option<Duration>>, ModelError> {
            match text.as_deref() {
                None => Ok(None),
                Some("default") => Ok(Some(None)),
                Some(text) => timeout(text).map(|timeout| Some(Some(timeout))),
            }
        };
        Ok(Self {
            scheduler: wire.scheduler.as_deref().map(str::parse).transpose()?,
            source_nat: wire.source_nat.map(TryInto::try_into).transpose()?,
            answer: wire.answer,
            tcp_timeout: edited(wire.tcp_timeout)?,
            udp_timeout: edited(wire.udp_timeout)?,
        })
    }
}
