//! Joins hosts: collects what is to be made, then makes it with few calls of `ip -batch`, in an
//! order that always works: links of all hosts, then per host their settings and addresses, then
//! up, then routes and neighbours, then forwarding databases.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::host::{Host, tool};

/// A collection of links, addresses and routes that [`Wiring::apply`] makes.
#[derive(Debug, Default)]
pub struct Wiring {
    hosts: Vec<PerHost>,
}

#[derive(Debug)]
struct PerHost {
    host: Host,
    links: Vec<String>,
    settings: Vec<String>,
    up: Vec<String>,
    routes: Vec<String>,
    forwarding: Vec<String>,
    sysctls: Vec<(String, String)>,
}

/// How Docker's overlay driver sets up a VXLAN interface.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    /// Name of the interface, such as `vxlan0`.
    pub interface: &'a str,
    /// VXLAN network identifier; Docker counts from 4096.
    pub id: u32,
    /// Bytes of an IP packet that fits; Docker leaves 50 for the outer headers.
    pub mtu: u32,
}

impl Wiring {
    fn of(&mut self, host: &Host) -> &mut PerHost {
        let index = match self
            .hosts
            .iter()
            .position(|entry| entry.host.namespace() == host.namespace())
        {
            Some(index) => index,
            None => {
                self.hosts.push(PerHost {
                    host: host.clone(),
                    links: Vec::new(),
                    settings: Vec::new(),
                    up: vec!["link set lo up".into()],
                    routes: Vec::new(),
                    forwarding: Vec::new(),
                    sysctls: Vec::new(),
                });
                self.hosts.len() - 1
            }
        };
        &mut self.hosts[index]
    }

    /// A cable between two hosts.
    pub fn veth(&mut self, a: &Host, a_name: &str, b: &Host, b_name: &str) -> &mut Self {
        self.of(a).links.push(format!(
            "link add {a_name} type veth peer name {b_name} netns {}",
            b.namespace()
        ));
        self.up(a, a_name).up(b, b_name)
    }

    /// A bridge on a host.
    pub fn bridge(&mut self, host: &Host, name: &str) -> &mut Self {
        self.of(host)
            .links
            .push(format!("link add {name} type bridge"));
        self.up(host, name)
    }

    /// A bridge that does not look for multicast routers, which the kernel would report to all neighbours (IGMP, to
    /// 224.0.0.106): where packets are counted those would be counted too.
    pub fn quiet_bridge(&mut self, host: &Host, name: &str) -> &mut Self {
        let link = format!("link add {name} type bridge mcast_snooping 0");
        self.of(host).links.push(link);
        self.up(host, name)
    }

    /// A bond on a host, of which one port at a time is in use.
    pub fn bond(&mut self, host: &Host, name: &str) -> &mut Self {
        self.of(host).links.push(format!(
            "link add {name} type bond mode active-backup miimon 100"
        ));
        self.up(host, name)
    }

    /// Plugs an interface into a bridge, or a bond, of the same host.
    pub fn port(&mut self, host: &Host, bridge: &str, interface: &str) -> &mut Self {
        self.of(host)
            .settings
            .push(format!("link set {interface} master {bridge}"));
        self
    }

    /// A VLAN on an interface of the same host; it is called `INTERFACE.ID`.
    pub fn vlan(&mut self, host: &Host, interface: &str, id: u16) -> &mut Self {
        let name = format!("{interface}.{id}");
        self.of(host).links.push(format!(
            "link add link {interface} name {name} type vlan id {id}"
        ));
        self.up(host, &name)
    }

    /// A VXLAN interface between two hosts, to `remote` and nobody else.
    pub fn tunnel(&mut self, host: &Host, name: &str, id: u32, remote: &str) -> &mut Self {
        self.of(host).links.push(format!(
            "link add {name} type vxlan id {id} dstport 4789 remote {remote} dev eth0"
        ));
        self.up(host, name)
    }

