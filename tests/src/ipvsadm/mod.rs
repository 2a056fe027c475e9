//! bpvs's ipvsadm held against the real one: recordings, and tables made at random.

pub mod memory;
#[cfg(test)]
mod played;
pub mod transcript;
