//! HTTP clients, with short connections or with many requests on one.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::Answer;
use super::{Failure, Kind, Progress, Report};
use crate::http::{NoHead, Reader};

/// A connection and what was done on it.
struct Connection {
    reader: Reader<TcpStream>,
    requests: u32,
    /// Who answered last.
    task: Answer,
}

pub(super) async fn client(progress: &Progress) -> Report {
    let mut report = Report::default();
    let most = match progress.load.kind {
        Kind::KeepAlive { requests: 0 } => u32::MAX,
        Kind::KeepAlive { requests } => requests,
        _ => 1,
    };
    let mut connection: Option<Connection> = None;
    while progress.next() {
        let start = Instant::now();
        let result = timeout(
            progress.load.timeout,
            one(progress, &mut connection, most, &mut report),
        )
        .await;
        let result = result.unwrap_or(Err(Failure::Timeout));
        if result.is_err()
            && let Some(lost) = connection.take()
        {
            *report.lost.entry(lost.task).or_default() += 1;
        }
        progress.note(&mut report, result, start);
        progress.pause().await;
    }
    report
}

/// One request, on the open connection if there is one that still can be used.
async fn one(
    progress: &Progress,
    slot: &mut Option<Connection>,
    most: u32,
    report: &mut Report,
) -> Result<Answer, Failure> {
    // A connection that the other end has closed while it was idle is no failure: nothing was asked
    // on it.
    if let Some(idle) = slot.take_if(|idle| is_closed(idle.reader.inner())) {
        *report.lost.entry(idle.task).or_default() += 1;
    }
    if slot.is_none() {
        let stream = connect(progress, report)
            .await
            .map_err(|error| Failure::from(&error))?;
        let _ = stream.set_nodelay(true);
        report.connections += 1;
        *slot = Some(Connection {
            reader: Reader::new(stream),
            requests: 0,
            task: String::new(),
        });
    }
    let connection = slot.as_mut().ok_or(Failure::Closed)?;
    connection.requests += 1;
    let last = connection.requests >= most;
    let task = exchange(progress, connection, last).await?;
    task.0.clone_into(&mut connection.task);
    if last || task.1 {
        *slot = None;
    }
    Ok(task.0)
}

/// Sends a request and reads its answer: who answered, and whether the connection ends here.
async fn exchange(
    progress: &Progress,
    connection: &mut Connection,
    last: bool,
) -> Result<(Answer, bool), Failure> {
    let close = if last { "Connection: close\r\n" } else { "" };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n",
        progress.load.path, progress.load.to
    );
    let io = |error: io::Error| Failure::from(&error);
    connection
        .reader
        .inner()
        .write_all(request.as_bytes())
        .await
        .map_err(io)?;
    let head = connection
        .reader
        .head()
        .await
        .map_err(|no_head| match no_head {
            NoHead::Closed(_) => Failure::Closed,
            NoHead::Malformed => Failure::WrongAnswer,
            NoHead::Io(error) => Failure::from(&error),
        })?;
    connection
        .reader
        .body(head.length, |_, _| {})
        .await
        .map_err(io)?;
    let task = head.task.ok_or(Failure::WrongAnswer)?;
    if !head.first.ends_with("200 OK") {
        return Err(Failure::WrongAnswer);
    }
    if last && head.close {
        // The server closes first, so that the many connections that rest after their end do so on
        // its side and not on ours, where each would keep a port.
        connection.reader.discard().await;
    }
    Ok((task, head.close))
}

async fn connect(progress: &Progress, report: &mut Report) -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect(SocketAddr::V4(progress.load.to)).await {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && progress.load.retry_refused =>
            {
                report.retried += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

/// Whether the other end has closed or reset a connection on which nothing is expected.
fn is_closed(stream: &TcpStream) -> bool {
    let mut scratch = [0];
    !matches!(stream.try_read(&mut scratch), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
