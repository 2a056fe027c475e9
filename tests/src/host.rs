//! A host of a lab: one network namespace, with what one does on a host.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::{netns, signals};

/// One network namespace of a lab. Cheap to clone; all clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    namespace: String,
    fd: OwnedFd,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.0.namespace)
    }
}

impl Host {
    pub(crate) fn open(name: &str, namespace: &str) -> Result<Self> {
        let fd = netns::open(namespace)?;
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            namespace: namespace.into(),
            fd,
        })))
    }

    /// A namespace that somebody else made, by the file that it is mounted over.
    pub(crate) fn at(name: &str, path: &std::path::Path) -> Result<Self> {
        let file = std::fs::File::open(path)
            .with_context(|| format!("cannot open the namespace {}", path.display()))?;
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            namespace: path.display().to_string(),
            fd: file.into(),
        })))
    }

    /// The host's name within its lab, such as `client`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of its namespace, as `ip netns exec` takes it.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The file of its namespace.
    pub fn path(&self) -> PathBuf {
        netns::path(&self.0.namespace)
    }

    /// Runs `f` on a thread of its own inside the host and waits for it.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        netns::run_in(self.0.fd.as_fd(), f).with_context(|| format!("on host {}", self.name()))
    }

    /// Starts a thread inside the host.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        netns::spawn_in(self.0.fd.try_clone()?, name, f)
    }

    /// A command that will run inside the host (its network namespace only; files are those of the
    /// machine).
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = tool(program);
        let inner = Arc::clone(&self.0);
        let enter = move || {
            setns(inner.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            signals::unblock_in_child()
        };
        // SAFETY: between fork and exec `enter` makes two system calls on a descriptor that the
        // closure keeps open; it takes no lock and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command inside the host; its standard output, or what went wrong with what it said.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null());
        finish(&mut command)
            .with_context(|| format!("{}$ {program} {}", self.name(), arguments.join(" ")))
    }

    /// Runs `ip` for this host.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let mut command = tool("ip");
        command.arg("-n").arg(self.namespace()).args(&arguments);
        finish(&mut command).with_context(|| format!("{}$ ip {}", self.name(), arguments.join(" ")))
    }

    /// Writes a setting below /proc/sys, given with dots as in `net.ipv4.ip_forward`. A dot within
    /// an interface's name is written as `/`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| write_sysctl(name, value))?
    }
}

/// Writes a setting in the namespace of the calling thread.
pub(crate) fn write_sysctl(name: &str, value: &str) -> Result<()> {
    // As sysctl(8) does: dots separate, and a slash stands for a dot within a part.
    let path: String = name
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    std::fs::write(format!("/proc/sys/{path}"), value)
        .with_context(|| format!("cannot set {name} to {value}"))
}

/// A command that is found also when the folders of the administrator's programs are not in PATH.
pub(crate) fn tool(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command
}

/// Runs the command; its standard output, or an error with its standard error.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        bail!("{}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
