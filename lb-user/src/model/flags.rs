//! The flags that a service hands to its scheduler.

use std::fmt;
use std::str::FromStr;

use super::ModelError;

/// Each flag's own name, and those that the schedulers sh and mh have for it.
const NAMES: [(&str, &[&str]); 3] = [
    ("flag-1", &["sh-fallback", "mh-fallback"]),
    ("flag-2", &["sh-port", "mh-port"]),
    ("flag-3", &[]),
];

/// `IP_VS_SVC_F_SCHED1` to `…SCHED3`: what they mean is the scheduler's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SchedulerFlags(u8);

impl SchedulerFlags {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Of the three, those at `true`.
    #[must_use]
    pub const fn new(flags: [bool; 3]) -> Self {
        Self(flags[0] as u8 | (flags[1] as u8) << 1 | (flags[2] as u8) << 2)
    }

    /// Which of the three are set.
    #[must_use]
    pub const fn bits(self) -> [bool; 3] {
        [self.0 & 1 != 0, self.0 & 2 != 0, self.0 & 4 != 0]
    }

    /// Whether none is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// `flag-1,flag-3`, or `none`.
impl fmt::Display for SchedulerFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<&str> = NAMES
            .iter()
            .zip(self.bits())
            .filter_map(|((name, _), set)| set.then_some(*name))
            .collect();
        f.pad(&if set.is_empty() {
            "none".into()
        } else {
            set.join(",")
        })
    }
}

impl FromStr for SchedulerFlags {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let mut flags = [false; 3];
        for word in text.split(',') {
            let place = NAMES
                .iter()
                .position(|(name, others)| *name == word || others.contains(&word))
                .ok_or_else(|| ModelError::SchedulerFlag(word.into()))?;
            flags[place] = true;
        }
        Ok(Self::new(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_they_are_written() {
        for number in 0..8 {
            let flags = SchedulerFlags(number);
            assert_eq!(SchedulerFlags::new(flags.bits()), flags);
            assert_eq!(flags.to_string().parse(), Ok(flags), "{flags}");
        }
        assert_eq!(
            "sh-port,mh-fallback".parse::<SchedulerFlags>().unwrap(),
            SchedulerFlags::new([true, true, false])
        );
        for text in ["", "flag-4", "flag-1,", "none,flag-1"] {
            assert!(text.parse::<SchedulerFlags>().is_err(), "{text}");
        }
    }
}
