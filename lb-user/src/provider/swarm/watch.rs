//! Looks again and again, and tells the daemon what is to be served.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::clients::{Asked, Reach};
use super::docker::Engine;
use super::drain::{self, Resolved};
use super::far::Far;
use super::node::{Listeners, Node};
use super::plan::{Input, Place, Plan, keeps, plan, to_ask};
use super::seen::{Network, Seen};
use super::{NAME, Options, Report, dns, sandboxes};
use crate::api::wire;
use crate::control::Declared;
use crate::daemon::{ApplyScope, Failure, FailureKind, Handle, Request};
use crate::net::{NetError, NetNs, NetNsId};

/// How long nothing need happen until the next look, where nothing has changed for a while: a look costs dockerd more than us.
/// Tasks on other nodes come and go without news here; one that is to end is taken out of the DNS two seconds before.
const AT_REST: Duration = Duration::from_secs(1);

/// The same while something changes, for one change is seldom alone: and how long that is assumed after the last one.
const EVERY: Duration = Duration::from_millis(500);
const LATELY: Duration = Duration::from_secs(30);

/// Meanwhile the DNS alone is asked so often: a look waits for dockerd, which takes its time where the node is busy, and a
/// task that has left the DNS is told to end two seconds later.
const GLANCE: Duration = Duration::from_millis(200);

/// How long after news the look is taken, for news come in swarms.
const SETTLE: Duration = Duration::from_millis(50);

/// How long what was found of listeners on the node is good for: they seldom come and go.
const LISTENERS: Duration = Duration::from_secs(5);

/// How long to wait for a dockerd that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Why a look had no outcome. What was served before is served on.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Docker(#[from] super::docker::DockerError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the node's addresses cannot be read: {0}")]
    Node(#[from] nix::Error),
    #[error("a look was interrupted")]
    Interrupted,
}

/// Serves the Swarm of this node's dockerd until the daemon ends.
pub async fn watch(options: Options, handle: Handle, report: Report) {
    let mut watcher = Watcher {
        options,
        handle,
        report,
        applied: None,
        told: BTreeSet::new(),
        listeners: None,
        asked: Asked::default(),
        far: Far::default(),
        said: drain::Memory::default(),
        changed: Instant::now(),
    };
    loop {
        match Engine::connect(&watcher.options.docker).await {
            Ok(engine) => {
                info!("following the Swarm of {}", watcher.options.docker);
                watcher.follow(&engine).await;
            }
            Err(error) => watcher.complain(&error),
        }
        if watcher.handle.is_closed() {
            return;
        }
        sleep(RETRY).await;
    }
}

struct Watcher {
    options: Options,
    handle: Handle,
    report: Report,
    /// What was declared last, so that the daemon is told only of changes.
    applied: Option<Vec<(NetNsId, Declared)>>,
    /// Problems that stand in the log already.
    told: BTreeSet<String>,
    /// Who listens on the node, and when that was looked for.
    listeners: Option<(Instant, Listeners)>,
    /// What other nodes have said of keeping clients' addresses.
    asked: Asked,
    /// Their sandboxes, where the engine does not say which they are.
    far: Far,
    /// What the sandboxes' resolvers have said.
    said: drain::Memory,
    /// When something changed last, so far as is known.
    changed: Instant,
}

/// How long until the next look, so long after the last change.
fn pause(since: Duration) -> Duration {
    if since < LATELY { EVERY } else { AT_REST }
}

/// What one look found.
struct Look {
    seen: Seen,
    leaving: BTreeSet<String>,
    sandboxes: BTreeMap<String, NetNs>,
    node: Node,
    reach: Reach,
}

