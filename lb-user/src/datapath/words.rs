//! The model's words as the maps have them, and back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use lb_common::abi::{
    self, Address, Be16, Be32, KIND_ADDRESS, KIND_FWMARK, KIND_LOOPBACK, Tick, V4,
};
use lb_common::transport;

use super::DatapathError;
use crate::model::{AddressFamily, Protocol, Scheduler, ScopeId, ServiceKey};

/// An IPv4 address; others are not served yet.
pub(super) fn v4(address: IpAddr) -> Result<V4, DatapathError> {
    match address {
        IpAddr::V4(address) => Ok(V4::new(address.octets())),
        IpAddr::V6(address) => Err(DatapathError::Unsupported {
            what: format!("IPv6 ({address})"),
        }),
    }
}

/// Back from [`v4`].
pub(super) fn address(v4: V4) -> IpAddr {
    Ipv4Addr::from(v4.0.octets()).into()
}

/// Back from [`address_words`].
pub(super) fn address_of(words: [Be32; 4]) -> IpAddr {
    address(V4::from_words(words))
}

/// A mark in an address's place, as IPVS lists it.
pub(super) fn mark_address(mark: u32) -> IpAddr {
    Ipv4Addr::from(mark).into()
}

/// Address and port.
pub(super) fn socket(v4: V4, port: Be16) -> SocketAddr {
    SocketAddr::new(address(v4), port.get())
}

/// The four words of an address.
pub(super) fn address_words(address: IpAddr) -> Result<[Be32; 4], DatapathError> {
    v4(address).map(V4::words)
}

/// The protocol's number.
pub(super) fn protocol_number(protocol: Protocol) -> Result<u8, DatapathError> {
    match protocol {
        Protocol::Tcp => Ok(transport::TCP),
        Protocol::Udp => Ok(transport::UDP),
        Protocol::Sctp => Err(DatapathError::Unsupported {
            what: "SCTP".into(),
        }),
    }
}

/// Back from [`protocol_number`].
pub(super) fn protocol(number: u8) -> Option<Protocol> {
    match number {
        transport::TCP => Some(Protocol::Tcp),
        transport::UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// The map's key of a service.
pub(super) fn service_key(
    scope: ScopeId,
    key: &ServiceKey,
) -> Result<abi::ServiceKey<V4>, DatapathError> {
    let scope = scope.get();
    match *key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => Ok(abi::ServiceKey {
            address: v4(address)?,
            scope,
            port: Be16::new(port),
            protocol: protocol_number(protocol)?,
            kind: KIND_ADDRESS,
        }),
        ServiceKey::Fwmark {
            mark,
            family: AddressFamily::V4,
        } => Ok(abi::ServiceKey::fwmark(scope, mark)),
        ServiceKey::Fwmark {
            family: AddressFamily::V6,
            ..
        } => Err(DatapathError::Unsupported {
            what: "IPv6 fwmark services".into(),
        }),
    }
}

/// Back from [`service_key`]; `None` for what is no service's own key.
pub(super) fn service(key: &abi::ServiceKey<V4>) -> Option<ServiceKey> {
    if key.kind == KIND_FWMARK {
        return ServiceKey::fwmark(key.address.0.raw(), AddressFamily::V4).ok();
    }
    // A second key of a service that has its own.
    if key.kind == KIND_LOOPBACK {
        return None;
    }
    Some(ServiceKey::Address {
        protocol: protocol(key.protocol)?,
        address: address(key.address),
        port: key.port.get(),
    })
}

/// The scheduler's number.
pub(super) const fn scheduler_number(scheduler: Scheduler) -> u8 {
    match scheduler {
        Scheduler::RoundRobin => abi::SCHEDULER_RR,
        Scheduler::WeightedRoundRobin => abi::SCHEDULER_WRR,
        Scheduler::LeastConnection => abi::SCHEDULER_LC,
        Scheduler::WeightedLeastConnection => abi::SCHEDULER_WLC,
        Scheduler::LocalityBased => abi::SCHEDULER_LBLC,
        Scheduler::LocalityBasedReplicated => abi::SCHEDULER_LBLCR,
        Scheduler::DestinationHashing => abi::SCHEDULER_DH,
        Scheduler::SourceHashing => abi::SCHEDULER_SH,
        Scheduler::ShortestExpectedDelay => abi::SCHEDULER_SED,
        Scheduler::NeverQueue => abi::SCHEDULER_NQ,
        Scheduler::Failover => abi::SCHEDULER_FO,
        Scheduler::Overflow => abi::SCHEDULER_OVF,
        Scheduler::MaglevHashing => abi::SCHEDULER_MH,
        Scheduler::TwoChoices => abi::SCHEDULER_TWOS,
        Scheduler::None => abi::SCHEDULER_NONE,
    }
}

/// Back from [`scheduler_number`]; what no version of this program writes chooses nobody.
pub(super) const fn scheduler(number: u8) -> Scheduler {
    match number {
        abi::SCHEDULER_RR => Scheduler::RoundRobin,
        abi::SCHEDULER_WRR => Scheduler::WeightedRoundRobin,
        abi::SCHEDULER_LC => Scheduler::LeastConnection,
        abi::SCHEDULER_WLC => Scheduler::WeightedLeastConnection,
        abi::SCHEDULER_LBLC => Scheduler::LocalityBased,
        abi::SCHEDULER_LBLCR => Scheduler::LocalityBasedReplicated,
        abi::SCHEDULER_DH => Scheduler::DestinationHashing,
        abi::SCHEDULER_SH => Scheduler::SourceHashing,
        abi::SCHEDULER_SED => Scheduler::ShortestExpectedDelay,
        abi::SCHEDULER_NQ => Scheduler::NeverQueue,
        abi::SCHEDULER_FO => Scheduler::Failover,
        abi::SCHEDULER_OVF => Scheduler::Overflow,
        abi::SCHEDULER_MH => Scheduler::MaglevHashing,
        abi::SCHEDULER_TWOS => Scheduler::TwoChoices,
        _ => Scheduler::None,
    }
}

/// A span in whole seconds.
pub(super) fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// A span in ticks, never zero.
pub(super) fn ticks(span: Duration) -> u32 {
    Tick::from_secs(seconds(span)).0.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_has_a_number_of_its_own() {
        for one in Scheduler::ALL {
            assert_eq!(scheduler(scheduler_number(one)), one);
        }
    }
}
