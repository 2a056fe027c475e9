//! Asking dockerd.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{
    EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EventMessage, NetworkInspect,
};
use bollard::query_parameters::{
    EventsOptions, InspectNetworkOptions, ListContainersOptions, ListNetworksOptions,
    ListTasksOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::Stream;
use thiserror::Error;

use super::seen::{self, Managed, Seen, Specified};
use crate::model::Protocol;

/// How long dockerd may take to answer, in seconds.
const PATIENCE: u64 = 10;

/// How long it is believed that the node is a manager, or none. A worker that is asked as a manager says so in its log.
const ROLE: Duration = Duration::from_secs(30);

/// News that can mean that something else is to be served. Health checks, which run in containers all the time, are none.
const NEWS: [&str; 9] = [
    "connect",
    "create",
    "destroy",
    "die",
    "disconnect",
    "kill",
    "remove",
    "start",
    "update",
];

/// The node's own bridge, on which the sandbox of published ports is.
const BRIDGE: &str = "docker_gwbridge";

/// By which label a container says whose task it is.
const SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// Why dockerd could not be asked.
#[derive(Debug, Error)]
pub(super) enum DockerError {
    /// No connection, or no answer.
    #[error("dockerd at {socket} cannot be asked: {source}")]
    Ask {
        /// Its socket.
        socket: String,
        /// What went wrong.
        source: bollard::errors::Error,
    },
}

/// A way to a dockerd.
#[derive(Debug)]
pub(super) struct Engine {
    docker: Docker,
    socket: String,
    /// Whether the node was a manager, and when it was asked.
    manager: Mutex<Option<(Instant, bool)>>,
}

impl Engine {
    /// Connects, and finds out which version of the API it speaks.
    pub(super) async fn connect(socket: &str) -> Result<Self, DockerError> {
        let failed = |source| DockerError::Ask {
            socket: socket.into(),
            source,
        };
        let docker =
            Docker::connect_with_unix(socket, PATIENCE, API_DEFAULT_VERSION).map_err(failed)?;
        let docker = docker.negotiate_version().await.map_err(failed)?;
        Ok(Self {
            docker,
            socket: socket.into(),
            manager: Mutex::default(),
        })
    }

    fn failed(&self, source: bollard::errors::Error) -> DockerError {
        DockerError::Ask {
            socket: self.socket.clone(),
            source,
        }
    }

    /// What there is to know now. A node that is in no Swarm knows nothing.
    pub(super) async fn seen(&self) -> Result<Seen, DockerError> {
        let mut seen = Seen::default();
        let overlays = ListNetworksOptions {
            filters: Some(HashMap::from([("driver".into(), vec!["overlay".into()])])),
        };
        let listed = self
            .docker
            .list_networks(Some(overlays))
            .await
            .map_err(|error| self.failed(error))?;
        for id in listed.into_iter().filter_map(|network| network.id) {
            let network = self.inspect(&id, true).await?.and_then(seen::network);
            seen.networks.extend(network);
        }
        if seen.networks.is_empty() {
            return Ok(seen);
        }
        seen.networks
            .sort_unstable_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        if seen.networks.iter().any(|network| network.ingress) {
            seen.gateway = self.inspect(BRIDGE, false).await?.and_then(seen::gateway);
        }
        if self.is_manager().await? {
            // One that has lost its Swarm's majority does not answer.
            seen.managed = self.managed().await.ok();
        }
        if seen.managed.is_none() {
            seen.containers = self.containers().await?;
        }
        Ok(seen)
    }

    /// News, which are only taken as a reason to look.
    pub(super) fn news(
        &self,
    ) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let kinds = ["network", "service", "container", "node"];
        let filters = HashMap::from([
            ("type".into(), kinds.map(Into::into).to_vec()),
            ("event".into(), NEWS.map(Into::into).to_vec()),
        ]);
        self.docker.clone().events(Some(EventsOptions {
            filters: Some(filters),
            ..EventsOptions::default()
        }))
    }

    async fn is_manager(&self) -> Result<bool, DockerError> {
        let known = *self.manager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, manager)) = known
            && when.elapsed() < ROLE
        {
            return Ok(manager);
        }
        let info = self
            .docker
            .info()
            .await
            .map_err(|error| self.failed(error))?;
        let manager = info
            .swarm
            .and_then(|swarm| swarm.control_available)
            .unwrap_or(false);
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), manager));
        Ok(manager)
    }

    /// A network; none where it has gone meanwhile.
    async fn inspect(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<Option<NetworkInspect>, DockerError> {
        let options = InspectNetworkOptions {
            verbose,
            scope: None,
        };
        match self.docker.inspect_network(id, Some(options)).await {
            Ok(network) => Ok(Some(network)),
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn managed(&self) -> Result<Managed, bollard::errors::Error> {
        let running = ListTasksOptions {
            filters: Some(HashMap::from([(
                "desired-state".into(),
                vec!["running".into()],
            )])),
        };
        let services = self.docker.list_services(None).await?;
        let tasks = self.docker.list_tasks(Some(running)).await?;
        Ok(Managed {
            services: services.into_iter().filter_map(specified).collect(),
            running: tasks.into_iter().filter_map(|task| task.id).collect(),
        })
    }

    async fn containers(&self) -> Result<BTreeMap<String, seen::Labels>, DockerError> {
        let tasks = ListContainersOptions {
            filters: Some(HashMap::from([("label".into(), vec![SERVICE_NAME.into()])])),
            ..ListContainersOptions::default()
        };
        let listed = self
            .docker
            .list_containers(Some(tasks))
            .await
            .map_err(|error| self.failed(error))?;
        let labels = listed.into_iter().filter_map(|container| container.labels);
        Ok(labels
            .filter_map(|labels| {
                Some((
                    labels.get(SERVICE_NAME)?.clone(),
                    labels.into_iter().collect(),
                ))
            })
            .collect())
    }
}

fn specified(service: bollard::models::Service) -> Option<(String, Specified)> {
    let spec = service.spec?;
    let ports = service
        .endpoint
        .and_then(|endpoint| endpoint.ports)
        .unwrap_or_default();
    let published = ports
        .into_iter()
        .filter(|port| port.publish_mode != Some(EndpointPortConfigPublishModeEnum::HOST))
        .filter_map(|port| {
            let protocol = match port.protocol {
                Some(EndpointPortConfigProtocolEnum::UDP) => Protocol::Udp,
                Some(EndpointPortConfigProtocolEnum::SCTP) => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            Some((protocol, u16::try_from(port.published_port?).ok()?))
        })
        .collect();
    let labels = spec.labels.unwrap_or_default().into_iter().collect();
    Some((spec.name?, Specified { labels, published }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_as_a_manager_tells_it() {
        let text = r#"{"ID":"doroa010","Version":{"Index":21},"CreatedAt":"2026-11-20T12:38:25.5Z","UpdatedAt":"2026-11-20T12:38:25.5Z",
            "Spec":{"Name":"web","Labels":{"bpvs.scheduler":"wlc"},"TaskTemplate":{"ContainerSpec":{"Image":"bb:latest","Isolation":"default"},"ForceUpdate":0,"Runtime":"container"},
              "Mode":{"Replicated":{"Replicas":2}},"EndpointSpec":{"Mode":"vip"}},
            "Endpoint":{"Spec":{"Mode":"vip"},"Ports":[
              {"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"},
              {"Protocol":"udp","TargetPort":80,"PublishedPort":8081,"PublishMode":"ingress"},
              {"Protocol":"tcp","TargetPort":80,"PublishedPort":9090,"PublishMode":"host"}],
              "VirtualIPs":[{"NetworkID":"6yqm","Addr":"10.0.1.2/24"}]}}"#;
        let (name, service) = specified(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(name, "web");
        assert_eq!(service.labels["bpvs.scheduler"], "wlc");
        assert_eq!(
            service.published,
            [(Protocol::Tcp, 8080), (Protocol::Udp, 8081)]
        );
    }
}
