//! What the model can say and the datapath cannot do yet: refused before anything is touched.

use thiserror::Error;

use super::Op;
use crate::model::{AddressFamily, MarkRule, Protocol, Service, ServiceKey};

/// Something that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotYet {
    /// An IPv6 service.
    #[error("{0}: IPv6 services come later")]
    Ipv6Service(ServiceKey),
    /// An SCTP service.
    #[error("{0}: SCTP services come later")]
    SctpService(ServiceKey),
    /// A mark rule for SCTP.
    #[error("mark rule `{0}`: SCTP rules come later")]
    SctpMark(MarkRule),
    /// A mark rule with an IPv6 prefix.
    #[error("mark rule `{0}`: IPv6 rules come later")]
    Ipv6Mark(MarkRule),
}

impl NotYet {
    /// What there is instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Ipv6Service(_) | Self::Ipv6Mark(_) => "have: IPv4".into(),
            Self::SctpService(_) | Self::SctpMark(_) => "have: tcp, udp".into(),
        }
    }
}

/// Whether the datapath can do this service.
///
/// # Errors
/// It cannot yet.
pub fn service(service: &Service) -> Result<(), NotYet> {
    if service.key.family() == AddressFamily::V6 {
        return Err(NotYet::Ipv6Service(service.key));
    }
    match service.key {
        ServiceKey::Address {
            protocol: Protocol::Sctp,
            ..
        } => Err(NotYet::SctpService(service.key)),
        ServiceKey::Address { .. } | ServiceKey::Fwmark { .. } => Ok(()),
    }
}

/// Whether the datapath can do this mark rule.
///
/// # Errors
/// It cannot yet.
pub fn mark_rule(rule: &MarkRule) -> Result<(), NotYet> {
    if rule.family() == Some(AddressFamily::V6) {
        Err(NotYet::Ipv6Mark(rule.clone()))
    } else if rule.protocol == Some(Protocol::Sctp) {
        Err(NotYet::SctpMark(rule.clone()))
    } else {
        Ok(())
    }
}

/// Whether the datapath can do this operation.
///
/// # Errors
/// It cannot yet.
pub fn op(op: &Op) -> Result<(), NotYet> {
    match op {
        Op::AddService(added) | Op::EditService(added) => service(added),
        Op::SetMarkRules(rules) => rules.iter().try_for_each(mark_rule),
        // A server is of its service's family.
        Op::RemoveService(_)
        | Op::AddServer { .. }
        | Op::EditServer { .. }
        | Op::RemoveServer { .. }
        | Op::SetSettings(_) => Ok(()),
    }
}
