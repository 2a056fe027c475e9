//! The XDP program of a scope: loaded when it is first wanted, pinned, attached by links that are pinned too.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use aya_obj::programs::XdpAttachType;

use super::devices::Devices;
use super::maps::Rings;
use super::pins::{self, Pins};
use super::programs::{self, inside};
use super::{DatapathError, Options, ebpf, sys, system};
use crate::model::ScopeId;
use crate::net::{Interface, Medium};

/// The name of the program in the object, and in paths.
const PROGRAM: &str = "xdp_ingress";
const NAME: &str = "xdp";

/// What is to be known of XDP on a veth.
const VETH: &str = "it is a veth: XDP there is right only if what sends to it finishes its packets, which its other end does with \
                    `ethtool -K OTHER-END tx off tso off gso off tx-vlan-offload off`";

/// Drivers that take redirected frames wherever they have a program, for kernels that do not tell (before 6.3).
const TARGETS: [&str; 1] = ["virtio_net"];

/// XDP in one scope.
#[derive(Default)]
pub(super) struct Early {
    program: Option<Xdp>,
    devices: Option<Devices>,
    /// The interfaces that it is attached to, with their names where this daemon has attached it.
    attached: BTreeSet<u32>,
    /// Those that take frames which XDP redirects.
    targets: BTreeSet<u32>,
}

impl Early {
    /// Takes up what an earlier daemon attached, with this build's program.
    pub(super) fn open(
        pins: &Pins,
        options: &Options,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        rings: Rings,
    ) -> Result<Self, DatapathError> {
        let mut early = Self::default();
        let links = pins
            .xdp_links(scope)
            .map_err(system("look for links".into()))?;
        if links.is_empty() {
            return Ok(early);
        }
        early.load(pins, options, scope, rings)?;
        for ifindex in links {
            let path = pins.xdp_link(scope, ifindex);
            if early.take_over(&path).is_ok() {
                early.attached.insert(ifindex);
            } else {
                // Its interface has gone.
                pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
            }
        }
        early.look(netns, &[])?;
        Ok(early)
    }

    /// The interfaces that it is attached to.
    pub(super) const fn attached(&self) -> &BTreeSet<u32> {
        &self.attached
    }

    /// The interfaces that take frames which XDP redirects.
    pub(super) const fn targets(&self) -> &BTreeSet<u32> {
        &self.targets
    }

    fn load(
        &mut self,
        pins: &Pins,
        options: &Options,
        scope: ScopeId,
        rings: Rings,
    ) -> Result<&mut Xdp, DatapathError> {
        let program = match self.program.take() {
            Some(program) => program,
            None => {
                let path = pins.scope(scope).join(programs::pinned_name(NAME, options));
                if !path.exists() {
                    programs::load_xdp(pins, options, scope, rings, PROGRAM, &path)?;
                }
                Xdp::from_pin(&path, XdpAttachType::Interface)
                    .map_err(ebpf(format!("open {}", path.display())))?
            }
        };
        Ok(self.program.insert(program))
    }

    /// Puts the program behind a pinned link.
    fn take_over(&mut self, path: &PathBuf) -> Result<(), DatapathError> {
        let link = PinnedLink::from_pin(path)
            .map(FdLink::from)
            .map_err(ebpf(format!("open {}", path.display())))?;
        let link = XdpLink::try_from(link).map_err(ebpf("use a link"))?;
        let Some(program) = &mut self.program else {
            return Ok(());
        };
        let id = program
            .attach_to_link(link)
            .map_err(ebpf("replace a program"))?;
        // The pin holds the link; this handle must not end it.
        program.take_link(id).map(drop).map_err(ebpf("keep a link"))
    }

