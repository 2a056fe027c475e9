//! Connections that a local socket makes by the socket hook.
//!
//! They stand in the connection table beside those that packets make, as two entries each: so they are listed, counted,
//! swept and taken apart like them. In place of the client's address and port their keys have the socket's cookie, and
//! their protocol has bits that no packet's has.

use super::{Address, Be16, Be32};

/// In a key's protocol: the connection of a connected socket. It ends with the socket.
pub const SOCKET: u8 = 0x80;
/// In a key's protocol, with [`SOCKET`]: what a socket that is not connected sends to one address. It ends by its timeout.
pub const SOCKET_FLOW: u8 = 0x40;

/// The protocol number of a socket's connection, from that of its key; `None` for a connection of packets.
#[inline(always)]
pub const fn socket_protocol(protocol: u8) -> Option<u8> {
    if protocol & SOCKET != 0 {
        Some(protocol & !(SOCKET | SOCKET_FLOW))
    } else {
        None
    }
}

/// The socket's end in a key: the lower 48 bits of its cookie. The kernel counts cookies up and never gives one twice.
#[inline(always)]
pub fn socket_end<A: Address>(cookie: u64) -> (A, Be16) {
    let low = Be32::from_raw(cookie as u32);
    let address = A::from_words([low, Be32::ZERO, Be32::ZERO, Be32::ZERO]);
    (address, Be16::from_raw((cookie >> 32) as u16))
}

/// The cookie in a key's end ([`socket_end`]).
#[inline(always)]
pub fn socket_cookie<A: Address>(address: A, port: Be16) -> u64 {
    address.words()[0].raw() as u64 | (port.raw() as u64) << 32
}
