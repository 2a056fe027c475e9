//! A network namespace: found, told apart from others, entered.
//!
//! The trap of this file: `setns` changes the namespace of the calling *thread*, for good. A runtime's thread that had
//! been moved would go on to open other tasks' sockets in the wrong place, so nothing here moves the caller: work
//! inside a namespace runs on a thread of its own ([`NetNs::run_in`]), which ends with it. A socket belongs to the
//! namespace that it was opened in, wherever it is used from, so that one visit is enough for it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::error::NetError;

/// Where `ip netns add` puts its names.
const NAMED: &str = "/run/netns";

/// A network namespace, kept alive by a descriptor. Two are equal when they are the same namespace.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    id: NetNsId,
    label: String,
}

/// Tells network namespaces apart while they live. Both numbers may come again after one is gone: to know over a longer
/// time that it is still the same one, compare [`NetNs::cookie`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetNsId {
    /// Device number of the namespace file system.
    pub device: u64,
    /// Inode number, as in `net:[4026531840]`.
    pub inode: u64,
}

impl fmt::Display for NetNsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<NetNs> for OwnedFd {
    fn from(netns: NetNs) -> Self {
        netns.fd
    }
}

impl NetNs {
    /// By what a person types: a path if there is a slash in it, else a name.
    ///
    /// # Errors
    /// As [`NetNs::open_name`] and [`NetNs::open_path`].
    pub fn open(name_or_path: &str) -> Result<Self, NetError> {
        if name_or_path.contains('/') {
            Self::open_path(name_or_path)
        } else {
            Self::open_name(name_or_path)
        }
    }

    /// By name: a file under /run/netns, as `ip netns add NAME` makes it.
    ///
    /// # Errors
    /// The name cannot be one, there is no such file, or it is not a network namespace.
    pub fn open_name(name: &str) -> Result<Self, NetError> {
        let reason = match name {
            "" => Some("it is empty"),
            "." | ".." => Some("it is a folder"),
            _ if name.contains('/') => Some("a name has no slash; a path is meant?"),
            _ if name.contains('\0') => Some("it contains a zero byte"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(NetError::BadName {
                name: name.to_owned(),
                reason,
            });
        }
        let mut namespace = Self::open_path(Path::new(NAMED).join(name))?;
        namespace.label = name.to_owned();
        Ok(namespace)
    }

    /// By path: a bind mount of a namespace, or /proc/PID/ns/net.
    ///
    /// # Errors
    /// There is nothing at the path, or it is not a network namespace. The latter is common: the files under
    /// /run/netns and /run/docker/netns outlive the namespaces that were mounted over them.
    pub fn open_path(path: impl Into<PathBuf>) -> Result<Self, NetError> {
        let path = path.into();
        // Non-blocking, so that a FIFO at the path does not hold us for ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|source| NetError::Open {
                path: path.clone(),
                source,
            })?;
        Self::from_file(file, path)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn current() -> Result<Self, NetError> {
        Self::open_path("/proc/thread-self/ns/net")
            .or_else(|_| Self::open_path("/proc/self/ns/net"))
            .map(|namespace| Self {
                label: namespace.id.to_string(),
                ..namespace
            })
    }

    /// The namespace of a process (of its main thread: another of its threads may be elsewhere).
    ///
    /// # Errors
    /// There is no such process, or it may not be looked into.
    pub fn of_pid(pid: u32) -> Result<Self, NetError> {
        Self::open_path(format!("/proc/{pid}/ns/net"))
    }

