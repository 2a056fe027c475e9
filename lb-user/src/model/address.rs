//! Addresses, ports and prefixes as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::ModelError;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Passes an address that one host can own; refuses the unspecified one, multicast and broadcast.
///
/// # Errors
/// [`ModelError::NotUnicast`].
pub fn unicast(address: IpAddr) -> Result<IpAddr, ModelError> {
    let refused = address.is_unspecified()
        || address.is_multicast()
        || match address {
            // 0.0.0.0/8 and 240.0.0.0/4 (with the limited broadcast) belong to no host.
            IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
            IpAddr::V6(_) => false,
        };
    if refused {
        Err(ModelError::NotUnicast(address))
    } else {
        Ok(address)
    }
}

/// Reads `10.0.0.1`, `fd00::1` or `[fd00::1]`.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, ModelError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().map_err(|_| ModelError::Address(text.into()))
}

/// Reads a port; `0` passes, for the callers to judge.
pub(super) fn parse_port(text: &str) -> Result<u16, ModelError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ModelError::Port(text.into()));
    }
    let number: u64 = text.parse().map_err(|_| ModelError::Port(text.into()))?;
    u16::try_from(number).map_err(|_| ModelError::PortRange(number))
}

/// Splits `ADDRESS[:PORT]`; an IPv6 address with a port needs brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    if text.starts_with('[') {
        return match text.rfind("]:") {
            Some(end) => (&text[..=end], Some(&text[end + 2..])),
            None => (text, None),
        };
    }
    match text.split_once(':') {
        // A second colon: an IPv6 address without brackets and without a port.
        Some((_, rest)) if rest.contains(':') => (text, None),
        Some((address, port)) => (address, Some(port)),
        None => (text, None),
    }
}

/// Reads `10.0.0.0/24`, or an address alone for the prefix of its full length.
///
/// # Errors
/// [`ModelError::Prefix`], and [`ModelError::PrefixHostBits`] for bits behind the prefix (`10.0.0.5/24`).
pub fn parse_prefix(text: &str) -> Result<IpNet, ModelError> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => text
            .parse::<IpAddr>()
            .map(IpNet::from)
            .map_err(|_| ModelError::Prefix(text.into()))?,
    };
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(ModelError::PrefixHostBits {
            given: net.to_string(),
            right: net.trunc().to_string(),
        })
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`.
pub(super) fn join(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_host_owns_are_refused() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(
                unicast(address),
                Err(ModelError::NotUnicast(address)),
                "{text}"
            );
        }
        for text in ["10.0.0.1", "127.0.0.1", "169.254.1.1", "fd00::1", "::1"] {
            assert!(unicast(text.parse().unwrap()).is_ok(), "{text}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(parse_prefix("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(
            parse_prefix("10.0.0.0/24").unwrap().to_string(),
            "10.0.0.0/24"
        );
        let error = parse_prefix("10.0.0.5/24").unwrap_err();
        assert_eq!(
            error.to_string(),
            "10.0.0.5/24 has bits set behind its prefix"
        );
        assert_eq!(error.hint().unwrap(), "write 10.0.0.0/24");
        assert!(parse_prefix("10.0.0.0/33").is_err());
    }
}
