//! Mark rules.

use serde::{Deserialize, Serialize};

use crate::model::{self, ModelError, parse_prefix};

/// A mark rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// The mark, with a mask if only some bits are set: `256`, `0x100/0xff00`.
    pub mark: String,
    /// The interface by which packets come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Their source, `10.0.0.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Their destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Their protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Their destination ports: `80`, `8000-8099`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

impl From<&model::MarkRule> for MarkRule {
    fn from(rule: &model::MarkRule) -> Self {
        Self {
            mark: rule.value().to_string(),
            interface: rule.interface.clone(),
            source: rule.source.map(|net| net.to_string()),
            destination: rule.destination.map(|net| net.to_string()),
            protocol: rule.protocol.map(|protocol| protocol.to_string()),
            ports: rule.ports.as_ref().map(model::MarkRule::format_ports),
        }
    }
}

impl TryFrom<MarkRule> for model::MarkRule {
    type Error = ModelError;

    fn try_from(wire: MarkRule) -> Result<Self, ModelError> {
        let mut rule = Self::new(wire.mark.parse()?);
        rule.interface = wire.interface;
        rule.source = wire.source.as_deref().map(parse_prefix).transpose()?;
        rule.destination = wire.destination.as_deref().map(parse_prefix).transpose()?;
        rule.protocol = wire.protocol.as_deref().map(str::parse).transpose()?;
        rule.ports = wire.ports.as_deref().map(Self::parse_ports).transpose()?;
        rule.checked()
    }
}
