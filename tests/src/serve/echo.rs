//! The line-echo side of a task: each line comes back as `I'm NAME LINE`. For connections that
//! last.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Shared;

pub(super) async fn connection(stream: TcpStream, shared: &Shared) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let _request = shared.counters.request();
        if write
            .write_all(format!("I'm {} {line}\n", shared.name).as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}
