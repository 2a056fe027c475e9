//! The first byte of a connection, and the namespaces that come with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What a client sends before HTTP if it passes namespaces. No HTTP request begins with it.
const GREETING: u8 = 0;

/// How many descriptors Linux lets one message carry (`SCM_MAX_FD`).
pub(super) const MAX_DESCRIPTORS: usize = 253;

/// Sends the greeting with the descriptors, of which there must be at least one.
pub(super) fn greet(
    stream: &std::os::unix::net::UnixStream,
    namespaces: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let descriptors: Vec<RawFd> = namespaces.iter().map(AsRawFd::as_raw_fd).collect();
    let bytes = [GREETING];
    let data = [IoSlice::new(&bytes)];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &data,
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Takes the greeting off the stream; `None` if the client begins with something else, which stays to be read.
pub(super) async fn greeted(stream: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut first = [0; 1];
    let peeked = stream
        .async_io(Interest::READABLE, || {
            Ok(recv(
                stream.as_raw_fd(),
                &mut first,
                MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT,
            )?)
        })
        .await?;
    if peeked == 0 || first[0] != GREETING {
        return Ok(None);
    }
    stream
        .async_io(Interest::READABLE, || receive(stream.as_raw_fd()))
        .await
        .map(Some)
}

fn receive(socket: RawFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0; 1];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket, &mut data, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            received.extend(descriptors.into_iter().map(|descriptor| {
                // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
                unsafe { OwnedFd::from_raw_fd(descriptor) }
            }));
        }
    }
    Ok(received)
}
