//! Network namespaces: names under /run/netns (as `ip netns` keeps them, so that `ip netns exec`
//! works), and threads that enter them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Where named network namespaces are.
pub const FOLDER: &str = "/run/netns";

/// The file of the namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Opens the namespace `name`; it stays in being for as long as the descriptor is open.
pub fn open(name: &str) -> Result<OwnedFd> {
    let path = path(name);
    Ok(File::open(&path)
        .with_context(|| format!("cannot open the namespace {}", path.display()))?
        .into())
}

/// Runs `f` on a thread of its own inside the namespace.
///
/// Sockets that `f` makes belong to the namespace for good, whoever uses them later. A panic in `f`
/// goes on in the caller.
pub fn run_in<T: Send>(namespace: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            Ok(f())
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Starts a thread inside the namespace and leaves it running.
pub fn spawn_in<T: Send + 'static>(
    namespace: OwnedFd,
    name: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<Result<T>>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|e| anyhow!("cannot enter the namespace: {e}"))?;
            Ok(f())
        })
        .context("cannot start a thread")
}

/// Takes away the namespace's name; the namespace itself goes when nothing uses it any more.
pub fn remove(name: &str) -> Result<()> {
    let path = path(name);
    // A lab that died while it made the namespace leaves a file with nothing mounted on it: then
    // only the file is to go.
    let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// All names under /run/netns.
pub fn names() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(FOLDER) else {
        return Vec::new();
    };
    let mut names: Vec<String> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
