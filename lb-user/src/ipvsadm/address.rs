//! Addresses and ports as ipvsadm reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::Names;
use super::values::number;
use crate::model::Protocol;

/// What `HOST[:PORT]` stood for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

/// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT` or an IPv6 address alone.
///
/// What is odd about it is ipvsadm's: digits alone are refused, though `1:80` is 0.0.0.1 and its port 80; a host in
/// brackets that is no IPv6 address is taken, and its port is not.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<Endpoint> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, bracketed_port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            (host, Some(behind.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = match host.parse::<Ipv6Addr>() {
        Ok(address) => (IpAddr::V6(address), bracketed_port),
        Err(_) => {
            let (host, port) = match host.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            };
            (IpAddr::V4(ipv4(host, names)?), port)
        }
    };
    let port = match port {
        Some(port) => Some(number(port, 0, 65535).or_else(|| names.port(port, protocol?))?),
        None => None,
    };
    Some(Endpoint { address, port })
}

/// An IPv4 address, or a host's.
pub(super) fn ipv4(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.address(text))
}

/// An IPv4 address with one to four numbers, each decimal, octal (`010`) or hexadecimal (`0x10`), the last of which
/// fills all bytes that are left. Anything may stand behind a blank.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let parts: Vec<&str> = text[..end.unwrap_or(text.len())].split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut address = 0;
    for (place, part) in first.iter().enumerate() {
        let byte = c_number(part).filter(|byte| *byte <= 0xff)?;
        address |= byte << (24 - 8 * place);
    }
    let last = c_number(last).filter(|last| *last <= u32::MAX >> (8 * first.len()))?;
    Some(Ipv4Addr::from_bits(address | last))
}

/// A number as C writes them, without a sign.
fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::super::names::Table;
    use super::*;

    #[test]
    fn forms_of_ipv4_addresses() {
        for (text, address) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("1", Some("0.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("1.2.3", Some("1.2.0.3")),
            ("0x7f000001", Some("127.0.0.1")),
            ("012.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1 x", Some("10.0.0.1")),
            ("4294967295", Some("255.255.255.255")),
            ("1.16777216", None),
            ("4294967296", None),
            ("10.0.0.256", None),
            ("256.0.0.1", None),
            ("1.2.3.4.5", None),
            ("09.0.0.1", None),
            ("10.0.0.", None),
            ("10..0.1", None),
            ("+1", None),
            ("0x+1", None),
            (" 1", None),
            ("", None),
        ] {
            let read = inet_aton(text).map(|address| address.to_string());
            assert_eq!(read.as_deref(), address, "{text:?}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        let names = Table::new(
            "10.9.0.1 web\nfd09::1 six\n",
            "http 80/tcp www\nudponly 9001/udp\n",
        );
        let read = |text| {
            endpoint(text, Some(Protocol::Tcp), &names)
                .map(|read| match read.port {
                    Some(port) => format!("{} {port}", read.address),
                    None => read.address.to_string(),
                })
                .unwrap_or_default()
        };
        for (text, meaning) in [
            ("10.0.0.1:80", "10.0.0.1 80"),
            ("10.0.0.1: 80", "10.0.0.1 80"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:", ""),
            ("10.0.0.1:65536", ""),
            ("10.0.0.1:-1", ""),
            ("10.0.0.1:www", "10.0.0.1 80"),
            ("10.0.0.1:udponly", ""),
            ("web:http", "10.9.0.1 80"),
            ("six:http", ""),
            ("80", ""),
            ("", ""),
            ("1:80", "0.0.0.1 80"),
            ("[fd00::1]:80", "fd00::1 80"),
            ("[fd00::1]", ""),
            ("[fd00::1]80", ""),
            ("[fd00::1", ""),
            ("fd00::1", "fd00::1"),
            ("::1:88", "::1:88"),
            ("[10.0.0.1]:80", "10.0.0.1"),
            ("[web]:80", "10.9.0.1"),
            ("fe80::1%lo", ""),
        ] {
            assert_eq!(read(text), meaning, "{text:?}");
        }
        assert_eq!(endpoint("10.0.0.1:http", None, &names), None);
    }
}
