//! Changes as the daemon is asked for them, and its answers as IPVS's errors.
//!
//! The daemon's answers say what was missing or there already; which of IPVS's errors that is depends on the change, and is
//! decided here. What bpvs cannot serve is refused here, too, before anything is changed ([`super::wire`]).

use nix::errno::Errno;

use super::ipvs::{Change, IpvsError};
use super::view::{DestinationSpec, ServiceId};
use super::wire;
use crate::api::wire::{Change as WireChange, Error, Outcome, Server};
use crate::model::ServiceKey;

/// What is wrong with a change before anybody is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// IPVS's error.
    pub(super) error: IpvsError,
    /// Of this service it looks first whether it is there (`true`) or is not, and says so.
    pub(super) unless: Option<(ServiceKey, bool, Errno)>,
}

impl From<IpvsError> for Refused {
    fn from(error: IpvsError) -> Self {
        Self {
            error,
            unless: None,
        }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        IpvsError::from(errno).into()
    }
}

/// A change as the API wants it.
pub(super) fn asked(change: &Change) -> Result<WireChange, Refused> {
    let absent = |key: &ServiceKey, error: IpvsError| Refused {
        unless: matches!(error, IpvsError::Kernel(_)).then_some((*key, false, Errno::ESRCH)),
        error,
    };
    let known = |id: &ServiceId| wire::key(id).ok_or(Errno::ESRCH);
    // IPVS looks for the service before it looks at the destination.
    let server = |id: &ServiceId, spec: &DestinationSpec| -> Result<(String, Server), Refused> {
        let key = known(id)?;
        let server = wire::server(&key, spec).map_err(|error| absent(&key, error))?;
        Ok((key.to_string(), server))
    };
    Ok(match change {
        Change::AddService(spec) => {
            // And whether it is there before it looks for the scheduler.
            let value = wire::service(spec).map_err(|error| Refused {
                unless: wire::key(&spec.id)
                    .filter(|_| matches!(error, IpvsError::Kernel(_)))
                    .map(|key| (key, true, Errno::EEXIST)),
                error,
            })?;
            WireChange::AddService {
                value: Box::new(value),
            }
        }
        Change::EditService(spec) => {
            let key = known(&spec.id)?;
            let edit = wire::service_edit(spec).map_err(|error| absent(&key, error))?;
            WireChange::EditService {
                service: key.to_string(),
                value: Box::new(edit),
            }
        }
        Change::DeleteService(id) => WireChange::RemoveService {
            service: known(id)?.to_string(),
        },
        Change::AddDestination(id, spec) => {
            let (service, value) = server(id, spec)?;
            WireChange::AddServer { service, value }
        }
        Change::EditDestination(id, spec) => {
            let (service, value) = server(id, spec)?;
            WireChange::EditServer {
                service,
                value: wire::server_edit(&value),
                server: value.address,
            }
        }
        Change::DeleteDestination(id, destination) => {
            let key = known(id)?;
            let address = wire::server_address(&key, destination)
                .ok_or_else(|| absent(&key, Errno::ENOENT.into()))?;
            WireChange::RemoveServer {
                service: key.to_string(),
                server: address,
            }
        }
    })
}

/// The daemon's answer to a change.
pub(super) fn answered(change: &Change, outcome: Outcome) -> Result<(), IpvsError> {
    let errno = match (outcome.status, change) {
        (200..=299, _) => return Ok(()),
        (409, Change::AddService(_) | Change::AddDestination(..)) => Errno::EEXIST,
        (404, _) if outcome.no_server => Errno::ENOENT,
        (404, _) => Errno::ESRCH,
        (status, _) => return Err(said(status, outcome.error)),
    };
    Err(errno.into())
}

/// What the daemon said, where it has no meaning in IPVS.
pub(super) fn said(status: u16, error: Option<Error>) -> IpvsError {
    let text = match error {
        Some(Error {
            error,
            hint: Some(hint),
        }) => format!("bpvs: {error} ({hint})"),
        Some(Error { error, hint: None }) => format!("bpvs: {error}"),
        None => format!("bpvs: the daemon answered {status}"),
    };
    match status {
        400 => IpvsError::NotThere(text),
        _ => IpvsError::Failed(text),
    }
}