impl Watcher {
    /// Until dockerd no longer answers.
    async fn follow(&mut self, engine: &Engine) {
        let mut news = pin!(engine.news());
        loop {
            let begun = Instant::now();
            let mut look = match self.look(engine).await {
                Ok(look) => look,
                Err(error) => {
                    self.complain(&error);
                    return;
                }
            };
            self.declare(&look).await;
            loop {
                if self.handle.is_closed() {
                    return;
                }
                let since = self.changed.elapsed();
                tokio::select! {
                    () = sleep_until(begun + pause(since)) => break,
                    () = sleep(GLANCE), if since < LATELY => {
                        if self.glance(&mut look).await {
                            self.declare(&look).await;
                        }
                    }
                    item = news.next() => match item {
                        Some(Ok(_)) => {
                            self.changed = Instant::now();
                            engine.forget();
                            // The rest of the swarm.
                            let settled = Instant::now() + SETTLE;
                            while let Ok(Some(Ok(_))) = timeout(settled.saturating_duration_since(Instant::now()), news.next()).await {}
                            break;
                        }
                        // dockerd ends: a new connection will tell.
                        Some(Err(_)) | None => return,
                    },
                }
            }
        }
    }

    async fn look(&mut self, engine: &Engine) -> Result<Look, LookError> {
        let mut seen = engine.seen().await?;
        if keeps(&seen, self.options.clients) {
            self.find_balancers(&mut seen).await?;
        }
        let folder = self.options.sandboxes.clone();
        let local = |network: &&Network| network.balancer.is_some();
        let networks: Vec<Network> = seen.networks.iter().filter(local).cloned().collect();
        // Where nobody says which protocol a published port has.
        let unknown = seen.managed.is_none()
            && networks.iter().any(|network| {
                let mut services = network.services.iter();
                services.any(|service| !service.published.is_empty())
            });
        let looked = self.listeners.as_ref();
        let listeners = if unknown {
            let fresh = looked.filter(|(at, _)| at.elapsed() < LISTENERS);
            fresh.map(|(_, listeners)| listeners.clone())
        } else {
            Some(Listeners::new())
        };
        let anew = listeners.is_none();
        let to_ask = to_ask(&seen, self.options.clients);
        let mut asked = std::mem::take(&mut self.asked);
        let found = tokio::task::spawn_blocking(move || -> Result<_, LookError> {
            let mut found = BTreeMap::new();
            let mut resolved = BTreeMap::new();
            let mut reach = Reach::default();
            for network in networks {
                let Some(sandbox) = sandboxes::open(&folder, &network)? else {
                    continue;
                };
                if !network.ingress {
                    resolved.insert(network.id.clone(), resolve(&sandbox, &network));
                } else if let (Some(others), Some(own)) = (&to_ask, network.balancer) {
                    reach = asked.reach(&sandbox, own, others);
                }
                found.insert(network.id, sandbox);
            }
            let node = Node::read(listeners)?;
            Ok((found, resolved, node, reach, asked))
        });
        let found = found.await.map_err(|_| LookError::Interrupted)??;
        let (sandboxes, resolved, node, reach, asked) = found;
        self.asked = asked;
        if anew {
            self.listeners = Some((Instant::now(), node.listeners.clone()));
        }
        let resolved = self.said.complete(resolved, Instant::now());
        let leaving = drain::leaving(&seen.networks, &resolved, seen.managed.as_ref());
        Ok(Look {
            seen,
            leaving,
            sandboxes,
            node,
            reach,
        })
    }

    /// Asks the DNS again which tasks of a look are about to go. `true`: others than before.
    async fn glance(&mut self, look: &mut Look) -> bool {
        let local = look.seen.networks.iter().filter(|network| {
            network.balancer.is_some()
                && !network.ingress
                && !drain::worth_asking(network).is_empty()
        });
        let asked: Vec<(NetNs, Network)> = local
            .filter_map(|network| {
                let sandbox = look.sandboxes.get(&network.id)?;
                Some((sandbox.try_clone().ok()?, network.clone()))
            })
            .collect();
        if asked.is_empty() {
            return false;
        }
        let answers = tokio::task::spawn_blocking(move || {
            let asked = asked.into_iter();
            asked
                .map(|(sandbox, network)| (network.id.clone(), resolve(&sandbox, &network)))
                .collect::<BTreeMap<_, _>>()
        });
        let Ok(resolved) = answers.await else {
            return false;
        };
        let resolved = self.said.complete(resolved, Instant::now());
        let leaving = drain::leaving(&look.seen.networks, &resolved, look.seen.managed.as_ref());
        let differs = leaving != look.leaving;
        look.leaving = leaving;
        differs
    }

