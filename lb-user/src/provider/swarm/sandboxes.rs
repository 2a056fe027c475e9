//! Finding dockerd's sandboxes: network namespaces that it mounts over files.
//!
//! Traps: the files outlive the namespaces for a while, as empty regular files; and where dockerd has a mount
//! namespace of its own, only its own view of the file has the namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::seen::Network;
use crate::net::{NetError, NetNs, tunnel};

/// How much of a network's id is in the name of its sandbox.
const ID: usize = 9;
/// And in that of the namespace with its tunnel.
const ID_OF_TUNNELS: usize = 10;

/// The name of a network's sandbox.
pub(super) fn name(network: &Network) -> String {
    if network.ingress {
        "ingress_sbox".into()
    } else {
        format!("lb_{}", network.id.chars().take(ID).collect::<String>())
    }
}

/// A network's sandbox; none while there is none.
pub(super) fn open(folder: &Path, network: &Network) -> Result<Option<NetNs>, NetError> {
    open_named(folder, &name(network))
}

/// The ends of a network that are on other nodes, each with its node: what dockerd has told the kernel. It does so in a
/// namespace that has the network's bridge and tunnel.
pub(super) fn far_ends(
    folder: &Path,
    network: &Network,
) -> Result<BTreeMap<Ipv4Addr, Ipv4Addr>, NetError> {
    let start: String = network.id.chars().take(ID_OF_TUNNELS).collect();
    match open_named(folder, &format!("1-{start}"))? {
        Some(netns) => tunnel::far_ends(&netns),
        None => Ok(BTreeMap::new()),
    }
}

fn open_named(folder: &Path, name: &str) -> Result<Option<NetNs>, NetError> {
    let path = folder.join(name);
    if let Some(netns) = present(NetNs::open_path(&path))? {
        return Ok(Some(netns));
    }
    for root in engines() {
        let path = root.join(path.strip_prefix("/").unwrap_or(&path));
        if let Some(netns) = present(NetNs::open_path(path))? {
            return Ok(Some(netns));
        }
    }
    Ok(None)
}

fn present(opened: Result<NetNs, NetError>) -> Result<Option<NetNs>, NetError> {
    match opened {
        Ok(netns) => Ok(Some(netns)),
        Err(NetError::NotANamespace { .. }) => Ok(None),
        Err(NetError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the engines on this host see as `/`.
fn engines() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_engine = |process: &PathBuf| {
        fs::read(process.join("comm")).is_ok_and(|name| name.trim_ascii_end() == b"dockerd")
    };
    processes
        .map(|process| process.path())
        .filter(is_engine)
        .map(|process| process.join("root"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::seen::tests::{INGRESS, USER, read};
    use super::*;

    #[test]
    fn names_as_dockerd_gives_them() {
        assert_eq!(name(&read(USER)), "lb_i8ayxpy7p");
        assert_eq!(name(&read(INGRESS)), "ingress_sbox");
    }

    #[test]
    fn a_stale_file_and_none_are_no_sandbox() {
        let folder = std::env::temp_dir().join(format!("bpvs-sandboxes-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lb_i8ayxpy7p"), "").unwrap();
        let found = [USER, INGRESS].map(|text| open(&folder, &read(text)).unwrap().is_some());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [false, false]);
    }
}
