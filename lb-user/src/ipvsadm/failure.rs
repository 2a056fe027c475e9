//! A command that was not carried out: what is said, and what becomes of the exit status.

use std::io;

use super::ipvs::IpvsError;
use super::messages::{Asked, message};

/// The exit status for what bpvs cannot do yet, which IPVS could.
pub const NOT_THERE: u8 = 3;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What goes to stderr, a newline behind it.
    pub(super) text: String,
    /// The exit status.
    pub(super) status: u8,
    /// Whether the program ends with it, also in the middle of `--restore`.
    pub(super) ends: bool,
}

impl Failure {
    /// The program ends with status 2, as for most of what is wrong with a command line.
    pub(super) fn fatal(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: 2,
            ends: true,
        }
    }

    /// This command ends with status 255. `--restore` goes on with the next.
    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: 255,
            ends: false,
        }
    }

    /// The command line did not begin with a command.
    pub(super) fn no_command(program: &str) -> Self {
        Self {
            text: format!("Try `{program} -h' or '{program} --help' for more information."),
            status: 255,
            ends: true,
        }
    }

    /// IPVS did not do what a command asked for.
    pub(super) fn refused(asked: Asked, error: &IpvsError) -> Self {
        let text = message(asked, error);
        match error {
            IpvsError::Kernel(_) => Self::passing(text),
            IpvsError::NotThere(_) => Self {
                text,
                status: NOT_THERE,
                ends: false,
            },
            IpvsError::Failed(_) => Self {
                text,
                status: 1,
                ends: false,
            },
            IpvsError::Unreachable(_) => Self::fatal(text),
        }
    }

    /// What was to be listed cannot be had: the program ends with status 1.
    pub(super) fn unlisted(error: &IpvsError) -> Self {
        match error {
            IpvsError::Kernel(_) | IpvsError::Failed(_) => Self {
                text: message(Asked::Service, error),
                status: 1,
                ends: true,
            },
            other => Self::refused(Asked::Other, other),
        }
    }

    /// The program ends without a word.
    pub(super) const fn silent(status: u8) -> Self {
        Self {
            text: String::new(),
            status,
            ends: true,
        }
    }
}

/// Nobody reads the output any more.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(1);
        }
        Self {
            text: format!("cannot write the output: {error}"),
            status: 1,
            ends: true,
        }
    }
}
