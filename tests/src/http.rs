//! As much of HTTP/1.1 as the small servers and the load need: a head, and a body whose length is
//! given.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head that is read.
const LONGEST_HEAD: usize = 8192;

/// The head of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line: `GET / HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub first: String,
    /// Length of the body in bytes.
    pub length: u64,
    /// Whether the sender closes after this one.
    pub close: bool,
    /// Which task answered, by its header `X-Task`.
    pub task: Option<String>,
}

/// Why no head came.
#[derive(Debug)]
pub enum NoHead {
    /// The other end closed; `true` if part of a head had come.
    Closed(bool),
    /// What came is not HTTP, or too long.
    Malformed,
    /// The connection broke.
    Io(std::io::Error),
}

/// Reads heads and bodies off one connection, keeping what came with a read but belongs to the
/// next.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
        }
    }

    /// Reads the next head.
    pub async fn head(&mut self) -> Result<Head, NoHead> {
        loop {
            if let Some(end) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                let head = parse(&self.buffer[..end]);
                self.buffer.drain(..end + 4);
                return head.ok_or(NoHead::Malformed);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(NoHead::Malformed);
            }
            match self.inner.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(NoHead::Closed(!self.buffer.is_empty())),
                Ok(_) => {}
                Err(error) => return Err(NoHead::Io(error)),
            }
        }
    }

    /// Reads a body of `length` bytes, handing each piece on with its position. Ends with an error
    /// when it ends early.
    pub async fn body(
        &mut self,
        length: u64,
        mut piece: impl FnMut(u64, &[u8]),
    ) -> std::io::Result<()> {
        let mut at = 0;
        while at < length {
            if self.buffer.is_empty() {
                self.buffer.reserve(65_536);
                if self.inner.read_buf(&mut self.buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            let take = usize::try_from(length - at)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            piece(at, &self.buffer[..take]);
            self.buffer.drain(..take);
            at += take as u64;
        }
        Ok(())
    }

    /// Reads until the other end closes, at most 64 KiB, and forgets it.
    pub async fn discard(&mut self) {
        let mut scratch = [0; 4096];
        for _ in 0..16 {
            if !matches!(self.inner.read(&mut scratch).await, Ok(1..)) {
                return;
            }
        }
    }

    /// The connection itself.
    pub fn inner(&mut self) -> &mut R {
        &mut self.inner
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let first = lines.next()?;
    if !first.contains("HTTP/1.") {
        return None;
    }
    let mut head = Head {
        first: first.into(),
        length: 0,
        close: false,
        task: None,
    };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("x-task") {
            head.task = Some(value.into());
        }
    }
    Some(head)
}

/// A parameter of a query: `ms` of `/slow?ms=20`.
pub fn parameter(target: &str, name: &str) -> Option<u64> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?
        .1
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_understood() {
        let head =
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Task: web.1\r\nconnection: close")
                .expect("a head");
        assert_eq!(
            head,
            Head {
                first: "HTTP/1.1 200 OK".into(),
                length: 12,
                close: true,
                task: Some("web.1".into())
            }
        );
        for bad in [
            &b"nonsense"[..],
            b"GET / HTTP/1.1\r\nContent-Length: many",
            b"GET / HTTP/1.1\r\nno colon",
            b"\xff HTTP/1.1",
        ] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn parameters_are_found() {
        assert_eq!(parameter("/slow?ms=20", "ms"), Some(20));
        assert_eq!(parameter("/slow?a=1&ms=20", "ms"), Some(20));
        for none in ["/slow", "/slow?ms", "/slow?ms=x", "/slow?sm=1"] {
            assert_eq!(parameter(none, "ms"), None, "{none}");
        }
    }
}
