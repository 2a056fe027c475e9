//! The addresses of the lab, and the short names that scripts and reports use for them.
//!
//! | name | address | where |
//! |---|---|---|
//! | `c1` … `c60000` | 10.0.0.2 … | clients, all behind one router |
//! | `s1` … `s12` | 10.1.0.11 … | real servers on the director's `s0` |
//! | `t1` … `t12` | 10.2.0.11 … | real servers on `t0`, whose MTU is smaller |
//! | `v1` … `v250` | 10.9.0.1 … | service addresses: local to the director |
//! | `l1` … `l250` | 10.3.0.1 … | the director's own, as real servers: local nodes |
//! | `d` | 10.255.0.1 | the director on the clients' side |

use std::net::Ipv4Addr;

/// The director's address towards the clients.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// The clients' router.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);
/// How many real servers each segment has.
pub const SERVERS: u16 = 12;
/// MTU of the segment of `t1` …, in bytes.
pub const SMALL_MTU: u32 = 1000;

/// The interfaces of the director that have cables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// To the clients.
    Clients,
    /// To `s1` ….
    Servers,
    /// To `t1` ….
    Small,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Clients, Self::Servers, Self::Small];

    /// The director's interface; the cable's other end has the same name.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Clients => "c0",
            Self::Servers => "s0",
            Self::Small => "t0",
        }
    }

    /// The Ethernet address of the director's interface.
    pub fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self as u8 + 1]
    }
}

/// The Ethernet address of the clients' router. No interface has it: nothing on the cables' other
/// ends is to answer by itself.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0x20, 1];

/// The Ethernet address of a real server, which no interface has either.
pub fn server_mac(link: Link, number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0x20 + link as u8, number]
}

/// The address of a name; `None` where it is none.
pub fn address(name: &str) -> Option<Ipv4Addr> {
    if name == "d" {
        return Some(DIRECTOR);
    }
    let number: u16 = name.get(1..)?.parse().ok()?;
    let low = |highest: u16| (1..=highest).contains(&number).then_some(number as u8);
    match name.as_bytes().first()? {
        b'c' if (1..=60_000).contains(&number) => {
            let [high, low] = (number + 1).to_be_bytes();
            Some(Ipv4Addr::new(10, 0, high, low))
        }
        b's' => Some(Ipv4Addr::new(10, 1, 0, low(SERVERS)? + 10)),
        b't' => Some(Ipv4Addr::new(10, 2, 0, low(SERVERS)? + 10)),
        b'v' => Some(Ipv4Addr::new(10, 9, 0, low(250)?)),
        b'l' => Some(Ipv4Addr::new(10, 3, 0, low(250)?)),
        _ => None,
    }
}

/// The name of an address, or the address itself.
pub fn name(address: Ipv4Addr) -> String {
    let [_, second, third, fourth] = address.octets();
    let number = match second {
        0 => Some(("c", u16::from_be_bytes([third, fourth]).wrapping_sub(1))),
        1 => Some(("s", u16::from(fourth.wrapping_sub(10)))),
        2 => Some(("t", u16::from(fourth.wrapping_sub(10)))),
        9 => Some(("v", u16::from(fourth))),
        3 => Some(("l", u16::from(fourth))),
        _ => None,
    };
    let name = if address == DIRECTOR {
        "d".to_owned()
    } else if let Some((letter, number)) = number {
        format!("{letter}{number}")
    } else {
        return address.to_string();
    };
    if self::address(&name) == Some(address) {
        name
    } else {
        address.to_string()
    }
}

/// On which cable, and with which Ethernet address, a real server is.
pub fn place(server: Ipv4Addr) -> Option<(Link, [u8; 6])> {
    let link = match server.octets()[1] {
        1 => Link::Servers,
        2 => Link::Small,
        _ => return None,
    };
    let number = server.octets()[3].checked_sub(10)?;
    Some((link, server_mac(link, number)))
}

/// A command's word with names in place of addresses (`v1:80`, `s1`) as ipvsadm takes it.
pub fn expanded(word: &str) -> String {
    let (host, port) = match word.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (word, None),
    };
    match (address(host), port) {
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.to_string(),
        (None, _) => word.to_owned(),
    }
}

/// A text with names in place of the addresses that have one.
pub fn abbreviated(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        match rest[..end].parse() {
            Ok(address) => result.push_str(&name(address)),
            Err(_) => result.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_one_to_one() {
        for letter in ["c", "s", "t", "v", "l"] {
            for number in [1, 2, 9, 12] {
                let short = format!("{letter}{number}");
                let long = address(&short);
                assert_eq!(long.map(name), Some(short.clone()), "{short}");
            }
        }
        assert_eq!(address("c300").map(name).as_deref(), Some("c300"));
        assert_eq!(address("s13"), None);
        assert_eq!(address("x1"), None);
        assert_eq!(name(Ipv4Addr::new(10, 1, 0, 1)), "10.1.0.1");
    }

    #[test]
    fn names_are_replaced_within_words_and_text() {
        assert_eq!(expanded("v1:80"), "10.9.0.1:80");
        assert_eq!(expanded("s2"), "10.1.0.12");
        assert_eq!(expanded("-t"), "-t");
        assert_eq!(expanded("sh"), "sh");
        assert_eq!(
            abbreviated("TCP  10.9.0.1:80 rr 1.2.1 7"),
            "TCP  v1:80 rr 1.2.1 7"
        );
    }
}
