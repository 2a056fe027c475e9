//! What makes a host a director of each kind.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::opponents::Way;
use super::workloads::PORTS;
use crate::daemon::Daemon;
use crate::host::{Host, finish};
use crate::lab::Lab;
use crate::offload::like_a_wire;
use crate::slow::patient;
use crate::topology::director::{CLIENT, DIRECTOR_INSIDE, Director, SERVICE};

/// The client's address on the servers' segment, by which answers come that go past the director.
const CLIENT_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
/// The firewall mark of the service in a Swarm's recipe, and in ours.
const MARK: u32 = 256;

/// Sets up the director, and whatever this way needs of the other hosts.
///
/// # Errors
///
/// Where the kernel or a program refuses a step.
pub fn set_up(
    lab: &Lab,
    way: Way,
    net: &Director,
    server: Ipv4Addr,
    bpvs: &Path,
) -> Result<Option<Daemon>> {
    let director = &net.director;
    if way.is_direct() {
        answers_past(lab, net)?;
    }
    if way.has_cables() {
        // Of those that are compared with XDP all are as XDP must have it.
        for (host, interface) in [
            (&net.client, "eth0"),
            (&net.servers[0], "eth0"),
            (director, "eth0"),
            (director, "rs1"),
        ] {
            like_a_wire(host, interface)?;
        }
    }
    match way {
        Way::Plain | Way::PlainCable | Way::Local => {}
        Way::Redirect => redirect(net, server)?,
        Way::Iptables => {
            let rule =
                format!("-t nat -A PREROUTING -d {SERVICE} -j DNAT --to-destination {server}");
            run(director, "iptables", &rule)?;
        }
        Way::LocalIptables => {
            let rule = format!("-t nat -A OUTPUT -d {SERVICE} -j DNAT --to-destination {server}");
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
        Way::Ipvs => ipvs(director, server, "-m")?,
        Way::IpvsDirect => ipvs(director, server, "-g")?,
        Way::IpvsDocker => {
            ipvs(director, server, "-m")?;
            as_docker_sets_it(director)?;
        }
        Way::Swarm => swarm(director, server)?,
        Way::SwarmNftables => swarm_nftables(director, server)?,
        Way::Bpvs
        | Way::BpvsLong
        | Way::BpvsEntering
        | Way::BpvsDirect
        | Way::BpvsSwarm
        | Way::BpvsCable
        | Way::BpvsXdp
        | Way::LocalBpvs => {
            let daemon = Daemon::start(lab, bpvs, director, &[])?;
            ours(way, net, server, &daemon)?;
            return Ok(Some(daemon));
        }
    }
    Ok(None)
}

fn ours(way: Way, net: &Director, server: Ipv4Addr, daemon: &Daemon) -> Result<()> {
    let director = &net.director;
    let bpvs = |line: &str| daemon.bpvs(director, line).map(drop);
    if way == Way::BpvsSwarm {
        for (protocol, port) in PORTS {
            bpvs(&format!(
                "mark add --mark {MARK} --destination {SERVICE} --protocol {protocol} --ports {port}"
            ))?;
        }
        bpvs(&format!(
            "service add fwmark:{MARK} --scheduler rr --source-nat"
        ))?;
        return bpvs(&format!("server add fwmark:{MARK} {server}"));
    }
    let method = if way.is_direct() {
        " --method direct"
    } else {
        ""
    };
    for (protocol, port) in PORTS {
        let service = format!("{protocol}:{SERVICE}:{port}");
        bpvs(&format!("service add {service} --scheduler rr"))?;
        bpvs(&format!("server add {service} {server}:{port}{method}"))?;
    }
    match way {
        Way::BpvsLong => bpvs("settings set shortcut=0")?,
        Way::BpvsEntering => bpvs("settings set shortcut=2")?,
        _ => {}
    }
    if way == Way::BpvsXdp {
        bpvs("settings set xdp=eth0,rs1")?;
        by_xdp(director, daemon)?;
    }
    Ok(())
}

/// Waits for XDP to be on both interfaces.
///
/// # Errors
///
/// Where it cannot be, with what bpvs says of it.
pub fn by_xdp(director: &Host, daemon: &Daemon) -> Result<()> {
    by_xdp_on(director, daemon, &["eth0", "rs1"])
}

/// Waits for XDP to be on these interfaces.
///
/// # Errors
///
/// As [`by_xdp`].
pub fn by_xdp_on(director: &Host, daemon: &Daemon, interfaces: &[&str]) -> Result<()> {
    let deadline = Instant::now() + patient(Duration::from_secs(5));
    loop {
        let status = daemon.bpvs(director, "status")?;
        let is_on = |interface: &&str| status.contains(&format!("{interface} (XDP)"));
        if interfaces.iter().all(is_on) {
            return Ok(());
        }
        if let Some(why) = status.lines().find(|line| line.contains("XDP on ")) {
            bail!("{}", why.trim());
        }
        ensure!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ipvs(director: &Host, server: Ipv4Addr, method: &str) -> Result<()> {
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
            &format!("-a {option} {SERVICE}:{port} -r {server}:{port} {method}"),
        )?;
    }
    Ok(())
}

fn as_docker_sets_it(director: &Host) -> Result<()> {
    director.sysctl("net.ipv4.vs.conn_reuse_mode", "0")?;
    director.sysctl("net.ipv4.vs.expire_nodest_conn", "1")
}

fn swarm(director: &Host, server: Ipv4Addr) -> Result<()> {
    as_docker_sets_it(director)?;
    director.sysctl("net.ipv4.vs.conntrack", "1")?;
    for (protocol, port) in PORTS {
        run(
            director,
            "iptables",
            &format!(
                "-t mangle -A PREROUTING -d {SERVICE} -p {protocol} --dport {port} -j MARK --set-mark {MARK}"
            ),
        )?;
    }
    run(
        director,
        "iptables",
        &format!(
            "-t nat -A POSTROUTING -d 10.0.1.0/24 -m ipvs --ipvs -j SNAT --to-source {DIRECTOR_INSIDE}"
        ),
    )?;
    run(director, "ipvsadm", &format!("-A -f {MARK} -s rr"))?;
    run(
        director,
        "ipvsadm",
        &format!("-a -f {MARK} -r {server}:0 -m"),
    )
}

/// A Swarm's service without IPVS, as rules of nftables can have it: every port of the address, in turn, from the director's
/// own address.
fn swarm_nftables(director: &Host, server: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "add table ip bench; \
         add chain ip bench pre {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip bench pre ip daddr {SERVICE} meta l4proto {{ tcp, udp, sctp }} \
           dnat to numgen inc mod 1 map {{ 0 : {server} }}; \
         add chain ip bench post {{ type nat hook postrouting priority srcnat; }}; \
         add rule ip bench post oifname br0 ct status dnat snat to {DIRECTOR_INSIDE}"
    );
    director.output("nft", &[&rules]).map(drop)
}

