//! Connections: found, followed through their states, made, and taken apart.

pub mod claim;
pub mod create;
pub mod due;
pub mod find;
pub mod load;
pub mod ring;
pub mod socket;
pub mod source_port;
pub mod state;
pub mod sweep;
pub mod template;
pub mod track;
