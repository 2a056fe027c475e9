//! What can be asked of the daemon's single writer, and how it answers.

use tokio::sync::{mpsc, oneshot};

use crate::api::wire;
use crate::control::{Command, Declared, NotYet};
use crate::datapath::DatapathError;
use crate::model::{ServiceKey, TableError};
use crate::net::{NetError, NetNs};
use crate::provider::swarm::Report;

use super::engine::Message;

/// A request.
#[derive(Debug)]
pub enum Request {
    /// The daemon's state.
    Status,
    /// The table of a scope.
    Listing {
        /// The scope's namespace.
        netns: NetNs,
    },
    /// One service of a scope.
    Service {
        /// The scope's namespace.
        netns: NetNs,
        /// Which.
        key: ServiceKey,
    },
    /// The connections of a scope.
    Connections {
        /// The scope's namespace.
        netns: NetNs,
    },
    /// The counters of a scope.
    Stats {
        /// The scope's namespace.
        netns: NetNs,
    },
    /// Counts are shown from now on, of one service and its servers or of everything in the scope.
    Zero {
        /// The scope's namespace.
        netns: NetNs,
        /// The one service.
        service: Option<ServiceKey>,
    },
    /// The settings of a scope.
    Settings {
        /// The scope's namespace.
        netns: NetNs,
    },
    /// One change.
    Command {
        /// The scope's namespace.
        netns: NetNs,
        /// The change.
        command: Command,
    },
    /// Changes, one after the other: each is made or refused by itself.
    Commands {
        /// The scope's namespace.
        netns: NetNs,
        /// The changes.
        commands: Vec<Command>,
    },
    /// A file, whole or not at all. The first scope is the one in which it is applied.
    Apply {
        /// What it says about each scope.
        scopes: Vec<ApplyScope>,
        /// Only say what would change.
        dry_run: bool,
    },
    /// What a provider says about all scopes, whole or not at all.
    Provide {
        /// Its name, by which its claims are known.
        provider: String,
        /// What it says about each scope; what it claimed elsewhere goes.
        scopes: Vec<ApplyScope>,
    },
    /// Remove everything and end.
    Down,
}

/// What a file says about one scope.
#[derive(Debug)]
pub struct ApplyScope {
    /// Its namespace as the file calls it; none for the scope in which it is applied.
    pub name: Option<String>,
    /// Its namespace.
    pub netns: NetNs,
    /// What it is to serve.
    pub declared: Declared,
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// It is done.
    Done,
    /// To [`Request::Status`].
    Status(wire::Status),
    /// To [`Request::Listing`].
    Listing(wire::Listing),
    /// To [`Request::Service`].
    Service(Box<wire::ListedService>),
    /// To [`Request::Stats`].
    Stats(wire::Stats),
    /// To [`Request::Connections`].
    Connections(Vec<wire::Connection>),
    /// To [`Request::Settings`].
    Settings(Vec<wire::Setting>),
    /// To [`Request::Commands`]: of each of them.
    Outcomes(Vec<Result<(), Failure>>),
    /// To [`Request::Apply`].
    Changes(Vec<wire::ScopeChanges>),
}

/// Why a request failed. Nothing is changed then, unless the message says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What was wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request is wrong in itself.
    Invalid,
    /// What it is about is not there.
    Missing,
    /// The service is there, and the server that it is about is not.
    MissingServer,
    /// The path knows no such method.
    Method,
    /// What it would make is there already.
    Conflict,
    /// There is no room.
    Full,
    /// The daemon is ending.
    Ending,
    /// The system or the daemon failed.
    System,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        let kind = match &error {
            TableError::ServiceExists(_)
            | TableError::ServerExists { .. }
            | TableError::MarkRuleExists(_) => FailureKind::Conflict,
            TableError::NoSuchService(_) | TableError::NoSuchMarkRule(_) => FailureKind::Missing,
            TableError::NoSuchServer { .. } => FailureKind::MissingServer,
            TableError::TooManyMarkShapes { .. } | TableError::Model(_) => FailureKind::Invalid,
        };
        Self {
            kind,
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl From<NotYet> for Failure {
    fn from(error: NotYet) -> Self {
        Self {
            kind: FailureKind::Invalid,
            message: error.to_string(),
            hint: Some(error.hint()),
        }
    }
}

impl From<DatapathError> for Failure {
    fn from(error: DatapathError) -> Self {
        let kind = match error {
            DatapathError::Table(error) => return error.into(),
            DatapathError::Full { .. } => FailureKind::Full,
            _ => FailureKind::System,
        };
        Self {
            kind,
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        Self::new(FailureKind::System, error.to_string())
    }
}

/// The way to the single writer; a clone is another hold on it.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: mpsc::UnboundedSender<Message>,
    swarm: Option<Report>,
}

impl Handle {
    /// A handle that sends here.
    #[must_use]
    pub(super) fn new(messages: mpsc::UnboundedSender<Message>) -> Self {
        Self {
            messages,
            swarm: None,
        }
    }

    /// The same, with what the Swarm provider tells about itself.
    #[must_use]
    pub(super) fn with_swarm(self, report: Option<Report>) -> Self {
        Self {
            swarm: report,
            ..self
        }
    }

    /// What the Swarm provider tells about itself.
    ///
    /// # Errors
    /// The daemon runs without it.
    pub fn swarm(&self) -> Result<wire::Swarm, Failure> {
        let report = self.swarm.as_ref().ok_or_else(|| {
            Failure::new(FailureKind::Missing, "the daemon follows no Swarm")
                .hint("start it as `bpvs run --swarm`, or with [provider.swarm] in its file")
        })?;
        Ok(report.get())
    }

    /// Whether the daemon has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The request failed, or the daemon is ending.
    pub async fn call(&self, request: Request) -> Result<Reply, Failure> {
        let (reply, answer) = oneshot::channel();
        let ending = || Failure::new(FailureKind::Ending, "the daemon is ending");
        self.messages
            .send(Message::Request { request, reply })
            .map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }
}
