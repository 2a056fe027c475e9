//! Those who are measured against each other: the same network for each, with another way through the director.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::workloads::PORTS;
use crate::daemon::Daemon;
use crate::host::{Host, finish, tool};
use crate::lab::Lab;
use crate::topology::director::{CLIENT, Director, Options, SERVICE, server_address};

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
    /// bpvs by masquerading, on its TC hooks.
    Bpvs,
}

impl Way {
    /// All of them; the first is what the others are compared to.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Redirect,
        Self::Iptables,
        Self::Nftables,
        Self::Ipvs,
        Self::Bpvs,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain routing",
            Self::Redirect => "TC redirect, no NAT",
            Self::Iptables => "iptables DNAT",
            Self::Nftables => "nftables DNAT",
            Self::Ipvs => "IPVS NAT",
            Self::Bpvs => "bpvs TC NAT",
        }
    }

    /// What clients ask for.
    pub const fn target(self) -> Ipv4Addr {
        match self {
            Self::Plain | Self::Redirect => Ipv4Addr::new(10, 0, 1, 11),
            _ => SERVICE,
        }
    }

    /// Whether the service's address is the director's own.
    const fn owns(self) -> Option<Ipv4Addr> {
        match self {
            Self::Plain | Self::Redirect => None,
            _ => Some(SERVICE),
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "plain-",
            Self::Redirect => "redirect-",
            Self::Iptables => "iptables-",
            Self::Nftables => "nftables-",
            Self::Ipvs => "ipvs-",
            Self::Bpvs => "bpvs-",
        }
    }

    /// Why it cannot take part here, if it cannot.
    pub fn missing(self) -> Option<String> {
        let program = match self {
            Self::Plain | Self::Bpvs => return None,
            Self::Redirect => "tc",
            Self::Iptables => "iptables",
            Self::Nftables => "nft",
            Self::Ipvs => "ipvsadm",
        };
        let found = tool(program)
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if self == Self::Ipvs && !Path::new("/proc/net/ip_vs").exists() {
            return Some("this kernel has no IPVS".into());
        }
        found.err().map(|error| format!("{program}: {error}"))
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
    _daemon: Option<Daemon>,
}

impl Opponent {
    /// Builds the network and sets the director up.
    pub fn new(lab: &Lab, way: Way, bpvs: &Path) -> Result<Self> {
        let net = Director::build(
            lab,
            &Options {
                servers: 1,
                forward: way != Way::Bpvs,
                own: way.owns(),
                prefix: way.prefix().into(),
                ..Options::default()
            },
        )?;
        let daemon = set_up(lab, way, &net, bpvs)
            .with_context(|| format!("cannot set up {}", way.name()))?;
        Ok(Self {
            way,
            net,
            _daemon: daemon,
        })
    }
}

fn set_up(lab: &Lab, way: Way, net: &Director, bpvs: &Path) -> Result<Option<Daemon>> {
    let director = &net.director;
    let server = server_address(1);
    match way {
        Way::Plain => {}
        Way::Redirect => redirect(net)?,
        Way::Iptables => {
            let rule =
                format!("-t nat -A PREROUTING -d {SERVICE} -j DNAT --to-destination {server}");
            run(director, "iptables", &rule)?;
        }
        Way::Nftables => {
            let rules = format!(
                "add table ip bench; \
                 add chain ip bench pre {{ type nat hook prerouting priority dstnat; }}; \
                 add rule ip bench pre ip daddr {SERVICE} dnat to {server}"
            );
            director.output("nft", &[&rules])?;
        }
        Way::Ipvs => {
            for (protocol, port) in PORTS {
                let option = if protocol == "tcp" { "-t" } else { "-u" };
                run(
                    director,
                    "ipvsadm",
                    &format!("-A {option} {SERVICE}:{port} -s rr"),
                )?;
                run(
                    director,
                    "ipvsadm",
                    &format!("-a {option} {SERVICE}:{port} -r {server}:{port} -m"),
                )?;
            }
        }
        Way::Bpvs => {
            let daemon = Daemon::start(lab, bpvs, director, &[])?;
            for (protocol, port) in PORTS {
                let service = format!("{protocol}:{SERVICE}:{port}");
                daemon.bpvs(director, &format!("service add {service} --scheduler rr"))?;
                daemon.bpvs(director, &format!("server add {service} {server}:{port}"))?;
            }
            return Ok(Some(daemon));
        }
    }
    Ok(None)
}

/// Both directions from one interface to the other, with the neighbours' addresses written by TC.
fn redirect(net: &Director) -> Result<()> {
    let director = &net.director;
    let to_server = [mac(director, "br0")?, mac(&net.servers[0], "eth0")?];
    let to_client = [mac(director, "eth0")?, mac(&net.client, "eth0")?];
    for (from, towards, to, [source, destination]) in [
        ("eth0", server_address(1), "rs1", to_server),
        ("rs1", CLIENT, "eth0", to_client),
    ] {
        run(director, "tc", &format!("qdisc add dev {from} clsact"))?;
        run(
            director,
            "tc",
            &format!(
                "filter add dev {from} ingress protocol ip flower dst_ip {towards}/32 \
                 action skbmod set smac {source} set dmac {destination} pipe \
                 action mirred egress redirect dev {to}"
            ),
        )?;
    }
    Ok(())
}

fn mac(host: &Host, interface: &str) -> Result<String> {
    let text = host.ip(&format!("-o link show dev {interface}"))?;
    let mut words = text.split_whitespace();
    match words.find(|word| *word == "link/ether").and(words.next()) {
        Some(mac) => Ok(mac.to_owned()),
        None => bail!("{}: {interface} has no Ethernet address", host.name()),
    }
}

fn run(host: &Host, program: &str, arguments: &str) -> Result<()> {
    let mut command = host.command(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::null());
    finish(&mut command)
        .map(drop)
        .with_context(|| format!("{}$ {program} {arguments}", host.name()))
}
