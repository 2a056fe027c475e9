//! The kernel's IPVS and the real ipvsadm, by themselves in a network namespace, among names that are known.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use lb_user::ipvsadm::names::Table;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::transcript::Outcome;
use crate::host::{finish, tool};

/// Names of hosts; in the form of `/etc/hosts`.
pub(super) const HOSTS: &str = include_str!("../../ipvsadm/hosts");

/// Names of services; in the form of `/etc/services`.
pub(super) const SERVICES: &str = include_str!("../../ipvsadm/services");

/// Where names are looked up.
const LOOKUP: &str = "hosts: files\nservices: files\n";

/// The real program.
#[derive(Debug)]
pub(super) struct Real {
    program: PathBuf,
}

impl Real {
    /// Moves this process into namespaces of its own, with nothing but loopback and the names above; they end with it.
    ///
    /// # Errors
    /// There is no IPVS here.
    pub(super) fn enter(program: &Path) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .context("cannot make namespaces")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount::<str, _, str, str>(None, "/", None, private, None)
            .context("cannot make mounts private")?;
        // In a file system of this mount namespace: gone with it.
        let folder = "/mnt";
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("cannot mount a tmpfs")?;
        for (name, text) in [
            ("hosts", HOSTS),
            ("services", SERVICES),
            ("nsswitch.conf", LOOKUP),
        ] {
            let (file, place) = (format!("{folder}/{name}"), format!("/etc/{name}"));
            std::fs::write(&file, text).with_context(|| format!("cannot write {file}"))?;
            mount::<_, _, str, str>(
                Some(file.as_str()),
                place.as_str(),
                None,
                MsFlags::MS_BIND,
                None,
            )
            .with_context(|| format!("cannot mount over {place}"))?;
        }
        for arguments in ["link set lo up", "address add 10.9.0.1/32 dev lo"] {
            finish(tool("ip").args(arguments.split(' ')))?;
        }
        let real = Self {
            program: program.to_owned(),
        };
        let version = real.run(&["ipvsadm".to_owned(), "-v".to_owned()], b"")?;
        let said = String::from_utf8_lossy(&version.out).into_owned();
        if version.status != Some(0) || !said.contains("v1.31") {
            bail!(
                "needs ipvsadm 1.31 and a kernel with IPVS, as a guest has: {said}{}",
                String::from_utf8_lossy(&version.err)
            );
        }
        Ok(real)
    }

    /// Runs a command; its first word is a name or a path, and the program's own folder is looked in first.
    pub(super) fn run(&self, words: &[String], input: &[u8]) -> Result<Outcome> {
        let (name, arguments) = words.split_first().context("no command")?;
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(name);
        command
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()),
            )
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It need not read it.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output()?;
        Ok(Outcome {
            out: output.stdout,
            err: output.stderr,
            status: output.status.code(),
        })
    }

    /// Leaves nothing in the table, and the timeouts at their defaults.
    pub(super) fn reset(&self) -> Result<()> {
        for line in ["ipvsadm -C", "ipvsadm --set 900 120 300"] {
            let outcome = self.run(&super::transcript::words(line), b"")?;
            if outcome.status != Some(0) {
                bail!("{line}: {}", String::from_utf8_lossy(&outcome.err).trim());
            }
        }
        Ok(())
    }
}

/// The names, for the table in memory.
pub(super) fn names() -> Table {
    Table::new(HOSTS, SERVICES)
}
