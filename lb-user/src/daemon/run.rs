//! The life of the daemon: the run directory, the engine's thread, the socket, signals.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use super::engine::{Engine, Message, StartError};
use super::journal::{JournalError, Store};
use super::networks::Watchers;
use super::notify::notify;
use super::{ApplyScope, Failure, Handle, Request, find};
use crate::api::server;
use crate::config::{Config, ConfigError};
use crate::datapath::{self, DatapathError};
use crate::net::{NeighbourKeeper, NetError, NetNs};
use crate::provider::swarm;

/// The name of the socket in the run directory.
pub const SOCKET: &str = "bpvs.sock";

/// How the daemon is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where socket and journal are.
    pub run_dir: PathBuf,
    /// A file to apply before serving.
    pub config: Option<PathBuf>,
    /// The Swarm to follow, whatever the file says.
    pub swarm: Option<swarm::Options>,
    /// The datapath's own.
    pub datapath: datapath::Options,
}

/// Why the daemon does not run.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum RunError {
    #[error("another bpvs runs with the run directory {}", .0.display())]
    Running(PathBuf),
    #[error("cannot use the run directory {}: {source}", .path.display())]
    RunDir { path: PathBuf, source: io::Error },
    #[error("cannot listen at {}: {source}", .path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot {what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("{}", .0.message)]
    Apply(Failure),
    #[error("the engine has ended by itself")]
    Engine,
}

impl RunError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Running(_) => Some(
                "`bpvs status` shows it; another one needs another --run-dir and --bpffs".into(),
            ),
            Self::RunDir { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run it as root".into())
            }
            Self::Datapath(error) => error.hint(),
            Self::Start(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Apply(failure) => failure.hint.clone(),
            _ => None,
        }
    }
}

