//! The UDP side of a task: each datagram is counted and, unless it begins with `!`, answered with
//! `I'm NAME DATAGRAM`.
//!
//! The answer leaves from the address to which the datagram went. A server on a host with several
//! addresses has to see to that itself: left to the kernel, it would leave from the address of the
//! way back, and be nobody's answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::Shared;

pub(super) async fn bind(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    let socket = socket.with_context(|| format!("cannot listen on UDP port {port}"))?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    Ok(socket)
}

pub(super) async fn serve(socket: UdpSocket, shared: Arc<Shared>) {
    let mut datagram = vec![0; 65_536];
    loop {
        // An error here belongs to an earlier answer (its receiver is gone): the socket is as good
        // as before.
        let received = socket
            .async_io(Interest::READABLE, || receive(&socket, &mut datagram))
            .await;
        let Ok((length, Some(peer), local)) = received else {
            continue;
        };
        shared.counters.datagram();
        let datagram = &datagram[..length];
        if !datagram.starts_with(b"!") {
            let answer = [format!("I'm {} ", shared.name).as_bytes(), datagram].concat();
            let _ = socket
                .async_io(Interest::WRITABLE, || send(&socket, &answer, peer, local))
                .await;
        }
    }
}

/// Receives one datagram: its length, where it came from, and to which address of ours it went.
fn receive(
    socket: &UdpSocket,
    datagram: &mut [u8],
) -> io::Result<(usize, Option<SockaddrIn>, Option<libc::in_addr>)> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(datagram)];
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let local = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_addr),
        _ => None,
    });
    Ok((message.bytes, message.address, local))
}

fn send(
    socket: &UdpSocket,
    answer: &[u8],
    peer: SockaddrIn,
    local: Option<libc::in_addr>,
) -> io::Result<()> {
    let info = local.map(|local| libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: local,
        ipi_addr: local,
    });
    let control: Vec<ControlMessage<'_>> =
        info.iter().map(ControlMessage::Ipv4PacketInfo).collect();
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(answer)],
        &control,
        MsgFlags::MSG_DONTWAIT,
        Some(&peer),
    )?;
    Ok(())
}
