//! What most cases begin with, and the checks that they share.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Context;
use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::Lab;
use crate::topology::director::{Director, Options, server_address};

/// A director with its network and its daemon.
pub(super) struct Setup {
    pub(super) lab: Lab,
    pub(super) net: Director,
    pub(super) daemon: Daemon,
}

impl Setup {
    /// Builds the network and starts the daemon on the director.
    pub(super) fn new(context: &Context, options: &Options) -> Result<Self> {
        let lab = context.lab()?;
        let net = Director::build(&lab, options)?;
        let daemon = context.daemon(&lab, &net.director)?;
        Ok(Self { lab, net, daemon })
    }

    /// The usual network with this many servers, and on it the services of [`SERVICES`] with all of
    /// them.
    pub(super) fn usual(context: &Context, servers: u8) -> Result<Self> {
        let setup = Self::new(
            context,
            &Options {
                servers,
                ..Options::default()
            },
        )?;
        setup.services("")?;
        Ok(setup)
    }

    /// Adds [`SERVICES`] with all servers, first to last, with these options for the services.
    pub(super) fn services(&self, options: &str) -> Result<()> {
        add_services(
            &self.daemon,
            &self.net.director,
            u8::try_from(self.net.servers.len())?,
            options,
        )
    }

    /// A `bpvs` command on the director.
    pub(super) fn bpvs(&self, arguments: &str) -> Result<String> {
        self.daemon.bpvs(&self.net.director, arguments)
    }

    /// How many packets have left in which way so far; ways that none took are not in it.
    pub(super) fn reasons(&self) -> Result<Reasons> {
        let stats: Value = serde_json::from_str(&self.bpvs("stats --json")?)?;
        let reasons = stats["reasons"]
            .as_array()
            .context("stats without reasons")?;
        let count = |reason: &Value| {
            Some((
                reason["reason"].as_str()?.to_owned(),
                reason["packets"].as_u64()?,
            ))
        };
        let counts: Option<Reasons> = reasons.iter().map(count).collect();
        let mut counts = counts.with_context(|| format!("not reasons and counts: {stats}"))?;
        counts.retain(|_, packets| *packets > 0);
        Ok(counts)
    }
}

/// Packets by the way in which they left.
pub(super) type Reasons = BTreeMap<String, u64>;

/// Packets of other families than IPv4, and ARP that is not answered: a host says such things of
/// itself, at any time.
pub(super) const OF_ITSELF: &str = "not-ip";

/// What has been added between two readings.
pub(super) fn added(before: &Reasons, after: &Reasons) -> Reasons {
    let mut added = after.clone();
    for (reason, packets) in before {
        let now = added.entry(reason.clone()).or_default();
        *now = now.saturating_sub(*packets);
    }
    added.retain(|_, packets| *packets > 0);
    added
}

/// Services of the usual setup and the servers' ports for them: HTTP, lines, datagrams.
pub(super) const SERVICES: [(&str, u16); 3] = [
    ("tcp:10.0.0.100:80", 8000),
    ("tcp:10.0.0.100:7", 7000),
    ("udp:10.0.0.100:9", 9000),
];
/// Where the HTTP service is.
pub(super) const WEB: &str = "10.0.0.100:80";
/// Where the line-echo service is.
pub(super) const ECHO: &str = "10.0.0.100:7";
/// Where the datagram service is.
pub(super) const UDP: &str = "10.0.0.100:9";

/// Adds [`SERVICES`] with servers 1 to `servers`, in that order, on `host`.
pub(super) fn add_services(daemon: &Daemon, host: &Host, servers: u8, options: &str) -> Result<()> {
    for (service, port) in SERVICES {
        daemon.bpvs(
            host,
            &format!("service add {service} --scheduler rr {options}"),
        )?;
        for number in 1..=servers {
            daemon.bpvs(
                host,
                &format!("server add {service} {}:{port}", server_address(number)),
            )?;
        }
    }
    Ok(())
}

/// Fails unless both are equal, and shows both.
pub(super) fn same<T: PartialEq + Debug>(what: &str, got: &T, want: &T) -> Result<()> {
    if got != want {
        bail!("{what}: got {got:?}, want {want:?}");
    }
    Ok(())
}

/// Fails unless these tasks answered, in this order.
pub(super) fn in_turn(got: &[String], want: &[&str]) -> Result<()> {
    ensure!(
        got == want,
        "answered in the wrong turn: got {}, want {}",
        got.join(" "),
        want.join(" ")
    );
    Ok(())
}