    /// The sandboxes of all nodes, where the engine does not list them.
    async fn find_balancers(&mut self, seen: &mut Seen) -> Result<(), LookError> {
        let unknown = |network: &&mut Network| network.ingress && network.balancers.is_empty();
        let Some(network) = seen.networks.iter_mut().find(unknown) else {
            return Ok(());
        };
        let (folder, asked) = (self.options.sandboxes.clone(), network.clone());
        let ends = tokio::task::spawn_blocking(move || sandboxes::far_ends(&folder, &asked));
        let ends = ends.await.map_err(|_| LookError::Interrupted)??;
        network.balancers = self.far.balancers(network, &ends);
        Ok(())
    }

    async fn declare(&mut self, look: &Look) {
        let there: BTreeSet<String> = look.sandboxes.keys().cloned().collect();
        let mut plan = plan(&Input {
            seen: &look.seen,
            sandboxes: &there,
            leaving: &look.leaving,
            node: &look.node,
            reach: &look.reach,
            tcp_timeout: self.options.tcp_timeout,
            clients: self.options.clients,
        });
        let mut problems = std::mem::take(&mut plan.problems);
        if let Err(failure) = self.apply(plan, look).await {
            let hint = failure.hint.map(|hint| format!(" ({hint})"));
            problems.push(failure.message + &hint.unwrap_or_default());
        }
        for problem in &problems {
            self.tell(problem);
        }
        self.told.retain(|told| problems.contains(told));
        self.report.set(listing(&self.options, look, problems));
    }

    async fn apply(&mut self, plan: Plan, look: &Look) -> Result<(), Failure> {
        let (mut wanted, mut scopes) = (Vec::new(), Vec::new());
        for (place, declared) in plan.scopes {
            let (name, netns) = match place {
                Place::Node => (None, NetNs::current()?),
                Place::Sandbox(id) => {
                    let Some(netns) = look.sandboxes.get(&id) else {
                        continue;
                    };
                    (Some(netns.to_string()), netns.try_clone()?)
                }
            };
            wanted.push((netns.id(), declared.clone()));
            scopes.push(ApplyScope {
                name,
                netns,
                declared,
            });
        }
        if self.applied.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let provider = NAME.to_owned();
        let request = Request::Provide { provider, scopes };
        match self.handle.call(request).await {
            Ok(_) => {
                self.changed = Instant::now();
                self.applied = Some(wanted);
                Ok(())
            }
            Err(failure) if failure.kind == FailureKind::Ending => Ok(()),
            Err(failure) => {
                self.applied = None;
                Err(failure)
            }
        }
    }

    fn complain(&mut self, error: &dyn std::error::Error) {
        let problem = error.to_string();
        self.tell(&problem);
        self.report.failed(problem);
    }

    /// Into the log, once.
    fn tell(&mut self, problem: &str) {
        if self.told.insert(problem.to_owned()) {
            warn!("swarm: {problem}");
        }
    }
}

fn resolve(sandbox: &NetNs, network: &Network) -> Resolved {
    let services = drain::worth_asking(network);
    let names: Vec<String> = services
        .iter()
        .map(|service| format!("tasks.{service}"))
        .collect();
    let answers = dns::ask(sandbox, &names);
    let known = services.into_iter().zip(answers);
    known
        .filter_map(|(service, answer)| Some((service.to_owned(), answer?)))
        .collect()
}

fn listing(options: &Options, look: &Look, problems: Vec<String>) -> wire::Swarm {
    let networks = look.seen.networks.iter().map(|network| {
        let services = network.services.iter().map(|service| {
            let tasks = service.tasks.iter().map(|task| wire::SwarmTask {
                name: task.name.clone(),
                address: task.address,
                node: task.node,
                leaving: look.leaving.contains(&task.name),
            });
            wire::SwarmService {
                name: service.name.clone(),
                address: service.address,
                published: service.published.iter().map(|p| p.port).collect(),
                tasks: tasks.collect(),
            }
        });
        wire::SwarmNetwork {
            name: network.name.clone(),
            id: network.id.clone(),
            sandbox: look.sandboxes.get(&network.id).map(ToString::to_string),
            address: network.balancer,
            services: services.collect(),
        }
    });
    wire::Swarm {
        docker: options.docker.clone(),
        manager: look.seen.managed.is_some(),
        networks: networks.collect(),
        problems,
    }
}
