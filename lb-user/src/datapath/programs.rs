//! The programs: loaded once for each scope, pinned, attached to interfaces by links that are pinned too.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, Program, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::sched::{CloneFlags, setns};

use super::drop_log::{self, DropLog};
use super::maps::{self, Rings};
use super::pins::{self, Direction, Pins};
use super::{DatapathError, Options, clsact, ebpf, system};
use crate::model::ScopeId;

/// The compiled programs.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BPVS_BPF_OBJECT"));

/// Loads the object for one scope; its maps are those that are pinned, or new ones of these sizes.
pub(super) fn load(
    pins: &Pins,
    sizes: &BTreeMap<&'static str, u32>,
    scope: u32,
    rings: Rings,
    log_drops: bool,
) -> Result<Ebpf, DatapathError> {
    let (level, ring) = drop_log::level(log_drops);
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("AYA_LOGS", ring);
    maps::prepare(&mut loader, pins, sizes)?;
    loader
        .override_global("SCOPE", &scope, true)
        .override_global("HALF_OPEN_SLOTS", &rings.half_open, true)
        .override_global("ASSURED_SLOTS", &rings.assured, true)
        .override_global("TEMPLATE_SLOTS", &rings.templates, true)
        .override_global(aya_log::LEVEL, &level, true);
    loader.load(OBJECT).map_err(ebpf("load the programs"))
}

/// The programs of one scope, as they are pinned.
pub(super) struct Programs {
    ingress: SchedClassifier,
    egress: SchedClassifier,
    /// What they say of packets that they drop.
    logs: Vec<DropLog>,
}

/// Makes the maps, if they are not there, and gives the program that sweeps them.
pub(super) fn base(pins: &Pins, options: &Options) -> Result<SchedClassifier, DatapathError> {
    let sizes = maps::sizes(options);
    let path = pins.program(&format!("sweep_prog_{:016x}", fingerprint()));
    let maps_there = sizes.keys().all(|name| pins.map(name).exists());
    let scopes = pins.scope_ids().map_err(system("list the scopes".into()))?;
    if !maps_there && scopes.is_empty() {
        // What a first start that was cut short has left may be of other sizes.
        for name in sizes.keys() {
            pins::remove(&pins.map(name)).map_err(system(format!("remove the old {name}")))?;
        }
    }
    if !(maps_there && path.exists()) {
        let rings = Rings::adopt(pins, options);
        let mut object = load(pins, &sizes, 0, rings, false)?;
        pins::remove(&path).map_err(system("remove an old pin".into()))?;
        pin_all(&mut object, &[("sweep", path.clone())])?;
    }
    SchedClassifier::from_pin(&path).map_err(ebpf(format!("open {}", path.display())))
}

/// Which build of the programs this is (FNV-1a of the object).
pub(super) fn fingerprint() -> u64 {
    OBJECT.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The name under which a program of this build is pinned.
fn program_name(direction: Direction, options: &Options) -> String {
    pinned_name(direction.name(), options)
}

/// The same for the program that has this name in paths.
pub(super) fn pinned_name(name: &str, options: &Options) -> String {
    format!("{name}_prog_{:016x}", variant(options))
}

/// Loads the XDP program of a scope and pins it.
pub(super) fn load_xdp(
    pins: &Pins,
    options: &Options,
    scope: ScopeId,
    rings: Rings,
    name: &str,
    path: &Path,
) -> Result<(), DatapathError> {
    let sizes = maps::sizes(options);
    let mut object = load(pins, &sizes, scope.get(), rings, options.log_drops)?;
    pin_all(&mut object, &[(name, path.to_owned())])
}

/// Which build of a scope's programs it is, and which of its two variants.
fn variant(options: &Options) -> u64 {
    fingerprint() ^ u64::from(options.log_drops)
}

/// Loads a scope's programs ahead of time: the verifier takes most of the time that a new scope needs.
pub(super) fn prepare(
    pins: &Pins,
    options: &Options,
    scope: ScopeId,
    rings: Rings,
) -> Result<(), DatapathError> {
    let folder = pins.spare(scope);
    // Only below what is there: all may have been removed meanwhile.
    match std::fs::create_dir(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(system(format!("make {}", folder.display()))(error));
        }
        _ => {}
    }
    load_into(&folder, pins, options, scope, rings)
}