    /// Attaches it to an interface, in driver mode. Gives what is to be known about that.
    pub(super) fn attach(
        &mut self,
        pins: &Pins,
        options: &Options,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        rings: Rings,
        interface: &Interface,
    ) -> Result<Option<&'static str>, DatapathError> {
        let note = (interface.medium == Medium::Veth).then_some(VETH);
        let (ifindex, name) = (interface.ifindex, &interface.name);
        let path = pins.xdp_link(scope, ifindex);
        if path.exists() {
            if sys::link_interface(&path) == Some(ifindex) {
                self.attached.insert(ifindex);
                return Ok(note);
            }
            pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
        }
        let devices = self.devices(netns)?;
        let driver = devices.driver(name);
        // On a veth the tag is beside the packet if the other end leaves it there: nothing can be told here.
        if interface.medium != Medium::Veth && devices.takes_tags_off(name) {
            return Err(DatapathError::Xdp(format!(
                "it takes VLAN tags off before XDP could see them, so that frames of a VLAN would be taken for its own; \
                 `ethtool -K {name} rx-vlan-offload off` leaves them on"
            )));
        }
        if interface.medium == Medium::Veth && !devices.tells_targets() {
            return Err(DatapathError::Xdp(
                "it is a veth, and this kernel (before 6.3) does not tell whether its other end takes what XDP sends".into(),
            ));
        }
        let program = self.load(pins, options, scope, rings)?;
        let link = inside(netns, || {
            let id = program.attach(name, XdpMode::Driver)?;
            program.take_link(id)
        })?;
        let link: FdLink = link
            .map_err(|error| refused(&driver, &error))?
            .try_into()
            .map_err(|_| DatapathError::Xdp("this kernel has no links for XDP (5.9)".into()))?;
        link.pin(&path)
            .map_err(ebpf(format!("pin the link to {name}")))?;
        self.attached.insert(ifindex);
        Ok(note)
    }

    /// Takes it from an interface.
    pub(super) fn detach(
        &mut self,
        pins: &Pins,
        scope: ScopeId,
        ifindex: u32,
    ) -> Result<(), DatapathError> {
        let path = pins.xdp_link(scope, ifindex);
        pins::remove(&path).map_err(system(format!("remove {}", path.display())))?;
        self.attached.remove(&ifindex);
        Ok(())
    }

    fn devices(&mut self, netns: BorrowedFd<'_>) -> Result<&Devices, DatapathError> {
        let devices = match self.devices.take() {
            Some(devices) => devices,
            None => inside(netns, Devices::open)?
                .map_err(system("ask interfaces what they can".into()))?,
        };
        Ok(self.devices.insert(devices))
    }

    /// Looks which interfaces take redirected frames, while there is XDP. `true`: others than before.
    pub(super) fn look(
        &mut self,
        netns: BorrowedFd<'_>,
        interfaces: &[Interface],
    ) -> Result<bool, DatapathError> {
        let targets = if self.attached.is_empty() {
            BTreeSet::new()
        } else {
            let attached = self.attached.clone();
            let devices = self.devices(netns)?;
            match devices
                .targets()
                .map_err(system("ask interfaces what they can".into()))?
            {
                Some(targets) => targets,
                None => interfaces
                    .iter()
                    .filter(|interface| attached.contains(&interface.ifindex))
                    .filter(|interface| TARGETS.contains(&&*devices.driver(&interface.name)))
                    .map(|interface| interface.ifindex)
                    .collect(),
            }
        };
        let differs = targets != self.targets;
        self.targets = targets;
        Ok(differs)
    }
}

/// Why a driver refused, as far as that can be told.
fn refused(driver: &str, error: &ProgramError) -> DatapathError {
    let code = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let driver = if driver.is_empty() {
        "its driver".to_owned()
    } else {
        format!("its driver, {driver},")
    };
    let reason = match code {
        Some(libc::EOPNOTSUPP) => format!("{driver} has no XDP"),
        Some(libc::EBUSY) => {
            "another XDP program is attached to it; `bpftool net` shows which".into()
        }
        Some(libc::ENOSPC) => {
            "a veth needs as many queues to receive as its other end has to send".into()
        }
        Some(libc::ERANGE) => "its MTU is too large for XDP, whose frames are one page".into(),
        code => {
            let said = code.map_or_else(
                || error.to_string(),
                |code| io::Error::from_raw_os_error(code).to_string(),
            );
            format!(
                "{driver} refuses XDP as it is set up: {said}; perhaps its MTU is too large, or LRO is on"
            )
        }
    };
    DatapathError::Xdp(reason)
}
