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

use super::seen::{self, Bridge, Managed, Network, Seen, Specified};
use crate::model::Protocol;

/// How long dockerd may take to answer, in seconds.
const PATIENCE: u64 = 10;

/// How long it is believed that the node is a manager, or none. A worker that is asked as a manager says so in its log.
const ROLE: Duration = Duration::from_secs(30);

/// How long what changes with news alone is believed without any: which networks there are, what is in those that have no
/// sandbox on this node, and where the sandbox of published ports is.
const STANDING: Duration = Duration::from_secs(5);

/// How long after news nothing is taken for standing: what they are about may show only later.
const UNSETTLED: Duration = Duration::from_secs(2);

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
pub(super) const BRIDGE: &str = "docker_gwbridge";

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
    /// What changes with news alone, and when it was asked.
    standing: Mutex<Option<(Instant, Standing)>>,
    /// When there were news.
    news: Mutex<Option<Instant>>,
}

/// What changes with news alone.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// The networks that have a sandbox on this node, or may get one at any time: their ids.
    here: Vec<String>,
    /// The others, as they were seen.
    elsewhere: Vec<Network>,
    bridge: Bridge,
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
            standing: Mutex::default(),
            news: Mutex::default(),
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
        let known = self.known();
        let ids = match &known {
            Some(known) => known.here.clone(),
            None => self.overlays().await?,
        };
        for id in ids {
            let network = self.inspect(&id, true).await?.and_then(seen::network);
            seen.networks.extend(network);
        }
        let fresh = known.is_none();
        let known = known.unwrap_or_default();
        seen.networks.extend(known.elsewhere);
        if seen.networks.is_empty() {
            return Ok(seen);
        }
        seen.networks
            .sort_unstable_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        seen.bridge = known.bridge;
        if let Some(ingress) = seen.networks.iter().find(|network| network.ingress) {
            let bridged = |id| seen.bridge.containers.contains_key(id);
            if seen.bridge.gateway.is_none() || !ingress.here.keys().all(bridged) {
                let inspected = self.inspect(BRIDGE, false).await?;
                seen.bridge = inspected.map(seen::bridge).unwrap_or_default();
            }
        }
        if fresh {
            self.keep(&seen);
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

    async fn overlays(&self) -> Result<Vec<String>, DockerError> {
        let overlays = ListNetworksOptions {
            filters: Some(HashMap::from([("driver".into(), vec!["overlay".into()])])),
        };
        let listed = self.docker.list_networks(Some(overlays)).await;
        let listed = listed.map_err(|error| self.failed(error))?;
        Ok(listed
            .into_iter()
            .filter_map(|network| network.id)
            .collect())
    }

    /// What was asked before and still stands.
    fn known(&self) -> Option<Standing> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, known) = standing.as_ref()?;
        (when.elapsed() < STANDING).then(|| known.clone())
    }

    fn keep(&self, seen: &Seen) {
        let news = *self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.is_some_and(|news| news.elapsed() < UNSETTLED) {
            return;
        }
        let all = seen.networks.iter().cloned();
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            all.partition(|network| network.balancer.is_some());
        let standing = Standing {
            here: here.into_iter().map(|network| network.id).collect(),
            elsewhere,
            bridge: seen.bridge.clone(),
        };
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), standing));
    }

    /// There are news: everything is to be asked anew.
    pub(super) fn forget(&self) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        Ok(by_service(listed))
    }
}

/// The labels of tasks' containers, by the name of their service.
fn by_service(listed: Vec<bollard::models::ContainerSummary>) -> BTreeMap<String, seen::Labels> {
    let labels = listed.into_iter().filter_map(|container| container.labels);
    let named = labels.filter_map(|labels| {
        let name = labels.get(SERVICE_NAME)?.clone();
        Some((name, labels.into_iter().collect()))
    });
    named.collect()
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
    let containers = spec.task_template.and_then(|task| task.container_spec);
    let mut labels: seen::Labels = containers
        .and_then(|containers| containers.labels)
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(spec.labels.unwrap_or_default());
    Some((spec.name?, Specified { labels, published }))
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
