//! `bpvs` in a lab: a daemon with a run folder and a BPF file system of its own, and the command
//! line against it.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::host::{Host, finish};
use crate::lab::{Lab, lock};
use crate::process::Process;
use crate::signals;
use crate::slow::patient;

/// How long a daemon may take until it serves.
const START: Duration = Duration::from_secs(15);
/// How long a daemon may take to stop when asked to.
const STOP: Duration = Duration::from_secs(5);

/// The `bpvs` program to use: what was asked for, else env `BPVS`, else the one beside this
/// program.
pub fn find_bpvs(asked: Option<PathBuf>) -> Result<PathBuf> {
    let path = match asked.or_else(|| std::env::var_os("BPVS").map(PathBuf::from)) {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("bpvs"),
    };
    path.canonicalize().with_context(|| {
        format!(
            "there is no bpvs at {} (say where with --bpvs, or build it first)",
            path.display()
        )
    })
}

/// A daemon in a lab. Cheap to clone; all clones are the same daemon.
#[derive(Clone)]
pub struct Daemon(Arc<Inner>);

struct Inner {
    program: PathBuf,
    host: Host,
    folder: PathBuf,
    /// The lab's name; the lab itself owns the daemon.
    lab: String,
    arguments: Vec<String>,
    running: Mutex<Option<(Child, Process)>>,
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Daemon({})", self.0.folder.display())
    }
}

impl Daemon {
    /// Starts `bpvs run` on `host` and waits until it serves. `arguments` are added to those of
    /// `run`.
    pub fn start(lab: &Lab, program: &Path, host: &Host, arguments: &[&str]) -> Result<Self> {
        let folder = lab.folder().join(format!("daemon-{}", host.name()));
        let daemon = Self(Arc::new(Inner {
            program: program.into(),
            host: host.clone(),
            lab: lab.name().into(),
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
            running: Mutex::new(None),
            folder,
        }));
        fs::create_dir_all(daemon.run_folder())?;
        fs::create_dir_all(daemon.bpf_folder())?;
        // One of its own: /sys/fs/bpf is not mounted on every machine, and pins of another bpvs
        // must not be met.
        signals::guarded(|| {
            mount(
                Some("bpf"),
                &daemon.bpf_folder(),
                Some("bpf"),
                MsFlags::empty(),
                Some("mode=0700"),
            )
        })
        .context("cannot mount a BPF file system")?;
        lab.add_daemon(&daemon);
        daemon.run()?;
        Ok(daemon)
    }

    /// The host in whose namespace the daemon runs.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The folder of its socket and journal.
    pub fn run_folder(&self) -> PathBuf {
        self.0.folder.join("run")
    }

    /// Its BPF file system.
    pub fn bpf_folder(&self) -> PathBuf {
        self.0.folder.join("bpf")
    }

    fn log(&self) -> PathBuf {
        self.0.folder.join("log")
    }

    /// Starts the daemon (again) and waits until it serves.
    pub fn run(&self) -> Result<()> {
        self.run_with(&[])
    }

    /// As [`Daemon::run`], with these variables in its environment.
    pub fn run_with(&self, environment: &[(&str, &str)]) -> Result<()> {
        self.run_as(environment, &[])
    }

