//! Frames as they are on a cable: sent whole, and seen as the host behind the cable sees them, before
//! or after its programs.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;

use crate::host::Host;

/// Ethertype of IPv4.
const IPV4: u16 = 0x0800;
/// Every ethertype.
const ALL: u16 = libc::ETH_P_ALL as u16;
/// Nothing is received by a socket of this protocol.
const NOTHING: u16 = 0;

/// One end of a cable.
#[derive(Debug)]
pub struct Wire(OwnedFd);

/// A frame as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether the host takes it for somebody else's: by its Ethernet address, or by a VLAN tag
    /// that no VLAN interface has taken.
    pub others: bool,
    /// The tag in front of its packet, which the kernel puts aside when it receives. After ingress
    /// it has taken it off for good.
    pub tag: Option<u16>,
    /// From the Ethernet header on, without that tag.
    pub bytes: Vec<u8>,
}

impl Wire {
    /// To send frames from `host` on its interface.
    pub fn sender(host: &Host, interface: &str) -> Result<Self> {
        Self::open(host, interface, NOTHING)
    }

    /// To see what arrives at `host` on its interface with an IPv4 packet from now on. What its
    /// programs at ingress take away is not seen.
    pub fn after_ingress(host: &Host, interface: &str) -> Result<Self> {
        Self::open(host, interface, IPV4)
    }

    /// To see what `host` receives and sends on its interface from now on, of any kind, before its
    /// programs at ingress.
    pub fn before_ingress(host: &Host, interface: &str) -> Result<Self> {
        Self::open(host, interface, ALL)
    }

    /// To send frames from `host` on its interface, and to see those of one ethertype that arrive there. Others cost nothing
    /// by it.
    pub fn of_kind(host: &Host, interface: &str, ethertype: u16) -> Result<Self> {
        Self::open(host, interface, ethertype)
    }

    fn open(host: &Host, interface: &str, protocol: u16) -> Result<Self> {
        host.run(|| Self::open_here(interface, protocol))?
            .with_context(|| format!("{}: a packet socket on {interface}", host.name()))
    }

    fn open_here(interface: &str, protocol: u16) -> Result<Self> {
        let index = if_nametoindex(interface)?;
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(fd >= 0, io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let (yes, length) = (1_i32, size_of::<i32>() as libc::socklen_t);
        // SAFETY: the value is valid for the length given.
        let set = unsafe {
            let value = (&raw const yes).cast();
            libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, value, length)
        };
        ensure!(set == 0, io::Error::last_os_error());
        // SAFETY: plain numbers, of which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = i32::try_from(index)?;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is valid for the length given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
        ensure!(bound == 0, io::Error::last_os_error());
        Ok(Self(socket))
    }

    /// Sends a frame, from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer is valid for the length given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        ensure!(
            usize::try_from(sent) == Ok(frame.len()),
            "a frame was not sent: {}",
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// The next frame that `wanted` accepts, or `None` when none has come in time.
    pub fn next(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&Seen) -> bool,
    ) -> Result<Option<Seen>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(seen) = self.receive(left)? else {
                return Ok(None);
            };
            if wanted(&seen) {
                return Ok(Some(seen));
            }
        }
    }

    fn receive(&self, patience: Duration) -> Result<Option<Seen>> {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `poll` is one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(patience.as_millis())?) };
        if ready <= 0 {
            return Ok(None);
        }
        let mut bytes = vec![0_u8; 65_536];
        // Words, for messages have to be aligned.
        let mut aside = [0_u64; 16];
        // SAFETY: plain numbers and pointers, of which zero is a value.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { zeroed() };
        let mut buffer = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut buffer;
        message.msg_iovlen = 1;
        message.msg_control = aside.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&aside) as _;
        // SAFETY: everything that the message names is valid for the lengths in it.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        bytes.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
        Ok(Some(Seen {
            others: from.sll_pkttype == libc::PACKET_OTHERHOST,
            tag: tag(&message),
            bytes,
        }))
    }
}

/// The tag that the kernel has put beside a received frame.
fn tag(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: the message is as recvmsg has filled it in, its buffers are still there, and auxiliary
    // data of this kind is a `tpacket_auxdata`.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message).as_ref()?;
        if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        let data: libc::tpacket_auxdata = libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned();
        (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(data.tp_vlan_tci)
    }
}

/// The Ethernet address of a host's interface.
pub fn mac(host: &Host, interface: &str) -> Result<[u8; 6]> {
    let said = host.ip(&format!("-o link show {interface}"))?;
    let text = said
        .split_once("link/ether ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .with_context(|| format!("{}: {interface} has no Ethernet address", host.name()))?;
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next().unwrap_or_default(), 16)
            .with_context(|| format!("not an Ethernet address: {text}"))?;
    }
    Ok(mac)
}
