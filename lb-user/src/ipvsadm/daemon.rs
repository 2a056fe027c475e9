//! bpvs's daemon as an [`Ipvs`]: each operation is a request of its API, in the namespace of the caller.
//!
//! Changes go there many at once ([`super::changes`]).

use std::io;
use std::path::PathBuf;

use hyper::Method as Verb;
use nix::errno::Errno;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::autostart;
use super::changes::{self, Refused};
use super::ipvs::{Change, Ipvs, IpvsError};
use super::names::System;
use super::view::{Connection, Service, ServiceId, SyncDaemon, SyncRole, Timeouts, Version};
use super::{Front, wire};
use crate::api::client::{Client, ClientError};
use crate::api::wire::{
    Change as WireChange, Connection as WireConnection, ListedService, Listing,
};
use crate::model::ServiceKey;
use crate::net::NetNs;

/// How much of its input is read at once, where so much is there: some thousands of lines.
const READ: usize = 1 << 17;

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
        input: &mut io::BufReader::with_capacity(READ, io::stdin().lock()),
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
    fn ask(&mut self, verb: Verb, path: &str, body: &impl Serialize) -> Result<(), Answer> {
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

    /// One service; `None` if there is no such.
    fn find(&mut self, key: &ServiceKey) -> Result<Option<ListedService>, IpvsError> {
        let Connected { runtime, client } = self.connected()?;
        match runtime.block_on(client.get(&service_path(key))) {
            Ok(service) => Ok(Some(service)),
            Err(error) => match Answer::of(&error) {
                Answer::Missing(_) => Ok(None),
                Answer::Other(error) => Err(error),
            },
        }
    }

    /// What is wrong with a change, for which the daemon has to be asked what there is.
    fn refused(&mut self, refused: Refused) -> IpvsError {
        match refused.unless {
            Some((key, is_there, errno)) => match self.find(&key) {
                Ok(there) if there.is_some() == is_there => errno.into(),
                Ok(_) => refused.error,
                Err(error) => error,
            },
            None => refused.error,
        }
    }

    /// Asks for changes, and notes what has become of them.
    fn send(
        &mut self,
        waiting: &mut Vec<(&Change, WireChange)>,
        outcomes: &mut Vec<Result<(), IpvsError>>,
    ) {
        if waiting.is_empty() {
            return;
        }
        let (changes, asked): (Vec<&Change>, Vec<WireChange>) = waiting.drain(..).unzip();
        let answer = self.connected().and_then(|Connected { runtime, client }| {
            let answer = runtime.block_on(client.changes(&asked));
            answer.map_err(|error| Answer::of(&error).or_text())
        });
        match answer {
            Ok(answers) => {
                let answered = changes.into_iter().zip(answers);
                outcomes
                    .extend(answered.map(|(change, outcome)| changes::answered(change, outcome)));
            }
            Err(error) => outcomes.extend(changes.iter().map(|_| Err(error.clone()))),
        }
    }
}

/// The daemon's answer to what it did not do.
enum Answer {
    /// Something is not there.
    Missing(IpvsError),
    /// All else.
    Other(IpvsError),
}

impl Answer {
    fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { status, error } => {
                let error = changes::said(*status, Some(error.clone()));
                match status {
                    404 => Self::Missing(error),
                    _ => Self::Other(error),
                }
            }
            error => Self::Other(IpvsError::Failed(match error.hint() {
                Some(hint) => format!("bpvs: {error} ({hint})"),
                None => format!("bpvs: {error}"),
            })),
        }
    }

    /// What it said, where it has no meaning in IPVS.
    fn or_text(self) -> IpvsError {
        match self {
            Self::Missing(error) | Self::Other(error) => error,
        }
    }
}

fn service_path(key: &ServiceKey) -> String {
    // A key with a family has a slash, which would be taken for the end of a segment.
    format!("/v1/services/{}", key.to_string().replace('/', "%2F"))
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
        let key = wire::key(id).ok_or(Errno::ESRCH)?;
        let found = self.find(&key)?.ok_or(Errno::ESRCH)?;
        wire::service_view(&found)
    }

    fn connections(&mut self) -> Result<Vec<Connection>, IpvsError> {
        let connections: Vec<WireConnection> = self.get("/v1/connections")?;
        connections.iter().map(wire::connection_view).collect()
    }

    fn change(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut waiting = Vec::new();
        for change in changes {
            match changes::asked(change) {
                Ok(asked) => waiting.push((change, asked)),
                Err(refused) => {
                    // Those before it are to be made when the daemon is asked what there is.
                    self.send(&mut waiting, &mut outcomes);
                    let error = self.refused(refused);
                    outcomes.push(Err(error));
                }
            }
        }
        self.send(&mut waiting, &mut outcomes);
        outcomes
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
        self.ask(Verb::PATCH, "/v1/settings", &edit)
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
