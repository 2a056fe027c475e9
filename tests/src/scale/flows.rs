//! Datagrams of any number of clients: one thread sends them all, with source addresses that nobody has, and a real server
//! answers where it is asked to.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::host::Host;
use crate::slow::patient;

/// The network of the clients that there are not.
pub const CLIENTS: &str = "10.64.0.0/12";
/// Ports of one client.
const PORTS: u32 = 60_000;
/// The first of them.
const FIRST_PORT: u32 = 2000;
/// How many datagrams may be under way: no buffer on the way is to overflow.
const UNDER_WAY: u64 = 128;
/// How long none need arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// A flow's client, by the flow's number.
pub fn client(flow: u32) -> SocketAddrV4 {
    let first = u32::from(Ipv4Addr::new(10, 64, 0, 1));
    let port = FIRST_PORT + flow % PORTS;
    SocketAddrV4::new(Ipv4Addr::from(first + flow / PORTS), port as u16)
}

/// A real server, which counts datagrams and answers those that ask for it.
#[derive(Debug)]
pub struct Server {
    arrived: Arc<AtomicU64>,
}

impl Server {
    /// Listens at this port. Its thread ends with the program.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        let arrived = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&arrived);
        let serve = move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if buffer.first() == Some(&ANSWER) {
                    // Lost answers show as connections that there are not.
                    let _ = socket.send_to(&buffer[..length], from);
                }
                count.fetch_add(1, Ordering::Release);
            }
        };
        drop(host.spawn("flows", serve)?);
        Ok(Self { arrived })
    }

    /// How many have arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }
}

/// The first byte of a datagram that is to be answered, and of one that is not.
const ANSWER: u8 = 1;
const SILENCE: u8 = 0;

/// The sender of all flows.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    to: SocketAddrV4,
}

impl Sender {
    /// Sends from `host`.
    pub fn new(host: &Host, to: SocketAddrV4) -> Result<Self> {
        let open = || {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Raw,
            )
        };
        let socket = host.run(open)?.context("cannot open a raw socket")?;
        Ok(Self { socket, to })
    }

    fn send(&self, flow: u32, word: u8) -> Result<()> {
        let frame = packet(client(flow), self.to, word);
        let to = SockaddrIn::from(self.to);
        sendto(self.socket.as_raw_fd(), &frame, &to, MsgFlags::empty())
            .with_context(|| format!("cannot send from {}", client(flow)))?;
        Ok(())
    }

    /// Opens these flows: each sends one datagram and gets an answer.
    pub fn open(&self, flows: std::ops::Range<u32>, server: &Server) -> Result<()> {
        let before = server.arrived();
        for (sent, flow) in flows.enumerate() {
            self.send(flow, ANSWER)?;
            wait_for(server, before + (sent as u64 + 1).saturating_sub(UNDER_WAY))?;
        }
        Ok(())
    }

    /// Sends from one flow after the other, without answers, for so long; datagrams a second that arrived.
    pub fn flood(&self, flows: u32, server: &Server, time: Duration) -> Result<f64> {
        let before = server.arrived();
        let begun = Instant::now();
        let mut sent = 0_u64;
        // Far apart, so that no two that follow each other lie together.
        let mut flow = 0;
        while begun.elapsed() < time {
            for _ in 0..64 {
                flow = (flow + 7_919) % flows;
                self.send(flow, SILENCE)?;
            }
            sent += 64;
            wait_for(server, before + sent.saturating_sub(UNDER_WAY))?;
        }
        Ok((server.arrived() - before) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn wait_for(server: &Server, arrived: u64) -> Result<()> {
    let begun = Instant::now();
    while server.arrived() < arrived {
        ensure!(
            begun.elapsed() < patient(PATIENCE),
            "datagrams are lost: {} of {arrived} have arrived",
            server.arrived()
        );
        std::thread::yield_now();
    }
    Ok(())
}

/// A datagram of 18 bytes without a UDP checksum. The header's the kernel fills in.
fn packet(from: SocketAddrV4, to: SocketAddrV4, word: u8) -> [u8; 46] {
    let mut bytes = [0; 46];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&46_u16.to_be_bytes());
    bytes[8] = 64;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&from.ip().octets());
    bytes[16..20].copy_from_slice(&to.ip().octets());
    bytes[20..22].copy_from_slice(&from.port().to_be_bytes());
    bytes[22..24].copy_from_slice(&to.port().to_be_bytes());
    bytes[24..26].copy_from_slice(&26_u16.to_be_bytes());
    bytes[28] = word;
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_flow_has_a_client_of_its_own() {
        let clients: BTreeSet<SocketAddrV4> = (0..200_000).map(client).collect();
        assert_eq!(clients.len(), 200_000);
        let last = client(1_000_000);
        assert_eq!(*last.ip(), Ipv4Addr::new(10, 64, 0, 17));
        assert!(last.port() >= 2000);
    }
}
