//! The forwarding methods: how a packet reaches the real server.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// Forwarding methods that IPVS has and bpvs does not have yet.
const NOT_YET: [&str; 1] = ["tunnel"];

/// A forwarding method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForwardingMethod {
    /// `masq`: the destination is rewritten to the real server, and its replies back to the service address.
    #[default]
    Masquerade,
    /// `direct`: the packet goes to the real server as it is, only to another MAC address; the real server has the
    /// service address too, and replies past the director.
    Direct,
}

impl ForwardingMethod {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Masquerade, Self::Direct];

    /// The word for it on the command line and in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Masquerade => "masq",
            Self::Direct => "direct",
        }
    }

    /// Whether packets keep their ports on the way to the server.
    #[must_use]
    pub const fn keeps_port(self) -> bool {
        matches!(self, Self::Direct)
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
            "direct" => Ok(Self::Direct),
            _ if NOT_YET.contains(&text) => Err(ModelError::ForwardingNotYet(text.into())),
            _ => Err(ModelError::Forwarding(text.into())),
        }
    }
}
