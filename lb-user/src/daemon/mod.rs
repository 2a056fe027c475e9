//! `bpvs run`: the one writer of the datapath, and all that asks it for something.
//!
//! The [`engine`] runs on a thread of its own and takes one message after the other: requests from the API, news from
//! the watched namespaces, the tick of every second. So there is one writer and no lock. Everything else is async:
//! the API's server, the watches, signals.
//!
//! A change goes the same way whatever asked for it: planned against the table in memory, written to the [`journal`],
//! carried out operation by operation, struck from the journal. An operation that fails has those before it undone.

mod apply;
mod change;
mod commands;
mod early;
pub mod engine;
mod fault;
mod find;
pub mod journal;
mod listing;
pub mod networks;
mod notify;
mod reached;
mod record;
mod recover;
mod request;
mod run;
mod serving;

pub use engine::{Engine, Message};
pub use request::{ApplyScope, Failure, FailureKind, Handle, Reply, Request};
pub use run::{Options, RunDir, RunError, SOCKET, down_without_daemon, run};

#[cfg(test)]
mod commands_tests;
#[cfg(test)]
mod dying;
#[cfg(test)]
mod early_tests;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watch_tests;
