//! The lab: owner of all that a run makes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use crate::daemon::Daemon;
use crate::host::Host;
use crate::process::Process;
use crate::wiring::{Wiring, batch};
use crate::{netns, signals, state};

/// A throw-away network. Cheap to clone; what was made goes with the last clone.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    name: String,
    folder: PathBuf,
    keep: AtomicBool,
    hosts: Mutex<Vec<Host>>,
    daemons: Mutex<Vec<Daemon>>,
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lab({})", self.0.name)
    }
}

/// Told apart within this process by number.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// A new lab with nothing in it.
    pub fn new() -> Result<Self> {
        let name = format!(
            "bpvs-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = signals::register(&name, || state::create(&name))?;
        Ok(Self(Arc::new(Inner {
            name,
            folder,
            keep: AtomicBool::new(false),
            hosts: Mutex::default(),
            daemons: Mutex::default(),
        })))
    }

    /// The lab's name, which begins the names of its namespaces.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A folder for whatever belongs to this lab; it goes with it.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Leaves the lab standing when this program ends (but not when a signal ends it). `lab clean`
    /// takes it away.
    ///
    /// To be called before tasks are started: those that are to outlive the lab are told so.
    pub fn keep(&self) {
        self.0.keep.store(true, Ordering::Relaxed);
    }

    /// Takes the lab away at its end after all.
    pub fn discard(&self) {
        self.0.keep.store(false, Ordering::Relaxed);
    }

    /// Whether the lab is to be left standing.
    pub fn is_kept(&self) -> bool {
        self.0.keep.load(Ordering::Relaxed)
    }

    /// Makes hosts: a namespace each, with loopback up, no forwarding, no reverse-path filter and
    /// no IPv6, whatever the machine's defaults.
    pub fn hosts(&self, names: &[&str]) -> Result<Vec<Host>> {
        let namespace = |name: &str| format!("{}-{name}", self.0.name);
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("netns add {}", namespace(name)))
            .collect();
        signals::guarded(|| batch("ip", &[], &lines)).context("cannot make namespaces")?;
        let hosts = names
            .iter()
            .map(|name| Host::open(name, &namespace(name)))
            .collect::<Result<Vec<_>>>()?;
        for host in &hosts {
            host.run(prepare_namespace)??;
        }
        lock(&self.0.hosts).extend(hosts.iter().cloned());
        Ok(hosts)
    }

    /// Makes one host.
    pub fn host(&self, name: &str) -> Result<Host> {
        Ok(self.hosts(&[name])?.remove(0))
    }

    /// All hosts, in the order in which they were made.
    pub fn all_hosts(&self) -> Vec<Host> {
        lock(&self.0.hosts).clone()
    }

    /// Takes one host away: its name at once, its interfaces as soon as nothing runs in it any
    /// more.
    pub fn remove_host(&self, host: Host) -> Result<()> {
        lock(&self.0.hosts).retain(|other| other.namespace() != host.namespace());
        netns::remove(host.namespace())
    }

    /// Links, addresses and routes between the hosts; see [`Wiring`].
    pub fn wiring(&self) -> Wiring {
        Wiring::default()
    }

    /// Starts a process that ends with the lab.
    pub fn start(&self, command: &mut Command) -> Result<(Child, Process)> {
        start(&self.0.name, command)
    }

    pub(crate) fn add_daemon(&self, daemon: &Daemon) {
        lock(&self.0.daemons).push(daemon.clone());
    }

    /// The daemons that were started in this lab, running or not.
    pub fn daemons(&self) -> Vec<Daemon> {
        lock(&self.0.daemons).clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.keep.get_mut() {
            signals::forget(&self.name);
            return;
        }
        // The lock of the signal thread: a signal that comes meanwhile waits, and then finds
        // nothing left to do.
        if let Err(error) = signals::guarded(|| state::remove(&self.name)) {
            eprintln!("{}: {error:#}", self.name);
        }
        signals::forget(&self.name);
    }
}

/// Starts a process that ends with the lab `name`.
pub(crate) fn start(name: &str, command: &mut Command) -> Result<(Child, Process)> {
    signals::guarded(|| {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let pid = i32::try_from(child.id()).context("a process id that is none")?;
        // The child is not yet waited for, so its entry in /proc is there even when it ended at
        // once.
        let process = Process::of(pid).context("no /proc for a new process")?;
        state::add_process(name, process)?;
        Ok((child, process))
    })
}

/// The same start for all hosts: a new namespace takes several of its settings from the machine's
/// own.
fn prepare_namespace() -> Result<()> {
    use crate::host::write_sysctl;
    write_sysctl("net.ipv4.ip_forward", "0")?;
    for scope in ["all", "default"] {
        write_sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
        write_sysctl(&format!("net.ipv4.conf.{scope}.accept_local"), "0")?;
        // A host that comes with a new MAC address says so, as container engines see to it.
        write_sysctl(&format!("net.ipv4.conf.{scope}.arp_notify"), "1")?;
        // Keeps router solicitations and the like out of the counters. A kernel without IPv6 has no
        // such file.
        let _ = write_sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1");
    }
    Ok(())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
