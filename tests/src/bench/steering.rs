//! Which processor takes up what arrives: for bulk TCP the first one, everywhere on the way (RPS).
//!
//! By itself the processor that sends a frame into a veth takes it up at the other end. Acknowledgements come from the
//! second one, and have the client send there what its window lets it, beside what its own thread sends on the first:
//! segments overtake each other, and thousands a second are sent again. How many depends on how far apart the two run, and
//! hides what a way costs. A network card keeps the segments of a connection in order, and so does this.

use anyhow::{Context as _, Result};

use super::opponents::Opponent;
use crate::host::{Host, finish, tool};

/// As long as it lives, the first processor takes up what arrives on these hosts.
pub(super) struct Steered<'a>(Vec<&'a Host>);

impl<'a> Steered<'a> {
    /// All hosts of this opponent's network.
    pub(super) fn to_first(opponent: &'a Opponent) -> Result<Self> {
        let net = &opponent.net;
        let steered = Self(
            [&net.client, &net.director]
                .into_iter()
                .chain(&net.servers)
                .collect(),
        );
        for host in &steered.0 {
            steer(host, "1").with_context(|| format!("{}: cannot set rps_cpus", host.name()))?;
        }
        Ok(steered)
    }
}

impl Drop for Steered<'_> {
    fn drop(&mut self) {
        for host in &self.0 {
            // They go with the network at the latest.
            let _ = steer(host, "0");
        }
    }
}

/// Has these processors (a mask) take up what arrives. In `/sys` as the host has it, which `ip` mounts.
fn steer(host: &Host, mask: &str) -> Result<()> {
    let script = format!(
        "for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo {mask} >$queue || exit 1; done"
    );
    finish(tool("ip").args(["netns", "exec", host.namespace(), "sh", "-c", &script])).map(drop)
}
