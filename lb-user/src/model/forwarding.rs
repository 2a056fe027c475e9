//! The forwarding methods: how a packet reaches the real server.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// Forwarding methods that IPVS has and bpvs does not have yet.
const NOT_YET: [&str; 2] = ["direct", "tunnel"];

/// A forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForwardingMethod {
    /// `masq`: the destination is rewritten to the real server, and its replies back to the service address.
    #[default]
    Masquerade,
}

impl ForwardingMethod {
    /// The word for it on the command line and in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Masquerade => "masq",
        }
    }
}

impl fmt::Display for ForwardingMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ForwardingMethod {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "masq" => Ok(Self::Masquerade),
            _ if NOT_YET.contains(&text) => Err(ModelError::ForwardingNotYet(text.into())),
            _ => Err(ModelError::Forwarding(text.into())),
        }
    }
}
