//! The HTTP side of a task.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `I'm NAME` |
//! | `GET /client` | `I'm NAME, you are ADDRESS:PORT` |
//! | `GET /slow?ms=N` | `I'm NAME`, after N milliseconds |
//! | `GET /bytes?n=N` | N bytes of [`crate::pattern`] |
//! | `POST /check` | `I'm NAME, N bytes as they should be`, or where the first wrong one is |
//! | `GET /counters` | what the task has seen, this request included |

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Shared;
use crate::http::{Head, Reader, parameter};
use crate::pattern;

/// Longest sleep of /slow.
const LONGEST: u64 = 60_000;

pub(super) async fn connection(stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    let mut reader = Reader::new(stream);
    loop {
        let Ok(head) = reader.head().await else {
            return;
        };
        let _request = shared.counters.request();
        let close = head.close;
        let Ok(last) = answer(&mut reader, &head, peer, shared).await else {
            return;
        };
        if close || last {
            // Closing with unread bytes would send a reset, which can overtake the answer: first
            // say that this is the end, then wait for the client's.
            let _ = reader.inner().shutdown().await;
            let _ = tokio::time::timeout(Duration::from_secs(2), reader.discard()).await;
            return;
        }
    }
}

/// Answers one request; whether it said that the connection ends here.
async fn answer(
    reader: &mut Reader<TcpStream>,
    head: &Head,
    peer: SocketAddr,
    shared: &Shared,
) -> std::io::Result<bool> {
    let name = &shared.name;
    let mut words = head.first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let mut wrong = None;
    reader
        .body(head.length, |at, piece| {
            wrong = wrong.or_else(|| pattern::first_difference(at, piece))
        })
        .await?;
    let (status, body) = match (method, path) {
        ("GET", "/") => ("200 OK", format!("I'm {name}\n")),
        ("GET", "/client") => ("200 OK", format!("I'm {name}, you are {peer}\n")),
        ("GET", "/slow") => {
            tokio::time::sleep(Duration::from_millis(
                parameter(target, "ms").unwrap_or(100).min(LONGEST),
            ))
            .await;
            ("200 OK", format!("I'm {name}\n"))
        }
        ("GET", "/counters") => ("200 OK", shared.counters.text()),
        ("GET", "/bytes") => {
            return bytes(reader.inner(), parameter(target, "n").unwrap_or(0), shared).await;
        }
        ("POST", "/check") => match wrong {
            None => (
                "200 OK",
                format!("I'm {name}, {} bytes as they should be\n", head.length),
            ),
            Some(at) => (
                "200 OK",
                format!("I'm {name}, wrong at byte {at} of {}\n", head.length),
            ),
        },
        _ => ("404 Not Found", "no such page\n".into()),
    };
    // Asked after the work: a request that was already being served when draining began gets told
    // as well.
    let last = *shared.draining.borrow();
    let head = answer_head(status, body.len() as u64, name, last || head.close);
    reader
        .inner()
        .write_all(&[head.as_bytes(), body.as_bytes()].concat())
        .await?;
    Ok(last)
}

async fn bytes(stream: &mut TcpStream, length: u64, shared: &Shared) -> std::io::Result<bool> {
    let last = *shared.draining.borrow();
    stream
        .write_all(answer_head("200 OK", length, &shared.name, last).as_bytes())
        .await?;
    let mut at = 0;
    while at < length {
        let piece = pattern::chunk(at, usize::try_from(length - at).unwrap_or(usize::MAX));
        stream.write_all(piece).await?;
        at += piece.len() as u64;
    }
    Ok(last)
}

fn answer_head(status: &str, length: u64, name: &str, close: bool) -> String {
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nX-Task: {name}\r\n{connection}\r\n"
    )
}
