//! bpvs's daemon as an [`Ipvs`]: each operation is a request of its API, in the namespace of the caller.
//!
//! The daemon's answers say what was missing or there already; which of IPVS's errors that is depends on the operation,
//! and is decided here. What bpvs cannot serve is refused here, too, before anything is changed ([`super::wire`]).

use std::io;
use std::path::PathBuf;

use hyper::Method as Verb;
use nix::errno::Errno;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::autostart;
use super::ipvs::{Ipvs, IpvsError};
use super::names::System;
use super::view::{
    Connection, DestinationId, DestinationSpec, Service, ServiceId, ServiceSpec, SyncDaemon,
    SyncRole, Timeouts, Version,
};
use super::{Front, wire};
use crate::api::client::{Client, ClientError};
use crate::api::wire::{Connection as WireConnection, Listing};
use crate::model::ServiceKey;
use crate::net::NetNs;

/// Where the daemon is, and what the command is about.
#[derive(Debug)]
pub struct Place {
    /// Its socket.
    pub socket: PathBuf,
    /// Its run directory.
    pub run_dir: PathBuf,
    /// The namespace; the caller's own unless given.
    pub netns: Option<String>,
}

/// Is ipvsadm (or `ipvsadm-save`, `ipvsadm-restore`, by the name in `program`) on standard input and output; the exit
/// status.
#[must_use]
pub fn run(program: &str, words: &[String], place: Place) -> u8 {
    Front {
        program,
        names: &System,
        ipvs: &mut DaemonIpvs::new(place),
        input: &mut io::stdin().lock(),
        out: &mut io::BufWriter::new(io::stdout().lock()),
        err: &mut io::stderr().lock(),
    }
    .call(words)
}

/// The daemon. It is connected to when something is asked of it for the first time.
pub(super) struct DaemonIpvs {
    place: Place,
    connected: Option<Connected>,
}

struct Connected {
    runtime: Runtime,
    client: Client,
}

impl DaemonIpvs {
    pub(super) const fn new(place: Place) -> Self {
        Self {
            place,
            connected: None,
        }
    }

    fn connected(&mut self) -> Result<&mut Connected, IpvsError> {
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => self.connect()?,
        };
        Ok(self.connected.insert(connected))
    }

    fn connect(&self) -> Result<Connected, IpvsError> {
        let unreachable = |error: String| IpvsError::Unreachable(format!("ipvsadm: {error}"));
        let namespace = match &self.place.netns {
            Some(name) => NetNs::open(name),
            None => NetNs::current(),
        };
        let namespace = namespace.map_err(|error| unreachable(error.to_string()))?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let place = &self.place;
        let connect = || runtime.block_on(Client::connect(&place.socket, &[&namespace]));
        let client = match connect() {
            Err(ClientError::NoDaemon(_)) if autostart::wanted() => {
                autostart::start(&place.run_dir, &place.socket).map_err(unreachable)?;
                connect()
            }
            other => other,
        };
        let client = client.map_err(|error| match error {
            ClientError::NoDaemon(_) => {
                unreachable(format!("{error} (BPVS_AUTOSTART=1 starts it by itself)"))
            }
            ClientError::Permission(_) => {
                IpvsError::Unreachable("Permission denied (you must be root)".into())
            }
            other => unreachable(other.to_string()),
        })?;
        Ok(Connected { runtime, client })
    }

    fn listing(&mut self) -> Result<Listing, IpvsError> {
        self.get("/v1/table")
    }

    fn get<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Result<T, IpvsError> {
        let Connected { runtime, client } = self.connected()?;
        runtime
            .block_on(client.get(path))
            .map_err(|error| Answer::of(&error).or_text())
    }

    /// Asks for a change.
    fn change(&mut self, verb: Verb, path: &str, body: &impl Serialize) -> Result<(), Answer> {
        let Connected { runtime, client } = self.connected().map_err(Answer::Other)?;
        runtime
            .block_on(client.change(verb, path, body))
            .map_err(|error| Answer::of(&error))
    }

    /// Asks for a change without a body.
    fn command(&mut self, verb: Verb, path: &str) -> Result<(), Answer> {
        let Connected { runtime, client } = self.connected().map_err(Answer::Other)?;
        runtime
            .block_on(client.command(verb, path))
            .map_err(|error| Answer::of(&error))
    }

    fn has(&mut self, key: &ServiceKey) -> Result<bool, IpvsError> {
        let key = key.to_string();
        let listing = self.listing()?;
        Ok(listing.services.iter().any(|there| there.address == key))
    }

    /// What is missing, when a server or its service is: IPVS says `ESRCH` of the one and `ENOENT` of the other.
    fn missing(&mut self, service: &ServiceKey) -> Result<IpvsError, IpvsError> {
        Ok(if self.has(service)? {
            Errno::ENOENT.into()
        } else {
            Errno::ESRCH.into()
        })
    }

    /// The destination as the API wants it. IPVS looks for the service before it looks at the destination.
    fn server(
        &mut self,
        service: &ServiceId,
        spec: &DestinationSpec,
    ) -> Result<(ServiceKey, crate::api::wire::Server), IpvsError> {
        let key = wire::key(service).ok_or(Errno::ESRCH)?;
        match wire::server(&key, spec) {
            Ok(server) => Ok((key, server)),
            Err(IpvsError::Kernel(_)) if !self.has(&key)? => Err(Errno::ESRCH.into()),
            Err(error) => Err(error),
        }
    }
}

