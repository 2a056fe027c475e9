//! Single requests from a host, for when it matters who answered which: blocking, each with a
//! deadline.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect as connect_socket, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::host::Host;
use crate::pattern;
use crate::slow::patient;
use crate::socket::{FreshPorts, set_option};

/// As the kernel has them for sockets that ask for none (`ip_local_port_range`).
static PORTS: FreshPorts = FreshPorts::new(33_000, 27_000);

/// How long one request may take.
#[must_use]
pub fn patience() -> Duration {
    patient(Duration::from_secs(3))
}

/// GET over a new connection from `host`: the body, without its last line end.
pub fn get(host: &Host, to: SocketAddrV4, path: &str) -> Result<String> {
    host.run(|| get_here(to, path))?
        .with_context(|| format!("{}: GET http://{to}{path}", host.name()))
}

/// GET from the calling thread's namespace.
pub fn get_here(to: SocketAddrV4, path: &str) -> Result<String> {
    let mut stream = connect(to)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"
    )?;
    let (length, mut stream) = answer(stream)?;
    let mut body = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).trim_end().to_owned())
}

/// The name of the task that answers a GET of `/`.
pub fn who(host: &Host, to: SocketAddrV4) -> Result<String> {
    name_in(&get(host, to, "/")?)
}

/// Who answered each of `times` requests, each on a connection of its own.
pub fn turns(host: &Host, to: SocketAddrV4, times: usize) -> Result<Vec<String>> {
    (0..times).map(|_| who(host, to)).collect()
}

/// The name of the task that answers a datagram sent from a new port.
pub fn who_udp(host: &Host, to: SocketAddrV4) -> Result<String> {
    name_in(&ask_udp(host, to, "hello")?)
}

/// Sends a datagram from a new port and returns the answer.
pub fn ask_udp(host: &Host, to: SocketAddrV4, text: &str) -> Result<String> {
    host.run(|| ask_udp_here(to, text))?
        .with_context(|| format!("{}: a datagram to {to}", host.name()))
}

/// As [`ask_udp`], with a checksum of zero: none was computed.
pub fn ask_udp_unchecked(host: &Host, to: SocketAddrV4, text: &str) -> Result<String> {
    let ask = || -> Result<String> {
        let socket = PORTS.bind()?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
            .context("cannot switch the checksum off")?;
        exchange_udp(&socket, to, text)
    };
    host.run(ask)?
        .with_context(|| format!("{}: a datagram without checksum to {to}", host.name()))
}

/// Sends a datagram from a new port in the calling thread's namespace, and returns the answer.
pub fn ask_udp_here(to: SocketAddrV4, text: &str) -> Result<String> {
    exchange_udp(&PORTS.bind()?, to, text)
}

/// Sends a datagram from a new port in the calling thread's namespace, and returns what comes back.
pub fn exchange(to: SocketAddrV4, datagram: &[u8]) -> Result<Vec<u8>> {
    exchange_bytes(&PORTS.bind()?, to, datagram)
}

fn exchange_udp(socket: &UdpSocket, to: SocketAddrV4, text: &str) -> Result<String> {
    let answer = exchange_bytes(socket, to, text.as_bytes())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn exchange_bytes(socket: &UdpSocket, to: SocketAddrV4, datagram: &[u8]) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(patience()))?;
    socket.connect(to)?;
    socket.send(datagram)?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).context("no answer")?;
    answer.truncate(length);
    Ok(answer)
}

/// Fetches `length` bytes and checks every one.
pub fn download(host: &Host, to: SocketAddrV4, length: u64) -> Result<()> {
    let run = || -> Result<()> {
        let mut stream = connect(to)?;
        write!(
            stream,
            "GET /bytes?n={length} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"
        )?;
        let (announced, mut stream) = answer(stream)?;
        if announced != length {
            bail!("announced are {announced} bytes");
        }
        let mut buffer = vec![0; 65_536];
        let mut at = 0;
        while at < length {
            let got = stream
                .read(&mut buffer)
                .with_context(|| format!("after {at} bytes"))?;
            if got == 0 {
                bail!("the connection ended after {at} bytes");
            }
            if let Some(wrong) = pattern::first_difference(at, &buffer[..got]) {
                bail!("byte {wrong} is not the one that was sent");
            }
            at += got as u64;
        }
        Ok(())
    };
    host.run(run)?
        .with_context(|| format!("{}: fetching {length} bytes from {to}", host.name()))
}

/// Sends `length` bytes, of which the server checks every one.
pub fn upload(host: &Host, to: SocketAddrV4, length: u64) -> Result<()> {
    let run = || -> Result<()> {
        let mut stream = connect(to)?;
        write!(
            stream,
            "POST /check HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        let mut at = 0;
        while at < length {
            let piece = pattern::chunk(at, usize::try_from((length - at).min(65_536))?);
            stream
                .write_all(piece)
                .with_context(|| format!("after {at} bytes"))?;
            at += piece.len() as u64;
        }
        let (announced, mut stream) = answer(stream)?;
        let mut body = vec![0; usize::try_from(announced)?];
        stream.read_exact(&mut body)?;
        let said = String::from_utf8_lossy(&body).trim_end().to_owned();
        if !said.ends_with(&format!("{length} bytes as they should be")) {
            bail!("the server says: {said}");
        }
        Ok(())
    };
    host.run(run)?
        .with_context(|| format!("{}: sending {length} bytes to {to}", host.name()))
}

/// How a connect from `host` ends; `Ok` is a connection that was made.
pub fn connect_result(host: &Host, to: SocketAddrV4) -> Result<io::Result<()>> {
    host.run(|| TcpStream::connect_timeout(&SocketAddr::V4(to), patience()).map(drop))
}

/// A connection from this address and port of the calling thread's namespace.
pub fn connect_from(local: SocketAddrV4, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let patience = TimeVal::microseconds(patience().as_micros().try_into()?);
    // It holds for the connect, too.
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(local))?;
    connect_socket(socket.as_raw_fd(), &SockaddrIn::from(to))
        .with_context(|| format!("cannot connect from {local} to {to}"))?;
    Ok(TcpStream::from(socket))
}

fn connect(to: SocketAddrV4) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&SocketAddr::V4(to), patience()).context("cannot connect")?;
    stream.set_read_timeout(Some(patience()))?;
    stream.set_write_timeout(Some(patience()))?;
    Ok(stream)
}

/// Reads the head of an answer: the body's length, and the connection at its start.
fn answer(stream: TcpStream) -> Result<(u64, BufReader<TcpStream>)> {
    let mut reader = BufReader::with_capacity(65_536, stream);
    let mut length = None;
    for number in 0.. {
        let mut line = String::new();
        if reader.read_line(&mut line).context("no answer")? == 0 {
            bail!("closed without an answer");
        }
        let line = line.trim_end();
        if number == 0 && !line.ends_with("200 OK") {
            bail!("the server says: {line}");
        }
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    Ok((length.context("an answer without a length")?, reader))
}

/// NAME of `I'm NAME…`.
fn name_in(answer: &str) -> Result<String> {
    let name = answer
        .strip_prefix("I'm ")
        .and_then(|rest| rest.split([' ', ',']).next());
    Ok(name
        .with_context(|| format!("not an answer of a task: {answer:?}"))?
        .to_owned())
}
