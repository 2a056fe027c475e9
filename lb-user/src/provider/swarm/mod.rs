//! Docker Swarm: what IPVS and dockerd together would have done on this node.
//!
//! dockerd makes a load balancer's sandbox (a network namespace) for each overlay network of which a container is on
//! the node, and one for published ports. On a kernel without IPVS nothing in them answers. Every half second, and
//! whenever dockerd has news, the [`watch`] reads what dockerd knows ([`docker`] asks, [`seen`] understands), finds the
//! sandboxes, asks their resolvers which tasks are about to go ([`drain`], [`dns`]), and the [`plan`] says what each
//! scope is to serve:
//!
//! | scope | services | real servers |
//! |---|---|---|
//! | sandbox of a network | each service address, all ports, TCP and UDP | the tasks' addresses in the network |
//! | sandbox of published ports | the same; and the sandbox's own address with each published port | the tasks' addresses in the ingress network |
//! | the node | each of its addresses with each published port | the sandbox of published ports |
//!
//! The source address is translated in the sandboxes, as replies have to come back there; for published ports it can be
//! kept instead ([`clients`]). Nothing depends on dockerd's
//! own part: no address is added, no rule, no setting of the kernel.

mod clients;
mod datagrams;
mod dns;
mod docker;
mod drain;
mod far;
mod kept;
mod labels;
mod node;
mod plan;
mod sandboxes;
mod seen;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::wire;

pub use clients::ClientAddress;
pub use watch::watch;

/// Under this name the provider's claims are known.
pub const NAME: &str = "swarm";

/// Where dockerd listens, unless said otherwise.
pub const DOCKER: &str = "unix:///var/run/docker.sock";

/// Where dockerd keeps its sandboxes, unless said otherwise: `netns` in its `--exec-root`.
pub const SANDBOXES: &str = "/run/docker/netns";

/// How long an idle TCP connection is remembered: longer than the kernel's keep-alive needs by default to find out
/// whether the other end is there (2 h, and nine probes in 75 s each).
pub const TCP_TIMEOUT: Duration = Duration::from_secs(2 * 3600 + 15 * 60);

/// How the provider is to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// dockerd's socket: a path, with or without `unix://` before it.
    pub docker: String,
    /// The folder with dockerd's sandboxes.
    pub sandboxes: PathBuf,
    /// How long idle TCP connections are remembered where no label says otherwise.
    pub tcp_timeout: Duration,
    /// What becomes of the clients' addresses behind published ports where no label says otherwise.
    pub clients: ClientAddress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            docker: DOCKER.into(),
            sandboxes: SANDBOXES.into(),
            tcp_timeout: TCP_TIMEOUT,
            clients: ClientAddress::default(),
        }
    }
}

/// What the provider tells about itself; a clone is another hold on it.
#[derive(Debug, Clone, Default)]
pub struct Report(Arc<Mutex<wire::Swarm>>);

impl Report {
    /// As it stands.
    #[must_use]
    pub fn get(&self) -> wire::Swarm {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, swarm: wire::Swarm) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = swarm;
    }

    fn failed(&self, problem: String) {
        let mut swarm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        swarm.problems = vec![problem];
    }
}
