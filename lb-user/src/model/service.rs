//! A virtual service: what clients connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::address::{parse_address, parse_port, split_port};
use super::{
    AddressFamily, ForwardingMethod, ModelError, Persistence, Protocol, Scheduler, SchedulerFlags,
    Server, check_timeout, unicast,
};

/// By which a virtual service is known inside its scope: its service address, or a firewall mark.
///
/// The text form is the same everywhere: `tcp:10.0.0.100:80`, `udp:[fd00::1]:53`, `fwmark:256`, `fwmark:256/ipv6`.
/// The order is that of ipvsadm's listing: service addresses before marks, then family, protocol, address, port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceKey {
    /// Packets to this address.
    Address {
        /// Their protocol.
        protocol: Protocol,
        /// Their destination, unicast.
        address: IpAddr,
        /// Their destination port; 0 for those to all ports that no other service has.
        port: u16,
    },
    /// Packets with this mark, of any protocol and to any port.
    Fwmark {
        /// The mark, not 0.
        mark: u32,
        /// Their address family.
        family: AddressFamily,
    },
}

impl ServiceKey {
    /// The service at this address.
    ///
    /// # Errors
    /// An address that is not unicast.
    pub fn address(protocol: Protocol, address: SocketAddr) -> Result<Self, ModelError> {
        Ok(Self::Address {
            protocol,
            address: unicast(address.ip())?,
            port: address.port(),
        })
    }

    /// The service of this mark.
    ///
    /// # Errors
    /// [`ModelError::ZeroMark`].
    pub fn fwmark(mark: u32, family: AddressFamily) -> Result<Self, ModelError> {
        if mark == 0 {
            Err(ModelError::ZeroMark)
        } else {
            Ok(Self::Fwmark { mark, family })
        }
    }

    /// The address family of its packets.
    #[must_use]
    pub const fn family(&self) -> AddressFamily {
        match self {
            Self::Address { address, .. } => AddressFamily::of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }

    /// Its port; none for a service that takes all.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Address { port: 0, .. } | Self::Fwmark { .. } => None,
            Self::Address { port, .. } => Some(*port),
        }
    }

    /// Whether packets of this protocol can be its own.
    #[must_use]
    pub fn takes(&self, wanted: Protocol) -> bool {
        match self {
            Self::Address { protocol, .. } => *protocol == wanted,
            Self::Fwmark { .. } => true,
        }
    }

    /// Its service address; none for a fwmark service.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Address { address, port, .. } => Some(SocketAddr::new(*address, *port)),
            Self::Fwmark { .. } => None,
        }
    }

    fn rank(&self) -> (u32, AddressFamily, Option<(Protocol, IpAddr, u16)>) {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => (0, self.family(), Some((*protocol, *address, *port))),
            Self::Fwmark { mark, family } => (*mark, *family, None),
        }
    }
}

impl Ord for ServiceKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for ServiceKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Address {
                protocol,
                address,
                port,
            } => format!("{protocol}:{}", SocketAddr::new(*address, *port)),
            Self::Fwmark {
                mark,
                family: AddressFamily::V4,
            } => format!("fwmark:{mark}"),
            Self::Fwmark {
                mark,
                family: AddressFamily::V6,
            } => format!("fwmark:{mark}/ipv6"),
        };
        f.pad(&text)
    }
}

impl FromStr for ServiceKey {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let wrong = || ModelError::ServiceAddress(text.into());
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        if kind == "fwmark" {
            let (mark, family) = match rest.strip_suffix("/ipv6") {
                Some(mark) => (mark, AddressFamily::V6),
                None => (rest, AddressFamily::V4),
            };
            return Self::fwmark(super::mark::parse_number(mark)?, family);
        }
        let protocol = kind.parse()?;
        let (address, port) = split_port(rest);
        let port = parse_port(port.ok_or_else(wrong)?)?;
        Self::address(protocol, SocketAddr::new(parse_address(address)?, port))
    }
}

/// Whether, and to what, the source of a client's packets is rewritten on the way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceNat {
    /// It is left alone: the server sees the client, and its replies must come back through this scope.
    #[default]
    Off,
    /// To the address of the interface by which the packet leaves.
    Interface,
    /// To this address of the scope.
    Address(IpAddr),
}

/// Timeouts of one service that differ from its scope's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServiceTimeouts {
    /// Of an established TCP connection.
    pub tcp: Option<Duration>,
    /// Of a UDP exchange.
    pub udp: Option<Duration>,
}

