//! What can go wrong between bpvs and a network namespace.

use std::io;
use std::path::PathBuf;

/// Why a namespace could not be entered, read, watched or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// A name that cannot be one of a namespace.
    #[error("{name:?} is not a name of a network namespace: {reason}")]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is nothing at the path.
    #[error("there is no network namespace at {}: {source}", path.display())]
    Open {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something at the path, but it is not a namespace.
    #[error("{} is not a network namespace: {found}", path.display())]
    NotANamespace {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was being done, as "cannot …".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("the kernel refused to {request}: {source}")]
    Refused {
        /// What was asked for.
        request: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The kernel did not answer a netlink request.
    #[error("the kernel did not answer when asked to {request}")]
    NoAnswer {
        /// What was asked for.
        request: &'static str,
    },
    /// Netlink events were lost again and again while the namespace was read.
    #[error(
        "the network namespace changes faster than it can be read: events were lost in {attempts} attempts"
    )]
    Overrun {
        /// How often it was tried.
        attempts: u32,
    },
    /// The watch has ended, by an error that was already reported or because it was stopped.
    #[error("the watch on this network namespace has ended")]
    Ended,
}

impl NetError {
    /// For `map_err`: a failed system call and what it was for.
    pub(super) fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// As [`NetError::system`], for errors of the nix crate.
    pub(super) fn errno(action: &'static str) -> impl Fn(nix::Error) -> Self {
        move |errno| Self::System {
            action,
            source: errno.into(),
        }
    }
}
