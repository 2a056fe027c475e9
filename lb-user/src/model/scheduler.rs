//! The schedulers: how a service picks the real server for a new connection.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// Schedulers that IPVS has and bpvs does not have yet.
const NOT_YET: [&str; 12] = [
    "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

/// A scheduler, called by its IPVS name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheduler {
    /// `rr`: the next server in list order, whatever its weight, as long as it is not 0.
    #[default]
    RoundRobin,
    /// `wrr`: as often as the weight says, interleaved.
    WeightedRoundRobin,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RoundRobin, Self::WeightedRoundRobin];

    /// The IPVS name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
        }
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
        match text {
            "rr" => Ok(Self::RoundRobin),
            "wrr" => Ok(Self::WeightedRoundRobin),
            _ if NOT_YET.contains(&text) => Err(ModelError::SchedulerNotYet(text.into())),
            _ => Err(ModelError::Scheduler(text.into())),
        }
    }
}
