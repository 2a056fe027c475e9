//! The machine and the place in it where we work.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::toolchain::Search;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    // Cargo says where the package is now; a binary started by hand knows where it was built.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_owned)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A program built in release mode.
pub(crate) fn release(program: &str) -> PathBuf {
    target().join("release").join(program)
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_uid(&status) == Some(0))
}

/// The second of the four ids in the line `Uid:`.
fn effective_uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// Fails where `ip` cannot enter network namespaces: it makes a mount namespace for that and changes how its root folder's
/// mount is shared, which in a chroot is none. Better said before the build than after it.
///
/// # Errors
///
/// When this root folder is not a mount point.
pub(crate) fn has_root_mount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.is_empty() && !is_mount_point(&mounts, "/") {
        bail!(
            "this root folder is not a mount point (a chroot?), and `ip netns` needs that\n\
             hint: outside, before entering: mount --rbind DIR DIR"
        );
    }
    Ok(())
}

/// Whether something is mounted on `folder`, by the text of `/proc/self/mountinfo` (proc(5)): it is the fifth word.
fn is_mount_point(mounts: &str, folder: &str) -> bool {
    mounts
        .lines()
        .any(|mount| mount.split(' ').nth(4) == Some(folder))
}

/// Whether packages come by apt here.
pub(crate) fn has_apt(search: &Search) -> bool {
    ["apt-get", "apt-cache", "dpkg-query"]
        .iter()
        .all(|program| has(search, program))
}

/// Whether a program is on `PATH`, or where only root looks for programs.
pub(crate) fn has(search: &Search, program: &str) -> bool {
    search.on_path(program).next().is_some()
        || ["/usr/sbin", "/sbin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_id_is_the_second() {
        let status = "Name:\txtask\nUid:\t1000\t0\t0\t0\nGid:\t1000\t1000\t1000\t1000\n";
        assert_eq!(effective_uid(status), Some(0));
        assert_eq!(effective_uid("Name:\txtask\n"), None);
    }

    #[test]
    fn a_folder_is_a_mount_point_by_its_own_line() {
        let mounts = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      22 21 0:19 / /proc rw shared:2 - proc proc rw\n";
        assert!(is_mount_point(mounts, "/") && is_mount_point(mounts, "/proc"));
        assert!(!is_mount_point(
            "22 21 0:19 / /proc rw - proc proc rw\n",
            "/"
        ));
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }
}
