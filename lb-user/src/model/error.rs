//! What can be wrong with a value, in words for the person who wrote it.

use std::net::IpAddr;

use thiserror::Error;

use super::{AddressFamily, ForwardingMethod, MAX_THRESHOLD, MAX_WEIGHT, Setting};

/// A value that the model refuses. `Display` says what was wrong; [`ModelError::hint`] says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum ModelError {
    #[error("`{0}` is not a service address")]
    ServiceAddress(String),
    #[error("`{0}` is not a protocol")]
    Protocol(String),
    #[error("`{0}` is not an IP address")]
    Address(String),
    #[error("`{0}` is not a port")]
    Port(String),
    #[error("port {0} is out of range")]
    PortRange(u64),
    #[error("`{0}` is not a server address")]
    ServerAddress(String),
    #[error("{0} is not a unicast address")]
    NotUnicast(IpAddr),
    #[error("{method} cannot send to port {port} what came for port {service}")]
    ServerPort {
        method: ForwardingMethod,
        port: u16,
        service: u16,
    },
    #[error("`{text}` is not a netmask for {family}")]
    Netmask { text: String, family: AddressFamily },
    #[error("the service {0} is not persistent, so a netmask means nothing to it")]
    NetmaskWithoutPersistence(String),
    #[error("`{0}` is not a scheduler flag")]
    SchedulerFlag(String),
    #[error("the service {0} takes no UDP, and only datagrams can be scheduled one by one")]
    OnePacket(String),
    #[error("the service {0} takes no TCP, and only that can be reset")]
    Reset(String),
    #[error("the service {0} has no firewall mark, and only packets of a mark can be relayed")]
    RelayWithoutMark(String),
    #[error("{method} cannot send packets on to {server} as they are")]
    RelayMethod {
        server: IpAddr,
        method: ForwardingMethod,
    },
    #[error("threshold {0} is out of range")]
    Threshold(u64),
    #[error("the lower threshold {lower} is above the upper threshold {upper}")]
    LowerThreshold { lower: u32, upper: u32 },
    #[error("there is no setting `{0}`")]
    Setting(String),
    #[error("{name} cannot be `{value}`")]
    SettingValue {
        name: &'static str,
        value: String,
        right: String,
    },
    #[error("{name} cannot be set to {value}: {reason}")]
    SettingFixed {
        name: &'static str,
        value: String,
        default: &'static str,
        reason: &'static str,
    },
    #[error("the server {server} and the service {service} are of different address families")]
    Family { server: IpAddr, service: String },
    #[error(
        "the source NAT address {address} and the service {service} are of different address families"
    )]
    SourceNatFamily { address: IpAddr, service: String },
    #[error("fwmark 0 cannot be told from a packet without a mark")]
    ZeroMark,
    #[error("`{0}` is not a mark")]
    Mark(String),
    #[error("mark {mark:#x} has bits outside its mask {mask:#x}")]
    MarkOutsideMask { mark: u32, mask: u32 },
    #[error("mask 0 would change no mark")]
    ZeroMask,
    #[error("`{0}` is not a scheduler")]
    Scheduler(String),
    #[error("`{0}` is not a forwarding method")]
    Forwarding(String),
    #[error("forwarding method {0} is not there yet")]
    ForwardingNotYet(String),
    #[error("weight {0} is out of range")]
    Weight(u64),
    #[error("`{0}` is not a duration")]
    Duration(String),
    #[error("timeout {0} is out of range")]
    Timeout(String),
    #[error("`{0}` is not an address prefix")]
    Prefix(String),
    #[error("{given} has bits set behind its prefix")]
    PrefixHostBits { given: String, right: String },
    #[error("`{0}` is not a port range")]
    PortRangeText(String),
    #[error("ports need a protocol")]
    PortsWithoutProtocol,
    #[error("`{0}` is not an interface name")]
    InterfaceName(String),
    #[error("xdp cannot be `{0}`")]
    Xdp(String),
    #[error(
        "the source {source_prefix} and the destination {destination} are of different address families"
    )]
    MarkFamily {
        source_prefix: String,
        destination: String,
    },
    #[error("the service {0} has no address to answer for")]
    AnswerWithoutAddress(String),
    #[error("the service {0} has no port of its own by which it could be reached at 127.0.0.1")]
    LoopbackWithoutPort(String),
    #[error("the service {0} cannot be reached at 127.0.0.1 without the socket hook")]
    LoopbackWithoutSocket(String),
    #[error("scope id {0} is out of range")]
    ScopeId(u32),
}

