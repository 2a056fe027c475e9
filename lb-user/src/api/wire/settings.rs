//! Settings, and all that is declared for a scope.

use std::collections::BTreeMap;

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
    /// On which interfaces packets are handled in XDP already: `off`, `auto`, or names with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<String>,
    /// IPVS's sysctls by their names; what is left out is at its default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, u32>,
}

/// One of the settings of a scope, for people and programs that go by names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name: `timeouts.tcp`, `conn_reuse_mode`.
    pub name: String,
    /// Its value, as it is written: `15m`, `1`.
    pub value: String,
    /// What it is unless it is set.
    pub default: String,
    /// Why it cannot be set, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

/// Settings that are to be different, by their names; what is left out stays. A value is written as [`Setting::value`].
pub type SettingsEdit = BTreeMap<String, String>;

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
            xdp: (settings.xdp != model::Xdp::Off).then(|| settings.xdp.to_string()),
            sysctls: settings
                .changed()
                .map(|(setting, value)| (setting.name().to_owned(), value))
                .collect(),
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
        if let Some(xdp) = wire.xdp {
            settings.xdp = xdp.parse()?;
        }
        let mut edit = model::SettingsEdit::default();
        for (name, value) in wire.sysctls {
            edit.assign(&name, &value.to_string())?;
        }
        Ok(edit.edited(&settings))
    }
}

/// Everything that can be read, by its name: the timeouts, the sysctls that bpvs has, those that it has not.
#[must_use]
pub fn all_settings(settings: &model::Settings) -> Vec<Setting> {
    let defaults = model::Settings::default();
    let read = |settings: &model::Settings, name: &str| settings.read(name).unwrap_or_default();
    let own = model::Timeouts::NAMES
        .into_iter()
        .chain([model::Xdp::NAME])
        .chain(model::Setting::ALL.map(model::Setting::name))
        .map(|name| (name, None));
    let fixed = model::Fixed::ALL
        .iter()
        .map(|fixed| (fixed.name, Some(fixed.reason.to_owned())));
    own.chain(fixed)
        .map(|(name, fixed)| Setting {
            name: name.to_owned(),
            value: read(settings, name),
            default: read(&defaults, name),
            fixed,
        })
        .collect()
}

/// An edit by names.
///
/// # Errors
/// There is no such setting, or it cannot have this value.
pub fn settings_edit(wire: &SettingsEdit) -> Result<model::SettingsEdit, ModelError> {
    let mut edit = model::SettingsEdit::default();
    wire.iter()
        .try_for_each(|(name, value)| edit.assign(name, value))?;
    Ok(edit)
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