/// A virtual service and its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// By which it is known.
    pub key: ServiceKey,
    /// How it picks a server.
    pub scheduler: Scheduler,
    /// What the scheduler is told besides.
    pub scheduler_flags: SchedulerFlags,
    /// Whether, and how long, connections of a client go to one server.
    pub persistence: Option<Persistence>,
    /// Whether each datagram is scheduled by itself; UDP or fwmark.
    pub one_packet: bool,
    /// Whether a TCP segment of no known connection is answered by a reset, instead of going to the host's stack; TCP or
    /// fwmark. IPVS has no such thing.
    pub reset: bool,
    /// What becomes of the client's address.
    pub source_nat: SourceNat,
    /// Whether ARP and ping for the service address are answered where no interface owns it.
    pub answer: bool,
    /// Whether local sockets are led to its servers when they connect (the socket hook); else their packets are, one by one.
    pub socket: bool,
    /// Whether local sockets reach it at the loopback addresses too, by its protocol and port.
    pub loopback: bool,
    /// Whether every packet of its mark goes to its newest server as it is, replies and resets too, with nothing remembered;
    /// fwmark. IPVS has no such thing.
    pub relay: bool,
    /// Whether the MSS in the SYNs of its connections, either end's, is lowered to what fits through this host.
    pub clamp_mss: bool,
    /// Where its timeouts differ from the scope's.
    pub timeouts: ServiceTimeouts,
    /// Its real servers, newest first, as IPVS lists and schedules them.
    pub servers: Vec<Server>,
}

impl Service {
    /// A service without servers, all else at its default.
    #[must_use]
    pub const fn new(key: ServiceKey, scheduler: Scheduler) -> Self {
        Self {
            key,
            scheduler,
            scheduler_flags: SchedulerFlags::NONE,
            persistence: None,
            one_packet: false,
            reset: false,
            source_nat: SourceNat::Off,
            answer: false,
            socket: true,
            loopback: false,
            relay: false,
            clamp_mss: false,
            timeouts: ServiceTimeouts {
                tcp: None,
                udp: None,
            },
            servers: Vec::new(),
        }
    }

    /// The same, if its parts fit together.
    ///
    /// # Errors
    /// A flag that does not fit the protocol, a source NAT address that is not unicast or of the other family, a timeout out of range, a server that does not
    /// fit ([`Server::check`]), `answer` where there is no address, `loopback` where there is no port or no socket hook,
    /// `relay` of something else than a mark, or with a server that is not reached by direct routing.
    pub fn checked(self) -> Result<Self, ModelError> {
        let key = || self.key.to_string();
        if self.answer && self.key.socket().is_none() {
            return Err(ModelError::AnswerWithoutAddress(key()));
        }
        if self.loopback && self.key.port().is_none() {
            return Err(ModelError::LoopbackWithoutPort(key()));
        }
        if self.relay && self.key.socket().is_some() {
            return Err(ModelError::RelayWithoutMark(key()));
        }
        let other = |server: &&Server| server.method != ForwardingMethod::Direct;
        if let (true, Some(server)) = (self.relay, self.servers.iter().find(other)) {
            return Err(ModelError::RelayMethod {
                server: server.address,
                method: server.method,
            });
        }
        if self.loopback && !self.socket {
            return Err(ModelError::LoopbackWithoutSocket(key()));
        }
        if let Some(persistence) = self.persistence {
            persistence.checked(self.key.family())?;
        }
        if self.one_packet && !self.key.takes(Protocol::Udp) {
            return Err(ModelError::OnePacket(key()));
        }
        if self.reset && !self.key.takes(Protocol::Tcp) {
            return Err(ModelError::Reset(key()));
        }
        if let SourceNat::Address(address) = self.source_nat {
            unicast(address)?;
            if AddressFamily::of(address) != self.key.family() {
                return Err(ModelError::SourceNatFamily {
                    address,
                    service: self.key.to_string(),
                });
            }
        }
        for timeout in [self.timeouts.tcp, self.timeouts.udp].into_iter().flatten() {
            check_timeout(timeout)?;
        }
        for server in &self.servers {
            server.check(&self.key)?;
        }
        Ok(self)
    }

