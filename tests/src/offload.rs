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

fn switch_off(host: &Host, interface: &str, settings: &[u32]) -> Result<()> {
    host.run(|| {
        settings
            .iter()
            .try_for_each(|setting| switch_off_here(interface, *setting))
    })?
    .with_context(|| format!("{}: cannot switch off offloads of {interface}", host.name()))
}

/// As `ethtool --offload`, in the calling thread's namespace.
fn switch_off_here(interface: &str, setting: u32) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: setting,
        data: 0,
    };
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
        Ok(())
    }
}
