//! Which work on packets an interface takes off the kernel's hands: cutting large ones into segments, checksums.
//!
//! On the cables of a lab nobody does that work: a packet arrives as large as it was sent, its checksum unfinished and
//! taken for right. Where an interface does not offer it, the kernel does it before the packet leaves, as it does
//! before a wire. Only then does it show whether what it was told about the packet is true.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result};

use crate::host::Host;

/// Settings of `<linux/ethtool.h>`: the kernel's number, and what it is for.
const RX_CHECKSUMS: u32 = 0x15;
const TX_CHECKSUMS: u32 = 0x17;
const TCP_SEGMENTS: u32 = 0x1f;
const SEGMENTS: u32 = 0x24;
const MERGING: u32 = 0x2c;
/// Settings that are bits of one word, to read and to write; and which of them: tags of VLANs taken off what arrives, and
/// put on what leaves.
const READ_FLAGS: u32 = 0x25;
const WRITE_FLAGS: u32 = 0x26;
const TAGS: u32 = 1 << 8 | 1 << 7;

/// What leaves by this interface is cut into segments, and its checksums are finished, before it does.
///
/// # Errors
/// When the kernel refuses it.
pub fn finish_sent(host: &Host, interface: &str) -> Result<()> {
    switch_off(host, interface, &[TX_CHECKSUMS, TCP_SEGMENTS, SEGMENTS])?;
    // There is no number for UDP's segments; above this many of either kind the kernel cuts by itself.
    host.ip(&format!("link set {interface} gso_max_segs 1"))
        .map(drop)
}

/// What arrives on this interface is checked by the kernel and not put together to larger packets.
///
/// # Errors
/// When the kernel refuses it.
pub fn check_received(host: &Host, interface: &str) -> Result<()> {
    switch_off(host, interface, &[RX_CHECKSUMS, MERGING])
}

/// What leaves by this interface is as on a wire: a packet is a frame, its checksum is finished, and the tag of its VLAN is
/// among its bytes. And what is sent to it by XDP is taken, for which it has to poll.
///
/// # Errors
/// When the kernel refuses it.
pub fn like_a_wire(host: &Host, interface: &str) -> Result<()> {
    finish_sent(host, interface)?;
    merges(host, interface, true)?;
    host.run(|| {
        let flags = ethtool(interface, READ_FLAGS, 0)?;
        ethtool(interface, WRITE_FLAGS, flags & !TAGS)
    })?
    .with_context(|| {
        format!(
            "{}: cannot leave tags on frames of {interface}",
            host.name()
        )
    })
    .map(drop)
}

/// Whether packets that arrive on this interface are put together to larger ones.
///
/// # Errors
/// When the kernel refuses it.
pub fn merges(host: &Host, interface: &str, whether: bool) -> Result<()> {
    host.run(|| ethtool(interface, MERGING, whether.into()))?
        .with_context(|| format!("{}: cannot set the merging of {interface}", host.name()))
        .map(drop)
}

fn switch_off(host: &Host, interface: &str, settings: &[u32]) -> Result<()> {
    host.run(|| {
        settings
            .iter()
            .try_for_each(|setting| ethtool(interface, *setting, 0).map(drop))
    })?
    .with_context(|| format!("{}: cannot switch off offloads of {interface}", host.name()))
}

/// As `ethtool`, in the calling thread's namespace. Gives the value that there then is.
fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data };
    // SAFETY: all zero is a value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(interface.bytes())
        .take(room)
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the request and the value that it points to live as long as the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value.data)
    }
}