    /// The server at this address and port.
    #[must_use]
    pub fn server(&self, address: SocketAddr) -> Option<&Server> {
        self.servers
            .iter()
            .find(|server| server.socket() == address)
    }

    /// Whether both are the same but for their servers.
    #[must_use]
    pub fn same_attributes(&self, other: &Self) -> bool {
        self.key == other.key
            && self.scheduler == other.scheduler
            && self.scheduler_flags == other.scheduler_flags
            && self.persistence == other.persistence
            && self.one_packet == other.one_packet
            && self.reset == other.reset
            && self.source_nat == other.source_nat
            && self.answer == other.answer
            && self.socket == other.socket
            && self.loopback == other.loopback
            && self.relay == other.relay
            && self.clamp_mss == other.clamp_mss
            && self.timeouts == other.timeouts
    }

    /// The same without its servers.
    #[must_use]
    pub fn without_servers(&self) -> Self {
        Self {
            servers: Vec::new(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DEFAULT_PERSISTENCE;

    #[test]
    fn keys_read_as_they_are_written() {
        for text in [
            "tcp:10.0.0.100:80",
            "udp:10.0.0.100:53",
            "sctp:10.0.0.1:1",
            "tcp:10.0.0.1:0",
            "tcp:[fd00::1]:80",
            "fwmark:256",
        ] {
            assert_eq!(text.parse::<ServiceKey>().unwrap().to_string(), text);
        }
        assert_eq!(
            "fwmark:0x100".parse::<ServiceKey>().unwrap().to_string(),
            "fwmark:256"
        );
        assert_eq!(
            "fwmark:7/ipv6".parse::<ServiceKey>().unwrap().to_string(),
            "fwmark:7/ipv6"
        );
    }

    #[test]
    fn wrong_keys_say_what_is_wrong() {
        for (text, message) in [
            ("10.0.0.1:80", "`10.0.0.1` is not a protocol"),
            ("web", "`web` is not a service address"),
            ("tcp:10.0.0.1", "`tcp:10.0.0.1` is not a service address"),
            ("tcp:10.0.0.1:http", "`http` is not a port"),
            ("tcp:10.0.0.1:99999", "port 99999 is out of range"),
            ("tcp:10.0.0.300:80", "`10.0.0.300` is not an IP address"),
            ("tcp:224.0.0.1:80", "224.0.0.1 is not a unicast address"),
            (
                "fwmark:0",
                "fwmark 0 cannot be told from a packet without a mark",
            ),
            ("fwmark:x", "`x` is not a mark"),
        ] {
            assert_eq!(
                text.parse::<ServiceKey>().unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }

    #[test]
    fn what_goes_with_what() {
        let service = |key: &str| Service::new(key.parse().unwrap(), Scheduler::default());
        let persistent = |key: &str| {
            let mut service = service(key);
            let family = service.key.family();
            service.persistence = Some(Persistence::new(DEFAULT_PERSISTENCE, family));
            service
        };
        assert!(service("tcp:10.0.0.1:0").checked().is_ok());
        assert!(persistent("tcp:10.0.0.1:0").checked().is_ok());
        assert!(persistent("tcp:[fd00::1]:80").checked().is_ok());
        let mut other = persistent("tcp:10.0.0.1:80");
        other.persistence = Some(Persistence::new(DEFAULT_PERSISTENCE, AddressFamily::V6));
        assert!(other.checked().is_err());
        for (key, one_packet, reset) in [
            ("tcp:10.0.0.1:80", false, true),
            ("udp:10.0.0.1:80", true, false),
            ("sctp:10.0.0.1:80", false, false),
            ("fwmark:7", true, true),
        ] {
            let with = Service {
                one_packet: true,
                ..service(key)
            };
            assert_eq!(with.checked().is_ok(), one_packet, "{key}");
            let with = Service {
                reset: true,
                ..service(key)
            };
            assert_eq!(with.checked().is_ok(), reset, "{key}");
        }
    }

    #[test]
    fn the_order_is_that_of_ipvsadm() {
        let mut keys: Vec<ServiceKey> = [
            "fwmark:2",
            "udp:10.0.0.1:53",
            "fwmark:1",
            "tcp:10.0.0.2:80",
            "tcp:10.0.0.2:8",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        keys.sort();
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "tcp:10.0.0.2:8",
                "tcp:10.0.0.2:80",
                "udp:10.0.0.1:53",
                "fwmark:1",
                "fwmark:2"
            ]
        );
    }
}
