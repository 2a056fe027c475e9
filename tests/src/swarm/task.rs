//! The program in the image of the Swarm's tasks: a small server of one port, TCP and UDP, in the words of `lab serve`.
//! Built for itself, statically, from the standard library alone: it is all that is in the image.
//!
//! As process 1 of its container it has to take SIGTERM itself. It then goes on accepting for a moment, answers the next
//! request on each open connection with `Connection: close`, and ends.

#[path = "../pattern.rs"]
mod pattern;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set by the signal.
static DRAINING: AtomicBool = AtomicBool::new(false);
/// Connections that are open.
static OPEN: AtomicU32 = AtomicU32::new(0);

/// How long connections that are under way still reach the listener.
const BACKLOG: Duration = Duration::from_millis(200);
/// How long open connections get.
const GRACE: Duration = Duration::from_secs(4);

const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn drain(_: i32) {
    DRAINING.store(true, Ordering::Relaxed);
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or(80);
    // SAFETY: the handler stores to an atomic and does nothing else, which is allowed at any point of the program.
    unsafe { signal(SIGTERM, drain) };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name: &'static str = Box::leak(name.trim().to_owned().into_boxed_str());
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    thread::spawn(move || datagrams(name, &socket));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            OPEN.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                // One that breaks is the client's business.
                let _ = connection(name, stream);
                OPEN.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    while !DRAINING.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    while begin.elapsed() < GRACE && (begin.elapsed() < BACKLOG || OPEN.load(Ordering::Relaxed) > 0)
    {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn datagrams(name: &str, socket: &UdpSocket) {
    let mut datagram = [0; 2048];
    loop {
        // An error here belongs to an earlier answer.
        if let Ok((length, peer)) = socket.recv_from(&mut datagram) {
            let answer = match &datagram[..length] {
                b"client" => format!("I'm {name}, you are {peer}").into_bytes(),
                said => [format!("I'm {name} ").as_bytes(), said].concat(),
            };
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn connection(name: &str, mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let Some(head) = head(&mut stream, &mut read)? else {
            return Ok(());
        };
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let number = |name: &str| {
            let value = query.strip_prefix(name)?.strip_prefix('=')?;
            value.parse::<u64>().ok()
        };
        let body = match (method, path) {
            ("GET", "/bytes") => return bytes(&mut stream, number("n").unwrap_or(0)),
            ("POST", "/check") => check(name, &mut stream, &read, &head)?,
            ("POST", "/until-the-end") => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest)?;
                thread::sleep(Duration::from_millis(number("ms").unwrap_or(0)));
                format!("I'm {name}, {} bytes until the end\n", read.len() + rest.len())
            }
            ("GET", "/") => format!("I'm {name}\n"),
            ("GET", "/client") => format!("I'm {name}, you are {peer}\n"),
            ("GET", "/slow") => {
                thread::sleep(Duration::from_millis(number("ms").unwrap_or(100)));
                format!("I'm {name}\n")
            }
            _ => "no such page\n".to_owned(),
        };
        let status = if body.starts_with("no") {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let last = method == "POST"
            || DRAINING.load(Ordering::Relaxed)
            || head.to_lowercase().contains("connection: close");
        let close = if last { "Connection: close\r\n" } else { "" };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nX-Task: {name}\r\n{close}\r\n{body}"
        );
        stream.write_all(answer.as_bytes())?;
        if last {
            // Closing with unread bytes would send a reset: wait for the client's end.
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let _ = io::copy(&mut stream, &mut io::sink());
            return Ok(());
        }
    }
}

/// So many bytes of the pattern, and the end.
fn bytes(stream: &mut TcpStream, length: u64) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    let mut at = 0;
    while at < length {
        let piece = pattern::chunk(at, usize::try_from(length - at).unwrap_or(65_536).min(65_536));
        stream.write_all(piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Whether what a client sends is the pattern; `begun` of it has been read.
fn check(name: &str, stream: &mut TcpStream, begun: &[u8], head: &str) -> io::Result<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, length)| length.trim().parse().ok());
    let length: u64 = length.unwrap_or(0);
    let mut wrong = pattern::first_difference(0, begun);
    let mut at = begun.len() as u64;
    let mut piece = [0; 65_536];
    while at < length {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        wrong = wrong.or(pattern::first_difference(at, &piece[..read]));
        at += read as u64;
    }
    Ok(match wrong {
        Some(wrong) => format!("I'm {name}, byte {wrong} is wrong\n"),
        None => format!("I'm {name}, {at} bytes as they should be\n"),
    })
}

/// The head of the next request; none when the client has closed.
fn head(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<String>> {
    const END: &[u8] = b"\r\n\r\n";
    loop {
        if let Some(at) = read.windows(END.len()).position(|window| window == END) {
            let rest = read.split_off(at + END.len());
            let head = String::from_utf8_lossy(read).into_owned();
            *read = rest;
            return Ok(Some(head));
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            length => read.extend_from_slice(&piece[..length]),
        }
    }
}
