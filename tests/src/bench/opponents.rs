//! Those who are measured against each other: the same network for each, with another way through the director.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::directors;
use crate::daemon::Daemon;
use crate::host::{Host, tool};
use crate::lab::Lab;
use crate::topology::director::{Director, Options, SERVICE, server_address};

/// A way through the director.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The client asks the real server; the director routes.
    Plain,
    /// The client asks the real server; the director's TC hands packets on to the other interface, past its stack: what
    /// a redirect gives without any balancing.
    Redirect,
    /// iptables' DNAT.
    Iptables,
    /// nftables' DNAT.
    Nftables,
    /// The kernel's IPVS, by masquerading, as it comes.
    Ipvs,
    /// The same as Docker sets it (moby 8899d916).
    IpvsDocker,
    /// The kernel's IPVS by direct routing.
    IpvsDirect,
    /// What Docker makes for a Swarm's service: a mark by iptables, IPVS by that mark, and both addresses translated.
    Swarm,
    /// What does the same without IPVS: nftables takes real servers in turn, and translates both addresses.
    SwarmNftables,
    /// bpvs by masquerading, on its TC hooks.
    Bpvs,
    /// The same by the bridge, and not by its port.
    BpvsLong,
    /// The same into the namespaces of server and client.
    BpvsEntering,
    /// bpvs by direct routing.
    BpvsDirect,
    /// bpvs with what it has for a Swarm's service: a mark rule, a service of that mark, and both addresses translated.
    BpvsSwarm,
    /// As [`Way::Plain`], the real server on a cable of its own and not behind a bridge.
    PlainCable,
    /// As [`Way::Bpvs`], likewise.
    BpvsCable,
    /// The same in XDP already, on both cables.
    BpvsXdp,
    /// The director is its own client, and asks the real server.
    Local,
    /// The same, by a service address: iptables' DNAT of what the host itself sends.
    LocalIptables,
    /// The same by bpvs' socket hook.
    LocalBpvs,
}

/// Networks of which each has opponents of its own. They are measured one after the other: what bpvs has at the root of the
/// cgroups is met by every socket that connects, also by those of its opponents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A director with the real server behind a bridge.
    Bridge,
    /// The same with the real server on a cable of its own, without offloads on the cables.
    Cable,
    /// A client on the director itself.
    Local,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bridge, Self::Cable, Self::Local];

    /// What its tables are headed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "through a director, to a bridge",
            Self::Cable => "through a director, cables without offloads",
            Self::Local => "from the director itself",
        }
    }

    /// Who has no balancer, to whom all others are compared.
    pub const fn base(self) -> Way {
        match self {
            Self::Bridge => Way::Plain,
            Self::Cable => Way::PlainCable,
            Self::Local => Way::Local,
        }
    }
}

