//! The pipeline's two traits on the host: packets as bytes, tables in ordinary memory.
//!
//! With these the code that runs in the kernel is tested by cases, by properties, against a model and by
//! fuzzing, without root. [`Memory`] is filled as the daemon fills the maps: real servers newest first,
//! round-robin marks recomputed with every change, mark rules split into shapes.

mod audit;
mod bytes;
mod early;
mod entries;
mod marks;
mod memory;
mod network;
mod services;
mod sockets;

pub use audit::Fault;
pub use bytes::Bytes;
pub use early::Early;
pub use entries::Entries;
pub use marks::MarkRule;
pub use memory::{Capacity, Memory};
pub use network::HopSpec;
pub use services::{ServerSpec, ServiceSpec};