/// The real server has the service's address, and the client a second cable to its segment, by which answers come: the
/// director's stack would take them for forged.
fn answers_past(lab: &Lab, net: &Director) -> Result<()> {
    let server = &net.servers[0];
    let mut wiring = lab.wiring();
    wiring
        .veth(&net.client, "eth1", &net.director, "client1")
        .port(&net.director, "br0", "client1")
        .address(&net.client, "eth1", &format!("{CLIENT_INSIDE}/24"))
        .route(server, &format!("{CLIENT}/32 via {CLIENT_INSIDE}"));
    wiring.apply()?;
    server.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    server.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    server
        .ip(&format!("address add {SERVICE}/32 dev lo"))
        .map(drop)
}

/// Both directions from one interface to the other, with the neighbours' addresses written by TC.
fn redirect(net: &Director, server: Ipv4Addr) -> Result<()> {
    let director = &net.director;
    let to_server = [mac(director, "br0")?, mac(&net.servers[0], "eth0")?];
    let to_client = [mac(director, "eth0")?, mac(&net.client, "eth0")?];
    for (from, towards, to, [source, destination]) in [
        ("eth0", server, "rs1", to_server),
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

/// The Ethernet address of an interface.
///
/// # Errors
///
/// Where it has none.
pub fn mac(host: &Host, interface: &str) -> Result<String> {
    let text = host.ip(&format!("-o link show dev {interface}"))?;
    let mut words = text.split_whitespace();
    match words.find(|word| *word == "link/ether").and(words.next()) {
        Some(mac) => Ok(mac.to_owned()),
        None => bail!("{}: {interface} has no Ethernet address", host.name()),
    }
}

/// Runs a program on a host.
///
/// # Errors
///
/// Where it fails, with what it said.
pub fn run(host: &Host, program: &str, arguments: &str) -> Result<()> {
    let mut command = host.command(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::null());
    finish(&mut command)
        .map(drop)
        .with_context(|| format!("{}$ {program} {arguments}", host.name()))
}
