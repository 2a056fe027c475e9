//! The socket hook: eight programs at the root of the cgroups, one instance for all scopes, pinned with their links like
//! the others. Where it cannot be attached bpvs goes on without it, and says why.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{
    CgroupAttachMode, CgroupSock, CgroupSockAddr, CgroupSockAddrAttachType, CgroupSockAttachType,
    ProgramFd,
};

use super::maps::{self, Maps, Plain, Rings};
use super::pins::{self, Pins};
use super::services::ignore_missing;
use super::{DatapathError, Options, ebpf, ebpf_map, programs, sys, system};
use crate::model::ScopeId;
use crate::net::NetNs;

/// The programs. The one that forgets sockets comes first, so that none is remembered without it.
const PROGRAMS: [&str; 8] = [
    "sock_release",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sendmsg4",
    "connect4",
    "connect6",
];

/// The socket hook, attached or not.
pub(super) struct Hook {
    /// Why it is not attached.
    problem: Option<String>,
}

impl Hook {
    /// Takes up the hook that is pinned, or attaches it.
    pub(super) fn open(pins: &Pins, options: &Options, rings: Rings) -> Self {
        let problem = attach_all(pins, options, rings).err();
        if problem.is_some() {
            // Not a part of it: a socket that is led and never forgotten would count for ever.
            let _ = pins::remove_folder(&pins.hook());
        }
        Self {
            problem: problem.map(|error| error.to_string()),
        }
    }

    /// Why it is not attached, if it is not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Has sockets of this namespace find their scope.
pub(super) fn admit(
    maps: &mut Maps,
    scope: ScopeId,
    netns: BorrowedFd<'_>,
) -> Result<(), DatapathError> {
    let cookie = netns
        .try_clone_to_owned()
        .ok()
        .and_then(|netns| NetNs::from_fd(netns).ok()?.cookie().ok()?);
    // Without a cookie (before Linux 5.14) the hook does not attach either.
    let Some(cookie) = cookie else {
        return Ok(());
    };
    maps.namespaces
        .insert(Plain(cookie), Plain(scope.get()), 0)
        .map_err(ebpf_map("name a scope's namespace"))
}

/// Has no socket find this scope any more.
pub(super) fn dismiss(maps: &mut Maps, scope: ScopeId) -> Result<(), DatapathError> {
    let of_scope: Vec<u64> = maps
        .namespaces
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, Plain(id))| *id == scope.get())
        .map(|(Plain(cookie), _)| cookie)
        .collect();
    of_scope.into_iter().try_for_each(|cookie| {
        ignore_missing(maps.namespaces.remove(&Plain(cookie)))
            .map_err(ebpf_map("forget a scope's namespace"))
    })
}

fn attach_all(pins: &Pins, options: &Options, rings: Rings) -> Result<(), DatapathError> {
    let folder = pins.hook();
    fs::create_dir_all(&folder).map_err(system(format!("make {}", folder.display())))?;
    let own = format!("{:016x}", programs::fingerprint());
    let path = |name: &str| folder.join(format!("{name}_prog_{own}"));
    load(pins, options, rings, path)?;
    let root = sys::cgroup_root().map_err(system("open the root of the cgroups (v2)".into()))?;
    for name in PROGRAMS {
        attach(name, &path(name), &folder.join(name), root.as_fd())?;
    }
    let old = pins::names(&folder).map_err(system("look for old programs".into()))?;
    for name in old
        .iter()
        .filter(|name| name.contains("_prog_") && !name.ends_with(&own))
    {
        pins::remove(&folder.join(name)).map_err(system("remove an old program".into()))?;
    }
    Ok(())
}

/// Loads and pins the programs that are not there yet, all at once.
fn load(
    pins: &Pins,
    options: &Options,
    rings: Rings,
    path: impl Fn(&str) -> PathBuf,
) -> Result<(), DatapathError> {
    let wanted: Vec<(&str, PathBuf)> = PROGRAMS
        .into_iter()
        .map(|name| (name, path(name)))
        .filter(|(_, path)| !path.exists())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let sizes = maps::sizes(options);
    let mut object = programs::load(pins, &sizes, 0, rings, false)?;
    programs::pin_all(&mut object, &wanted)
}

/// Puts a pinned program behind the pinned link, or makes the link.
fn attach(
    name: &str,
    program: &Path,
    link: &Path,
    root: BorrowedFd<'_>,
) -> Result<(), DatapathError> {
    let failed = || format!("attach {name} to the root of the cgroups");
    // A link lets others be attached beside it in any case, and takes no flags.
    let mode = CgroupAttachMode::Single;
    let address = match name {
        "connect4" => Some(CgroupSockAddrAttachType::Connect4),
        "connect6" => Some(CgroupSockAddrAttachType::Connect6),
        "recvmsg6" => Some(CgroupSockAddrAttachType::UDPRecvMsg6),
        "getpeername6" => Some(CgroupSockAddrAttachType::GetPeerName6),
        "sendmsg4" => Some(CgroupSockAddrAttachType::UDPSendMsg4),
        "recvmsg4" => Some(CgroupSockAddrAttachType::UDPRecvMsg4),
        "getpeername4" => Some(CgroupSockAddrAttachType::GetPeerName4),
        _ => None,
    };
    let new: FdLink = if let Some(kind) = address {
        let mut program =
            CgroupSockAddr::from_pin(program, kind).map_err(ebpf(format!("open {name}")))?;
        if replaced(link, program.fd().map_err(ebpf(failed()))?)? {
            return Ok(());
        }
        let id = program.attach(root, mode).map_err(ebpf(failed()))?;
        let made = program.take_link(id).map_err(ebpf(failed()))?;
        made.try_into().map_err(ebpf(failed()))?
    } else {
        let kind = CgroupSockAttachType::SockRelease;
        let mut program =
            CgroupSock::from_pin(program, kind).map_err(ebpf(format!("open {name}")))?;
        if replaced(link, program.fd().map_err(ebpf(failed()))?)? {
            return Ok(());
        }
        let id = program.attach(root, mode).map_err(ebpf(failed()))?;
        let made = program.take_link(id).map_err(ebpf(failed()))?;
        made.try_into().map_err(ebpf(failed()))?
    };
    new.pin(link)
        .map(drop)
        .map_err(ebpf(format!("pin the link of {name}")))
}

/// Whether there was a link, behind which the program is now. One whose cgroup has gone goes too.
fn replaced(link: &Path, program: &ProgramFd) -> Result<bool, DatapathError> {
    if !link.exists() {
        return Ok(false);
    }
    if sys::update_link(link, program.as_fd()).is_ok() {
        return Ok(true);
    }
    pins::remove(link).map_err(system(format!("remove {}", link.display())))?;
    Ok(false)
}
