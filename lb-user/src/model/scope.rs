//! The number of a scope.

use std::fmt;

use super::ModelError;

/// One network namespace that bpvs serves, by the number under which the maps know it: 1 to 255.
///
/// The daemon gives the numbers out and keeps them over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(u32);

impl ScopeId {
    /// The lowest number.
    pub const MIN: Self = Self(1);
    /// The highest number.
    pub const MAX: Self = Self(255);

    /// The scope with this number.
    ///
    /// # Errors
    /// [`ModelError::ScopeId`] outside of 1 to 255.
    pub const fn new(id: u32) -> Result<Self, ModelError> {
        if id >= Self::MIN.0 && id <= Self::MAX.0 {
            Ok(Self(id))
        } else {
            Err(ModelError::ScopeId(id))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