    /// A descriptor that somebody sent.
    ///
    /// # Errors
    /// It is not one of a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetError> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let namespace = Self::from_file(File::from(fd), path)?;
        Ok(Self {
            label: namespace.id.to_string(),
            ..namespace
        })
    }

    fn from_file(file: File, path: PathBuf) -> Result<Self, NetError> {
        let metadata = file
            .metadata()
            .map_err(NetError::system("cannot examine a namespace file"))?;
        let file_system = fstatfs(&file)
            .map_err(NetError::errno("cannot examine a namespace file"))?
            .filesystem_type();
        let found = if file_system == NSFS_MAGIC {
            match namespace_type(file.as_fd()) {
                Ok(libc::CLONE_NEWNET) => None,
                Ok(other) => Some(format!("it is a {} namespace", type_name(other))),
                Err(source) => {
                    return Err(NetError::System {
                        action: "cannot ask a namespace for its type",
                        source,
                    });
                }
            }
        } else {
            Some(describe(&metadata))
        };
        if let Some(found) = found {
            return Err(NetError::NotANamespace { path, found });
        }
        Ok(Self {
            id: NetNsId {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
            label: path.display().to_string(),
            fd: file.into(),
        })
    }

    /// What tells it apart from others that live now.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// A number that no other namespace has had or will have until the next boot, also what
    /// `bpf_get_netns_cookie` gives to programs inside. None before Linux 5.14, which has no way to ask for it.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn cookie(&self) -> Result<Option<u64>, NetError> {
        let socket = self.netlink_socket(SockProtocol::NetlinkRoute)?;
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the descriptor is open; the kernel writes at most `length` bytes to `cookie`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            return Ok(Some(cookie));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOPROTOOPT) {
            return Ok(None);
        }
        Err(NetError::system("cannot ask for the namespace's cookie")(
            error,
        ))
    }

    /// Another descriptor for the same namespace.
    ///
    /// # Errors
    /// Too many open files.
    pub fn try_clone(&self) -> Result<Self, NetError> {
        Ok(Self {
            fd: self
                .fd
                .try_clone()
                .map_err(NetError::system("cannot duplicate a descriptor"))?,
            id: self.id,
            label: self.label.clone(),
        })
    }

    /// Runs a closure inside the namespace, on a thread of its own, and returns what it returned. Blocks until then: an
    /// async caller gives it something short, or calls it from `spawn_blocking`.
    ///
    /// Only the *network* namespace is another one there: /sys and the mounts are the caller's.
    ///
    /// # Errors
    /// The thread cannot be started or may not enter (which needs `CAP_SYS_ADMIN`).
    ///
    /// # Panics
    /// When the closure panics, with its payload.
    pub fn run_in<T, F>(&self, closure: F) -> Result<T, NetError>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("bpvs-netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.fd, CloneFlags::CLONE_NEWNET)
                        .map_err(NetError::errno("cannot enter the network namespace"))?;
                    Ok(closure())
                })
                .map_err(NetError::system("cannot start a thread"))?;
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Opens a netlink socket inside the namespace: non-blocking, closed on exec, not bound. It may be used from any
    /// thread, in the caller's runtime too.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel does not know the protocol.
    pub fn netlink_socket(&self, protocol: SockProtocol) -> Result<OwnedFd, NetError> {
        self.run_in(|| {
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                protocol,
            )
        })?
        .map_err(NetError::errno("cannot open a netlink socket"))
    }
}

/// The `CLONE_NEW…` flag of a namespace's kind.
fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open, and this request has no argument.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn type_name(flag: libc::c_int) -> &'static str {
    match flag {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "process",
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWUTS => "hostname",
        libc::CLONE_NEWIPC => "IPC",
        libc::CLONE_NEWCGROUP => "cgroup",
        _ => "different",
    }
}

fn describe(metadata: &std::fs::Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "it is a folder".to_owned()
    } else if kind.is_file() && metadata.len() == 0 {
        "it is an empty regular file, left behind by a namespace that is gone".to_owned()
    } else if kind.is_file() {
        "it is a regular file".to_owned()
    } else if kind.is_fifo() {
        "it is a FIFO".to_owned()
    } else {
        "it is a special file".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: fmt::Debug>(result: Result<T, NetError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_current_namespace_is_itself() {
        let one = NetNs::current().unwrap();
        let two = NetNs::of_pid(std::process::id()).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.id(), two.try_clone().unwrap().id());
        assert_eq!(one.to_string(), format!("net:[{}]", one.id().inode));
    }

    #[test]
    fn a_name_is_checked_before_the_file_system_is_asked() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            let message = message(NetNs::open_name(name));
            assert!(
                message.contains("is not a name of a network namespace"),
                "{name:?}: {message}"
            );
        }
    }

    #[test]
    fn a_missing_namespace_is_named_with_its_path() {
        let message = message(NetNs::open("bpvs-there-is-none"));
        assert!(
            message.contains("/run/netns/bpvs-there-is-none"),
            "{message}"
        );
    }

    #[test]
    fn what_is_not_a_network_namespace_is_refused_with_what_it_is() {
        let empty = std::env::temp_dir().join(format!("bpvs-stale-netns-{}", std::process::id()));
        std::fs::write(&empty, "").unwrap();
        let stale = message(NetNs::open_path(&empty));
        std::fs::remove_file(&empty).unwrap();
        assert!(
            stale.contains("left behind by a namespace that is gone"),
            "{stale}"
        );

        let folder = message(NetNs::open("/tmp"));
        assert!(folder.contains("it is a folder"), "{folder}");
        let mount = message(NetNs::open("/proc/self/ns/mnt"));
        assert!(mount.contains("it is a mount namespace"), "{mount}");
        let other = message(NetNs::open("/proc/self/status"));
        assert!(other.contains("is not a network namespace"), "{other}");
    }
}
