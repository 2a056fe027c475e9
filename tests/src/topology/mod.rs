//! The networks that the cases use.

pub mod director;
pub mod one_arm;
pub mod scopes;
pub mod two_nodes;

use std::net::{Ipv4Addr, SocketAddrV4};

/// `10.0.0.100:80` as an address; for addresses written in a case.
///
/// # Panics
/// When the text is not an address and a port.
pub fn at(text: &str) -> SocketAddrV4 {
    match text.parse() {
        Ok(address) => address,
        Err(_) => panic!("not an IPv4 address and port: {text}"),
    }
}

/// The MAC address that Docker gives to an endpoint: 02:42 and its IPv4 address.
pub fn docker_mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}
