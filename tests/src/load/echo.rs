//! Clients with one long connection each and a line to and fro now and then.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::Answer;
use super::{Failure, Progress, Report};

pub(super) async fn client(progress: &Progress, number: u32) -> Report {
    let mut report = Report::default();
    let start = Instant::now();
    let connected = timeout(
        progress.load.timeout,
        TcpStream::connect(SocketAddr::V4(progress.load.to)),
    )
    .await;
    let mut stream = match connected {
        Ok(Ok(stream)) => BufReader::new(stream),
        Ok(Err(error)) => {
            progress.note(&mut report, Err(Failure::from(&error)), start);
            return report;
        }
        Err(_) => {
            progress.note(&mut report, Err(Failure::Timeout), start);
            return report;
        }
    };
    report.connections += 1;
    let mut task = Answer::new();
    let mut beat = 0_u64;
    while progress.next() {
        let start = Instant::now();
        beat += 1;
        let line = format!("client {number} beat {beat}");
        let result = timeout(progress.load.timeout, exchange(&mut stream, &line, &task))
            .await
            .unwrap_or(Err(Failure::Timeout));
        if let Ok(answer) = &result {
            task.clone_from(answer);
        }
        let broken = result.is_err();
        progress.note(&mut report, result, start);
        if broken {
            *report.lost.entry(task).or_default() += 1;
            break;
        }
        progress.pause().await;
    }
    report
}

/// A line to and fro. It has to come back from the task that answered the one before.
async fn exchange(
    stream: &mut BufReader<TcpStream>,
    line: &str,
    task: &str,
) -> Result<Answer, Failure> {
    stream
        .write_all(format!("{line}\n").as_bytes())
        .await
        .map_err(|error| Failure::from(&error))?;
    let mut answer = String::new();
    if stream
        .read_line(&mut answer)
        .await
        .map_err(|error| Failure::from(&error))?
        == 0
    {
        return Err(Failure::Closed);
    }
    let who = answered_by(answer.trim_end(), line).ok_or(Failure::WrongAnswer)?;
    if !task.is_empty() && who != task {
        return Err(Failure::WrongAnswer);
    }
    Ok(who.to_owned())
}

/// NAME of `I'm NAME LINE`, if it is the answer to this line.
pub(super) fn answered_by<'a>(answer: &'a str, line: &str) -> Option<&'a str> {
    answer
        .strip_prefix("I'm ")?
        .strip_suffix(line)?
        .strip_suffix(' ')
}
