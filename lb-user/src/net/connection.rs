//! A route netlink socket, read and written by the async runtime.
//!
//! netlink-proto would do this too, but it gives events and answers out by different ways. Here both are read from one
//! queue in the order in which the kernel put them there, and that order is what makes a dump and the events around it
//! one consistent account (see `mirror`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, SockProtocol, bind, getsockname, sendto, setsockopt, sockopt,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::NetError;
use super::netns::NetNs;

/// Events of links.
pub(super) const GROUP_LINK: u32 = 1;
/// Events of neighbours of every family.
pub(super) const GROUP_NEIGHBOUR: u32 = 1 << 2;
/// Events of IPv4 addresses.
pub(super) const GROUP_IPV4_ADDRESS: u32 = 1 << 4;
/// Events of IPv4 routes.
pub(super) const GROUP_IPV4_ROUTE: u32 = 1 << 6;
/// Events of IPv4 policy rules.
pub(super) const GROUP_IPV4_RULE: u32 = 1 << 7;
/// Events of IPv6 addresses.
pub(super) const GROUP_IPV6_ADDRESS: u32 = 1 << 8;
/// Events of next hop objects.
pub(super) const GROUP_NEXT_HOP: u32 = 1 << 31;

/// The kernel fills at most 32 KiB per read of a dump, and an event is far smaller.
const READ_BUFFER: usize = 64 << 10;
/// How long the kernel gets for an answer; it needs microseconds.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A netlink message as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope<'a> {
    /// `RTM_…`, or one of the `NLMSG_…`.
    pub(super) kind: u16,
    /// `NLM_F_…`.
    pub(super) flags: u16,
    /// The request that it answers; of somebody else, if the port is not ours.
    pub(super) sequence: u32,
    /// The port of whose request caused it; 0 for the kernel's own doing.
    pub(super) port: u32,
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

/// What a message says about the request that it answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// Part of it; more follows.
    Part,
    /// It is complete.
    Done,
    /// It was refused.
    Failed(io::Error),
}

impl Envelope<'_> {
    /// The kernel says that the tables changed under a dump in a way that it cannot put right.
    pub(super) fn is_interrupted_dump(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    pub(super) fn answer(&self) -> Answer {
        match self.kind {
            NLMSG_ERROR | NLMSG_DONE => {
                let code = self
                    .payload
                    .first_chunk()
                    .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                if code < 0 {
                    Answer::Failed(io::Error::from_raw_os_error(code.saturating_neg()))
                } else {
                    Answer::Done
                }
            }
            _ => Answer::Part,
        }
    }
}

/// The outcome of a read.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// One datagram, which may hold several messages.
    Messages(Envelopes<'a>),
    /// The kernel had no room left and threw events away.
    Lost,
}

/// The messages of one datagram.
#[derive(Debug)]
pub(super) struct Envelopes<'a>(&'a [u8]);

impl<'a> Iterator for Envelopes<'a> {
    type Item = Envelope<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; HEADER_LEN] = self.0.first_chunk()?;
        let [
            l0,
            l1,
            l2,
            l3,
            k0,
            k1,
            f0,
            f1,
            s0,
            s1,
            s2,
            s3,
            p0,
            p1,
            p2,
            p3,
        ] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = self.0.get(HEADER_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Envelope {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
        })
    }
}

/// A route netlink socket in some namespace.
#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket inside `netns` that hears the events of `groups` (a sum of `GROUP_…`).
    ///
    /// `queue` bytes may wait to be read before events are lost. Must be called inside a runtime.
    pub(super) fn open(netns: &NetNs, groups: u32, queue: usize) -> Result<Self, NetError> {
        let socket = netns.netlink_socket(SockProtocol::NetlinkRoute)?;
        // The first needs CAP_NET_ADMIN and knows no limit; without it the system's limit holds, and a queue that is
        // too short costs reading everything again, no more.
        if setsockopt(&socket, sockopt::RcvBufForce, &queue).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &queue)
                .map_err(NetError::errno("cannot size a netlink socket's queue"))?;
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(NetError::errno("cannot bind a netlink socket"))?;
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())
            .map_err(NetError::errno("cannot read a netlink socket's address"))?
            .pid();
        // SAFETY: an `OwnedFd` stays open and the same until it is dropped, and the `AsyncFd` owns it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| NetError::system("cannot wait for a netlink socket")(error.into()))?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// The port that answers to its requests carry, and events that they cause.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Asks for all of a table. Returns the sequence number of the answer.
    pub(super) fn request_dump(&mut self, message: RouteNetlinkMessage) -> Result<u32, NetError> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<u32, NetError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        // The kernel takes a request in the call itself: this does not block and cannot find a full queue.
        sendto(
            self.socket.as_raw_fd(),
            &bytes,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )
        .map_err(NetError::errno("cannot send a netlink request"))?;
        Ok(self.sequence)
    }

    /// Sends a request that changes something and waits for the kernel's word on it. Only for connections that hear no
    /// events. `flags` are added to those of any request.
    ///
    /// The inner result is the kernel's.
    pub(super) async fn change(
        &mut self,
        request: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<io::Result<()>, NetError> {
        let sequence = self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        let wait = async {
            loop {
                let port = self.port;
                if let Received::Messages(envelopes) = self.receive().await? {
                    for envelope in envelopes {
                        if envelope.port != port || envelope.sequence != sequence {
                            continue;
                        }
                        match envelope.answer() {
                            Answer::Done => return Ok(Ok(())),
                            Answer::Failed(error) => return Ok(Err(error)),
                            Answer::Part => {}
                        }
                    }
                }
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| NetError::NoAnswer { request })?
    }

    /// Waits for the next datagram. Can be cancelled without losing one.
    pub(super) async fn receive(&mut self) -> Result<Received<'_>, NetError> {
        let length = loop {
            let mut ready = self
                .socket
                .readable()
                .await
                .map_err(NetError::system("cannot wait for a netlink socket"))?;
            let buffer = &mut self.buffer;
            let read = ready.try_io(|socket| {
                // With the flag, the whole length of a datagram is returned also when it did not fit.
                let mut io = [io::IoSliceMut::new(buffer)];
                nix::sys::socket::recvmsg::<NetlinkAddr>(
                    socket.as_raw_fd(),
                    &mut io,
                    None,
                    MsgFlags::MSG_TRUNC,
                )
                .map(|message| (message.bytes, message.address))
                .map_err(io::Error::from)
            });
            match read {
                // Not yet, in spite of what the runtime thought.
                Err(_) => {}
                // Only the kernel, port 0, has anything to say here.
                Ok(Ok((_, Some(sender)))) if sender.pid() != 0 => {}
                Ok(Ok((length, _))) => break length,
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(Received::Lost);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => {
                    return Err(NetError::system("cannot read from a netlink socket")(error));
                }
            }
        };
        if length > self.buffer.len() {
            // What was cut off is gone, but the next time it will fit.
            self.buffer.resize(length, 0);
            return Ok(Received::Lost);
        }
        Ok(Received::Messages(Envelopes(
            self.buffer.get(..length).unwrap_or_default(),
        )))
    }
}
