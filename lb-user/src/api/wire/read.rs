//! What can be read: the listing, connections, counters, the daemon's own state.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{MarkRule, Service, Settings, SourceNat, Timeouts};
use crate::{datapath, model};

/// The table of a scope with what its servers have to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// Its services in the order of their addresses.
    pub services: Vec<ListedService>,
    /// Its mark rules in the order in which they apply.
    pub marks: Vec<MarkRule>,
    /// Its settings.
    pub settings: Settings,
}

/// A service with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedService {
    /// Its key.
    pub address: String,
    /// Its scheduler.
    pub scheduler: String,
    /// Its scheduler flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<String>,
    /// How long connections of a client go to one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<String>,
    /// Which bits of a client's address count, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Whether each datagram is scheduled by itself.
    #[serde(default)]
    pub one_packet: bool,
    /// Whether TCP segments of no known connection are reset.
    #[serde(default)]
    pub reset: bool,
    /// Its source NAT.
    pub source_nat: SourceNat,
    /// Whether ARP and ping for the address are answered.
    pub answer: bool,
    /// Whether the socket hook leads local sockets to its servers.
    #[serde(default = "super::service::yes")]
    pub socket: bool,
    /// Whether local sockets reach it at the loopback addresses too.
    #[serde(default)]
    pub loopback: bool,
    /// Whether every packet of its mark goes to its newest server as it is.
    #[serde(default)]
    pub relay: bool,
    /// Whether the MSS in its SYNs is lowered.
    #[serde(default)]
    pub clamp_mss: bool,
    /// Where its timeouts differ from the scope's.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where it comes from: `command` or `file`.
    pub source: String,
    /// The higher, the later it was added; a daemon that is started again counts anew, in the order of the addresses.
    #[serde(default)]
    pub order: u64,
    /// Its counters since they were zeroed.
    pub counters: Counters,
    /// What it counts a second.
    #[serde(default)]
    pub rates: Counters,
    /// Its servers, newest first.
    pub servers: Vec<ListedServer>,
}

/// A server with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedServer {
    /// Its address and port.
    pub address: String,
    /// Its weight.
    pub weight: u32,
    /// Its forwarding method.
    pub method: String,
    /// Connections from which on it gets no new ones; 0: no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of the upper threshold.
    #[serde(default)]
    pub lower_threshold: u32,
    /// The neighbour by which packets get there, if not by the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The neighbour by which replies go, if not by the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_via: Option<IpAddr>,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in another state.
    pub inactive: u64,
    /// Persistence templates that lead to it.
    #[serde(default)]
    pub persistent: u64,
    /// Its counters since they were zeroed.
    pub counters: Counters,
    /// What it counts a second.
    #[serde(default)]
    pub rates: Counters,
}

/// Counts of what passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// One connection, or a persistence template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `tcp`, `udp`; `ip` for the template of a firewall mark, which holds for all.
    pub protocol: String,
    /// Whether it is a template: which server a client's new connections go to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// The client; of a template the network of clients, with port 0.
    pub client: String,
    /// What it connected to; of a template with `ip` the mark, written as an address.
    pub service: String,
    /// The real server that has it.
    pub server: String,
    /// Whether it is a local socket's, made by the socket hook: no packets of it are counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub socket: bool,
    /// What the server sees in the client's place, with source NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_nat: Option<String>,
    /// IPVS's name of its state.
    pub state: String,
    /// Seconds until it is forgotten.
    pub expires: u64,
}

/// The counters of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Of all services together, also of those that are gone, since they were zeroed.
    #[serde(default)]
    pub counters: Counters,
    /// What is counted a second.
    #[serde(default)]
    pub rates: Counters,
    /// Its services.
    pub services: Vec<ListedService>,
    /// In which ways packets left; each packet counts under one.
    pub reasons: Vec<Reason>,
}

/// How many packets left in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its name.
    pub reason: String,
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The state of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it began.
    pub uptime: u64,
    /// Why local sockets are not led to servers when they connect, if they cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_hook_problem: Option<String>,
    /// The scopes that it serves.
    pub scopes: Vec<ScopeStatus>,
    /// What its sweeps did.
    pub sweep: Sweep,
}

