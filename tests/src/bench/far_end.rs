//! `lab far-end`: both ends of the cables of a guest that is the director alone. It runs outside of the guest, so that nothing of
//! what the ends do is among the guest's instructions.
//!
//! The cables are UNIX datagram sockets in a folder, a frame each: the guest's `guest0` and `guest1`, and `host0` and `host1`
//! here. Behind cable 0 are clients, behind cable 1 real servers; every address there is answered for. The guest asks for
//! packets by a frame of its own (see [`Order`]).

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::workloads::DATAGRAMS;
use crate::topology::director::CLIENT;

/// The Ethertype of what guest and far end say to each other: the one for experiments of one's own.
pub const WORDS: u16 = 0x88b5;
/// Ethernet addresses of both far ends.
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0x10], [2, 0, 0, 0, 0, 0x11]];
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const UDP: u8 = 17;
/// The smallest frame, without its checksum.
const FRAME: usize = 60;
/// The port that datagrams come from.
const FROM: u16 = 2000;
/// How long packets of a burst may be under way.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many datagrams to this address, in bursts of which each has arrived before the next one is sent. The answer is how many
/// have arrived in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// How many.
    pub count: u32,
    /// How many at once.
    pub burst: u32,
    /// Where to.
    pub target: Ipv4Addr,
}

impl Order {
    /// As a frame from this Ethernet address.
    pub fn frame(&self, from: [u8; 6]) -> Vec<u8> {
        let mut frame = frame([0xff; 6], from, WORDS);
        frame[14..18].copy_from_slice(&self.count.to_be_bytes());
        frame[18..22].copy_from_slice(&self.burst.to_be_bytes());
        frame[22..26].copy_from_slice(&self.target.octets());
        frame
    }

    fn read(frame: &[u8]) -> Option<Self> {
        if ethertype(frame)? != WORDS {
            return None;
        }
        Some(Self {
            count: number(frame, 14)?,
            burst: number(frame, 18)?,
            target: number(frame, 22)?.into(),
        })
    }

    /// How many have arrived, by the frame that answers.
    pub fn arrived(frame: &[u8]) -> Option<u32> {
        number(frame, 14)
    }
}

