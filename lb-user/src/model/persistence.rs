//! Persistence: connections of a client, or of a network of clients, go to one server.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{AddressFamily, ModelError, check_timeout};

/// How long a client's server is remembered after its last new connection, unless given: that of `ipvsadm -p`.
pub const DEFAULT_PERSISTENCE: Duration = Duration::from_secs(360);

/// What a service remembers of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// From a client's last new connection to the end of the memory; 1 s to 31 days, in whole seconds.
    pub timeout: Duration,
    /// Clients whose addresses agree in these bits are one.
    pub netmask: Netmask,
}

impl Persistence {
    /// For each client by itself.
    #[must_use]
    pub const fn new(timeout: Duration, family: AddressFamily) -> Self {
        Self {
            timeout,
            netmask: Netmask::full(family),
        }
    }

    /// The same, if it fits a service of this family.
    ///
    /// # Errors
    /// A timeout out of range, a netmask of the other family, an IPv6 prefix of 0 or over 128.
    pub fn checked(self, family: AddressFamily) -> Result<Self, ModelError> {
        check_timeout(self.timeout)?;
        match (self.netmask, family) {
            (Netmask::V4(_), AddressFamily::V4) | (Netmask::V6(1..=128), AddressFamily::V6) => {
                Ok(self)
            }
            (netmask, family) => Err(ModelError::Netmask {
                text: netmask.to_string(),
                family,
            }),
        }
    }
}

/// Which bits of a client's address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// Those that are set here, whichever they are: IPVS takes masks with holes, and 0.
    V4(Ipv4Addr),
    /// So many from the first on, 1 to 128.
    V6(u8),
}

impl Netmask {
    /// All of them.
    #[must_use]
    pub const fn full(family: AddressFamily) -> Self {
        match family {
            AddressFamily::V4 => Self::V4(Ipv4Addr::BROADCAST),
            AddressFamily::V6 => Self::V6(128),
        }
    }

    /// Whether all bits count.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128))
    }

    /// Reads `255.255.255.0` or a number of bits, `24`; for IPv6 only the latter.
    ///
    /// # Errors
    /// [`ModelError::Netmask`].
    pub fn parse(text: &str, family: AddressFamily) -> Result<Self, ModelError> {
        let wrong = || ModelError::Netmask {
            text: text.into(),
            family,
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = digits.then(|| text.parse::<u8>()).transpose();
        match (family, bits.map_err(|_| wrong())?) {
            (AddressFamily::V4, None) => text.parse().map(Self::V4).map_err(|_| wrong()),
            (AddressFamily::V4, Some(bits @ 0..=32)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Ok(Self::V4(mask.into()))
            }
            (AddressFamily::V6, Some(bits @ 1..=128)) => Ok(Self::V6(bits)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(bits) => bits.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks() {
        let v4 = |text| Netmask::parse(text, AddressFamily::V4);
        for (text, mask) in [
            ("255.255.255.0", [255, 255, 255, 0]),
            ("24", [255, 255, 255, 0]),
            ("0", [0; 4]),
            ("32", [255; 4]),
            ("1", [128, 0, 0, 0]),
            // With a hole, as ipvsadm takes it.
            ("255.0.255.0", [255, 0, 255, 0]),
        ] {
            assert_eq!(v4(text), Ok(Netmask::V4(mask.into())), "{text}");
        }
        assert_eq!(v4("32"), Ok(Netmask::full(AddressFamily::V4)));
        for text in ["33", "", "255.255.255", "x", "/24", "999", "ffff::"] {
            assert!(v4(text).is_err(), "{text}");
        }
        let v6 = |text| Netmask::parse(text, AddressFamily::V6);
        assert_eq!(v6("64"), Ok(Netmask::V6(64)));
        for text in ["0", "129", "255.255.255.0", "64 "] {
            assert!(v6(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_netmask_is_of_the_services_family() {
        let there = Persistence::new(DEFAULT_PERSISTENCE, AddressFamily::V4);
        assert!(there.checked(AddressFamily::V4).is_ok());
        let error = there.checked(AddressFamily::V6).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`255.255.255.255` is not a netmask for IPv6"
        );
        let short = Persistence {
            timeout: Duration::ZERO,
            ..there
        };
        assert!(short.checked(AddressFamily::V4).is_err());
    }
}