    /// A VXLAN interface as Docker makes it: its outer packets leave through `underlay`, the
    /// interface itself is then moved to `sandbox`, and it answers ARP from its permanent neighbour
    /// entries instead of flooding.
    pub fn vxlan(&mut self, underlay: &Host, sandbox: &Host, vxlan: Vxlan<'_>) -> &mut Self {
        let Vxlan { interface, id, mtu } = vxlan;
        let links = &mut self.of(underlay).links;
        links.push(format!("link add {interface} mtu {mtu} type vxlan id {id} dstport 4789 nolearning proxy l2miss l3miss"));
        links.push(format!(
            "link set {interface} netns {}",
            sandbox.namespace()
        ));
        self.up(sandbox, interface)
    }

    /// An entry for an endpoint behind another node: who has `address`, and to which node its
    /// frames go.
    pub fn remote_endpoint(
        &mut self,
        sandbox: &Host,
        vxlan: &str,
        address: &str,
        mac: &str,
        node: &str,
    ) -> &mut Self {
        let entry = self.of(sandbox);
        entry.routes.push(format!(
            "neigh replace {address} lladdr {mac} dev {vxlan} nud permanent"
        ));
        entry.forwarding.push(format!(
            "fdb replace {mac} dev {vxlan} dst {node} self permanent"
        ));
        self
    }

    /// An address with its prefix length.
    pub fn address(&mut self, host: &Host, interface: &str, address: &str) -> &mut Self {
        self.of(host)
            .settings
            .push(format!("address add {address} dev {interface}"));
        self
    }

    /// The MAC address of an interface.
    pub fn mac(&mut self, host: &Host, interface: &str, mac: &str) -> &mut Self {
        self.of(host)
            .settings
            .push(format!("link set {interface} address {mac}"));
        self
    }

    /// The MTU of an interface, in bytes.
    pub fn mtu(&mut self, host: &Host, interface: &str, mtu: u32) -> &mut Self {
        self.of(host)
            .settings
            .push(format!("link set {interface} mtu {mtu}"));
        self
    }

    /// A route, as `ip route add` takes it.
    pub fn route(&mut self, host: &Host, route: &str) -> &mut Self {
        self.of(host).routes.push(format!("route add {route}"));
        self
    }

    /// A setting below /proc/sys, written before the interfaces are made (so that `default` counts
    /// for them).
    pub fn sysctl(&mut self, host: &Host, name: &str, value: &str) -> &mut Self {
        self.of(host).sysctls.push((name.into(), value.into()));
        self
    }

    fn up(&mut self, host: &Host, interface: &str) -> &mut Self {
        self.of(host).up.push(format!("link set {interface} up"));
        self
    }

    /// Makes everything that was collected.
    pub fn apply(&mut self) -> Result<()> {
        let hosts = std::mem::take(&mut self.hosts);
        for entry in hosts.iter().filter(|entry| !entry.sysctls.is_empty()) {
            for (name, value) in &entry.sysctls {
                entry.host.sysctl(name, value)?;
            }
        }
        for entry in &hosts {
            entry.batch("ip", entry.links.clone())?;
        }
        for entry in &hosts {
            entry.batch(
                "ip",
                [&entry.settings[..], &entry.up, &entry.routes].concat(),
            )?;
        }
        for entry in &hosts {
            entry.batch("bridge", entry.forwarding.clone())?;
        }
        Ok(())
    }
}

impl PerHost {
    fn batch(&self, program: &str, lines: Vec<String>) -> Result<()> {
        batch(program, &["-n", self.host.namespace()], &lines)
            .with_context(|| format!("on host {}", self.host.name()))
    }
}

/// Runs `ip -batch` or `bridge -batch` with these lines.
pub(crate) fn batch(program: &str, arguments: &[&str], lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = tool(program);
    command
        .args(arguments)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {program} (package iproute2)"))?;
    let mut input = child.stdin.take().context("no standard input")?;
    // A broken pipe means that the program gave up; what it said is in its standard error.
    let _ = input.write_all((lines.join("\n") + "\n").as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let number = said
        .rsplit_once("-:")
        .and_then(|(_, number)| number.trim().parse::<usize>().ok());
    match number.and_then(|number| lines.get(number - 1)) {
        Some(line) => bail!("{program} {line}: {said}"),
        None => bail!("{program}: {said}"),
    }
}