impl ModelError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ServiceAddress(_) => {
                "write protocol, address and port, as in tcp:10.0.0.100:80, or a firewall mark, as in fwmark:256".into()
            }
            Self::Protocol(_) => "have: tcp, udp, sctp".into(),
            Self::Address(_) => "write an address, as in 10.0.0.100; names are not looked up".into(),
            Self::Port(_) | Self::PortRange(_) => "a port is a number from 1 to 65535".into(),
            Self::ServerAddress(_) => "write address and port, as in 10.0.1.11:80".into(),
            Self::NotUnicast(_) => "give an address that one host can own".into(),
            Self::ServerPort { service, .. } => {
                format!("leave the port out, which means {service}; or use masq")
            }
            Self::Netmask { family, .. } => match family {
                AddressFamily::V4 => "write it as 255.255.255.0, or its bits, as 24".into(),
                AddressFamily::V6 => "write how many bits of an address count, 1 to 128".into(),
            },
            Self::NetmaskWithoutPersistence(_) => "make it persistent in the same command".into(),
            Self::SchedulerFlag(_) => {
                "have: flag-1 (sh-fallback, mh-fallback), flag-2 (sh-port, mh-port), flag-3; or none".into()
            }
            Self::OnePacket(_) => "leave it out, or use a UDP or fwmark service".into(),
            Self::Reset(_) => "leave it out, or use a TCP or fwmark service".into(),
            Self::RelayWithoutMark(_) => "leave `relay` out, or use a fwmark service and a mark rule".into(),
            Self::RelayMethod { .. } => "servers of a service with `relay` are reached by direct".into(),
            Self::Threshold(_) => format!("a threshold is a number from 0 to {MAX_THRESHOLD}; 0 is none"),
            Self::LowerThreshold { .. } => {
                "give an upper threshold that is not below it; or a lower one of 0, which is three quarters of the upper".into()
            }
            Self::Setting(name) => match Setting::nearest(name) {
                Some(meant) => format!("did you mean {meant}? `bpvs settings` shows them all"),
                None => "`bpvs settings` shows them all".into(),
            },
            Self::SettingValue { right, .. } => right.clone(),
            Self::SettingFixed { name, default, .. } => format!("leave {name} at {default}"),
            Self::Family { .. } => "give a server of the service's own address family".into(),
            Self::SourceNatFamily { .. } => "give an address of the service's own family".into(),
            Self::ZeroMark => "use a mark from 1 to 4294967295".into(),
            Self::Mark(_) => {
                "write a number, as in 256 or 0x100, with a mask if only some bits are to be set: 0x100/0xff00".into()
            }
            Self::MarkOutsideMask { mark, mask } => format!("widen the mask, as in {mark:#x}/{:#x}", mask | mark),
            Self::ZeroMask => "leave the mask out to set the whole mark".into(),
            Self::Scheduler(_) => format!("have: {}", super::Scheduler::names()),
            Self::Forwarding(_) | Self::ForwardingNotYet(_) => "have: masq, direct".into(),
            Self::Weight(_) => format!("a weight is a number from 0 to {MAX_WEIGHT}"),
            Self::Duration(_) => "write a number with a unit, as in 90s, 15m, 2h or 1d".into(),
            Self::Timeout(_) => "a timeout is at least 1s and at most 31d, in whole seconds".into(),
            Self::Prefix(_) => "write an address with a prefix length, as in 10.0.0.0/24".into(),
            Self::PrefixHostBits { right, .. } => format!("write {right}"),
            Self::PortRangeText(_) => "write a port or two with a dash, the lower first, as in 80 or 8000-8099".into(),
            Self::PortsWithoutProtocol => "say of which protocol: tcp, udp or sctp".into(),
            Self::InterfaceName(_) => {
                "an interface name has 1 to 15 characters and neither a space nor a slash".into()
            }
            Self::Xdp(_) => "xdp is off, auto, or the names of interfaces, as in eth0 or eth0,eth1".into(),
            Self::MarkFamily { .. } => "make two rules, one for each family".into(),
            Self::AnswerWithoutAddress(_) => "leave `answer` out; only a service with an address can have it".into(),
            Self::LoopbackWithoutPort(_) => "leave `loopback` out; only a service with an address and a port can have it".into(),
            Self::LoopbackWithoutSocket(_) => "leave `socket = false` out, or `loopback`".into(),
            Self::ScopeId(_) => "a scope id is a number from 1 to 255".into(),
        })
    }
}
