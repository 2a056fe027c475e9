//! As much of DNS (RFC 1035) as it takes to ask a sandbox's resolver for the addresses of a name.
//!
//! dockerd runs a resolver for every sandbox, the load balancers' too, at an address that only the sandbox's own rules
//! lead to. So it is asked from inside: a socket stays in the namespace that it was opened in.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::net::NetNs;

/// Where dockerd's resolver is, in every sandbox.
const RESOLVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53));

/// How long it may take: it answers from memory, or does not know the name and asks elsewhere, which is not waited for.
const PATIENCE: Duration = Duration::from_millis(300);

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const RECURSION_DESIRED: u16 = 0x0100;
const HEADER: usize = 12;

/// The addresses of these names as the sandbox's resolver knows them; none where it does not know or say.
///
/// It is asked over TCP: an answer of any length fits. Blocks for a short time.
pub(super) fn ask(sandbox: &NetNs, names: &[String]) -> Vec<Option<BTreeSet<Ipv4Addr>>> {
    let ask_all = || {
        let mut silent = false;
        let answers = names.iter().map(|name| {
            if silent {
                return None;
            }
            match ask_one(name) {
                Ok(addresses) => Some(addresses),
                Err(error) => {
                    // One that does not answer does not answer the rest either.
                    silent = matches!(
                        error.kind(),
                        io::ErrorKind::TimedOut
                            | io::ErrorKind::WouldBlock
                            | io::ErrorKind::ConnectionRefused
                    );
                    None
                }
            }
        });
        answers.collect()
    };
    sandbox
        .run_in(ask_all)
        .unwrap_or_else(|_| vec![None; names.len()])
}

fn ask_one(name: &str) -> io::Result<BTreeSet<Ipv4Addr>> {
    let mut stream = TcpStream::connect_timeout(&RESOLVER, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let query = query(name).ok_or(io::ErrorKind::InvalidInput)?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    addresses(&message).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A question for the IPv4 addresses of a name; none for one that DNS cannot carry.
fn query(name: &str) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    for word in [1, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(u16::to_be_bytes(word));
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    for word in [TYPE_A, CLASS_IN] {
        message.extend(word.to_be_bytes());
    }
    (message.len() <= HEADER + 255 + 4).then_some(message)
}

/// The addresses in an answer; none where it is an error or cannot be understood.
fn addresses(message: &[u8]) -> Option<BTreeSet<Ipv4Addr>> {
    const RESPONSE: u16 = 0x8000;
    const ERROR: u16 = 0x000f;
    let word = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let flags = word(2)?;
    if flags & RESPONSE == 0 || flags & ERROR != 0 {
        return None;
    }
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = behind_name(message, at)? + 4;
    }
    let mut found = BTreeSet::new();
    for _ in 0..answers {
        at = behind_name(message, at)?;
        let (kind, class, length) = (word(at)?, word(at + 2)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if let (TYPE_A, CLASS_IN, Ok(octets)) = (kind, class, <[u8; 4]>::try_from(data)) {
            found.insert(Ipv4Addr::from(octets));
        }
        at += 10 + length;
    }
    (!found.is_empty()).then_some(found)
}

/// Where a name ends that begins here: labels up to an empty one, or up to a reference to others.
fn behind_name(message: &[u8], mut at: usize) -> Option<usize> {
    const REFERENCE: u8 = 0xc0;
    loop {
        let length = *message.get(at)?;
        if length & REFERENCE == REFERENCE {
            return Some(at + 2);
        }
        at += 1 + usize::from(length);
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `tasks.web` with these addresses, names written as references, as Docker's resolver does.
    fn answer(flags: u16, last: &[u8]) -> Vec<u8> {
        let mut message = query("tasks.web").unwrap();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[7] = last.len() as u8;
        for last in last {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 1, *last]);
        }
        message
    }

    #[test]
    fn a_question() {
        let message = query("tasks.web").unwrap();
        assert_eq!(message[12..], *b"\x05tasks\x03web\x00\x00\x01\x00\x01");
        assert_eq!(query("tasks..web"), None);
        assert_eq!(query(&"a".repeat(64)), None);
    }

    #[test]
    fn an_answer() {
        let found = addresses(&answer(0x8180, &[4, 3])).unwrap();
        let expected = [3, 4].map(|last| Ipv4Addr::new(10, 0, 1, last));
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn no_answer() {
        assert_eq!(addresses(&answer(0x8183, &[])), None, "no such name");
        assert_eq!(addresses(&answer(0x8180, &[])), None, "no address");
        assert_eq!(addresses(&answer(0x0100, &[3])), None, "a question");
        let whole = answer(0x8180, &[3, 4]);
        for length in 0..whole.len() {
            assert_eq!(addresses(&whole[..length]), None, "cut at {length}");
        }
    }
}
