//! The machine and the place in it where we work.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

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
    fn the_root_holds_the_workspace_manifest() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }
}