/// The daemon's answer to a change that it did not make.
enum Answer {
    /// Something is not there.
    Missing(String),
    /// Something is there already.
    There(String),
    /// It cannot be.
    Invalid(String),
    /// All else.
    Other(IpvsError),
}

impl Answer {
    fn of(error: &ClientError) -> Self {
        let text = match error.hint() {
            Some(hint) => format!("bpvs: {error} ({hint})"),
            None => format!("bpvs: {error}"),
        };
        match error {
            ClientError::Refused { status: 404, .. } => Self::Missing(text),
            ClientError::Refused { status: 409, .. } => Self::There(text),
            ClientError::Refused { status: 400, .. } => Self::Invalid(text),
            _ => Self::Other(IpvsError::Failed(text)),
        }
    }

    /// What it said, where it has no meaning in IPVS.
    fn or_text(self) -> IpvsError {
        match self {
            Self::Invalid(text) => IpvsError::NotThere(text),
            Self::Missing(text) | Self::There(text) => IpvsError::Failed(text),
            Self::Other(error) => error,
        }
    }
}

fn service_path(key: &ServiceKey) -> String {
    // A key with a family has a slash, which would be taken for the end of a segment.
    format!("/v1/services/{}", key.to_string().replace('/', "%2F"))
}

fn server_path(key: &ServiceKey, address: &str) -> String {
    let address = address.replace('[', "%5B").replace(']', "%5D");
    format!("{}/servers/{address}", service_path(key))
}

impl Ipvs for DaemonIpvs {
    fn version(&mut self) -> Result<Version, IpvsError> {
        let status = self.get("/v1/status")?;
        Ok(wire::version(&status))
    }

    fn services(&mut self) -> Result<Vec<Service>, IpvsError> {
        let listing = self.listing()?;
        listing.services.iter().map(wire::service_view).collect()
    }

    fn service(&mut self, id: &ServiceId) -> Result<Service, IpvsError> {
        let services = self.services()?;
        let mut services = services.into_iter();
        let found = services.find(|service| service.spec.id == *id);
        found.ok_or(IpvsError::Kernel(Errno::ESRCH))
    }

    fn connections(&mut self) -> Result<Vec<Connection>, IpvsError> {
        let connections: Vec<WireConnection> = self.get("/v1/connections")?;
        connections.iter().map(wire::connection_view).collect()
    }

    fn add_service(&mut self, spec: &ServiceSpec) -> Result<(), IpvsError> {
        let service = match wire::service(spec) {
            Ok(service) => service,
            Err(error @ IpvsError::Kernel(_)) => {
                // IPVS looks whether it is there before it looks for the scheduler.
                let there = match wire::key(&spec.id) {
                    Some(key) => self.has(&key)?,
                    None => false,
                };
                return Err(if there { Errno::EEXIST.into() } else { error });
            }
            Err(error) => return Err(error),
        };
        self.change(Verb::POST, "/v1/services", &service)
            .map_err(|answer| match answer {
                Answer::There(_) => Errno::EEXIST.into(),
                other => other.or_text(),
            })
    }

