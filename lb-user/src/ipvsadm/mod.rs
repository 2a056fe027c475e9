//! The command `ipvsadm`: what version 1.31 understands, says and prints, over bpvs's tables instead of the kernel's.
//!
//! A command line goes through four steps. [`scan`] cuts it into options as popt does, [`parse`] makes a [`Command`] of
//! them or says what is wrong (with [`legality`] for what may stand together), [`Front`] carries the command out on an
//! [`Ipvs`], and [`listing`] and [`save`] write what comes back. Everything but the daemon's [`Ipvs`] is pure, and is held
//! against recordings of the real program (`tests/ipvsadm/`).

mod address;
mod autostart;
mod changes;
mod command;
pub mod daemon;
#[cfg(test)]
mod daemon_tests;
mod execute;
mod failure;
mod help;
mod ipvs;
mod legality;
mod lines;
mod listing;
#[cfg(any(test, feature = "fake"))]
pub mod memory;
mod messages;
pub mod names;
mod options;
mod parse;
mod save;
mod scan;
mod scripts;
mod values;
pub mod view;
mod wire;

pub use command::{Command, Format};
pub use execute::Front;
pub use failure::NOT_THERE;
pub use ipvs::{Change, Ipvs, IpvsError};
pub use scripts::is_ipvsadm;