/// Loads the programs that are not yet pinned in this folder.
fn load_into(
    folder: &Path,
    pins: &Pins,
    options: &Options,
    scope: ScopeId,
    rings: Rings,
) -> Result<(), DatapathError> {
    let wanted: Vec<(&str, PathBuf)> = Direction::BOTH
        .into_iter()
        .map(|direction| {
            let path = folder.join(program_name(direction, options));
            (direction.program(), path)
        })
        .filter(|(_, path)| !path.exists())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let sizes = maps::sizes(options);
    let mut object = load(pins, &sizes, scope.get(), rings, options.log_drops)?;
    pin_all(&mut object, &wanted)
}

/// Loads these programs of an object into the kernel, all at once, and pins each. The object is read once for all of them:
/// that takes as long as the verifier does for one.
pub(super) fn pin_all(object: &mut Ebpf, wanted: &[(&str, PathBuf)]) -> Result<(), DatapathError> {
    let mut found = Vec::with_capacity(wanted.len());
    for (name, program) in object.programs_mut() {
        if let Some((name, path)) = wanted.iter().find(|(wanted, _)| *wanted == name) {
            found.push((*name, program, path));
        }
    }
    if found.len() < wanted.len() {
        return Err(system("find all programs in the object".into())(
            std::io::ErrorKind::NotFound.into(),
        ));
    }
    std::thread::scope(|threads| {
        let loads: Vec<_> = found
            .into_iter()
            .map(|(name, program, path)| threads.spawn(move || pin_one(name, program, path)))
            .collect();
        // Each is waited for, also after one has failed.
        let outcomes: Vec<_> = loads
            .into_iter()
            .map(|load| {
                load.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        outcomes.into_iter().collect()
    })
}

fn pin_one(name: &str, program: &mut Program, path: &Path) -> Result<(), DatapathError> {
    let loaded = match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => return Ok(()),
    };
    loaded.map_err(ebpf(format!("load the program {name}")))?;
    program
        .pin(path)
        .map_err(ebpf(format!("pin the program {name}")))
}

impl Programs {
    /// Takes up a scope's programs, or loads them. Links that an older build left are moved to this one, so that no packet
    /// goes unseen.
    pub(super) fn open(
        pins: &Pins,
        options: &Options,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        rings: Rings,
    ) -> Result<Self, DatapathError> {
        let folder = pins.scope(scope);
        std::fs::create_dir_all(&folder).map_err(system(format!("make {}", folder.display())))?;
        let path = |direction| folder.join(program_name(direction, options));
        for direction in Direction::BOTH {
            let spare = pins.spare(scope).join(program_name(direction, options));
            if !path(direction).exists() && spare.exists() {
                std::fs::rename(&spare, path(direction))
                    .map_err(system(format!("move {}", spare.display())))?;
            }
        }
        load_into(&folder, pins, options, scope, rings)?;
        pins::remove_folder(&pins.spare(scope)).map_err(system("remove a spare".into()))?;
        let open = |direction| {
            let path = path(direction);
            SchedClassifier::from_pin(&path).map_err(ebpf(format!("open {}", path.display())))
        };
        let mut programs = Self {
            ingress: open(Direction::Ingress)?,
            egress: open(Direction::Egress)?,
            logs: Vec::new(),
        };
        if options.log_drops {
            programs.logs = vec![
                DropLog::of(&programs.ingress)?,
                DropLog::of(&programs.egress)?,
            ];
        }
        programs.take_over_links(pins, scope, netns)?;
        for old in pins
            .old_programs(scope, variant(options))
            .map_err(system("look for old programs".into()))?
        {
            pins::remove(&old).map_err(system(format!("remove {}", old.display())))?;
        }
        Ok(programs)
    }

    fn program(&mut self, direction: Direction) -> &mut SchedClassifier {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Puts these programs behind the pinned links; links whose interface has gone go too.
    fn take_over_links(
        &mut self,
        pins: &Pins,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        for direction in Direction::BOTH {
            for ifindex in pins
                .links(scope, direction)
                .map_err(system("look for links".into()))?
            {
                let path = pins.link(scope, ifindex, direction);
                if path.is_dir() {
                    let (program, kind) = (self.program(direction), attach_type(direction));
                    if !inside(netns, || clsact::take_over(program, ifindex, kind))? {
                        remove_marker(&path)?;
                    }
                    continue;
                }
                let moved = PinnedLink::from_pin(&path)
                    .map(FdLink::from)
                    .and_then(SchedClassifierLink::try_from)
                    .map_err(ebpf(format!("open {}", path.display())))
                    .and_then(|link| {
                        let program = self.program(direction);
                        let id = program
                            .attach_to_link(link)
                            .map_err(ebpf("replace a program"))?;
                        // The pin holds the link; this handle must not end it.
                        program.take_link(id).map(drop).map_err(ebpf("keep a link"))
                    });
                if moved.is_err() {
                    pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
                }
            }
        }
        Ok(())
    }

    /// Writes what the programs have said into the log.
    pub(super) fn drain_logs(&mut self) {
        self.logs.iter_mut().for_each(DropLog::drain);
    }

    /// Attaches both programs to an interface, first in line.
    pub(super) fn attach(
        &mut self,
        pins: &Pins,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        ifindex: u32,
        name: &str,
    ) -> Result<(), DatapathError> {
        for direction in Direction::BOTH {
            let path = pins.link(scope, ifindex, direction);
            // What is said of a clsact filter may be of an interface that had this index before: it is attached again,
            // which replaces one that is there.
            if path.exists() && !path.is_dir() {
                if super::sys::link_interface(&path) == Some(ifindex) {
                    continue;
                }
                pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
            }
            let program = self.program(direction);
            let (kind, qdisc) = (attach_type(direction), pins.qdisc(scope, ifindex));
            inside(netns, move || {
                if has_tcx() {
                    attach_tcx(program, name, kind, &path)
                } else {
                    clsact::attach(program, name, kind, &path, &qdisc)
                }
            })??;
        }
        Ok(())
    }

    /// Detaches both programs from an interface.
    pub(super) fn detach(
        pins: &Pins,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        ifindex: u32,
    ) -> Result<(), DatapathError> {
        for direction in Direction::BOTH {
            let path = pins.link(scope, ifindex, direction);
            if path.is_dir() {
                inside(netns, || clsact::detach(ifindex, attach_type(direction)))?;
                remove_marker(&path)?;
            } else {
                pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
            }
        }
        let qdisc = pins.qdisc(scope, ifindex);
        if qdisc.is_dir() {
            // What the interface took with it needs no removing.
            let _gone = inside(netns, || clsact::remove_qdisc(ifindex))?;
            remove_marker(&qdisc)?;
        }
        Ok(())
    }

    /// Takes the clsact filters from all interfaces of a scope. Links go with their pins, filters do not.
    pub(super) fn detach_filters(
        pins: &Pins,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
    ) -> Result<(), DatapathError> {
        for direction in Direction::BOTH {
            for ifindex in pins
                .links(scope, direction)
                .map_err(system("look for links".into()))?
            {
                if pins.link(scope, ifindex, direction).is_dir() {
                    Self::detach(pins, scope, netns, ifindex)?;
                }
            }
        }
        Ok(())
    }
}

const fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// Whether the kernel has TCX: 6.6.
fn has_tcx() -> bool {
    let release = nix::sys::utsname::uname().ok();
    let release = release
        .as_ref()
        .and_then(|name| name.release().to_str())
        .unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 6)
}

fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    kind: TcAttachType,
    path: &Path,
) -> Result<(), DatapathError> {
    let failed = || format!("attach to {name}");
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(name, kind, options)
        .map_err(ebpf(failed()))?;
    let link = program.take_link(id).map_err(ebpf(failed()))?;
    let link: FdLink = link.try_into().map_err(ebpf(failed()))?;
    link.pin(path)
        .map(drop)
        .map_err(ebpf(format!("pin the link to {name}")))
}

fn remove_marker(path: &Path) -> Result<(), DatapathError> {
    std::fs::remove_dir(path).map_err(system(format!("remove {}", path.display())))
}

/// Runs a closure in a network namespace, on a thread of its own.
pub(super) fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    act: impl FnOnce() -> T + Send,
) -> Result<T, DatapathError> {
    let entered = std::thread::scope(|threads| {
        let thread = threads.spawn(|| setns(netns, CloneFlags::CLONE_NEWNET).map(|()| act()));
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    entered.map_err(|error| system("enter the network namespace".into())(error.into()))
}
