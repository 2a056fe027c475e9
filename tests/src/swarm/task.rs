//! The program in the image of the Swarm's tasks: a small server of one port, TCP and UDP, in the words of `lab serve`.
//! Built for itself, statically, from the standard library alone: it is all that is in the image.
//!
//! As process 1 of its container it has to take SIGTERM itself. It then goes on accepting for a moment, answers the next
//! request on each open connection with `Connection: close`, and ends.

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
            let answer = [format!("I'm {name} ").as_bytes(), &datagram[..length]].concat();
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
        let body = match (method, path) {
            ("GET", "/") => format!("I'm {name}\n"),
            ("GET", "/client") => format!("I'm {name}, you are {peer}\n"),
            ("GET", "/slow") => {
                let time = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok());
                thread::sleep(Duration::from_millis(time.unwrap_or(100)));
                format!("I'm {name}\n")
            }
            _ => "no such page\n".to_owned(),
        };
        let status = if body.starts_with("no") {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let last =
            DRAINING.load(Ordering::Relaxed) || head.to_lowercase().contains("connection: close");
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
