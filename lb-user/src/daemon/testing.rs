//! An engine on the in-memory datapath, for the tests of daemon, API and command line.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::engine::{Engine, Message, StartError};
use super::journal::Store;
use super::networks::{Networks, Seen};
use super::request::Handle;
use crate::datapath::Datapath;
use crate::datapath::fake::FakeDatapath;
use crate::model::ScopeId;
use crate::net::{HopId, HopKey, Interface, Medium, NetError, NetNs, Network};

/// Namespaces in which nothing ever changes: one interface to attach to, and one not to.
pub(crate) struct Still;

impl Networks for Still {
    fn start(
        &mut self,
        _scope: ScopeId,
        _netns: &NetNs,
        _hops: &[(HopKey, HopId)],
    ) -> Result<Seen, NetError> {
        Ok((
            network(&[(2, "eth0", true), (3, "slave0", false)]),
            Vec::new(),
        ))
    }

    fn servers(&mut self, _scope: ScopeId, _servers: BTreeSet<IpAddr>) {}

    fn server(&mut self, _scope: ScopeId, _server: IpAddr, _is_there: bool) {}

    fn stop(&mut self, _scope: ScopeId) {}
}

/// A network with these interfaces: index, name, whether to attach.
pub(crate) fn network(interfaces: &[(u32, &str, bool)]) -> Arc<Network> {
    let interface = |(ifindex, name, attach): &(u32, &str, bool)| Interface {
        ifindex: *ifindex,
        name: (*name).to_owned(),
        mac: [0; 6],
        attach: *attach,
        attach_reason: "a test says so",
        up: true,
        mtu: 1500,
        primary: None,
        vlan: None,
        medium: Medium::Wire,
    };
    Arc::new(Network {
        interfaces: interfaces.iter().map(interface).collect(),
        ..Network::default()
    })
}

/// A run directory that goes away with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bpvs-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A test that failed may have left it in any state.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An engine on a datapath, with its journal in `dir`.
pub(crate) fn start(datapath: impl Datapath + 'static, dir: &Path) -> Result<Engine, StartError> {
    Engine::start(
        Box::new(datapath),
        Box::new(Still),
        Store::new(dir),
        Box::new(|| Ok(())),
    )
}

/// An engine on a thread of its own, which ends when it was told to stop or everything is removed.
pub(crate) fn spawn(
    datapath: FakeDatapath,
    dir: &Path,
) -> (Handle, mpsc::UnboundedSender<Message>) {
    let (sender, messages) = mpsc::unbounded_channel();
    let engine = start(datapath, dir).unwrap();
    std::thread::spawn(move || engine.run(messages));
    (Handle::new(sender.clone()), sender)
}

/// A new network namespace, which lives as long as the value; none without the right to make one.
pub(crate) fn new_netns() -> Option<NetNs> {
    let made = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
        NetNs::current().ok()
    });
    let netns = made.join().unwrap();
    if netns.is_none() {
        eprintln!("skipped: making a network namespace needs CAP_SYS_ADMIN");
    }
    netns
}
