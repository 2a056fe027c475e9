//! A real Swarm of two nodes on one wire, and an outside host.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::node::Node;
use crate::daemon::Daemon;
use crate::host::{Host, finish, tool};
use crate::lab::Lab;
use crate::slow::patient;

/// The program in the image.
const TASK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swarm-task"));
/// What the image is called.
pub(super) const IMAGE: &str = "bpvs/task";
/// The network of the services.
pub(super) const NETWORK: &str = "ov";
/// The container from which requests are made, on each node.
const PROBE: &str = "probe";
/// The service with a task on each node.
pub(super) const SERVICE: &str = "web";
/// How long tasks may take to come and go.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Swarm.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) lab: Lab,
    /// A host on the wire that is no node.
    pub(super) outside: Host,
    /// n1, the manager, and n2, a worker.
    pub(super) nodes: Vec<Node>,
    /// A container on the services' network, on each node.
    pub(super) probes: Vec<Host>,
    /// The daemons that follow the nodes' engines.
    pub(super) daemons: Vec<Daemon>,
}

impl Cluster {
    /// Two engines, joined; nothing served yet.
    pub(super) fn build(lab: Lab, cgroup: &str) -> Result<Self> {
        let mut hosts = lab.hosts(&["wire", "outside", "n1", "n2"])?.into_iter();
        let mut next = || hosts.next().context("a host that was not made");
        let (wire, outside) = (next()?, next()?);
        let engines = [next()?, next()?];
        let mut net = lab.wiring();
        net.bridge(&wire, "br0");
        let all = [(&outside, 254), (&engines[0], 1), (&engines[1], 2)];
        for (host, last) in all {
            net.veth(&wire, host.name(), host, "eth0")
                .port(&wire, "br0", host.name());
            net.address(host, "eth0", &format!("192.168.77.{last}/24"));
        }
        net.apply()?;
        let mut nodes = Vec::new();
        for (host, last) in engines.into_iter().zip(1..) {
            let address = Ipv4Addr::new(192, 168, 77, last);
            nodes.push(Node::start(&lab, host, address, cgroup)?);
        }
        nodes.iter().try_for_each(Node::wait)?;
        import(&lab, &nodes)?;
        let cluster = Self {
            lab,
            outside,
            nodes,
            probes: Vec::new(),
            daemons: Vec::new(),
        };
        cluster.join()?;
        Ok(cluster)
    }

    fn join(&self) -> Result<()> {
        let (manager, worker) = (&self.nodes[0], &self.nodes[1]);
        manager.docker(&format!("swarm init --advertise-addr {}", manager.address))?;
        let token = manager.docker("swarm join-token -q worker")?;
        worker.docker(&format!(
            "swarm join --advertise-addr {} --token {token} {}:2377",
            worker.address, manager.address
        ))?;
        self.until("both nodes are ready", || {
            let states = manager.docker_words(&["node", "ls", "--format", "{{.Status}}"])?;
            Ok(states.lines().filter(|state| *state == "Ready").count() == 2)
        })
    }

    /// Makes the services' network, and `web` on it with a task on each node, published at 8080/tcp and 8081/udp; and a
    /// container on each node from which to ask.
    pub(super) fn serve(&mut self) -> Result<()> {
        let manager = &self.nodes[0];
        manager.docker(&format!(
            "network create --driver overlay --attachable {NETWORK}"
        ))?;
        manager.docker(&self.create(
            "web",
            "--replicas-max-per-node 1 --publish 8080:80 --publish 8081:80/udp",
        ))?;
        self.running("web", 2)?;
        for node in &self.nodes {
            node.docker(&format!(
                "run --detach --name {PROBE} --network {NETWORK} {IMAGE}"
            ))?;
            self.probes.push(node.container(PROBE)?);
        }
        Ok(())
    }

    /// The command that creates a service of two tasks on the network.
    pub(super) fn create(&self, name: &str, options: &str) -> String {
        format!(
            "service create --quiet --detach --no-resolve-image --replicas 2 --network {NETWORK} \
             --hostname {{{{.Service.Name}}}}.{{{{.Task.Slot}}}} --name {name} {options} {IMAGE}"
        )
    }

    /// Starts bpvs on each node.
    pub(super) fn start_bpvs(&mut self, bpvs: &Path) -> Result<()> {
        for node in &self.nodes {
            let (swarm, sandboxes) = (
                format!("--swarm={}", node.socket()),
                format!("--swarm-sandboxes={}", node.sandboxes().display()),
            );
            let arguments = [swarm.as_str(), sandboxes.as_str()];
            self.daemons
                .push(Daemon::start(&self.lab, bpvs, &node.host, &arguments)?);
        }
        Ok(())
    }