fn number(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

/// Holds the far ends until it is killed.
///
/// # Errors
///
/// Where the folder cannot be used.
pub fn run(folder: &Path) -> Result<()> {
    let ends = [End::open(folder, 0)?, End::open(folder, 1)?];
    let arrived = Arc::new(AtomicU64::new(0));
    let [clients, servers] = ends;
    let count = Arc::clone(&arrived);
    std::thread::spawn(move || {
        servers.serve(|frame| {
            if is_datagram(frame) {
                count.fetch_add(1, Ordering::Release);
            }
        })
    });
    clients.serve(|frame| {
        let Some(order) = Order::read(frame) else {
            return;
        };
        let Ok(asker) = frame[6..12].try_into() else {
            return;
        };
        if let Err(error) = clients.carry_out(order, asker, &arrived) {
            eprintln!("far end: {error}");
        }
    })
}

struct End {
    socket: UnixDatagram,
    guest: PathBuf,
    mac: [u8; 6],
}

impl End {
    fn open(folder: &Path, number: usize) -> Result<Self> {
        let own = folder.join(format!("host{number}"));
        let socket =
            UnixDatagram::bind(&own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(Self {
            socket,
            guest: folder.join(format!("guest{number}")),
            mac: MACS[number],
        })
    }

    /// Answers ARP, and hands on what else comes.
    fn serve(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            let frame = &buffer[..length];
            match self.resolved(frame) {
                // A guest that is gone needs no answer.
                Some(answer) => drop(self.send(&answer)),
                None => take(frame),
            }
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.guest).map(drop)
    }

    /// What a request for an Ethernet address is answered with.
    fn resolved(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let is_request = ethertype(asked)? == ARP && asked.get(20..22)? == [0, 1];
        // One that asks for its own address wants nobody to answer.
        if !is_request || asked.get(28..32)? == asked.get(38..42)? {
            return None;
        }
        let mut answer = frame(asked[6..12].try_into().ok()?, self.mac, ARP);
        answer[14..20].copy_from_slice(&asked[14..20]);
        answer[20..22].copy_from_slice(&[0, 2]);
        answer[22..28].copy_from_slice(&self.mac);
        answer[28..32].copy_from_slice(&asked[38..42]);
        answer[32..42].copy_from_slice(&asked[22..32]);
        Some(answer)
    }

    fn carry_out(&self, order: Order, asker: [u8; 6], arrived: &AtomicU64) -> io::Result<()> {
        let packet = datagram(asker, self.mac, order.target);
        let before = arrived.load(Ordering::Acquire);
        let mut sent = 0_u64;
        while sent < order.count.into() {
            for _ in 0..order.burst {
                self.send(&packet)?;
            }
            sent += u64::from(order.burst);
            let begun = Instant::now();
            while arrived.load(Ordering::Acquire) < before + sent && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let came = arrived.load(Ordering::Acquire) - before;
        let mut answer = frame(asker, self.mac, WORDS);
        answer[14..18].copy_from_slice(&u32::try_from(came).unwrap_or(u32::MAX).to_be_bytes());
        self.send(&answer)
    }
}

/// Whether it is one of ours, wherever it goes.
fn is_datagram(frame: &[u8]) -> bool {
    ethertype(frame) == Some(IPV4)
        && frame.get(23) == Some(&UDP)
        && frame.get(34..36) == Some(&FROM.to_be_bytes())
}

/// A datagram without a checksum of its own.
fn datagram(to: [u8; 6], from: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let mut packet = frame(to, from, IPV4);
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&((FRAME - 14) as u16).to_be_bytes());
    packet[22] = 64;
    packet[23] = UDP;
    packet[26..30].copy_from_slice(&CLIENT.octets());
    packet[30..34].copy_from_slice(&target.octets());
    let sum: u32 = packet[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[24..26].copy_from_slice(&(!folded as u16).to_be_bytes());
    packet[34..36].copy_from_slice(&FROM.to_be_bytes());
    packet[36..38].copy_from_slice(&DATAGRAMS.to_be_bytes());
    packet[38..40].copy_from_slice(&((FRAME - 34) as u16).to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_carried_out_and_answered() {
        let folder = std::env::temp_dir().join(format!("far-end-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let guest =
            [0, 1].map(|end| UnixDatagram::bind(folder.join(format!("guest{end}"))).unwrap());
        let path = folder.clone();
        std::thread::spawn(move || run(&path));
        let host = folder.join("host0");
        while !folder.join("host1").exists() {
            std::thread::yield_now();
        }
        let own = [2, 0, 0, 0, 0, 1];
        let order = Order {
            count: 6,
            burst: 3,
            target: Ipv4Addr::new(10, 0, 0, 100),
        };
        guest[0].send_to(&order.frame(own), &host).unwrap();
        let mut buffer = [0; 2048];
        for _ in 0..6 {
            let length = guest[0].recv(&mut buffer).unwrap();
            let packet = &buffer[..length];
            assert_eq!(packet[..6], own);
            assert_eq!(packet[30..34], [10, 0, 0, 100]);
            assert!(is_datagram(packet));
            // The director sends it on.
            guest[1].send_to(packet, folder.join("host1")).unwrap();
        }
        let length = guest[0].recv(&mut buffer).unwrap();
        assert_eq!(Order::arrived(&buffer[..length]), Some(6));
        // Who has 10.0.1.11? Tell 10.0.1.1.
        let mut request = frame([0xff; 6], own, ARP);
        request[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        request[22..28].copy_from_slice(&own);
        request[28..32].copy_from_slice(&[10, 0, 1, 1]);
        request[38..42].copy_from_slice(&[10, 0, 1, 11]);
        guest[1].send_to(&request, folder.join("host1")).unwrap();
        let length = guest[1].recv(&mut buffer).unwrap();
        assert_eq!(buffer[6..12], MACS[1]);
        assert_eq!(buffer[22..32], [2, 0, 0, 0, 0, 0x11, 10, 0, 1, 11]);
        assert_eq!(buffer[32..42], [2, 0, 0, 0, 0, 1, 10, 0, 1, 1]);
        assert_eq!(length, FRAME);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
