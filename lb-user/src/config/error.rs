//! What is wrong with a file, and where.

use std::io;

use thiserror::Error;

/// Why a file was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It could not be read at all.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{file}:{line}:{column}: {message}")]
    Wrong {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// What would be right.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Wrong { hint, .. } => hint.clone(),
        }
    }
}
