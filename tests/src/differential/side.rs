//! One side of the comparison: a director with an implementation of IPVS in it, the far ends of its
//! cables, and the carrying out of steps.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::frames::Requests;
use super::names::{self, Link, ROUTER, ROUTER_MAC, SERVERS, SMALL_MTU, server_mac};
use super::observe::{self, Seen};
use super::step::{Packet, Protocol, Show, Step};
use super::translate;
use super::wire::Wire;
use crate::daemon::Daemon;
use crate::host::{Host, finish, tool, write_sysctl};
use crate::lab::Lab;
use crate::offload::like_a_wire;
use crate::wiring::batch;

/// Which implementation a side has.
#[derive(Debug, Clone)]
pub enum Implementation {
    /// The kernel's, by ipvsadm.
    Kernel,
    /// bpvs, served by this daemon.
    Bpvs {
        /// The daemon.
        daemon: Daemon,
        /// Whether bpvs can be called as ipvsadm.
        front: bool,
        /// Whether it has XDP on all cables.
        early: bool,
    },
}

impl Implementation {
    /// bpvs, served by this daemon, with XDP on all cables or without.
    pub fn bpvs(daemon: Daemon, early: bool) -> Self {
        let front = finish(&mut daemon.command(daemon.host(), &["ipvsadm", "-v"])).is_ok();
        Self::Bpvs {
            daemon,
            front,
            early,
        }
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "ipvs",
            Self::Bpvs { .. } => "bpvs",
        }
    }
}

/// What came of a step on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The frames that came out, sorted.
    Frames(Vec<Seen>),
    /// There was nothing to answer: the request never arrived.
    NotSent,
    /// What a command said.
    Said(Said),
    /// Nothing to be compared.
    Done,
    /// This implementation cannot do it yet, and why.
    Missing(String),
}

impl Outcome {
    /// Words that bpvs's own command line does not know, and what its ipvsadm refuses with a sentence of its own, stand for
    /// what it does not have yet.
    fn or_missing(self) -> Self {
        match self {
            Self::Said(said)
                if !said.exact && said.status == 2
                    || said.status == 3 && said.error.starts_with("bpvs: ") =>
            {
                Self::Missing(said.error.lines().next().unwrap_or_default().to_owned())
            }
            other => other,
        }
    }
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Whether its words are to be those of ipvsadm.
    pub exact: bool,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
}

/// One side.
#[derive(Debug)]
pub struct Side {
    implementation: Implementation,
    director: Host,
    wire: Wire,
    requests: Requests,
    /// Whether TC gives marks.
    marks: bool,
}

impl Side {
    /// Builds a side for each implementation in the lab.
    pub fn build(lab: &Lab, implementations: &[Implementation]) -> Result<Vec<Self>> {
        let names: Vec<String> = ["a", "b"][..implementations.len()]
            .iter()
            .flat_map(|letter| ["director", "ends"].map(|host| format!("{letter}-{host}")))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        lab.hosts(&names)?
            .chunks(2)
            .zip(implementations)
            .map(|(hosts, implementation)| Self::new(&hosts[0], &hosts[1], implementation))
            .collect()
    }

    fn new(director: &Host, ends: &Host, implementation: &Implementation) -> Result<Self> {
        director.run(|| {
            write_sysctl("net.ipv4.ip_forward", "1")?;
            write_sysctl("net.ipv4.conf.all.send_redirects", "0")?;
            // With direct routing a server answers as the service's address. The kernel lets that
            // pass only so; bpvs does not ask it.
            write_sysctl("net.ipv4.conf.all.accept_local", "1")?;
            write_sysctl("net.ipv4.conf.default.arp_notify", "0")?;
            // No limit on ICMP errors: what comes out must not depend on how fast the script runs.
            write_sysctl("net.ipv4.icmp_ratemask", "0")
        })??;
        wire_up(director, ends)?;
        if let Implementation::Bpvs { daemon, early, .. } = implementation {
            daemon.bpvs(director, "settings set reopen_removed=0")?;
            if *early {
                xdp_everywhere(daemon, director, ends)?;
            }
        }
        Ok(Self {
            implementation: implementation.clone(),
            director: director.clone(),
            wire: Wire::open(ends)?,
            requests: Requests::default(),
            marks: false,
        })
    }

