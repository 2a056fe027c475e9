//! The JSON of the API. Values are strings in the text form that they have everywhere (`tcp:10.0.0.100:80`, `15m`);
//! turning a body into model types checks it.
//!
//! A service's servers are newest first, as IPVS lists them; mark rules are in the order in which they apply.

mod apply;
mod change;
mod mark;
mod read;
mod service;
mod settings;
mod swarm;

use serde::{Deserialize, Serialize};

pub use apply::{Apply, ApplyScope, ScopeChanges};
pub use change::{Change, Outcome};
pub use mark::MarkRule;
pub use read::{
    Connection, Counters, InterfacePath, ListedServer, ListedService, Listing, Reason, ScopeStatus,
    Stats, Status, Sweep,
};
pub use service::{Edited, Server, ServerEdit, Service, ServiceEdit, SourceNat, Timeouts};
pub use settings::{
    Declared, ScopeTimeouts, Setting, Settings, SettingsEdit, all_settings, settings_edit,
};
pub use swarm::{Swarm, SwarmNetwork, SwarmService, SwarmTask};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Error {
    /// What was wrong.
    pub error: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<crate::model::ModelError> for Error {
    fn from(error: crate::model::ModelError) -> Self {
        Self {
            error: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl From<crate::model::TableError> for Error {
    fn from(error: crate::model::TableError) -> Self {
        Self {
            error: error.to_string(),
            hint: error.hint(),
        }
    }
}
