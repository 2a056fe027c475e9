//! The two nodes of the demo with a daemon on each, and what an orchestrator would do with them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::Lab;
use crate::topology::two_nodes::{INGRESS_GATEWAY, Node, Placed, SERVICE, TwoNodes};

/// Port of the service `web` inside the user's network.
pub(super) const WEB_PORT: u16 = 80;
/// Port of its UDP service.
pub(super) const UDP_PORT: u16 = 9;
/// The published port.
pub(super) const PUBLISHED: u16 = 8080;

/// The nodes and their daemons.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) lab: Lab,
    pub(super) nodes: TwoNodes,
    pub(super) daemons: Vec<Daemon>,
}

/// A real server of one of the services, and the scope that it is to be told to.
pub(super) struct Place<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) scope: &'a Host,
    /// The service, as the command line writes it.
    pub(super) service: String,
    /// Address and port of the real server.
    pub(super) server: String,
}

impl Cluster {
    pub(super) fn build(lab: Lab) -> Result<Self> {
        let nodes = TwoNodes::build(&lab)?;
        Ok(Self {
            lab,
            nodes,
            daemons: Vec::new(),
        })
    }

    pub(super) fn start_daemons(&mut self, bpvs: &Path) -> Result<()> {
        self.daemons = self
            .nodes
            .nodes
            .iter()
            .map(|node| Daemon::start(&self.lab, bpvs, &node.host, &[]))
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// Everything that one node is told, as one file.
    pub(super) fn file(&self, node: &Node) -> Result<String> {
        let mut text = format!(
            "# {name}: whoever comes to the published port goes to the ingress sandbox\n\
             [[service]]\n\
             address = \"tcp:{address}:{PUBLISHED}\"\n\
             server = [{{ address = \"{INGRESS_GATEWAY}:{PUBLISHED}\" }}]\n\n\
             # the ingress sandbox: to the tasks, at their own port\n\
             [[scope]]\n\
             netns = \"{ingress}\"\n\
             mark = [{{ mark = 256, protocol = \"tcp\", ports = \"{PUBLISHED}\" }}]\n\n\
             [[scope.service]]\n\
             address = \"fwmark:256\"\n\
             source-nat = true\n\
             server = [\n",
            name = node.host.name(),
            address = node.address,
            ingress = node.ingress.namespace(),
        );
        for placed in &self.nodes.tasks {
            writeln!(text, "  {{ address = \"{}:8000\" }},", placed.ingress)?;
        }
        write!(
            text,
            "]\n\n# the user's network: the service address, which nobody owns\n[[scope]]\nnetns = \"{}\"\n",
            node.balancer.namespace()
        )?;
        for (protocol, port, server_port) in [("tcp", WEB_PORT, 8000), ("udp", UDP_PORT, 9000)] {
            write!(
                text,
                "\n[[scope.service]]\naddress = \"{protocol}:{SERVICE}:{port}\"\nsource-nat = true\nanswer = true\nserver = [\n"
            )?;
            for placed in &self.nodes.tasks {
                writeln!(text, "  {{ address = \"{}:{server_port}\" }},", placed.user)?;
            }
            text += "]\n";
        }
        Ok(text)
    }

    /// Everywhere a task is a real server: three services on each node.
    pub(super) fn places(&self, task: &Placed) -> Vec<Place<'_>> {
        let mut places = Vec::new();
        for (node, daemon) in self.nodes.nodes.iter().zip(&self.daemons) {
            let mut place = |scope, service, server| {
                places.push(Place {
                    daemon,
                    scope,
                    service,
                    server,
                })
            };
            place(
                &node.balancer,
                format!("tcp:{SERVICE}:{WEB_PORT}"),
                format!("{}:8000", task.user),
            );
            place(
                &node.balancer,
                format!("udp:{SERVICE}:{UDP_PORT}"),
                format!("{}:9000", task.user),
            );
            place(
                &node.ingress,
                "fwmark:256".into(),
                format!("{}:8000", task.ingress),
            );
        }
        places
    }

    /// The task called `name`.
    pub(super) fn find(&self, name: &str) -> Result<&Placed> {
        self.nodes
            .tasks
            .iter()
            .find(|placed| placed.task.name() == name)
            .with_context(|| format!("there is no task {name}"))
    }

    /// Makes a task a real server of all services on all nodes.
    pub(super) fn add(&self, name: &str) -> Result<()> {
        self.everywhere(name, |place| {
            format!("server add {} {}", place.service, place.server)
        })
    }

    /// Gives a task no new connections any more.
    pub(super) fn quiesce(&self, name: &str) -> Result<()> {
        self.everywhere(name, |place| {
            format!("server edit {} {} --weight 0", place.service, place.server)
        })
    }

    /// Takes a task out of all services on all nodes.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        self.everywhere(name, |place| {
            format!("server remove {} {}", place.service, place.server)
        })
    }

    fn everywhere(&self, name: &str, command: impl Fn(&Place<'_>) -> String) -> Result<()> {
        self.places(self.find(name)?)
            .iter()
            .try_for_each(|place| place.daemon.bpvs(place.scope, &command(place)).map(drop))
    }
}
