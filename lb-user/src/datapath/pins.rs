//! Where things are pinned: one folder for each version of the ABI, one below it for each scope.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lb_common::abi::VERSION;
use nix::mount::{MsFlags, mount};

use super::{DatapathError, sys, system};
use crate::model::ScopeId;

/// How the pins of links to XDP begin.
const XDP_LINK: &str = "xdp-";

/// The folder of this version's pins.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    root: PathBuf,
}

/// Which of a scope's two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name of its program in the object.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Ingress => "tc_ingress",
            Self::Egress => "tc_egress",
        }
    }

    /// Its name in paths.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl Pins {
    /// The folders as they are, or are not.
    pub(super) fn at(bpffs: &Path) -> Self {
        Self {
            root: bpffs.join(format!("v{VERSION}")),
        }
    }

    /// Makes the folders, on a BPF file system.
    pub(super) fn open(bpffs: &Path) -> Result<Self, DatapathError> {
        ensure_bpffs(bpffs)?;
        let pins = Self::at(bpffs);
        for folder in [pins.maps(), pins.scopes(), pins.spares()] {
            fs::create_dir_all(&folder).map_err(system(format!("make {}", folder.display())))?;
        }
        Ok(pins)
    }

    /// The folder of the maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// A map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// A program that belongs to no scope.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of the socket hook.
    pub(super) fn hook(&self) -> PathBuf {
        self.root.join("socket")
    }

    fn scopes(&self) -> PathBuf {
        self.root.join("scopes")
    }

    /// The folder of programs that were loaded ahead for a scope to be.
    pub(super) fn spare(&self, scope: ScopeId) -> PathBuf {
        self.spares().join(scope.to_string())
    }

    fn spares(&self) -> PathBuf {
        self.root.join("spare")
    }

    /// The folder of a scope.
    pub(super) fn scope(&self, scope: ScopeId) -> PathBuf {
        self.scopes().join(scope.to_string())
    }

    /// Programs of a scope that another build pinned.
    pub(super) fn old_programs(
        &self,
        scope: ScopeId,
        fingerprint: u64,
    ) -> io::Result<Vec<PathBuf>> {
        let (folder, own) = (self.scope(scope), format!("{fingerprint:016x}"));
        let old = |name: &String| name.contains("_prog_") && !name.ends_with(&own);
        Ok(names(&folder)?
            .into_iter()
            .filter(old)
            .map(|name| folder.join(name))
            .collect())
    }

    /// The link of a scope's program to an interface.
    pub(super) fn link(&self, scope: ScopeId, ifindex: u32, direction: Direction) -> PathBuf {
        self.scope(scope)
            .join(format!("{}-{ifindex}", direction.name()))
    }

    /// The link of a scope's XDP program to an interface.
    pub(super) fn xdp_link(&self, scope: ScopeId, ifindex: u32) -> PathBuf {
        self.scope(scope).join(format!("{XDP_LINK}{ifindex}"))
    }

    /// The interfaces that a scope's XDP program has links to.
    pub(super) fn xdp_links(&self, scope: ScopeId) -> io::Result<Vec<u32>> {
        self.numbered(scope, XDP_LINK)
    }

    /// Says that the clsact qdisc of an interface is ours, where there is no TCX.
    pub(super) fn qdisc(&self, scope: ScopeId, ifindex: u32) -> PathBuf {
        self.scope(scope).join(format!("qdisc-{ifindex}"))
    }

    /// The interfaces that a scope's program has links to.
    pub(super) fn links(&self, scope: ScopeId, direction: Direction) -> io::Result<Vec<u32>> {
        self.numbered(scope, &format!("{}-", direction.name()))
    }

    fn numbered(&self, scope: ScopeId, prefix: &str) -> io::Result<Vec<u32>> {
        Ok(names(&self.scope(scope))?
            .iter()
            .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
            .collect())
    }

    /// The scopes that have a folder.
    pub(super) fn scope_ids(&self) -> io::Result<Vec<ScopeId>> {
        let mut ids: Vec<ScopeId> = names(&self.scopes())?
            .iter()
            .filter_map(|name| ScopeId::new(name.parse().ok()?).ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The names in a folder; none if it does not exist.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Removes a folder of pins with all that is in it. Unpinned links detach, unpinned maps and programs go with their last
/// user.
pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes one pin, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes sure that there is a BPF file system where the pins are to be.
///
/// `ip netns exec` shows an empty /sys/fs/bpf, and what would be mounted there goes with that command's mount namespace:
/// so one is mounted only in the mount namespace of process 1.
fn ensure_bpffs(bpffs: &Path) -> Result<(), DatapathError> {
    const USUAL: &str = "/sys/fs/bpf";
    let there = bpffs
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(bpffs);
    if sys::is_bpffs(there).map_err(system(format!("look at {}", there.display())))? {
        return fs::create_dir_all(bpffs).map_err(system(format!("make {}", bpffs.display())));
    }
    let same_mounts =
        || Some(fs::read_link("/proc/self/ns/mnt").ok()? == fs::read_link("/proc/1/ns/mnt").ok()?);
    if !bpffs.starts_with(USUAL) || there != Path::new(USUAL) || same_mounts() != Some(true) {
        return Err(DatapathError::NoBpffs { path: bpffs.into() });
    }
    mount(
        Some("bpf"),
        USUAL,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|error| system(format!("mount a BPF file system at {USUAL}"))(error.into()))?;
    fs::create_dir_all(bpffs).map_err(system(format!("make {}", bpffs.display())))
}
