//! What the interfaces of a namespace can do for XDP: asked by ethtool, and by the generic netlink family `netdev`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::sys;

/// The family of generic netlink that tells of families, and its request.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`, and what it tells.
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: it takes frames that were redirected.
const TAKES_REDIRECTED: u64 = 4;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
/// Length of a netlink header, and of a generic one behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// Sockets in a namespace.
pub(super) struct Devices {
    ethtool: OwnedFd,
    netlink: OwnedFd,
    /// The number of the family `netdev`; 0 where the kernel has none (6.3).
    family: u16,
}

impl Devices {
    /// Opens the sockets in the namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let ethtool = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel answers at once, or something is wrong.
        setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        let mut devices = Self {
            ethtool,
            netlink,
            family: 0,
        };
        let mut family = 0;
        let asked = devices.ask(
            CONTROL,
            GET_FAMILY,
            &attribute(FAMILY_NAME, b"netdev\0"),
            &mut |payload| {
                for (kind, value) in attributes(payload) {
                    if let (FAMILY_ID, Ok(id)) = (kind, value.try_into()) {
                        family = u16::from_ne_bytes(id);
                    }
                }
            },
        );
        match asked {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => devices.family = family,
        }
        Ok(devices)
    }

    /// The driver of an interface; empty if it does not say.
    pub(super) fn driver(&self, interface: &str) -> String {
        sys::driver(self.ethtool.as_fd(), interface).unwrap_or_default()
    }

    /// Whether an interface takes the tags of VLANs off what it receives, so that XDP cannot tell whose it is.
    pub(super) fn takes_tags_off(&self, interface: &str) -> bool {
        sys::takes_tags_off(self.ethtool.as_fd(), interface).unwrap_or(false)
    }

    /// Whether the kernel tells which interfaces take redirected frames.
    pub(super) const fn tells_targets(&self) -> bool {
        self.family != 0
    }

    /// The interfaces to which XDP can send frames of others; `None` where the kernel does not tell.
    pub(super) fn targets(&self) -> io::Result<Option<BTreeSet<u32>>> {
        if self.family == 0 {
            return Ok(None);
        }
        let mut targets = BTreeSet::new();
        self.ask(self.family, GET_DEVICE, &[], &mut |payload| {
            let (mut ifindex, mut features) = (0, 0);
            for (kind, value) in attributes(payload) {
                match kind {
                    IFINDEX => ifindex = value.try_into().map_or(0, u32::from_ne_bytes),
                    FEATURES => features = value.try_into().map_or(0, u64::from_ne_bytes),
                    _ => {}
                }
            }
            if features & TAKES_REDIRECTED != 0 {
                targets.insert(ifindex);
            }
        })?;
        Ok(Some(targets))
    }

    /// Asks one thing, or with no attributes for all; `visit` gets what follows the headers of each answer.
    fn ask(
        &self,
        family: u16,
        command: u8,
        attributes: &[u8],
        visit: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let dump = attributes.is_empty();
        let flags = REQUEST | if dump { DUMP } else { 0 };
        let length = (HEADER + GENERIC + attributes.len()) as u32;
        let mut request = Vec::with_capacity(length as usize);
        request.extend(length.to_ne_bytes());
        request.extend(family.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        // Sequence and port: there is one request at a time.
        request.extend([0; 8]);
        request.extend([command, 1, 0, 0]);
        request.extend(attributes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(
            self.netlink.as_raw_fd(),
            &request,
            &kernel,
            MsgFlags::empty(),
        )?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..read).unwrap_or_default();
            while let Some((kind, payload, behind)) = message(rest) {
                rest = behind;
                match kind {
                    NLMSG_ERROR => {
                        let code = payload
                            .first_chunk()
                            .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    NLMSG_DONE => return Ok(()),
                    _ => visit(payload.get(GENERIC..).unwrap_or_default()),
                }
                // The messages of a dump of this family do not say that more follow.
                if !dump {
                    return Ok(());
                }
            }
        }
    }
}

/// A netlink message: its kind, its payload, and what is behind it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, payload, behind))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
