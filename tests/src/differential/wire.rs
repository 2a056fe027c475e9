//! The far ends of the director's cables: frames in, frames out, without any stack of a kernel.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::names::{DIRECTOR, Link, ROUTER, ROUTER_MAC};
use crate::host::Host;
use crate::packets::packet::{Body, Frame, Icmp, Ip, Sum};
use crate::slow::patient;

/// What came out of the director: on which cable, and the frame.
pub type Arrival = (Link, Vec<u8>);

/// How long the director may take to answer a ping.
const PATIENCE: Duration = Duration::from_secs(2);

/// Packet sockets on the far ends of all cables of one director.
///
/// Where one processor sends a frame, the same one takes it through the director and out on the
/// other side, in the order in which frames came in. So once the director has answered a ping that
/// was sent after a frame, everything that the frame brought about has arrived: no time has to be
/// waited for.
#[derive(Debug)]
pub struct Wire {
    sockets: Vec<(Link, OwnedFd)>,
    pings: u16,
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens the sockets; `host` has the far ends.
    pub fn open(host: &Host) -> Result<Self> {
        let sockets = host.run(|| {
            Link::ALL
                .into_iter()
                .map(|link| Ok((link, open_here(link.interface())?)))
                .collect::<Result<_>>()
        })??;
        Ok(Self {
            sockets,
            pings: 0,
            buffer: vec![0; 65_536],
        })
    }

    /// Sends a frame into the director.
    pub fn send(&self, link: Link, frame: &[u8]) -> Result<()> {
        let (_, socket) = &self.sockets[link as usize];
        // SAFETY: the buffer is as long as said.
        let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if usize::try_from(sent).ok() != Some(frame.len()) {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("a frame of {} bytes into {link:?}", frame.len()));
        }
        Ok(())
    }

    /// All IPv4 frames that came out, when the director is through with what was sent before.
    pub fn settle(&mut self) -> Result<Vec<Arrival>> {
        self.pings = self.pings.wrapping_add(1);
        let number = self.pings.to_be_bytes();
        self.send(Link::Clients, &ping(number))?;
        let deadline = Instant::now() + patient(PATIENCE);
        let mut arrivals = Vec::new();
        loop {
            let mut answered = false;
            while let Some(frame) = self.receive(Link::Clients)? {
                if is_pong(&frame, number) {
                    answered = true;
                } else if !is_any_pong(&frame) {
                    arrivals.push((Link::Clients, frame));
                }
            }
            for link in [Link::Servers, Link::Small] {
                while let Some(frame) = self.receive(link)? {
                    arrivals.push((link, frame));
                }
            }
            if answered {
                return Ok(arrivals);
            }
            if Instant::now() > deadline {
                bail!("the director does not answer a ping");
            }
            self.wait()?;
        }
    }

    /// The next IPv4 frame, if one is there.
    fn receive(&mut self, link: Link) -> Result<Option<Vec<u8>>> {
        let socket = self.sockets[link as usize].1.as_raw_fd();
        loop {
            // SAFETY: the buffer is as long as said.
            let length = unsafe {
                libc::recv(
                    socket,
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::WouldBlock {
                    return Ok(None);
                }
                return Err(error).context("cannot receive");
            };
            let frame = &self.buffer[..length];
            if frame.get(12..14) == Some(&[8, 0]) {
                return Ok(Some(frame.to_vec()));
            }
        }
    }

    /// Until something arrives, or for a moment.
    fn wait(&self) -> Result<()> {
        let mut polls: Vec<libc::pollfd> = self
            .sockets
            .iter()
            .map(|(_, socket)| libc::pollfd {
                fd: socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // SAFETY: as many valid entries as said.
        if unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 20) } < 0 {
            return Err(io::Error::last_os_error()).context("poll");
        }
        Ok(())
    }
}

/// A packet socket for all frames that come in by the interface.
fn open_here(interface: &str) -> Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers are involved.
    let fd = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(protocol),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a packet socket");
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // Room for what thousands of frames bring about before they are read.
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20)?;
    // A socket that is bound to an interface that is down says so once more later.
    bring_up(&socket, interface)?;
    let index = nix::net::if_::if_nametoindex(interface)
        .with_context(|| format!("no interface {interface}"))?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is as long as said.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error()).context("cannot bind a packet socket");
    }
    Ok(socket)
}

/// Brings an interface up that neither asks nor answers by itself.
fn bring_up(socket: &OwnedFd, interface: &str) -> Result<()> {
    // SAFETY: a request of zeros is a valid one, without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads a request with a name and flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot bring {interface} up"));
    }
    Ok(())
}

fn set(socket: &OwnedFd, level: i32, name: i32, value: i32) -> Result<()> {
    // SAFETY: the value is as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot set option {name} of a packet socket"));
    }
    Ok(())
}

/// Marks our pings; no script sends this identification.
const PING: [u8; 2] = [0xbe, 0xef];

fn ping(number: [u8; 2]) -> Vec<u8> {
    let message = Icmp {
        kind: 8,
        code: 0,
        rest: [PING[0], PING[1], number[0], number[1]],
        data: Vec::new(),
        sum: Sum::Right,
    };
    let ip = Ip::new(ROUTER.octets(), DIRECTOR.octets(), Body::Icmp(message));
    Frame {
        to: Link::Clients.mac(),
        from: ROUTER_MAC,
        tags: Vec::new(),
        ip,
        padding: 0,
    }
    .bytes()
}

/// Whether it is an echo reply to one of our pings.
fn is_any_pong(frame: &[u8]) -> bool {
    frame.get(23) == Some(&1)
        && frame.get(30..34) == Some(&ROUTER.octets())
        && frame.get(34) == Some(&0)
        && frame.get(38..40) == Some(&PING)
}

fn is_pong(frame: &[u8], number: [u8; 2]) -> bool {
    is_any_pong(frame) && frame.get(40..42) == Some(&number)
}
