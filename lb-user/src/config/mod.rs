//! The file: what one or several scopes are to serve, in TOML.
//!
//! ```toml
//! [[service]]                       # belongs to the namespace in which `bpvs apply` is called
//! address = "tcp:10.0.0.100:80"     # or "fwmark:256"
//! scheduler = "rr"
//! source-nat = true                 # or an address of the scope
//! answer = true
//! timeouts = { tcp = "2h", udp = "5m" }
//! persistent = "15m"                # with netmask = "255.255.255.0" for clients of one network
//!   [[service.server]]
//!   address = "10.0.1.11:80"
//!   weight = 1
//!   upper-threshold = 1000
//!
//! [[mark]]
//! mark = 256                        # or "0x100/0xff00"
//! destination = "10.0.0.100/32"
//! protocol = "tcp"
//! ports = "8000-8099"
//!
//! [settings]
//! timeouts = { tcp = "15m", tcp-fin = "2m", udp = "5m" }
//! expire_nodest_conn = 1            # sysctls of IPVS, by their names
//!
//! [[scope]]                         # another namespace of this host, with the same keys inside
//! netns = "lb"
//!   [[scope.service]]
//!   address = "tcp:10.0.0.100:80"
//!
//! [provider.swarm]                  # a daemon that is started with the file follows this node's Docker Swarm
//! timeout = "8h"
//! ```
//!
//! The order in a file is the order in which commands would have added: the last server of a service is the newest.
//! The first thing that is wrong makes the whole file wrong: one error, with its place.

mod error;
mod problem;
mod section;
mod sections;

use std::path::Path;

pub use error::ConfigError;
use problem::Problem;

use crate::control::Declared;
use crate::provider::swarm;

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What it says about the scope in which it is applied.
    pub here: Declared,
    /// What it says about other scopes, in the order of the file.
    pub scopes: Vec<ScopeConfig>,
    /// The Swarm that a daemon that is started with the file follows.
    pub swarm: Option<swarm::Options>,
}

/// What a file says about another scope of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeConfig {
    /// The namespace, by its name under `/run/netns` or by its path.
    pub netns: String,
    /// What it is to serve.
    pub declared: Declared,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, or something in it is wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(source) => Err(ConfigError::Read { file: name, source }),
    }
}

/// Reads the text of a file; `name` is how errors call it.
///
/// # Errors
/// Something in it is wrong.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    sections::document(text).map_err(|problem| problem.placed(name, text))
}

#[cfg(test)]
mod tests;