    fn edit_service(&mut self, spec: &ServiceSpec) -> Result<(), IpvsError> {
        let key = wire::key(&spec.id).ok_or(Errno::ESRCH)?;
        let edit = match wire::service_edit(spec) {
            Ok(edit) => edit,
            Err(IpvsError::Kernel(_)) if !self.has(&key)? => return Err(Errno::ESRCH.into()),
            Err(error) => return Err(error),
        };
        self.change(Verb::PATCH, &service_path(&key), &edit)
            .map_err(|answer| match answer {
                Answer::Missing(_) => Errno::ESRCH.into(),
                other => other.or_text(),
            })
    }

    fn delete_service(&mut self, id: &ServiceId) -> Result<(), IpvsError> {
        let key = wire::key(id).ok_or(Errno::ESRCH)?;
        self.command(Verb::DELETE, &service_path(&key))
            .map_err(|answer| match answer {
                Answer::Missing(_) => Errno::ESRCH.into(),
                other => other.or_text(),
            })
    }

    fn add_destination(
        &mut self,
        service: &ServiceId,
        spec: &DestinationSpec,
    ) -> Result<(), IpvsError> {
        let (key, server) = self.server(service, spec)?;
        let path = format!("{}/servers", service_path(&key));
        self.change(Verb::POST, &path, &server)
            .map_err(|answer| match answer {
                Answer::Missing(_) => Errno::ESRCH.into(),
                Answer::There(_) => Errno::EEXIST.into(),
                other => other.or_text(),
            })
    }

    fn edit_destination(
        &mut self,
        service: &ServiceId,
        spec: &DestinationSpec,
    ) -> Result<(), IpvsError> {
        let (key, server) = self.server(service, spec)?;
        let edit = wire::server_edit(&server);
        match self.change(Verb::PATCH, &server_path(&key, &server.address), &edit) {
            Ok(()) => Ok(()),
            Err(Answer::Missing(_)) => Err(self.missing(&key)?),
            Err(other) => Err(other.or_text()),
        }
    }

    fn delete_destination(
        &mut self,
        service: &ServiceId,
        id: &DestinationId,
    ) -> Result<(), IpvsError> {
        let key = wire::key(service).ok_or(Errno::ESRCH)?;
        let Some(address) = wire::server_address(&key, id) else {
            return Err(self.missing(&key)?);
        };
        match self.command(Verb::DELETE, &server_path(&key, &address)) {
            Ok(()) => Ok(()),
            Err(Answer::Missing(_)) => Err(self.missing(&key)?),
            Err(other) => Err(other.or_text()),
        }
    }

    fn flush(&mut self) -> Result<(), IpvsError> {
        self.command(Verb::DELETE, "/v1/services")
            .map_err(Answer::or_text)
    }

    fn zero(&mut self, service: Option<&ServiceId>) -> Result<(), IpvsError> {
        let path = match service {
            Some(id) => format!("{}/zero", service_path(&wire::key(id).ok_or(Errno::ESRCH)?)),
            None => "/v1/zero".to_owned(),
        };
        self.command(Verb::POST, &path)
            .map_err(|answer| match answer {
                Answer::Missing(_) => Errno::ESRCH.into(),
                other => other.or_text(),
            })
    }

    fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        wire::timeouts_view(&self.listing()?.settings)
    }

    fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), IpvsError> {
        let edit = wire::timeouts_edit(timeouts);
        if edit.is_empty() {
            return Ok(());
        }
        self.change(Verb::PATCH, "/v1/settings", &edit)
            .map_err(Answer::or_text)
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, IpvsError> {
        Ok(Vec::new())
    }

    fn start_daemon(&mut self, _daemon: &SyncDaemon) -> Result<(), IpvsError> {
        Err(wire::not_there("the sync daemon"))
    }

    fn stop_daemon(&mut self, _role: SyncRole) -> Result<(), IpvsError> {
        Err(Errno::ESRCH.into())
    }
}