    /// The name of its implementation.
    pub fn name(&self) -> &'static str {
        self.implementation.name()
    }

    /// Carries out a step; `id` tells its packet from those of other steps.
    pub fn carry_out(&mut self, step: &Step, id: u16) -> Result<Outcome> {
        match step {
            Step::Ipvsadm(words) => {
                let words: Vec<String> = words.iter().map(|word| names::expanded(word)).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.ipvsadm(&words)
            }
            Step::Setting(name, value) => self.setting(name, value),
            Step::Mark(protocol, to, mark) => self.mark(*protocol, *to, *mark),
            Step::Wait(_) | Step::Loosely => Ok(Outcome::Done),
            Step::Needs(module) => {
                let loaded = tool("modprobe").args(["-q", module]).status()?;
                Ok(match loaded.success() {
                    true => Outcome::Done,
                    false => Outcome::Missing(format!("{module} in this kernel")),
                })
            }
            Step::Packet(packet) => self.packet(packet, id),
            Step::Show(show) => self.show(*show),
        }
    }

    /// Shows something.
    pub fn show(&mut self, show: Show) -> Result<Outcome> {
        self.ipvsadm(show.arguments())
    }

    fn packet(&mut self, packet: &Packet, id: u16) -> Result<Outcome> {
        let Some((link, frame)) = self.requests.frame(packet, id) else {
            return Ok(Outcome::NotSent);
        };
        self.wire.send(link, &frame)?;
        let arrivals = self.wire.settle()?;
        self.requests.note(packet, &arrivals);
        let mut seen: Vec<Seen> = arrivals
            .iter()
            .map(|(link, frame)| observe::read(*link, frame, id).context("an unreadable frame"))
            .collect::<Result<_>>()?;
        seen.sort();
        Ok(Outcome::Frames(seen))
    }

    fn ipvsadm(&self, words: &[&str]) -> Result<Outcome> {
        match &self.implementation {
            Implementation::Kernel => said(self.director.command("ipvsadm").args(words), true),
            Implementation::Bpvs { daemon, front, .. } => {
                let arguments = if *front {
                    ["ipvsadm"]
                        .iter()
                        .chain(words)
                        .map(|&word| word.into())
                        .collect()
                } else {
                    match translate::ipvsadm(words) {
                        Ok(arguments) => arguments,
                        Err(missing) => return Ok(Outcome::Missing(missing)),
                    }
                };
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let outcome = said(&mut daemon.command(&self.director, &arguments), *front)?;
                Ok(outcome.or_missing())
            }
        }
    }

    fn setting(&self, name: &str, value: &str) -> Result<Outcome> {
        match &self.implementation {
            Implementation::Kernel => {
                self.director
                    .sysctl(&format!("net.ipv4.vs.{name}"), value)?;
                Ok(Outcome::Done)
            }
            Implementation::Bpvs { daemon, .. } => {
                let assignment = format!("{name}={value}");
                let arguments = ["settings", "set", &assignment];
                let outcome = said(&mut daemon.command(&self.director, &arguments), false)?;
                match outcome.or_missing() {
                    Outcome::Said(said) if said.status != 0 => {
                        bail!("bpvs settings set {assignment}: {}", said.error)
                    }
                    Outcome::Missing(what) => Ok(Outcome::Missing(what)),
                    _ => Ok(Outcome::Done),
                }
            }
        }
    }

    fn mark(
        &mut self,
        protocol: Protocol,
        to: std::net::SocketAddrV4,
        mark: u32,
    ) -> Result<Outcome> {
        match &self.implementation {
            Implementation::Kernel => {
                // tc comes with ip; and where TC gives the mark, no netfilter table has to be there.
                let filter = format!(
                    "filter add dev c0 ingress protocol ip flower ip_proto {protocol} \
                     dst_ip {}/32 dst_port {} action skbedit mark {mark}",
                    to.ip(),
                    to.port()
                );
                let mut lines = vec![filter];
                if !self.marks {
                    lines.insert(0, "qdisc add dev c0 clsact".into());
                    self.marks = true;
                }
                batch("tc", &["-n", self.director.namespace()], &lines)?;
            }
            Implementation::Bpvs { daemon, .. } => {
                let rule = format!(
                    "mark add --mark {mark} --interface c0 --destination {}/32 \
                     --protocol {protocol} --ports {}",
                    to.ip(),
                    to.port()
                );
                daemon.bpvs(&self.director, &rule)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Ends the services, so that nothing looks at the director any more when it goes.
    pub fn clear(&self) -> Result<()> {
        match self.implementation {
            Implementation::Bpvs { front: false, .. } => Ok(()),
            _ => self.ipvsadm(&["-C"]).map(drop),
        }
    }
}

fn said(command: &mut Command, exact: bool) -> Result<Outcome> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    Ok(Outcome::Said(Said {
        status: output.status.code().unwrap_or(-1),
        exact,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }))
}

/// Cables, addresses, and who is behind them: fixed, so that nothing is asked for on the way.
/// Has bpvs handle in XDP what it can, on all cables, whose far ends are made to be like a wire.
fn xdp_everywhere(daemon: &Daemon, director: &Host, ends: &Host) -> Result<()> {
    for link in Link::ALL {
        like_a_wire(ends, link.interface())?;
    }
    let names = Link::ALL.map(Link::interface).join(",");
    // It serves interfaces where there is a service, and says then where XDP is.
    daemon.bpvs(director, &format!("settings set xdp={names}"))?;
    daemon.bpvs(director, "service add tcp:10.255.255.255:1")?;
    let status: Value = serde_json::from_str(&daemon.bpvs(director, "status --json")?)?;
    daemon.bpvs(director, "service remove tcp:10.255.255.255:1")?;
    let scopes = status["scopes"].as_array().into_iter().flatten();
    let own = scopes.filter(|scope| {
        let netns = scope["netns"].as_str().unwrap_or_default();
        netns.ends_with(director.namespace())
    });
    let paths: Vec<&Value> = own
        .flat_map(|scope| scope["paths"].as_array().into_iter().flatten())
        .collect();
    for link in Link::ALL {
        let name = link.interface();
        ensure!(
            paths
                .iter()
                .any(|path| path["interface"] == name && path["path"] == "xdp"),
            "no XDP on {name}: {status}"
        );
    }
    Ok(())
}

fn wire_up(director: &Host, ends: &Host) -> Result<()> {
    let colons = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut near = Vec::new();
    for link in Link::ALL {
        let name = link.interface();
        near.push(format!(
            "link add {name} type veth peer name {name} netns {}",
            ends.namespace()
        ));
        near.push(format!("link set {name} address {}", colons(link.mac())));
        if link == Link::Small {
            near.push(format!("link set {name} mtu {SMALL_MTU}"));
        }
        near.push(format!("link set {name} up"));
    }
    near.push("link set lo up".into());
    for (address, interface) in [
        ("10.9.0.1/24", "lo"),
        ("10.3.0.1/24", "lo"),
        ("10.255.0.1/24", "c0"),
        ("10.1.0.1/24", "s0"),
        ("10.2.0.1/24", "t0"),
    ] {
        near.push(format!("address add {address} dev {interface}"));
    }
    near.push(format!("route add 10.0.0.0/16 via {ROUTER} dev c0"));
    near.push(format!(
        "neigh replace {ROUTER} lladdr {} dev c0 nud permanent",
        colons(ROUTER_MAC)
    ));
    for (link, letter) in [(Link::Servers, 's'), (Link::Small, 't')] {
        for number in 1..=SERVERS {
            let address = names::address(&format!("{letter}{number}")).context("a server")?;
            let mac = colons(server_mac(link, u8::try_from(number)?));
            let interface = link.interface();
            near.push(format!(
                "neigh replace {address} lladdr {mac} dev {interface} nud permanent"
            ));
        }
    }
    batch("ip", &["-n", director.namespace()], &near)
}

/// How long the kernel's estimator, or a sweep, may take until counters are what they are.
pub const COUNTERS: Duration = Duration::from_millis(2600);
