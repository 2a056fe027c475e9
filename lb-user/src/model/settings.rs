//! What a scope can have set for all of its services.

use std::time::Duration;

use super::{ModelError, format_duration};

/// The longest timeout: 31 days, as with ipvsadm.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(31 * 86_400);

/// Passes a timeout of 1 s to 31 days in whole seconds.
///
/// # Errors
/// [`ModelError::Timeout`].
pub fn check_timeout(timeout: Duration) -> Result<Duration, ModelError> {
    if timeout.as_secs() >= 1 && timeout <= MAX_TIMEOUT && timeout.subsec_nanos() == 0 {
        Ok(timeout)
    } else {
        Err(ModelError::Timeout(format_duration(timeout)))
    }
}

/// The timeouts of idle connections that can be set, as `ipvsadm --set` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// An established TCP connection; 15 minutes unless set.
    pub tcp: Duration,
    /// A TCP connection that is being closed (`FIN_WAIT`); 2 minutes unless set.
    pub tcp_fin: Duration,
    /// A UDP exchange; 5 minutes unless set.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// The same, if each is in range.
    ///
    /// # Errors
    /// [`ModelError::Timeout`].
    pub fn checked(self) -> Result<Self, ModelError> {
        check_timeout(self.tcp)?;
        check_timeout(self.tcp_fin)?;
        check_timeout(self.udp)?;
        Ok(self)
    }
}

/// What is set for a whole scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// When idle connections are forgotten.
    pub timeouts: Timeouts,
}
