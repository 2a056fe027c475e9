//! Settings, and all that is declared for a scope.

use serde::{Deserialize, Serialize};

use super::service::timeout;
use super::{Error, MarkRule, Service};
use crate::control;
use crate::model::{self, ModelError, format_duration};

/// The settings of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The timeouts of idle connections.
    #[serde(default)]
    pub timeouts: ScopeTimeouts,
}

/// The timeouts of a scope; what is left out is at its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeTimeouts {
    /// Of an established TCP connection.
    #[serde(default)]
    pub tcp: Option<String>,
    /// Of a TCP connection that is being closed.
    #[serde(default)]
    pub tcp_fin: Option<String>,
    /// Of a UDP exchange.
    #[serde(default)]
    pub udp: Option<String>,
}

/// What a file says about one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Its services.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Its mark rules.
    #[serde(default)]
    pub marks: Vec<MarkRule>,
    /// Its settings, if the file gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
}

impl From<&model::Settings> for Settings {
    fn from(settings: &model::Settings) -> Self {
        let timeouts = settings.timeouts;
        Self {
            timeouts: ScopeTimeouts {
                tcp: Some(format_duration(timeouts.tcp)),
                tcp_fin: Some(format_duration(timeouts.tcp_fin)),
                udp: Some(format_duration(timeouts.udp)),
            },
        }
    }
}

impl TryFrom<Settings> for model::Settings {
    type Error = ModelError;

    fn try_from(wire: Settings) -> Result<Self, ModelError> {
        let read = |text: Option<String>| text.as_deref().map(timeout).transpose();
        let mut settings = Self::default();
        let timeouts = &mut settings.timeouts;
        timeouts.tcp = read(wire.timeouts.tcp)?.unwrap_or(timeouts.tcp);
        timeouts.tcp_fin = read(wire.timeouts.tcp_fin)?.unwrap_or(timeouts.tcp_fin);
        timeouts.udp = read(wire.timeouts.udp)?.unwrap_or(timeouts.udp);
        Ok(settings)
    }
}

impl From<&control::Declared> for Declared {
    fn from(declared: &control::Declared) -> Self {
        Self {
            services: declared.table.services().map(Service::from).collect(),
            marks: declared.table.marks().iter().map(MarkRule::from).collect(),
            settings: declared
                .has_settings
                .then(|| declared.table.settings().into()),
        }
    }
}

impl TryFrom<Declared> for control::Declared {
    type Error = Error;

    fn try_from(wire: Declared) -> Result<Self, Error> {
        let mut declared = Self::default();
        for service in wire.services {
            declared.table.add_service(service.try_into()?)?;
        }
        let rules = wire
            .marks
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<Vec<_>, _>>()?;
        declared.table.set_marks(rules)?;
        if let Some(settings) = wire.settings {
            declared.table.set_settings(settings.try_into()?)?;
            declared.has_settings = true;
        }
        Ok(declared)
    }
}
