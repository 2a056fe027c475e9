//! A command that came to nothing: what is printed, and the exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::api::client::ClientError;
use crate::config::ConfigError;
use crate::daemon::RunError;
use crate::model::ModelError;
use crate::net::NetError;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// What was wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// Whether the command was not understood, rather than failed.
    pub usage: bool,
    /// Whether stdout's reader is gone, which is no failure of ours.
    quiet: bool,
}

impl CliError {
    /// It failed.
    #[must_use]
    pub fn failed(message: String) -> Self {
        Self {
            message,
            hint: None,
            usage: false,
            quiet: false,
        }
    }

    /// It was called wrongly.
    #[must_use]
    pub fn usage(error: &ModelError) -> Self {
        Self {
            message: error.to_string(),
            hint: error.hint(),
            usage: true,
            quiet: false,
        }
    }

    fn hinted(message: String, hint: Option<String>) -> Self {
        Self {
            hint,
            ..Self::failed(message)
        }
    }

    /// What goes to stderr.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {}\nhint: {hint}\n", self.message),
            None => format!("error: {}\n", self.message),
        }
    }

    pub(super) fn print(&self) {
        if !self.quiet {
            // Without stderr there is nobody to tell.
            let _ = io::stderr().write_all(self.text().as_bytes());
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match (self.quiet, self.usage) {
            (true, _) => ExitCode::SUCCESS,
            (false, true) => ExitCode::from(2),
            (false, false) => ExitCode::FAILURE,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::hinted(error.to_string(), error.hint())
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::hinted(error.to_string(), error.hint())
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        Self::hinted(error.to_string(), error.hint())
    }
}

impl From<NetError> for CliError {
    fn from(error: NetError) -> Self {
        Self::failed(error.to_string())
    }
}

/// Errors of writing to stdout.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            quiet,
            ..Self::failed(format!("cannot write the output: {error}"))
        }
    }
}
