//! What the commands are carried out on: the operations of IPVS's own interface, and its errors.

use nix::errno::Errno;
use thiserror::Error;

use super::view::{
    Connection, DestinationId, DestinationSpec, Service, ServiceId, ServiceSpec, SyncDaemon,
    SyncRole, Timeouts, Version,
};

/// Why an operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpvsError {
    /// IPVS's own error.
    #[error("{0}")]
    Kernel(Errno),
    /// IPVS would do it, and bpvs cannot: a sentence that says so.
    #[error("{0}")]
    NotThere(String),
    /// bpvs did not do it for a reason of its own.
    #[error("{0}")]
    Failed(String),
    /// There is nobody to ask.
    #[error("{0}")]
    Unreachable(String),
}

impl From<Errno> for IpvsError {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// A change of one service or destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new service.
    AddService(ServiceSpec),
    /// A service becomes as described; nothing stays of what it was, but its destinations and counters.
    EditService(ServiceSpec),
    /// A service goes, with its destinations.
    DeleteService(ServiceId),
    /// A new destination.
    AddDestination(ServiceId, DestinationSpec),
    /// A destination becomes as described.
    EditDestination(ServiceId, DestinationSpec),
    /// A destination goes.
    DeleteDestination(ServiceId, DestinationId),
}

/// A table of virtual services of one network namespace, with the operations that IPVS has for it.
///
/// Errors are the kernel's: `EEXIST` for what is there, `ESRCH` for a service and `ENOENT` for a destination that is
/// not, `ENOENT` for an unknown scheduler or persistence engine, `ERANGE` for a lower threshold above the upper one,
/// `EINVAL` for a destination that is not unicast.
pub trait Ipvs {
    /// What it says of itself.
    fn version(&mut self) -> Result<Version, IpvsError>;

    /// All services with their destinations.
    fn services(&mut self) -> Result<Vec<Service>, IpvsError>;

    /// One service with its destinations.
    fn service(&mut self, id: &ServiceId) -> Result<Service, IpvsError>;

    /// All connections.
    fn connections(&mut self) -> Result<Vec<Connection>, IpvsError>;

    /// Makes one change after the other, each by itself; what has become of each of them.
    fn change(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>>;

    /// Removes all services.
    fn flush(&mut self) -> Result<(), IpvsError>;

    /// Sets the counters of one service, or of all, to 0.
    fn zero(&mut self, service: Option<&ServiceId>) -> Result<(), IpvsError>;

    /// The timeouts of connections.
    fn timeouts(&mut self) -> Result<Timeouts, IpvsError>;

    /// Sets the timeouts of connections; 0 leaves one as it is.
    fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError>;

    /// The sync daemons that run, the master first.
    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, IpvsError>;

    /// Starts a sync daemon.
    fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), IpvsError>;

    /// Stops the sync daemon of this role.
    fn stop_daemon(&mut self, role: SyncRole) -> Result<(), IpvsError>;
}