impl Way {
    /// All of them; the first is what the others are compared to.
    pub const ALL: [Self; 20] = [
        Self::Plain,
        Self::Redirect,
        Self::Iptables,
        Self::Nftables,
        Self::Ipvs,
        Self::IpvsDocker,
        Self::IpvsDirect,
        Self::Swarm,
        Self::SwarmNftables,
        Self::Bpvs,
        Self::BpvsLong,
        Self::BpvsEntering,
        Self::BpvsDirect,
        Self::BpvsSwarm,
        Self::PlainCable,
        Self::BpvsCable,
        Self::BpvsXdp,
        Self::Local,
        Self::LocalIptables,
        Self::LocalBpvs,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain routing",
            Self::Redirect => "TC redirect, no NAT",
            Self::Iptables => "iptables DNAT",
            Self::Nftables => "nftables DNAT",
            Self::Ipvs => "IPVS NAT",
            Self::IpvsDocker => "IPVS NAT, Docker's",
            Self::IpvsDirect => "IPVS direct routing",
            Self::Swarm => "Swarm's recipe",
            Self::SwarmNftables => "Swarm by nftables",
            Self::Bpvs => "bpvs TC NAT",
            Self::BpvsLong => "bpvs TC NAT, long way",
            Self::BpvsEntering => "bpvs TC NAT, entering",
            Self::BpvsDirect => "bpvs direct routing",
            Self::BpvsSwarm => "bpvs, mark and SNAT",
            Self::PlainCable => "plain, no bridge",
            Self::BpvsCable => "bpvs TC, no bridge",
            Self::BpvsXdp => "bpvs XDP, no bridge",
            Self::Local => "direct",
            Self::LocalIptables => "iptables OUTPUT DNAT",
            Self::LocalBpvs => "bpvs socket hook",
        }
    }

    /// Whether bpvs runs on its director.
    pub const fn is_bpvs(self) -> bool {
        matches!(
            self,
            Self::Bpvs
                | Self::BpvsLong
                | Self::BpvsEntering
                | Self::BpvsDirect
                | Self::BpvsSwarm
                | Self::BpvsCable
                | Self::BpvsXdp
                | Self::LocalBpvs
        )
    }

    /// Whether the client asks the real server itself.
    const fn asks_server(self) -> bool {
        matches!(
            self,
            Self::Plain | Self::Redirect | Self::PlainCable | Self::Local
        )
    }

    /// What clients ask for.
    pub const fn target(self) -> Ipv4Addr {
        if self.asks_server() {
            Ipv4Addr::new(10, 0, 1, 11)
        } else {
            SERVICE
        }
    }

    /// Whether the real server has the service's address, and answers past the director.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::IpvsDirect | Self::BpvsDirect)
    }

    /// Whether the real server is on a cable of its own.
    pub const fn has_cables(self) -> bool {
        matches!(self, Self::PlainCable | Self::BpvsCable | Self::BpvsXdp)
    }

    /// Whether the client is on the director itself.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Local | Self::LocalIptables | Self::LocalBpvs)
    }

    /// The network that it stands in.
    pub const fn group(self) -> Group {
        if self.has_cables() {
            Group::Cable
        } else if self.is_local() {
            Group::Local
        } else {
            Group::Bridge
        }
    }

    /// What it is compared with: no balancer in the same network.
    pub const fn base(self) -> Self {
        self.group().base()
    }

    /// What selects it on the command line: its name without spaces and commas.
    fn word(self) -> String {
        self.name()
            .replace(", ", "-")
            .replace([' ', '\''], "-")
            .to_lowercase()
    }

    /// Why it cannot take part here, if it cannot.
    pub fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Redirect => &["tc"],
            Self::Iptables | Self::LocalIptables => &["iptables"],
            Self::Nftables | Self::SwarmNftables => &["nft"],
            Self::Ipvs | Self::IpvsDocker | Self::IpvsDirect => &["ipvsadm"],
            Self::Swarm => &["ipvsadm", "iptables"],
            _ => &[],
        };
        if programs.contains(&"ipvsadm") && !Path::new("/proc/net/ip_vs").exists() {
            return Some("this kernel has no IPVS".into());
        }
        programs.iter().find_map(|program| {
            let found = tool(program)
                .arg("-V")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            found.err().map(|error| format!("{program}: {error}"))
        })
    }
}

/// A way with a network of its own, ready to be measured.
#[derive(Debug)]
pub struct Opponent {
    /// The way through its director.
    pub way: Way,
    /// The network.
    pub net: Director,
    /// bpvs, where it is bpvs.
    pub daemon: Option<Daemon>,
}

/// The name of a way that cannot be had here, and why.
pub type Absent = (&'static str, String);

impl Opponent {
    /// Builds the network and sets the director up.
    ///
    /// # Errors
    ///
    /// Where the kernel or a program refuses a step.
    pub fn new(lab: &Lab, way: Way, bpvs: &Path) -> Result<Self> {
        let number = Way::ALL.iter().position(|other| *other == way);
        let net = Director::build(
            lab,
            &Options {
                servers: 1,
                forward: !way.is_bpvs(),
                own: (!way.asks_server()).then_some(SERVICE),
                cables: way.has_cables(),
                prefix: format!("way{}-", number.unwrap_or_default()),
                ..Options::default()
            },
        )?;
        let daemon = directors::set_up(lab, way, &net, server_address(1), bpvs)
            .with_context(|| format!("cannot set up {}", way.name()))?;
        Ok(Self { way, net, daemon })
    }

    /// Where the client is.
    pub const fn client(&self) -> &Host {
        if self.way.is_local() {
            &self.net.director
        } else {
            &self.net.client
        }
    }

    /// Every way of these groups that can be had here, and why the others cannot; `only` those whose name contains this, and what they
    /// are compared with.
    ///
    /// # Errors
    ///
    /// Where one cannot be set up that all others are compared with.
    pub fn all(
        lab: &Lab,
        bpvs: &Path,
        groups: &[Group],
        only: Option<&str>,
    ) -> Result<(Vec<Self>, Vec<Absent>)> {
        let wanted = |way: Way| only.is_none_or(|text| way.word().contains(text));
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for way in Way::ALL {
            if !groups.contains(&way.group()) {
                continue;
            }
            if !wanted(way)
                && !Way::ALL
                    .iter()
                    .any(|other| wanted(*other) && other.base() == way)
            {
                continue;
            }
            if let Some(reason) = way.missing() {
                absent.push((way.name(), reason));
                continue;
            }
            match Self::new(lab, way, bpvs) {
                Ok(opponent) => there.push(opponent),
                // A kernel without what it needs; those that are compared must be there.
                Err(error) if !matches!(way, Way::Plain | Way::Bpvs) => {
                    absent.push((way.name(), last_line(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((there, absent))
    }
}

/// The line of a long story in which a program names the error, or its last one.
pub fn last_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let named = text.lines().find(|line| line.starts_with("Error: "));
    named.or(text.lines().last()).unwrap_or_default().to_owned()
}
