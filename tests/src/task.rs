//! A task: one server process on a host of the lab.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::lab::Lab;
use crate::process::Process;
use crate::slow::patient;

/// The ports on which a task listens; the same for every task unless a case says otherwise.
#[derive(Debug, Clone)]
pub struct Ports {
    /// HTTP.
    pub http: Vec<u16>,
    /// Answered datagrams.
    pub udp: Vec<u16>,
    /// Answered lines.
    pub echo: Vec<u16>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            http: vec![8000],
            udp: vec![9000],
            echo: vec![7000],
        }
    }
}

/// A server process. Dropping it kills the process, unless the lab is kept.
pub struct Task {
    name: String,
    host: Host,
    child: Child,
    process: Process,
    stay: bool,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({}, pid {})", self.name, self.process.pid)
    }
}

impl Task {
    /// Starts a server that calls itself `name`, and waits until it listens.
    pub fn start(lab: &Lab, host: &Host, name: &str, ports: &Ports) -> Result<Self> {
        let mut starting = Self::start_all(lab, &[(host, name)], ports)?;
        starting.pop().context("no task")
    }

    /// Starts several servers at once; quicker than one after the other.
    pub fn start_all(lab: &Lab, tasks: &[(&Host, &str)], ports: &Ports) -> Result<Vec<Self>> {
        let program = std::env::current_exe()?;
        let mut started = Vec::new();
        for &(host, name) in tasks {
            let mut command = host.command(&program);
            command
                .args(["serve", "--name", name])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit());
            for (flag, ports) in [
                ("--http", &ports.http),
                ("--udp", &ports.udp),
                ("--echo", &ports.echo),
            ] {
                for port in ports {
                    command.arg(flag).arg(port.to_string());
                }
            }
            if lab.is_kept() {
                command.arg("--stay");
            }
            let (child, process) = lab.start(&mut command)?;
            started.push(Self {
                name: name.into(),
                host: host.clone(),
                child,
                process,
                stay: lab.is_kept(),
            });
        }
        for task in &mut started {
            let mut line = String::new();
            BufReader::new(task.child.stdout.take().context("no standard output")?)
                .read_line(&mut line)?;
            if line.trim() != "ready" {
                bail!(
                    "the server {} did not start (it said: {:?})",
                    task.name,
                    line.trim()
                );
            }
        }
        Ok(started)
    }

    /// The name that it gives in its answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host on which it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// kill -9: the kernel closes its connections, nothing is answered any more.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        self.child.wait().context("cannot wait for a server")?;
        Ok(())
    }

    /// Asks it to finish what it has begun (SIGTERM) and waits until it has; how long that took.
    pub fn drain(&mut self, at_most: Duration) -> Result<Duration> {
        let at_most = patient(at_most);
        let start = Instant::now();
        self.process.signal(Signal::SIGTERM);
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > at_most {
                bail!(
                    "the server {} still had connections open {:.1} s after SIGTERM",
                    self.name,
                    at_most.as_secs_f32()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(start.elapsed())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.stay {
            let _ = self.kill();
        }
    }
}
