//! bpvs's ipvsadm held against the real one: recordings, and tables made at random.
//!
//! [`record`] writes down what the real program does with given command lines, in a guest whose kernel has IPVS; the
//! recordings in `tests/ipvsadm/` are played on a table in memory by `cargo test`. [`parity`] gives both programs the
//! same tables, made at random, and compares all that they list, and the same counters and connections.

pub mod memory;
pub mod parity;
#[cfg(test)]
mod played;
mod real;
pub mod record;
mod tables;
mod traffic;
pub mod transcript;