    /// Waits until bpvs on each node serves so many tasks of a service on the network.
    pub(super) fn followed(&self, service: &str, tasks: usize) -> Result<()> {
        for daemon in &self.daemons {
            self.until(&format!("bpvs knows {tasks} tasks of {service}"), || {
                let text = daemon.bpvs(daemon.host(), "swarm --json")?;
                let swarm: serde_json::Value = serde_json::from_str(&text)?;
                let networks = swarm["networks"].as_array().context("no networks")?;
                let served = networks
                    .iter()
                    .filter(|network| network["name"] == NETWORK && !network["sandbox"].is_null())
                    .flat_map(|network| network["services"].as_array().into_iter().flatten())
                    .filter(|there| there["name"] == service)
                    .flat_map(|there| there["tasks"].as_array().into_iter().flatten())
                    .filter(|task| task["leaving"] == false)
                    .count();
                Ok(served == tasks)
            })?;
        }
        Ok(())
    }

    /// Waits until so many tasks of a service run, and none is being replaced.
    pub(super) fn running(&self, service: &str, tasks: usize) -> Result<()> {
        self.until(&format!("{tasks} tasks of {service} run"), || {
            let states = self.nodes[0].docker_words(&[
                "service",
                "ps",
                service,
                "--format",
                "{{.DesiredState}} {{.CurrentState}}",
            ])?;
            let states: Vec<&str> = states.lines().collect();
            let wanted = states.iter().filter(|s| s.starts_with("Running ")).count();
            let there = states
                .iter()
                .filter(|s| s.contains("Running Running"))
                .count();
            Ok(wanted == tasks && there == tasks)
        })
    }

    /// Waits until the last update of a service is over.
    pub(super) fn updated(&self, service: &str) -> Result<()> {
        self.until(&format!("the update of {service} is over"), || {
            let format = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
            let state =
                self.nodes[0].docker_words(&["service", "inspect", service, "--format", format])?;
            ensure!(
                !state.contains("paused"),
                "the update of {service} is {state}"
            );
            Ok(state == "completed")
        })
    }

    /// The container of the service's task on a node.
    pub(super) fn task_on(&self, node: &Node) -> Result<String> {
        let label = format!("label=com.docker.swarm.service.name={SERVICE}");
        let containers = node.docker_words(&["ps", "--filter", &label, "--quiet"])?;
        let first = containers.lines().next();
        Ok(first
            .with_context(|| format!("no task on {}", node.host.name()))?
            .to_owned())
    }

    /// The sandbox in which the services' network is balanced on a node.
    pub(super) fn sandbox(&self, node: usize) -> Result<Host> {
        let node = &self.nodes[node];
        let id = node.docker_words(&["network", "inspect", NETWORK, "--format", "{{.Id}}"])?;
        let name = format!("lb_{}", id.get(..9).context("a short id")?);
        Host::at(&name, &node.sandboxes().join(&name))
    }

    /// The service's address on the network.
    pub(super) fn address(&self, service: &str) -> Result<Ipv4Addr> {
        let network =
            self.nodes[0].docker_words(&["network", "inspect", NETWORK, "--format", "{{.Id}}"])?;
        let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}{{\"\\n\"}}{{end}}";
        let all =
            self.nodes[0].docker_words(&["service", "inspect", service, "--format", format])?;
        all.lines()
            .find_map(|line| {
                line.strip_prefix(&network)?
                    .trim()
                    .split('/')
                    .next()?
                    .parse()
                    .ok()
            })
            .with_context(|| format!("{service} has no address on {NETWORK}: {all}"))
    }

    /// The addresses of a service's tasks on the network, as a node's engine lists them.
    pub(super) fn tasks(&self, service: &str) -> Result<Vec<Ipv4Addr>> {
        let text = self.nodes[0].docker_words(&["network", "inspect", "--verbose", NETWORK])?;
        let networks: serde_json::Value = serde_json::from_str(&text)?;
        let tasks = networks[0]["Services"][service]["Tasks"].as_array();
        let mut addresses: Vec<Ipv4Addr> = tasks
            .into_iter()
            .flatten()
            .filter_map(|task| task["EndpointIP"].as_str()?.parse().ok())
            .collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Waits until something holds; an error of the last try counts as well as none.
    pub(super) fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + patient(PATIENCE);
        loop {
            let last = holds();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                last.with_context(|| format!("waiting until {what}"))?;
                bail!("waited in vain until {what}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The image, of nothing but the program, into every engine.
fn import(lab: &Lab, nodes: &[Node]) -> Result<()> {
    let folder = lab.folder().join("image");
    fs::create_dir_all(folder.join("etc"))?;
    let program = folder.join("task");
    fs::write(&program, TASK)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let archive = lab.folder().join("image.tar");
    let mut tar = tool("tar");
    finish(tar.arg("-C").arg(&folder).arg("-cf").arg(&archive).arg("."))?;
    let archive = archive.display().to_string();
    for node in nodes {
        let command = "CMD [\"/task\", \"80\"]";
        node.docker_words(&["import", "--change", command, &archive, IMAGE])?;
    }
    Ok(())
}