/// The run directory, held against other daemons until it is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RunDir {
    /// Makes the directory if need be, and takes it.
    ///
    /// # Errors
    /// Another daemon has it, or it cannot be made.
    pub fn take(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::RunDir {
            path: path.into(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(failed)?;
        let file = File::create(path.join("bpvs.lock")).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                path: path.into(),
                _lock: lock,
            }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(RunError::Running(path.into())),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Listens at the socket, which only its owner can open from the first moment on.
    fn listen(&self) -> Result<UnixListener, RunError> {
        let path = self.path.join(SOCKET);
        let temporary = self.path.join(format!("{SOCKET}.new"));
        let bind = || {
            // Left by a daemon that was killed in between. It may not be there.
            let _ = fs::remove_file(&temporary);
            let listener = UnixListener::bind(&temporary)?;
            fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
            fs::rename(&temporary, &path)?;
            Ok(listener)
        };
        bind().map_err(|source| RunError::Socket {
            path: path.clone(),
            source,
        })
    }
}

/// Runs the daemon until it is told to end: by a signal, which leaves the datapath standing, or by `bpvs down`. It serves
/// at the socket in the run directory, or at the one that the service manager listens at for it.
///
/// # Errors
/// It could not begin to serve.
pub async fn run(
    options: Options,
    listener: Option<std::os::unix::net::UnixListener>,
) -> Result<(), RunError> {
    let run_dir = RunDir::take(&options.run_dir)?;
    let config = options
        .config
        .as_deref()
        .map(crate::config::load)
        .transpose()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for signals"))?;

    let (sender, messages) = mpsc::unbounded_channel();
    let engine = {
        let runtime = tokio::runtime::Handle::current();
        let (sender, options, store) = (
            sender.clone(),
            options.clone(),
            Store::new(&options.run_dir),
        );
        let (ready, begun) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("bpvs-engine".into())
            .spawn(move || {
                let begin = || -> Result<Engine, RunError> {
                    let datapath = datapath::open(&options.datapath)?;
                    let bpffs = options.datapath.bpffs.clone();
                    let remove_all = Box::new(move || datapath::remove_all(&bpffs));
                    let networks = Box::new(Watchers::new(runtime, sender));
                    Ok(Engine::start(datapath, networks, store, remove_all)?)
                };
                match begin() {
                    Ok(engine) => {
                        // Nobody waits if the daemon was told to end meanwhile; the first message says so.
                        let _ = ready.send(Ok(()));
                        engine.run(messages);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        let thread = thread.map_err(system("start a thread"))?;
        begun.await.map_err(|_| RunError::Engine)??;
        thread
    };
    let wanted = config.as_ref().and_then(|config| config.swarm.clone());
    let wanted = options.swarm.clone().or(wanted);
    let report = wanted.as_ref().map(|_| swarm::Report::default());
    let handle = Handle::new(sender.clone()).with_swarm(report.clone());
    if let Some(config) = config {
        apply(&handle, config).await?;
    }
    match (wanted, report) {
        (Some(wanted), Some(report)) => {
            tokio::spawn(swarm::watch(wanted, handle.clone(), report));
        }
        _ => give_up(&handle, swarm::NAME).await?,
    }

    // A socket that the service manager listens at stays when the daemon ends: the next caller starts it again.
    let (listener, own) = match listener {
        Some(listener) => (
            adopt(listener).map_err(system("use the socket that was passed"))?,
            false,
        ),
        None => (run_dir.listen()?, true),
    };
    tokio::spawn(server::serve(listener, handle));
    tokio::spawn(ticks(sender.clone()));
    // Whoever waits for the word may be gone.
    let _ = writeln!(io::stderr(), "ready");
    if let Err(error) = notify("READY=1") {
        warn!("cannot tell the service manager: {error}");
    }

    let ended = tokio::task::spawn_blocking(move || engine.join());
    tokio::pin!(ended);
    let outcome = tokio::select! {
        outcome = &mut ended => outcome,
        _ = terminate.recv() => stop(&sender, &mut ended).await,
        _ = interrupt.recv() => stop(&sender, &mut ended).await,
    };
    if own {
        // The next daemon replaces it in any case.
        let _ = fs::remove_file(options.run_dir.join(SOCKET));
    }
    // The answer to `bpvs down` may still be on its way to the client.
    tokio::time::sleep(Duration::from_millis(50)).await;
    match outcome {
        Ok(Ok(())) => Ok(()),
        _ => Err(RunError::Engine),
    }
}

fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

type Ended = tokio::task::JoinHandle<std::thread::Result<()>>;

async fn stop(
    sender: &mpsc::UnboundedSender<Message>,
    ended: &mut Ended,
) -> Result<std::thread::Result<()>, tokio::task::JoinError> {
    info!("ending; the datapath stays");
    // If it has ended already, all the better.
    let _ = sender.send(Message::Stop);
    ended.await
}

async fn ticks(sender: mpsc::UnboundedSender<Message>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        if sender.send(Message::Tick).is_err() {
            return;
        }
    }
}

/// Applies the file that the daemon was started with, in its own namespace.
async fn apply(handle: &Handle, config: Config) -> Result<(), RunError> {
    let mut scopes = vec![ApplyScope {
        name: None,
        netns: NetNs::current()?,
        declared: config.here,
    }];
    for scope in config.scopes {
        let netns = NetNs::open(&scope.netns)?;
        scopes.push(ApplyScope {
            name: Some(scope.netns),
            netns,
            declared: scope.declared,
        });
    }
    handle
        .call(Request::Apply {
            scopes,
            dry_run: false,
        })
        .await
        .map(drop)
        .map_err(RunError::Apply)
}

/// Takes back what an earlier daemon's provider declared, when there is none any more.
async fn give_up(handle: &Handle, provider: &str) -> Result<(), RunError> {
    let request = Request::Provide {
        provider: provider.into(),
        scopes: Vec::new(),
    };
    handle
        .call(request)
        .await
        .map(drop)
        .map_err(RunError::Apply)
}

/// Removes what daemons before left, when none runs. Must be called inside a tokio runtime.
///
/// # Errors
/// One does run, or the system refuses.
pub async fn down_without_daemon(run_dir: &Path, bpffs: &Path) -> Result<(), RunError> {
    let held = if run_dir.exists() {
        Some(RunDir::take(run_dir)?)
    } else {
        None
    };
    if held.is_none() {
        datapath::remove_all(bpffs)?;
    } else {
        let store = Store::new(run_dir);
        // One that cannot be read goes, too.
        let journal = store.load().unwrap_or_default();
        let scopes = journal.scopes.iter().map(|(id, scope)| (*id, &scope.netns));
        let namespaces = find::find(scopes);
        for (scope, netns) in &namespaces {
            datapath::detach_filters(bpffs, *scope, netns.as_fd())?;
        }
        datapath::remove_all(bpffs)?;
        for netns in namespaces.into_values() {
            if let Err(error) = give_up_neighbours(&netns).await {
                debug!("neighbours of {netns} could not be given up: {error}");
            }
        }
        store.remove()?;
        // Left by a daemon that was killed. It may not be there.
        let _ = fs::remove_file(run_dir.join(SOCKET));
    }
    Ok(())
}

/// Takes away the neighbours that a daemon had the kernel keep.
async fn give_up_neighbours(netns: &NetNs) -> Result<(), NetError> {
    NeighbourKeeper::open(netns)
        .await?
        .release()
        .await
        .map(drop)
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
