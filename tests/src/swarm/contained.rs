//! A world of its own for container engines, out of which nothing gets: a PID namespace, in which everything ends with its
//! process 1, and a mount namespace, whose mounts go with it. What an engine leaves elsewhere is its cgroups, which
//! are named after the lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use crate::host::tool;
use crate::lab::Lab;

/// Folders in which engines and labs keep what belongs to a run: inside, each is an empty one.
const PRIVATE: [&str; 4] = [
    "/run/netns",
    crate::state::FOLDER,
    "/run/containerd",
    "/run/docker",
];

/// How long the kernel may take to let go of a cgroup whose processes were killed.
const LET_GO: Duration = Duration::from_secs(3);

/// Runs this program with these arguments inside such a world, and waits until it has ended.
///
/// # Errors
/// It cannot be started.
pub(super) fn run(lab: &Lab, arguments: &[&str], quiet: bool) -> Result<(ExitStatus, String)> {
    let log = lab.folder().join("inside.log");
    let mut command = tool("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork"])
        .args(["--kill-child", "--mount", "--propagation", "private"])
        .arg("--mount-proc")
        .arg(std::env::current_exe()?)
        .arg("swarm-inside")
        .args(["--cgroup", lab.name()])
        .args(arguments)
        .stdin(Stdio::null());
    if quiet {
        let file = fs::File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    let (mut child, _) = lab.start(&mut command)?;
    let status = child.wait().context("cannot wait for the inside")?;
    Ok((status, fs::read_to_string(log).unwrap_or_default()))
}

/// To be called first inside: hides what belongs to others, and what others must not see.
pub(super) fn enter() -> Result<()> {
    for folder in PRIVATE {
        fs::create_dir_all(folder)?;
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .with_context(|| format!("cannot mount over {folder}"))?;
    }
    Ok(())
}

/// Removes the cgroups that engines made for the lab `name`.
pub fn remove_cgroups(name: &str) {
    let prefix = format!("{name}-");
    let mut own = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 2, &mut |path| {
        if path
            .file_name()
            .is_some_and(|last| last.to_string_lossy().starts_with(&prefix))
        {
            own.push(path.to_owned());
        }
    });
    let deadline = Instant::now() + LET_GO;
    for root in own {
        let mut folders = vec![root.clone()];
        below(&root, 8, &mut |path| folders.push(path.to_owned()));
        // A parent comes before what is in it.
        for folder in folders.iter().rev() {
            while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Shows every folder in this one, and in those, so deep.
fn below(folder: &Path, depth: u32, show: &mut dyn FnMut(&Path)) {
    let folders: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    for path in folders {
        show(&path);
        if depth > 0 {
            below(&path, depth - 1, show);
        }
    }
}
