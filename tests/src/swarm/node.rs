//! A node of a real Swarm: a dockerd with folders, a host name and a network namespace of its own.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::host::{Host, finish, tool};
use crate::lab::{Lab, lock};
use crate::process::Process;
use crate::slow::patient;

/// How long an engine may take to start.
const START: Duration = Duration::from_secs(40);

/// The programs without which there is no engine, and what brings them.
const PROGRAMS: [&str; 3] = ["dockerd", "docker", "iptables"];

/// Which program is missing here that a Swarm needs.
#[must_use]
pub fn missing() -> Option<&'static str> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    let is_there = |program: &&str| {
        path.split(':')
            .any(|folder| Path::new(folder).join(program).exists())
    };
    PROGRAMS.into_iter().find(|program| !is_there(program))
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    /// Its namespace.
    pub(super) host: Host,
    /// Its address on the wire.
    pub(super) address: Ipv4Addr,
    folder: PathBuf,
    cgroup: String,
    running: Mutex<Option<(Child, Process)>>,
}

impl Node {
    /// Starts an engine on `host`; [`Node::wait`] waits for it.
    pub(super) fn start(lab: &Lab, host: Host, address: Ipv4Addr, cgroup: &str) -> Result<Self> {
        let folder = lab.folder().join(host.name());
        fs::create_dir_all(&folder)?;
        let node = Self {
            host,
            address,
            folder,
            cgroup: cgroup.into(),
            running: Mutex::default(),
        };
        let version = finish(tool("dockerd").arg("--version"))?;
        // Up to 22 two engines on a machine would be one and the same by the key in /etc.
        let own_key = version
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse::<u32>().ok())
            .is_some_and(|major| major < 23);
        let key = node.folder.join("key.json");
        let config = if own_key {
            format!(
                "{{\"deprecated-key-path\": {:?}}}",
                key.display().to_string()
            )
        } else {
            "{}".to_owned()
        };
        fs::write(node.folder.join("daemon.json"), config)?;
        node.run(lab)?;
        Ok(node)
    }

    /// Starts the engine, for the first time or again.
    fn run(&self, lab: &Lab) -> Result<()> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.folder.join("log"))?;
        // It would be called as this machine otherwise.
        let script = "hostname \"$0\"; exec \"$@\"";
        let mut command = self.host.command("unshare");
        command
            .args(["--uts", "sh", "-c", script, self.host.name(), "dockerd"])
            .arg("--data-root")
            .arg(self.folder.join("data"))
            .arg("--exec-root")
            .arg(self.folder.join("exec"))
            .arg("--pidfile")
            .arg(self.folder.join("pid"))
            .arg("--config-file")
            .arg(self.folder.join("daemon.json"))
            .args(["--host", &self.socket(), "--storage-driver", "vfs"])
            .args([
                "--cgroup-parent",
                &format!("/{}-{}", self.cgroup, self.host.name()),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        *lock(&self.running) = Some(lab.start(&mut command)?);
        Ok(())
    }

    /// Ends the engine, with all of its containers, and starts it anew.
    pub(super) fn restart(&self, lab: &Lab) -> Result<()> {
        let (mut child, _) = lock(&self.running).take().context("no engine runs")?;
        let pid = i32::try_from(child.id())?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM)?;
        child.wait()?;
        self.run(lab)?;
        self.wait()
    }

    /// Waits until the engine answers.
    pub(super) fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + patient(START);
        while let Err(error) = self.docker("version") {
            if Instant::now() > deadline {
                bail!(
                    "dockerd on {} does not answer: {error:#}\n{}",
                    self.host.name(),
                    self.log_tail(10)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The engine itself: what it was started by has become it.
    pub(super) fn process(&self) -> Result<Process> {
        let running = lock(&self.running);
        let (_, process) = running.as_ref().context("no engine runs")?;
        Ok(*process)
    }

    /// Where the engine listens.
    #[must_use]
    pub(super) fn socket(&self) -> String {
        format!("unix://{}", self.folder.join("sock").display())
    }

    /// Where the engine keeps its sandboxes.
    #[must_use]
    pub(super) fn sandboxes(&self) -> PathBuf {
        self.folder.join("exec/netns")
    }

    /// Runs `docker` on this node; arguments are separated by blanks. Its standard output, without the last line end.
    pub(super) fn docker(&self, arguments: &str) -> Result<String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        self.docker_words(&words)
    }

    /// As [`Node::docker`], for arguments with blanks in them.
    pub(super) fn docker_words(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tool("docker");
        command
            .args(["--host", &self.socket()])
            .args(arguments)
            .env("HOME", &self.folder)
            .stdin(Stdio::null());
        let said = finish(&mut command)
            .with_context(|| format!("{}$ docker {}", self.host.name(), arguments.join(" ")))?;
        Ok(said.trim_end().to_owned())
    }

    /// The inside of a container's network.
    pub(super) fn container(&self, name: &str) -> Result<Host> {
        let key = self.docker_words(&[
            "inspect",
            "--format",
            "{{.NetworkSettings.SandboxKey}}",
            name,
        ])?;
        Host::at(&format!("{name} on {}", self.host.name()), Path::new(&key))
    }

    /// The last lines that the engine logged.
    #[must_use]
    pub(super) fn log_tail(&self, lines: usize) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
