//! What is wanted, and the operations that lead there, without a single system call.
//!
//! - [`ops`]: the operations, each of which the datapath makes whole.
//! - [`command`]: what a person asks for, made into an operation against the table as it stands.
//! - [`ServiceEdit`] and [`ServerEdit`]: what such a command makes different.
//! - [`diff()`] compares two tables and gives the operations in an order in which no service loses its servers on the way.
//! - [`changes()`] says the same difference in words.
//! - [`ownership`]: who asked for what, so that a file takes back only what it brought.
//! - [`Patch`]: what a list of operations touches, as it was before or is to be after: what the journal keeps.
//! - [`Draft`]: what commands, one after the other, would make of a table.
//! - [`support`]: what the model can say and the datapath cannot do yet.

mod changes;
pub mod command;
mod diff;
mod draft;
mod edit;
pub mod ops;
pub mod ownership;
mod patch;
pub mod support;
#[cfg(test)]
pub(crate) mod testing;

pub use changes::changes;
pub use command::Command;
pub use diff::diff;
pub use draft::Draft;
pub use edit::{ServerEdit, ServiceEdit};
pub use ops::Op;
pub use ownership::{Claims, Declared, Origin, Released};
pub use patch::Patch;
pub use support::NotYet;
