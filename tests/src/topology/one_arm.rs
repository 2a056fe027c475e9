//! A director with one leg, on the same segment as client and servers, who know no way through it:
//!
//! ```text
//!            ┌── client 10.0.1.2
//! switch ────┼── director 10.0.1.1, 10.0.1.100
//!            └── rs1 10.0.1.11, rs2 10.0.1.12, …
//! ```
//!
//! Without source NAT the servers answer the client directly, and the client refuses that.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::host::Host;
use crate::lab::Lab;
use crate::task::{Ports, Task};

/// The service address; the director owns it.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 100);
/// The director's own address.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

/// The address of a second director that a case may add.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);

/// The network; tasks are named as their hosts: `rs1`, `rs2`, …
#[derive(Debug)]
pub struct OneArm {
    /// Where requests come from.
    pub client: Host,
    /// Where bpvs works.
    pub director: Host,
    /// The real servers' hosts; addresses as in [`super::director::server_address`].
    pub servers: Vec<Host>,
    /// Their processes.
    pub tasks: Vec<Task>,
    switch: Host,
}

impl OneArm {
    /// Builds the network and starts a task on each server.
    pub fn build(lab: &Lab, servers: u8) -> Result<Self> {
        let names: Vec<String> = (1..=servers).map(|number| format!("rs{number}")).collect();
        let mut all = vec!["switch", "client", "director"];
        all.extend(names.iter().map(String::as_str));
        let hosts = lab.hosts(&all)?;
        let [switch, client, director, servers @ ..] = &hosts[..] else {
            unreachable!("three hosts at least were asked for")
        };
        let mut net = lab.wiring();
        net.bridge(switch, "br0");
        let mut plug = |host: &Host, address: Ipv4Addr| {
            net.veth(switch, host.name(), host, "eth0")
                .port(switch, "br0", host.name());
            net.address(host, "eth0", &format!("{address}/24"));
        };
        plug(client, Ipv4Addr::new(10, 0, 1, 2));
        plug(director, DIRECTOR);
        for (host, number) in servers.iter().zip(1..) {
            plug(host, super::director::server_address(number));
        }
        net.address(director, "lo", &format!("{SERVICE}/32"));
        net.apply()?;
        let tasks: Vec<(&Host, &str)> = servers
            .iter()
            .zip(&names)
            .map(|(host, name)| (host, name.as_str()))
            .collect();
        let tasks = Task::start_all(lab, &tasks, &Ports::default())?;
        Ok(Self {
            client: client.clone(),
            director: director.clone(),
            servers: servers.to_vec(),
            tasks,
            switch: switch.clone(),
        })
    }

    /// Adds a second director, at [`SECOND`]; it does not own the service address.
    pub fn add_director(&self, lab: &Lab) -> Result<Host> {
        let host = lab.host("director2")?;
        let mut net = lab.wiring();
        net.veth(&self.switch, host.name(), &host, "eth0")
            .port(&self.switch, "br0", host.name());
        net.address(&host, "eth0", &format!("{SECOND}/24"))
            .apply()?;
        Ok(host)
    }
}
