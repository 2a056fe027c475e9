//! Socket options that no library at hand knows, and UDP sockets whose ports do not come again.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// UDP sockets, each with a port that no earlier one of this process had lately: the kernel draws ports at random, and a
/// datagram by one that it draws again is of the connection that is still remembered, and goes to its server, whose turn it
/// may not be.
pub(crate) struct FreshPorts {
    first: u16,
    ports: u16,
    /// Begins anywhere, for other processes that ask the same service from the same address.
    next: LazyLock<AtomicU16>,
}

impl FreshPorts {
    /// So many ports from this one on. All of them together fit into 16 bits.
    pub(crate) const fn new(first: u16, ports: u16) -> Self {
        Self {
            first,
            ports,
            next: LazyLock::new(|| AtomicU16::new(fastrand::u16(..))),
        }
    }

    /// The next socket, in the calling thread's namespace.
    ///
    /// # Errors
    /// What the kernel says; that a port is taken after sixteen of them.
    pub(crate) fn bind(&self) -> io::Result<UdpSocket> {
        let mut taken = io::ErrorKind::AddrInUse.into();
        for _ in 0..16 {
            let port = self.first + self.next.fetch_add(1, Ordering::Relaxed) % self.ports;
            match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
                bound => return bound,
            }
        }
        Err(taken)
    }
}

/// Sets an option whose value is a number.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option's value is an int, and lives as long as the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
