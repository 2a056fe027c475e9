//! What passes an interface, and in which state: a packet socket that is told, beside each packet, what the kernel has
//! yet to do to it.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::ip::Packet;
use crate::socket::set_option;

/// Bytes of `struct virtio_net_hdr` (`<linux/virtio_net.h>`), which comes before each packet.
const STATE: usize = 10;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Room for what was not yet fetched.
const ROOM: libc::c_int = 128 << 20;

/// What a transport checksum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// It is finished, and that of the packet.
    Right,
    /// It is to be finished, and that of the pseudo header.
    Unfinished,
    /// It is not what the kernel takes it for.
    Wrong,
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Frame {
    /// It leaves by the interface, instead of arriving.
    pub leaves: bool,
    /// Payload bytes of each segment into which it is to be cut; 0: into none.
    pub segment: usize,
    /// Its checksum is unfinished: where what it covers begins, and where it stands from there on, in bytes.
    pub unfinished: Option<(usize, usize)>,
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The packet of TCP or UDP in it.
    pub fn packet(&self) -> Option<Packet<'_>> {
        if self.bytes.get(12..ETHERNET)? != [8, 0] {
            return None;
        }
        Packet::new(&self.bytes[ETHERNET..])
    }

    /// What its transport checksum is, by what the kernel says about it: one that counts as finished has to be right,
    /// one that does not has to be that of the pseudo header, and in the place that the kernel will write to.
    pub fn sum(&self) -> Sum {
        let Some(packet) = self.packet() else {
            return Sum::Wrong;
        };
        let place = (ETHERNET + packet.header(), packet.sum_offset());
        match self.unfinished {
            None if packet.is_transport_right() => Sum::Right,
            Some(at) if at == place && packet.is_unfinished() => Sum::Unfinished,
            _ => Sum::Wrong,
        }
    }
}

/// All packets of one interface, from the moment on at which it was opened.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Opens one.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses it.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        host.run(|| Self::open_here(interface))?
            .with_context(|| format!("{}: cannot see packets of {interface}", host.name()))
    }

    fn open_here(interface: &str) -> Result<Self> {
        let every = (libc::ETH_P_ALL as u16).to_be();
        // Protocol 0: nothing is seen before the socket is bound to the one interface.
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        for (level, option, value) in [
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM),
        ] {
            set_option(&socket, level, option, value)?;
        }
        // SAFETY: all zero is a value of this plain C struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = every;
        address.sll_ifindex = nix::net::if_::if_nametoindex(interface)? as libc::c_int;
        // SAFETY: the address is as long as said.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        ensure!(bound == 0, io::Error::last_os_error());
        Ok(Self(socket))
    }

    /// What has passed since the last call, and the number of packets among it that the kernel could not describe:
    /// before Linux 6.2 those of UDP that are to be cut into segments.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn passed(&self) -> Result<(Vec<Frame>, u32)> {
        let (mut frames, mut indescribable) = (Vec::new(), 0);
        let mut buffer = vec![0; STATE + ETHERNET + 65_536];
        loop {
            match self.receive(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => indescribable += 1,
                Err(error) => return Err(error).context("cannot read packets"),
            }
        }
        Ok((frames, indescribable))
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        // SAFETY: all zero is a value of this plain C struct.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut from_length = size_of_val(&from) as libc::socklen_t;
        // SAFETY: buffer and address are as long as said.
        let length = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut from_length,
            )
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if length < STATE + ETHERNET {
            return Ok(None);
        }
        let word = |at: usize| usize::from(u16::from_ne_bytes([buffer[at], buffer[at + 1]]));
        const UNFINISHED: u8 = 1;
        Ok(Some(Frame {
            leaves: from.sll_pkttype == libc::PACKET_OUTGOING,
            segment: if buffer[1] == 0 { 0 } else { word(4) },
            unfinished: (buffer[0] & UNFINISHED != 0).then(|| (word(6), word(8))),
            bytes: buffer[STATE..length].to_vec(),
        }))
    }
}
