//! UDP clients: a datagram and its answer, or datagrams that nobody answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::echo::answered_by;
use super::report::Answer;
use super::{Failure, Progress, Report};

pub(super) async fn client(progress: &Progress, fresh: bool, number: u32) -> Report {
    let mut report = Report::default();
    let mut socket: Option<UdpSocket> = None;
    let mut turn = 0_u64;
    while progress.next() {
        let start = Instant::now();
        turn += 1;
        if fresh {
            socket = None;
        }
        // The text tells a late answer to an earlier datagram from the answer to this one.
        let text = format!("client {number} turn {turn}");
        let result = match open(progress, &mut socket, &mut report).await {
            Ok(socket) => timeout(progress.load.timeout, exchange(socket, &text))
                .await
                .unwrap_or(Err(Failure::Timeout)),
            Err(error) => Err(Failure::from(&error)),
        };
        progress.note(&mut report, result, start);
        progress.pause().await;
    }
    report
}

pub(super) async fn one_way(progress: &Progress, bytes: usize) -> Report {
    let mut report = Report::default();
    let mut socket = None;
    // The mark that asks the server not to answer.
    let datagram = vec![b'!'; bytes.max(1)];
    while progress.next() {
        let start = Instant::now();
        let sent = match open(progress, &mut socket, &mut report).await {
            Ok(socket) => socket.send(&datagram).await,
            Err(error) => Err(error),
        };
        let result = sent
            .map(|_| Answer::new())
            .map_err(|error| Failure::from(&error));
        progress.note(&mut report, result, start);
        progress.pause().await;
    }
    report
}

async fn open<'a>(
    progress: &Progress,
    slot: &'a mut Option<UdpSocket>,
    report: &mut Report,
) -> io::Result<&'a UdpSocket> {
    if slot.is_none() {
        let socket = bind().await?;
        // Connected: only answers from where the datagram went count, and ICMP errors come back.
        socket.connect(SocketAddr::V4(progress.load.to)).await?;
        report.connections += 1;
        *slot = Some(socket);
    }
    slot.as_ref()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// A socket with a port that no earlier one of this process had lately: the kernel gives ports out at random, and one that
/// it gives out again at once belongs to the connection that is still remembered of it.
async fn bind() -> io::Result<UdpSocket> {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let mut taken = io::ErrorKind::AddrInUse.into();
    for _ in 0..16 {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            bound => return bound,
        }
    }
    Err(taken)
}

async fn exchange(socket: &UdpSocket, text: &str) -> Result<Answer, Failure> {
    let mut answer = vec![0; 2048];
    socket
        .send(text.as_bytes())
        .await
        .map_err(|error| Failure::from(&error))?;
    loop {
        let length = socket
            .recv(&mut answer)
            .await
            .map_err(|error| Failure::from(&error))?;
        let said = String::from_utf8_lossy(&answer[..length]);
        match answered_by(&said, text) {
            Some(task) => return Ok(task.to_owned()),
            // An answer to an earlier datagram of ours that came too late.
            None if said.starts_with("I'm ") => {}
            None => return Err(Failure::WrongAnswer),
        }
    }
}
