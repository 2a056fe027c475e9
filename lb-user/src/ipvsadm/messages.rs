//! What ipvsadm says of IPVS's errors.

use std::io;

use nix::errno::Errno;

use super::ipvs::{Change, IpvsError};

/// What was asked of IPVS when it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To add a service.
    AddService,
    /// Something about a service that should be there.
    Service,
    /// To add a destination.
    AddDestination,
    /// Something about a destination that should be there.
    Destination,
    /// To start a sync daemon.
    StartDaemon,
    /// To stop a sync daemon.
    StopDaemon,
    /// Anything else.
    Other,
}

impl Asked {
    /// What a change asks of IPVS.
    pub(super) const fn by(change: &Change) -> Self {
        match change {
            Change::AddService(_) => Self::AddService,
            Change::EditService(_) | Change::DeleteService(_) => Self::Service,
            Change::AddDestination(..) => Self::AddDestination,
            Change::EditDestination(..) | Change::DeleteDestination(..) => Self::Destination,
        }
    }
}

/// The message for an error.
pub(super) fn message(asked: Asked, error: &IpvsError) -> String {
    match error {
        IpvsError::Kernel(errno) => of_kernel(asked, *errno),
        other => other.to_string(),
    }
}

fn of_kernel(asked: Asked, errno: Errno) -> String {
    let text = match (asked, errno) {
        (Asked::AddService, Errno::EEXIST) => "Service already exists",
        (Asked::AddService | Asked::Service, Errno::ENOENT) => {
            "Scheduler or persistence engine not found"
        }
        (Asked::Service, Errno::ESRCH) => "No such service",
        (Asked::AddDestination | Asked::Destination, Errno::ESRCH) => "Service not defined",
        (Asked::AddDestination, Errno::EEXIST) => "Destination already exists",
        (Asked::Destination, Errno::ENOENT) => "No such destination",
        (Asked::StartDaemon, Errno::EEXIST) => "Daemon has already run",
        (Asked::StopDaemon, Errno::ESRCH) => "No daemon is running",
        (_, Errno::EPERM) => "Permission denied (you must be root)",
        (_, Errno::EINVAL) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        (_, Errno::ENOPROTOOPT) => "Protocol not available",
        (_, Errno::ENOMEM) => "Memory allocation problem",
        (_, Errno::EOPNOTSUPP) => "Operation not supported with IPv6",
        (_, Errno::EAFNOSUPPORT) => "Operation not supported with specified address family",
        (_, Errno::EMSGSIZE) => "Module is wrong version",
        _ => return of_system(errno),
    };
    text.to_owned()
}

/// What the C library says of an error.
fn of_system(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_message_of_its_own_is_said_as_the_system_does() {
        let error = IpvsError::Kernel(Errno::ERANGE);
        assert_eq!(
            message(Asked::Destination, &error),
            "Numerical result out of range"
        );
        assert_eq!(
            message(Asked::StopDaemon, &IpvsError::Kernel(Errno::ESRCH)),
            "No daemon is running"
        );
    }
}
