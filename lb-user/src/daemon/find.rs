//! Finding namespaces: by what the journal knows of them, and by who holds them.
//!
//! A namespace has no name of its own. It is there as long as a process is in it, or it is mounted somewhere (under
//! /run/netns, for instance), or somebody holds a descriptor. These are the places to look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal::KnownNetNs;
use crate::model::ScopeId;
use crate::net::{NetNs, NetNsId};

/// Where in /proc/PID/task/TID to look.
const THREAD: &str = "ns/net";

/// The namespaces of these scopes, as far as they still live.
pub(super) fn find<'k>(
    wanted: impl Iterator<Item = (ScopeId, &'k KnownNetNs)>,
) -> BTreeMap<ScopeId, NetNs> {
    let mut wanted: Vec<_> = wanted.collect();
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return found;
    }
    visit_holders(false, &mut |id, path| {
        let place = wanted.iter().position(|(_, known)| NetNsId { device: known.device, inode: known.inode } == id);
        if let Some(place) = place
            && let Ok(netns) = NetNs::open_path(path)
            && wanted[place].1.is(&netns)
        {
            let (scope, _) = wanted.swap_remove(place);
            found.insert(scope, netns);
        }
        !wanted.is_empty()
    });
    found
}

/// Those of these namespaces that somebody else than this process holds.
pub(super) fn held_by_others(namespaces: &BTreeSet<NetNsId>) -> BTreeSet<NetNsId> {
    let mut held = BTreeSet::new();
    visit_holders(true, &mut |id, _| {
        if namespaces.contains(&id) {
            held.insert(id);
        }
        held.len() < namespaces.len()
    });
    held
}

/// Shows every place in which a network namespace is held, the cheap ones first, until `visit` says that it is enough.
/// Of this process's own, the namespaces of its threads are left out if `others` is set, and its descriptors always.
fn visit_holders(others: bool, visit: &mut dyn FnMut(NetNsId, PathBuf) -> bool) {
    let own = std::process::id().to_string();
    let mut look = |path: PathBuf| match fs::metadata(&path) {
        Ok(file) => visit(NetNsId { device: file.dev(), inode: file.ino() }, path),
        Err(_) => true,
    };
    if !mounts().into_iter().all(&mut look) {
        return;
    }
    let processes = || numbers(Path::new("/proc")).filter(|pid| *pid != own);
    let own_threads = if others { Vec::new() } else { vec![own.clone()] };
    for pid in own_threads.into_iter().chain(processes()) {
        let tasks = Path::new("/proc").join(&pid).join("task");
        if !numbers(&tasks).map(|thread| tasks.join(thread).join(THREAD)).all(&mut look) {
            return;
        }
    }
    for pid in processes() {
        let folder = Path::new("/proc").join(pid).join("fd");
        let namespaces = numbers(&folder).map(|number| folder.join(number)).filter(|descriptor| {
            fs::read_link(descriptor).is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"net:["))
        });
        if !namespaces.into_iter().all(&mut look) {
            return;
        }
    }
}

/// The entries of a folder whose names are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where namespaces of any kind are mounted.
fn mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let nsfs = text.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("nsfs")).then(|| mount.split(' ').nth(4)).flatten()
    });
    nsfs.map(|path| PathBuf::from(unescape(path))).collect()
}

/// The kernel writes spaces and the like as `\040`.
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_found_and_a_stranger_is_not() {
        let netns = NetNs::current().unwrap();
        let id = netns.id();
        let known = KnownNetNs { cookie: None, device: id.device, inode: id.inode, label: String::new() };
        let gone = KnownNetNs { inode: 1, ..known.clone() };
        let (one, two) = (ScopeId::MIN, ScopeId::MAX);
        let found = find([(one, &known), (two, &gone)].into_iter());
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [one]);
        assert_eq!(found[&one], netns);
    }

    #[test]
    fn escaped_paths() {
        assert_eq!(unescape("/run/netns/a\\040b"), "/run/netns/a b");
        assert_eq!(unescape("/plain"), "/plain");
    }
}
