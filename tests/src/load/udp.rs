//! UDP clients: a datagram and its answer, or datagrams that nobody answers.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::echo::answered_by;
use super::report::Answer;
use super::{Failure, Progress, Report};
use crate::socket::FreshPorts;

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
        let socket = bind()?;
        // Connected: only answers from where the datagram went count, and ICMP errors come back.
        socket.connect(SocketAddr::V4(progress.load.to)).await?;
        report.connections += 1;
        *slot = Some(socket);
    }
    slot.as_ref()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// Below what the kernel gives to others.
static PORTS: FreshPorts = FreshPorts::new(10_000, 20_000);

fn bind() -> io::Result<UdpSocket> {
    let socket = PORTS.bind()?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
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
