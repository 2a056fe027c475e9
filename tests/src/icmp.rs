//! ICMP as a host sees it: ping, and what comes back for a packet that did not arrive.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::ip::{Packet, checksum};

/// ICMP echo request.
const ECHO: u8 = 8;
/// ICMP echo reply.
const ECHO_REPLY: u8 = 0;

/// One ICMP message that reached the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: Ipv4Addr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Everything behind the first four bytes: for an error four bytes of detail, and the packet
    /// that it is about.
    pub rest: Vec<u8>,
    /// Whether its checksum is right.
    pub is_right: bool,
}

impl Message {
    /// The MTU in a "fragmentation needed" (type 3 code 4), in bytes.
    pub fn mtu(&self) -> Option<u16> {
        (self.kind == 3 && self.code == 4).then(|| u16::from_be_bytes([self.rest[2], self.rest[3]]))
    }

    /// Source and destination of the packet inside an error.
    pub fn inner(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let address = |at: usize| {
            Some(Ipv4Addr::from(
                <[u8; 4]>::try_from(self.rest.get(at..at + 4)?).ok()?,
            ))
        };
        Some((address(16)?, address(20)?))
    }

    /// The packet of TCP or UDP inside an error, with its transport header.
    pub fn quoted(&self) -> Option<Packet<'_>> {
        Packet::new(self.rest.get(4..)?)
    }

    /// Source and destination port of the TCP or UDP header inside an error.
    pub fn inner_ports(&self) -> Option<(u16, u16)> {
        let header = 4 + usize::from(self.rest.get(4)? & 15) * 4;
        let port = |at: usize| {
            Some(u16::from_be_bytes([
                *self.rest.get(at)?,
                *self.rest.get(at + 1)?,
            ]))
        };
        Some((port(header)?, port(header + 2)?))
    }
}

/// A raw ICMP socket: a copy of every ICMP message that reaches the namespace in which it was
/// opened.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens on `host` from now on.
    pub fn open(host: &Host) -> Result<Self> {
        host.run(Self::open_here)?
            .context("cannot open a raw socket")
    }

    fn open_here() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = unsafe {
            libc::socket(
                libc::AF_INET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::IPPROTO_ICMP,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next message that `wanted` accepts, or `None` when none has come in time.
    pub fn next(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&Message) -> bool,
    ) -> Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(message) = self.receive(left)? else {
                return Ok(None);
            };
            if wanted(&message) {
                return Ok(Some(message));
            }
        }
    }

    fn receive(&self, patience: Duration) -> Result<Option<Message>> {
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
        let mut packet = vec![0_u8; 65_536];
        // SAFETY: the buffer is as long as said.
        let length = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                packet.as_mut_ptr().cast(),
                packet.len(),
                0,
            )
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        packet.truncate(length);
        let header = usize::from(packet.first().context("an empty packet")? & 15) * 4;
        if packet.len() < header + 8 {
            bail!("an ICMP message of {length} bytes");
        }
        let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
        Ok(Some(Message {
            from,
            kind: packet[header],
            code: packet[header + 1],
            is_right: checksum(&packet[header..]) == 0,
            rest: packet.split_off(header + 4),
        }))
    }

    fn send(&self, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from(to).to_be(),
            },
            sin_zero: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: message and address are valid for the lengths given.
        let sent = unsafe {
            libc::sendto(
                fd,
                message.as_ptr().cast(),
                message.len(),
                0,
                (&raw const address).cast(),
                length,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Pings `to` from `host` once: the time to the answer, or `None` without one.
pub fn ping(host: &Host, to: Ipv4Addr, patience: Duration) -> Result<Option<Duration>> {
    host.run(|| ping_here(to, patience))?
        .with_context(|| format!("{}: ping {to}", host.name()))
}

/// Pings from the calling thread's namespace.
pub fn ping_here(to: Ipv4Addr, patience: Duration) -> Result<Option<Duration>> {
    let socket = Listener::open_here().context("cannot open a raw socket")?;
    // Thread ids differ between pings that run at the same time.
    // SAFETY: takes nothing, gives a number.
    let id = (unsafe { libc::gettid() } as u16).to_be_bytes();
    let mut message = vec![ECHO, 0, 0, 0, id[0], id[1], 0, 1];
    message.extend_from_slice(b"bpvs lab: is anybody there?");
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let start = Instant::now();
    socket.send(to, &message)?;
    let answer = socket.next(patience, |answer| {
        answer.from == to && answer.kind == ECHO_REPLY && answer.rest[..2] == id
    })?;
    match answer {
        Some(answer) if answer.rest != message[4..] => {
            bail!("the answer does not carry back what was sent")
        }
        Some(_) => Ok(Some(start.elapsed())),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_inside_an_error_is_found_behind_options() {
        let mut rest = vec![0, 0, 0x05, 0xdc, 0x46];
        rest.resize(4 + 24, 0);
        rest[16..24].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 100]);
        rest.extend_from_slice(&[0x9c, 0x40, 0x00, 0x50]);
        let message = Message {
            from: Ipv4Addr::LOCALHOST,
            kind: 3,
            code: 4,
            rest,
            is_right: true,
        };
        assert_eq!(message.mtu(), Some(1500));
        assert_eq!(
            message.inner(),
            Some((Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 100)))
        );
        assert_eq!(message.inner_ports(), Some((40_000, 80)));
    }
}
