//! The TCP and UDP sockets of a network namespace, as `ss` lists them (sock_diag(7)).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{MsgFlags, SockProtocol, recv, send};

use super::{NetError, NetNs};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
/// `NLM_F_REQUEST`, with `NLM_F_DUMP` or `NLM_F_ACK`.
pub(super) const REQUEST_DUMP: u16 = 0x301;
const REQUEST_ACK: u16 = 0x5;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of a netlink header, of `struct inet_diag_req_v2` and of the part of `struct inet_diag_msg` that is read.
const HEADER: usize = 16;
const BODY: usize = 56;
const MESSAGE: usize = 52;
/// Where `struct inet_diag_sockid` begins in a request and in an answer, and its length.
const ID_IN_REQUEST: usize = 8;
const ID_IN_ANSWER: usize = 4;
const ID: usize = 48;
/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its own address and port.
    pub local: SocketAddr,
    family: u8,
    id: [u8; ID],
}

/// The sockets of one protocol, by their cookies.
pub type Sockets = HashMap<u64, Socket>;

/// Lists the sockets of a protocol (its number) in a namespace: those of IPv6 too, which may speak IPv4.
///
/// # Errors
/// The namespace cannot be entered, or the kernel cannot list such sockets.
pub fn sockets(netns: &NetNs, protocol: u8) -> Result<Sockets, NetError> {
    let socket = netns.netlink_socket(SockProtocol::NetlinkSockDiag)?;
    let mut all = Sockets::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut body = [0; BODY];
        body[0] = family;
        body[1] = protocol;
        // Of every state.
        body[4..8].fill(0xff);
        request(&socket, BY_FAMILY, REQUEST_DUMP, &body).map_err(failed)?;
        answers(&socket, BY_FAMILY, |message| {
            if let Some((cookie, socket)) = read(message) {
                all.insert(cookie, socket);
            }
        })
        .map_err(failed)?;
    }
    Ok(all)
}

/// Closes sockets of a protocol, as `ss -K` does: who uses one learns that the connection was aborted. One that is gone is no
/// error.
///
/// # Errors
/// The namespace cannot be entered, or the kernel was built without it (`CONFIG_INET_DIAG_DESTROY`).
pub fn destroy(netns: &NetNs, protocol: u8, sockets: &[Socket]) -> Result<(), NetError> {
    let netlink = netns.netlink_socket(SockProtocol::NetlinkSockDiag)?;
    for socket in sockets {
        let mut body = [0; BODY];
        body[0] = socket.family;
        body[1] = protocol;
        body[4..8].fill(0xff);
        body[ID_IN_REQUEST..].copy_from_slice(&socket.id);
        request(&netlink, DESTROY, REQUEST_ACK, &body).map_err(failed)?;
        match answers(&netlink, BY_FAMILY, |_| ()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

fn failed(error: io::Error) -> NetError {
    NetError::system("cannot list or close sockets")(error)
}

/// Sends a request of this kind.
pub(super) fn request(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    Ok(())
}

/// Shows the messages of this kind in an answer until its end.
pub(super) fn answers(
    socket: &OwnedFd,
    wanted: u16,
    mut visit: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // The kernel has answered by the time that it has taken the request, and goes on with a dump when it is read.
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((size, kind)) = header(rest) {
            let body = &rest[HEADER..size];
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    return match word(body, 0) {
                        Some(0) => Ok(()),
                        Some(error) => {
                            Err(io::Error::from_raw_os_error((error as i32).wrapping_neg()))
                        }
                        None => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                kind if kind == wanted => visit(body),
                _ => {}
            }
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// Length and kind of the first message; `None` where there is no whole one.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let size = word(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (HEADER..=bytes.len())
        .contains(&size)
        .then_some((size, kind))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A socket and its cookie.
fn read(message: &[u8]) -> Option<(u64, Socket)> {
    if message.len() < MESSAGE {
        return None;
    }
    let family = message[0];
    let id: [u8; ID] = message[ID_IN_ANSWER..ID_IN_ANSWER + ID].try_into().ok()?;
    let port = u16::from_be_bytes([id[0], id[1]]);
    let octets: [u8; 16] = id[4..20].try_into().ok()?;
    let address = if i32::from(family) == libc::AF_INET {
        Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
    } else {
        std::net::Ipv6Addr::from(octets).to_canonical()
    };
    let cookie = u64::from(word(&id, 40)?) | u64::from(word(&id, 44)?) << 32;
    let local = SocketAddr::new(address, port);
    Some((cookie, Socket { local, family, id }))
}