/// The sweeps of expired connections since the daemon began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sweep {
    /// How many there were.
    pub runs: u64,
    /// Entries that were deleted.
    pub deleted: u64,
    /// How many failed.
    pub failed: u64,
}

/// How packets that arrive on an interface are handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePath {
    /// The interface.
    pub interface: String,
    /// `tc`, or `xdp` where XDP has them first.
    pub path: String,
    /// Why there is no XDP where it was asked for, or what is to be known where there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeStatus {
    /// Its number.
    pub id: u32,
    /// Its namespace.
    pub netns: String,
    /// How many services it has.
    pub services: usize,
    /// How many servers they have.
    pub servers: usize,
    /// How many mark rules it has.
    pub marks: usize,
    /// The interfaces to which the programs are attached.
    pub interfaces: Vec<String>,
    /// How packets that arrive on each of them are handled.
    #[serde(default)]
    pub paths: Vec<InterfacePath>,
    /// What commands have changed of what a file had declared: what applying it again would change.
    pub taken_from_file: Vec<String>,
    /// What does not work at present.
    pub problems: Vec<String>,
}

impl From<datapath::Counters> for Counters {
    fn from(counters: datapath::Counters) -> Self {
        let datapath::Counters {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = counters;
        Self {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }
}

impl From<datapath::Connection> for Connection {
    fn from(connection: datapath::Connection) -> Self {
        let (protocol, template) = match connection.kind {
            datapath::Kind::Connection(protocol) => (Some(protocol), false),
            datapath::Kind::Template(protocol) => (protocol, true),
        };
        Self {
            protocol: protocol.map_or_else(|| "ip".into(), |protocol| protocol.to_string()),
            template,
            client: connection.client.to_string(),
            service: connection.service.to_string(),
            server: connection.server.to_string(),
            socket: connection.socket,
            source_nat: connection.source_nat.map(|address| address.to_string()),
            state: connection.state.to_owned(),
            expires: connection.expires.as_secs(),
        }
    }
}

impl ListedService {
    /// A service with the counters that were read for it, if they were.
    #[must_use]
    pub fn new(
        service: &model::Service,
        source: &str,
        order: u64,
        counted: Option<&datapath::ServiceCounters>,
    ) -> Self {
        let wire = Service::from(service);
        let listed = |server: &model::Server| {
            let counted = counted.and_then(|service| {
                service
                    .servers
                    .iter()
                    .find(|there| there.address == server.socket())
            });
            ListedServer {
                address: server.socket().to_string(),
                weight: server.weight,
                method: server.method.to_string(),
                upper_threshold: server.upper_threshold,
                lower_threshold: server.lower_threshold,
                via: server.via,
                return_via: server.return_via,
                active: counted.map_or(0, |there| there.active),
                inactive: counted.map_or(0, |there| there.inactive),
                persistent: counted.map_or(0, |there| there.persistent),
                counters: counted
                    .map(|there| there.counters.into())
                    .unwrap_or_default(),
                rates: counted.map(|there| there.rates.into()).unwrap_or_default(),
            }
        };
        Self {
            address: wire.address,
            scheduler: wire.scheduler,
            scheduler_flags: wire.scheduler_flags,
            persistent: wire.persistent,
            netmask: wire.netmask,
            one_packet: wire.one_packet,
            reset: wire.reset,
            source_nat: wire.source_nat,
            answer: wire.answer,
            socket: wire.socket,
            loopback: wire.loopback,
            relay: wire.relay,
            clamp_mss: wire.clamp_mss,
            timeouts: wire.timeouts,
            source: source.to_owned(),
            order,
            counters: counted
                .map(|there| there.counters.into())
                .unwrap_or_default(),
            rates: counted.map(|there| there.rates.into()).unwrap_or_default(),
            servers: service.servers.iter().map(listed).collect(),
        }
    }
}
