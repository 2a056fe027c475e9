//! Connections: found, followed through their states, made, and taken apart.

pub mod claim;
pub mod create;
pub mod find;
pub mod ring;
pub mod state;
pub mod sweep;
pub mod track;
