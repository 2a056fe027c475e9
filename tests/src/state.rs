//! What a lab has made, written down before it is made, so that anybody can take it away: the lab
//! itself, its signal thread, or `lab clean` after the lab was killed. There is one way to take a
//! lab away, [`remove`], and everybody uses it.
//!
//! A lab is called `bpvs-PID-N`: the process that made it, and a number within that process. Its
//! folder is /run/bpvs-lab/NAME:
//!
//! - `owner`: the process that made it
//! - `processes`: what it started, one a line
//! - everything else: logs, run folders and mounts of the daemons

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use crate::netns;
use crate::process::Process;

/// The folder with one folder for each lab.
pub const FOLDER: &str = "/run/bpvs-lab";

/// The folder of the lab `name`.
pub fn folder(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Writes down that this program owns the lab `name`.
pub fn create(name: &str) -> Result<PathBuf> {
    let folder = folder(name);
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {} (the lab needs root)", folder.display()))?;
    fs::write(folder.join("owner"), Process::own().to_string())?;
    Ok(folder)
}

/// Writes down a process that the lab started.
pub fn add_process(name: &str, process: Process) -> Result<()> {
    let path = folder(name).join("processes");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)?;
    writeln!(file, "{process}").with_context(|| format!("cannot write {}", path.display()))
}

/// The processes that the lab started and that still run.
pub fn processes(name: &str) -> Vec<Process> {
    let text = fs::read_to_string(folder(name).join("processes")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Takes away all that the lab made: processes first, for they hold the rest.
///
/// Goes on when a part fails, and reports the first failure at the end. Doing it twice, or for a
/// lab that was half made, is fine.
pub fn remove(name: &str) -> Result<()> {
    let mut first_failure = Ok(());
    let mut note = |result: Result<()>| {
        if first_failure.is_ok() {
            first_failure = result;
        }
    };
    for process in processes(name) {
        process.kill();
    }
    crate::swarm::remove_cgroups(name);
    let folder = folder(name);
    for mount in mounts_below(&folder) {
        note(
            umount2(&mount, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}", mount.display())),
        );
    }
    for namespace in namespaces(name) {
        note(netns::remove(&namespace));
    }
    if folder.exists() {
        note(
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display())),
        );
    }
    // The last lab takes the common folder with it; while others are there this fails, as it
    // should.
    let _ = fs::remove_dir(FOLDER);
    first_failure
}

/// The namespaces of the lab `name`.
pub fn namespaces(name: &str) -> Vec<String> {
    let prefix = format!("{name}-");
    netns::names()
        .into_iter()
        .filter(|namespace| namespace.starts_with(&prefix))
        .collect()
}

/// All labs on this machine, and for each whether its owner still runs.
pub fn labs() -> Vec<(String, bool)> {
    let mut names: Vec<String> = fs::read_dir(FOLDER)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default();
    names.extend(
        netns::names()
            .iter()
            .filter_map(|namespace| lab_of(namespace)),
    );
    names.retain(|name| lab_of(&format!("{name}-")).as_ref() == Some(name));
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name.clone(), is_alive(&name)))
        .collect()
}

fn is_alive(name: &str) -> bool {
    match fs::read_to_string(folder(name).join("owner")) {
        Ok(owner) => owner.parse().is_ok_and(Process::is_alive),
        // Without its folder only the process id in the name is left to go by.
        Err(_) => name
            .split('-')
            .nth(1)
            .and_then(|pid| pid.parse().ok())
            .and_then(Process::of)
            .is_some(),
    }
}

/// The lab to which a namespace belongs: `bpvs-PID-N` of `bpvs-PID-N-HOST`.
fn lab_of(namespace: &str) -> Option<String> {
    let mut parts = namespace.splitn(4, '-');
    let (program, pid, number) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (program == "bpvs" && digits(pid) && digits(number))
        .then(|| format!("{program}-{pid}-{number}"))
}

/// Mount points below `folder`, the innermost first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(folder))
        .collect();
    mounts.reverse();
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_are_labs() {
        assert_eq!(lab_of("bpvs-12-0-web.1").as_deref(), Some("bpvs-12-0"));
        assert_eq!(lab_of("bpvs-12-0-lb-node1").as_deref(), Some("bpvs-12-0"));
        for other in [
            "bpvs",
            "bpvs-12",
            "bpvs-12-0",
            "bpvs-x-0-a",
            "bpvs--0-a",
            "other-12-0-a",
        ] {
            assert_eq!(lab_of(other), None, "{other}");
        }
    }
}
