//! The schedulers: how a service picks the real server for a new connection.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// A scheduler, called by its IPVS name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheduler {
    /// `rr`: the next server in list order, whatever its weight, as long as it is not 0.
    #[default]
    RoundRobin,
    /// `wrr`: as often as the weight says, interleaved.
    WeightedRoundRobin,
    /// `lc`: the one with the fewest connections, of which an active one counts 256 more.
    LeastConnection,
    /// `wlc`: the one with the fewest connections for its weight.
    WeightedLeastConnection,
    /// `lblc`: a destination address stays with its server, as long as that has not too much to do.
    LocalityBased,
    /// `lblcr`: a destination address stays with a set of servers, which grows and shrinks with the load.
    LocalityBasedReplicated,
    /// `dh`: the packet's destination address decides.
    DestinationHashing,
    /// `sh`: the client's address decides.
    SourceHashing,
    /// `sed`: the one with the fewest active connections for its weight, the new one counted.
    ShortestExpectedDelay,
    /// `nq`: the first that is idle, else as `sed`.
    NeverQueue,
    /// `fo`: the one with the highest weight.
    Failover,
    /// `ovf`: the one with the highest weight that has no more active connections than its weight.
    Overflow,
    /// `mh`: the client's address decides, and few clients move when servers come and go.
    MaglevHashing,
    /// `twos`: of two that are drawn by weight, the one with fewer connections for it.
    TwoChoices,
    /// `none`: nobody is picked.
    None,
}

impl Scheduler {
    /// All of them, in ipvsadm's order.
    pub const ALL: [Self; 15] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityBased,
        Self::LocalityBasedReplicated,
        Self::DestinationHashing,
        Self::SourceHashing,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::Failover,
        Self::Overflow,
        Self::MaglevHashing,
        Self::TwoChoices,
        Self::None,
    ];

    /// The IPVS name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityBased => "lblc",
            Self::LocalityBasedReplicated => "lblcr",
            Self::DestinationHashing => "dh",
            Self::SourceHashing => "sh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::Failover => "fo",
            Self::Overflow => "ovf",
            Self::MaglevHashing => "mh",
            Self::TwoChoices => "twos",
            Self::None => "none",
        }
    }

    /// All names, for a message.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scheduler {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.as_str() == text)
            .ok_or_else(|| ModelError::Scheduler(text.into()))
    }
}
