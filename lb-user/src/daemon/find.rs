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
    visit_holders(&mut |id, path| {
        let place = wanted.iter().position(|(_, known)| {
            NetNsId {
                device: known.device,
                inode: known.inode,
            } == id
        });
        if let (Some(place), Ok(netns)) = (place, NetNs::open_path(path))
            && wanted[place].1.is(&netns)
        {
            let (scope, _) = wanted.swap_remove(place);
            found.insert(scope, netns);
        }
        !wanted.is_empty()
    });
    found
}

/// What people call a namespace: by its name under /run/netns, or where else it is mounted; the one of process 1 is the
/// host's.
pub(super) fn name(netns: &NetNs) -> String {
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|file| id_of(&file) == netns.id());
    if let Some(path) = mounts(Path::new("/proc/self"))
        .into_iter()
        .find(|path| is_it(path))
    {
        return match path.strip_prefix("/run/netns") {
            Ok(name) => name.display().to_string(),
            Err(_) => path.display().to_string(),
        };
    }
    if is_it(Path::new("/proc/1/ns/net")) {
        "the host".into()
    } else {
        netns.to_string()
    }
}

/// Those of these namespaces that somebody else than this process holds.
pub(super) fn held_by_others(namespaces: &BTreeSet<NetNsId>) -> BTreeSet<NetNsId> {
    let mut held = BTreeSet::new();
    visit_holders(&mut |id, _| {
        if namespaces.contains(&id) {
            held.insert(id);
        }
        held.len() < namespaces.len()
    });
    held
}

/// Whether every process of the host can be seen from here. Where not, a namespace may be held by one that cannot.
pub(super) fn sees_all_processes() -> bool {
    /// The inode of the first pid namespace, the same on every kernel (`PROC_PID_INIT_INO`).
    const FIRST: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|file| file.ino() == FIRST)
}

/// Shows every place in which a network namespace is held, the cheap ones first, until `visit` says that it is enough.
/// The descriptors of this process do not count.
fn visit_holders(visit: &mut dyn FnMut(NetNsId, PathBuf) -> bool) {
    let mut look = |path: PathBuf| match fs::metadata(&path) {
        Ok(file) => visit(id_of(&file), path),
        Err(_) => true,
    };
    if !mounts(Path::new("/proc/self")).into_iter().all(&mut look) {
        return;
    }
    let processes: Vec<PathBuf> = numbers(Path::new("/proc"))
        .map(|pid| Path::new("/proc").join(pid))
        .collect();
    for process in &processes {
        let tasks = process.join("task");
        if !numbers(&tasks)
            .map(|thread| tasks.join(thread).join(THREAD))
            .all(&mut look)
        {
            return;
        }
    }
    // Names that were given in another mount namespace, as inside a container.
    let mut seen: BTreeSet<_> = fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    for process in &processes {
        let new = fs::read_link(process.join("ns/mnt")).is_ok_and(|mount| seen.insert(mount));
        if new && !mounts(process).into_iter().all(&mut look) {
            return;
        }
    }
    let own = std::process::id().to_string();
    for process in processes.iter().filter(|process| !process.ends_with(&own)) {
        let folder = process.join("fd");
        let is_netns = |descriptor: &PathBuf| {
            fs::read_link(descriptor)
                .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"net:["))
        };
        let descriptors = numbers(&folder).map(|number| folder.join(number));
        if !descriptors.filter(is_netns).all(&mut look) {
            return;
        }
    }
}

fn id_of(file: &fs::Metadata) -> NetNsId {
    NetNsId {
        device: file.dev(),
        inode: file.ino(),
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

/// Where namespaces of any kind are mounted in the mount namespace of a process, given by its folder under /proc.
fn mounts(process: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let nsfs = text.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        (kind.split(' ').next() == Some("nsfs")).then(|| unescape(path))
    });
    if process.ends_with("self") {
        nsfs.map(PathBuf::from).collect()
    } else {
        let root = process.join("root");
        nsfs.map(|path| root.join(path.trim_start_matches('/')))
            .collect()
    }
}

/// The kernel writes spaces and the like as `\040`.
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
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
        let known = KnownNetNs {
            cookie: None,
            device: id.device,
            inode: id.inode,
            label: String::new(),
        };
        let gone = KnownNetNs {
            inode: 1,
            ..known.clone()
        };
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