    /// As [`Daemon::run_with`], with these arguments more.
    pub fn run_as(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
        let mut running = lock(&self.0.running);
        if running.is_some() {
            bail!("the daemon runs already");
        }
        let log = File::options().append(true).create(true).open(self.log())?;
        let before = log.metadata()?.len();
        let mut command = self.0.host.command(&self.0.program);
        command
            .arg("--run-dir")
            .arg(self.run_folder())
            .arg("run")
            .arg("--bpffs")
            .arg(self.bpf_folder().join("bpvs"));
        command
            .args(&self.0.arguments)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let (mut child, process) = crate::lab::start(&self.0.lab, &mut command)?;
        let deadline = Instant::now() + patient(START);
        loop {
            let said = fs::read(self.log()).unwrap_or_default();
            let said =
                String::from_utf8_lossy(said.get(usize::try_from(before)?..).unwrap_or_default())
                    .into_owned();
            if said.lines().any(|line| line.trim().ends_with("ready")) {
                *running = Some((child, process));
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "bpvs run ended with {status} before it was ready:\n{}",
                    said.trim()
                );
            }
            if Instant::now() > deadline {
                process.kill();
                bail!(
                    "bpvs run was not ready after {} s; it said:\n{}",
                    patient(START).as_secs(),
                    said.trim()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The daemon's process, while it runs.
    pub fn process(&self) -> Option<Process> {
        lock(&self.0.running).as_ref().map(|(_, process)| *process)
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let (mut child, process) = lock(&self.0.running)
            .take()
            .context("the daemon does not run")?;
        process.signal(Signal::SIGKILL);
        child.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself; `false` when it still runs after this time.
    pub fn ended(&self, within: Duration) -> Result<bool> {
        let mut running = lock(&self.0.running);
        let deadline = Instant::now() + within;
        loop {
            let ended = match running.as_mut() {
                Some((child, _)) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                *running = None;
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and waits until it is gone: the datapath stays.
    pub fn stop(&self) -> Result<()> {
        let (mut child, process) = lock(&self.0.running)
            .take()
            .context("the daemon does not run")?;
        process.signal(Signal::SIGTERM);
        let deadline = Instant::now() + patient(STOP);
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    bail!("after SIGTERM the daemon ended with {status}, not with success")
                }
                None if Instant::now() > deadline => {
                    process.kill();
                    bail!(
                        "after SIGTERM the daemon still ran {} s later",
                        patient(STOP).as_secs()
                    );
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// A `bpvs` command that acts on the scope of `host`, ready to be run.
    pub fn command(&self, host: &Host, arguments: &[&str]) -> Command {
        let mut command = self.0.host.command(&self.0.program);
        command
            .arg("--run-dir")
            .arg(self.run_folder())
            .arg("--netns")
            .arg(host.path())
            .args(arguments)
            .stdin(Stdio::null());
        // `down` works without a daemon and then has to know where the pins are.
        command
            .env("BPVS_BPFFS", self.bpf_folder().join("bpvs"))
            .env("NO_COLOR", "1");
        command
    }

    /// Runs `bpvs` on the scope of `host`; arguments are separated by blanks. Its standard output,
    /// or what it complained about.
    pub fn bpvs(&self, host: &Host, arguments: &str) -> Result<String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        finish(&mut self.command(host, &words))
            .with_context(|| format!("{}$ bpvs {arguments}", host.name()))
    }

    /// Runs several `bpvs` commands one after the other, a line each; stops at the first that
    /// fails.
    pub fn script(&self, host: &Host, lines: &str) -> Result<()> {
        lines
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .try_for_each(|line| self.bpvs(host, line).map(drop))
    }

    /// Writes a file and applies it to the scope of `host`; what `apply` printed.
    pub fn apply(&self, host: &Host, name: &str, text: &str) -> Result<String> {
        let path = self.0.folder.join(name);
        fs::write(&path, text)?;
        self.bpvs(host, &format!("apply {}", path.display()))
    }

    /// The last lines that the daemon logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Everything that is pinned in its BPF file system, as paths below it.
    pub fn pins(&self) -> Result<Vec<String>> {
        let root = self.bpf_folder();
        let mut pins = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)
                .with_context(|| format!("cannot read {}", folder.display()))?
            {
                let path = entry?.path();
                // The kernel's own, in every BPF file system (CONFIG_BPF_PRELOAD).
                if path
                    .extension()
                    .is_some_and(|extension| extension == "debug")
                {
                    continue;
                }
                pins.push(
                    path.strip_prefix(&root)
                        .unwrap_or(&path)
                        .display()
                        .to_string(),
                );
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        pins.sort();
        Ok(pins)
    }
}
