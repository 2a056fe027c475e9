//! Services and servers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control;
use crate::model::{
    self, ModelError, Netmask, Persistence, ServiceKey, check_timeout, format_duration,
    parse_duration,
};

/// A virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its key: `tcp:10.0.0.100:80`, `fwmark:256`.
    pub address: String,
    /// `rr` unless given.
    #[serde(default = "default_scheduler")]
    pub scheduler: String,
    /// `flag-1`, `flag-2`, `flag-3`, or what sh and mh call them, with commas between; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<String>,
    /// How long connections of a client go to one server; not at all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<String>,
    /// Which bits of a client's address count: `255.255.255.0`, or how many; all unless given. Only with `persistent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Whether each datagram is scheduled by itself; `false` unless given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_packet: bool,
    /// Whether TCP segments of no known connection are reset; `false` unless given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
    /// `false` unless given.
    #[serde(default)]
    pub source_nat: SourceNat,
    /// Whether ARP and ping for the address are answered; `false` unless given.
    #[serde(default)]
    pub answer: bool,
    /// Whether the socket hook leads local sockets to its servers; `true` unless given.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub socket: bool,
    /// Whether local sockets reach it at the loopback addresses too; `false` unless given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub loopback: bool,
    /// Whether every packet of its mark goes to its newest server as it is; `false` unless given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub relay: bool,
    /// Whether the MSS in its SYNs is lowered to what fits through this host; `false` unless given.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clamp_mss: bool,
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
    /// Connections from which on it gets no new ones; 0, which is no limit, unless given.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0, which is three quarters of the upper one, unless given.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
    /// The neighbour by which packets get there; the route's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The neighbour by which replies go; the route's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_via: Option<IpAddr>,
}

/// Attributes of a service that are to be different; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdit {
    /// Another scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Other scheduler flags in place of all that there are, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<String>,
    /// A duration, or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<String>,
    /// Another netmask of persistence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Whether each datagram is scheduled by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_packet: Option<bool>,
    /// Whether TCP segments of no known connection are reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
    /// Another source NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_nat: Option<SourceNat>,
    /// Whether ARP and ping for the address are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<bool>,
    /// Whether the socket hook leads local sockets to its servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<bool>,
    /// Whether local sockets reach it at the loopback addresses too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback: Option<bool>,
    /// Whether the MSS in its SYNs is lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp_mss: Option<bool>,
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
    /// Another upper threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// Another lower threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
}

fn default_scheduler() -> String {
    model::Scheduler::default().to_string()
}

fn default_method() -> String {
    model::ForwardingMethod::default().to_string()
}

/// The default of what is on unless given.
pub(super) const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_true(flag: &bool) -> bool {
    *flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
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
            scheduler_flags: (!service.scheduler_flags.is_empty())
                .then(|| service.scheduler_flags.to_string()),
            persistent: service
                .persistence
                .map(|persistence| format_duration(persistence.timeout)),
            netmask: service
                .persistence
                .filter(|persistence| !persistence.netmask.is_full())
                .map(|persistence| persistence.netmask.to_string()),
            one_packet: service.one_packet,
            reset: service.reset,
            source_nat: service.source_nat.into(),
            answer: service.answer,
            socket: service.socket,
            loopback: service.loopback,
            relay: service.relay,
            clamp_mss: service.clamp_mss,
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
        let family = service.key.family();
        let flags = wire
            .scheduler_flags
            .as_deref()
            .map(str::parse)
            .transpose()?;
        service.scheduler_flags = flags.unwrap_or_default();
        service.persistence = wire
            .persistent
            .as_deref()
            .map(|text| timeout(text).map(|timeout| Persistence::new(timeout, family)))
            .transpose()?;
        if let Some(netmask) = &wire.netmask {
            match &mut service.persistence {
                Some(persistence) => persistence.netmask = Netmask::parse(netmask, family)?,
                None => return Err(ModelError::NetmaskWithoutPersistence(wire.address)),
            }
        }
        service.one_packet = wire.one_packet;
        service.reset = wire.reset;
        service.source_nat = wire.source_nat.try_into()?;
        service.answer = wire.answer;
        service.socket = wire.socket;
        service.loopback = wire.loopback;
        service.relay = wire.relay;
        service.clamp_mss = wire.clamp_mss;
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
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            via: server.via,
            return_via: server.return_via,
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
        let server = model::Server {
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            via: self.via,
            return_via: self.return_via,
            ..model::Server::new(service, address, self.weight, self.method.parse()?)?
        };
        server.check(service)?;
        Ok(server)
    }
}

impl ServiceEdit {
    /// As an edit of this service.
    ///
    /// # Errors
    /// Something in it is wrong.
    pub fn of(self, service: &ServiceKey) -> Result<control::ServiceEdit, ModelError> {
        let edited = |text: Option<Edited>, off: &str| {
            let read = |text: &str| match text {
                _ if text == off => Ok(None),
                _ => timeout(text).map(Some),
            };
            text.as_deref().map(read).transpose()
        };
        let netmask = |text: &str| Netmask::parse(text, service.family());
        Ok(control::ServiceEdit {
            scheduler: self.scheduler.as_deref().map(str::parse).transpose()?,
            scheduler_flags: self
                .scheduler_flags
                .as_deref()
                .map(str::parse)
                .transpose()?,
            persistent: edited(self.persistent, "off")?,
            netmask: self.netmask.as_deref().map(netmask).transpose()?,
            one_packet: self.one_packet,
            reset: self.reset,
            source_nat: self.source_nat.map(TryInto::try_into).transpose()?,
            answer: self.answer,
            socket: self.socket,
            loopback: self.loopback,
            clamp_mss: self.clamp_mss,
            tcp_timeout: edited(self.tcp_timeout, "default")?,
            udp_timeout: edited(self.udp_timeout, "default")?,
        })
    }
}

impl TryFrom<ServerEdit> for control::ServerEdit {
    type Error = ModelError;

    fn try_from(wire: ServerEdit) -> Result<Self, ModelError> {
        Ok(Self {
            weight: wire.weight,
            method: wire.method.as_deref().map(str::parse).transpose()?,
            upper_threshold: wire.upper_threshold,
            lower_threshold: wire.lower_threshold,
        })
    }
}
