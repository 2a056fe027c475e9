//! Mark rules: which packets get which firewall mark, and so which fwmark service.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

use super::{AddressFamily, ModelError, Protocol};

/// How many different shapes the mark rules of a scope may have.
pub const MAX_MARK_SHAPES: usize = 16;

/// What a rule does to a packet's mark: the bits under `mask` become those of `mark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MarkValue {
    /// The new bits, none outside the mask.
    pub mark: u32,
    /// Which bits are set; not 0.
    pub mask: u32,
}

impl MarkValue {
    /// Sets the bits of `mask` to those of `mark`.
    ///
    /// # Errors
    /// A mask of 0, and bits of `mark` outside the mask.
    pub const fn new(mark: u32, mask: u32) -> Result<Self, ModelError> {
        if mask == 0 {
            Err(ModelError::ZeroMask)
        } else if mark & !mask != 0 {
            Err(ModelError::MarkOutsideMask { mark, mask })
        } else {
            Ok(Self { mark, mask })
        }
    }
}

impl fmt::Display for MarkValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.mask == u32::MAX {
            self.mark.to_string()
        } else {
            format!("{:#x}/{:#x}", self.mark, self.mask)
        };
        f.pad(&text)
    }
}

impl FromStr for MarkValue {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text.split_once('/') {
            Some((mark, mask)) => Self::new(parse_number(mark)?, parse_number(mask)?),
            None => Self::new(parse_number(text)?, u32::MAX),
        }
    }
}

/// Reads `256` or `0x100`.
pub(super) fn parse_number(text: &str) -> Result<u32, ModelError> {
    let number = match text.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| ModelError::Mark(text.into()))
}

/// The fewest prefixes that are this range of ports together: (first port, leading bits), in ascending order.
#[must_use]
pub fn port_prefixes(ports: &RangeInclusive<u16>) -> Vec<(u16, u8)> {
    let (mut first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
    let mut prefixes = Vec::new();
    while first <= last {
        // The largest block that begins here and does not reach past the end.
        let aligned = if first == 0 {
            16
        } else {
            first.trailing_zeros()
        };
        let fits = (last - first + 1).ilog2();
        let free = aligned.min(fits);
        prefixes.push((first as u16, (16 - free) as u8));
        first += 1 << free;
    }
    prefixes
}

/// One rule: packets that agree with every field that is given get the mark.
///
/// The rules of a scope are looked at in order, and the last one that matches a bit of the mark wins, as with
/// iptables' MARK target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MarkRule {
    /// The interface by which they came in.
    pub interface: Option<String>,
    /// Their source.
    pub source: Option<IpNet>,
    /// Their destination.
    pub destination: Option<IpNet>,
    /// Their protocol.
    pub protocol: Option<Protocol>,
    /// Their destination ports; only together with a protocol.
    pub ports: Option<RangeInclusive<u16>>,
    /// The bits that they get.
    pub mark: u32,
    /// Which bits of the mark are set; not 0.
    pub mask: u32,
}

/// Which fields are given, and with which prefix lengths: what the cost of a rule set depends on.
///
/// A range of ports is a few prefixes of the port number ([`port_prefixes`]), each of a shape of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkShape {
    /// Whether the interface is given.
    pub interface: bool,
    /// The source's prefix length, if it is given.
    pub source: Option<u8>,
    /// The destination's prefix length, if it is given.
    pub destination: Option<u8>,
    /// Whether the protocol is given.
    pub protocol: bool,
    /// The leading bits of the port, if ports are given.
    pub port: Option<u8>,
}

impl MarkRule {
    /// A rule for all packets; the fields narrow it down.
    #[must_use]
    pub const fn new(value: MarkValue) -> Self {
        Self {
            interface: None,
            source: None,
            destination: None,
            protocol: None,
            ports: None,
            mark: value.mark,
            mask: value.mask,
        }
    }

    /// The same, if its fields fit together.
    ///
    /// # Errors
    /// Ports without a protocol, an empty range, two address families, an interface name that no interface can have.
    pub fn checked(self) -> Result<Self, ModelError> {
        MarkValue::new(self.mark, self.mask)?;
        if let Some(ports) = &self.ports {
            if ports.is_empty() {
                return Err(ModelError::PortRangeText(format!(
                    "{}-{}",
                    ports.start(),
                    ports.end()
                )));
            }
            if self.protocol.is_none() {
                return Err(ModelError::PortsWithoutProtocol);
            }
        }
        if let (Some(source), Some(destination)) = (self.source, self.destination)
            && source.addr().is_ipv4() != destination.addr().is_ipv4()
        {
            return Err(ModelError::MarkFamily {
                source_prefix: source.to_string(),
                destination: destination.to_string(),
            });
        }
        if let Some(name) = &self.interface {
            let fits = (1..=15).contains(&name.len())
                && !name.contains(|c: char| c.is_whitespace() || c == '/');
            if !fits || name == "." || name == ".." {
                return Err(ModelError::InterfaceName(name.clone()));
            }
        }
        Ok(self)
    }

    /// What it does to the mark.
    #[must_use]
    pub const fn value(&self) -> MarkValue {
        MarkValue {
            mark: self.mark,
            mask: self.mask,
        }
    }

    /// The family that its prefixes bind it to, if they do.
    #[must_use]
    pub fn family(&self) -> Option<AddressFamily> {
        self.source
            .or(self.destination)
            .map(|net| AddressFamily::of(net.addr()))
    }

    /// Its shapes: one, or as many as its ports have different prefix lengths.
    #[must_use]
    pub fn shapes(&self) -> BTreeSet<MarkShape> {
        let shape = |port| MarkShape {
            interface: self.interface.is_some(),
            source: self.source.map(|net| net.prefix_len()),
            destination: self.destination.map(|net| net.prefix_len()),
            protocol: self.protocol.is_some(),
            port,
        };
        match &self.ports {
            Some(ports) => port_prefixes(ports)
                .iter()
                .map(|(_, bits)| shape(Some(*bits)))
                .collect(),
            None => BTreeSet::from([shape(None)]),
        }
    }

    /// Reads `80` or `8000-8099`.
    ///
    /// # Errors
    /// [`ModelError::PortRangeText`] and [`ModelError::PortRange`].
    pub fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, ModelError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |part: &str| match super::address::parse_port(part) {
            Err(ModelError::Port(_)) => Err(ModelError::PortRangeText(text.into())),
            other => other,
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            Err(ModelError::PortRangeText(text.into()))
        } else {
            Ok(first..=last)
        }
    }

    /// Writes a range as [`MarkRule::parse_ports`] reads it.
    #[must_use]
    pub fn format_ports(ports: &RangeInclusive<u16>) -> String {
        if ports.start() == ports.end() {
            ports.start().to_string()
        } else {
            format!("{}-{}", ports.start(), ports.end())
        }
    }
}

impl fmt::Display for MarkRule {
    /// The rule as the command line takes it: `--mark 256 --protocol tcp --ports 8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--mark {}", self.value())?;
        if let Some(interface) = &self.interface {
            write!(f, " --interface {interface}")?;
        }
        if let Some(source) = &self.source {
            write!(f, " --source {source}")?;
        }
        if let Some(destination) = &self.destination {
            write!(f, " --destination {destination}")?;
        }
        if let Some(protocol) = &self.protocol {
            write!(f, " --protocol {protocol}")?;
        }
        if let Some(ports) = &self.ports {
            write!(f, " --ports {}", Self::format_ports(ports))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(
            "256".parse(),
            Ok(MarkValue {
                mark: 256,
                mask: u32::MAX
            })
        );
        assert_eq!(
            "0x100/0xff00".parse(),
            Ok(MarkValue {
                mark: 0x100,
                mask: 0xff00
            })
        );
        assert_eq!(
            "0x100/0xff00".parse::<MarkValue>().unwrap().to_string(),
            "0x100/0xff00"
        );
        let error = "0x1ff/0xff".parse::<MarkValue>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "widen the mask, as in 0x1ff/0x1ff");
        assert_eq!("1/0".parse::<MarkValue>(), Err(ModelError::ZeroMask));
        for text in ["", "x", "+1", "0x", "0x+1", "4294967296", "-1"] {
            assert!(text.parse::<MarkValue>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_need_a_protocol() {
        let mut rule = MarkRule::new("1".parse().unwrap());
        rule.ports = Some(80..=80);
        assert_eq!(
            rule.clone().checked(),
            Err(ModelError::PortsWithoutProtocol)
        );
        rule.protocol = Some(Protocol::Tcp);
        assert_eq!(
            rule.checked().unwrap().to_string(),
            "--mark 1 --protocol tcp --ports 80"
        );
    }

    #[test]
    fn a_range_is_exactly_its_prefixes() {
        assert_eq!(port_prefixes(&(80..=80)), [(80, 16)]);
        assert_eq!(port_prefixes(&(0..=65535)), [(0, 0)]);
        assert_eq!(
            port_prefixes(&(8000..=8099)),
            [(8000, 10), (8064, 11), (8096, 14)]
        );
        for (first, last) in [
            (1, 65534),
            (1, 1),
            (1023, 1024),
            (30000, 32767),
            (65535, 65535),
        ] {
            let covered: Vec<u32> = port_prefixes(&(first..=last))
                .iter()
                .flat_map(|(start, bits)| u32::from(*start)..u32::from(*start) + (1 << (16 - bits)))
                .collect();
            assert!(
                covered
                    .iter()
                    .copied()
                    .eq(u32::from(first)..=u32::from(last)),
                "{first}-{last}"
            );
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(MarkRule::parse_ports("80"), Ok(80..=80));
        assert_eq!(MarkRule::parse_ports("80-90"), Ok(80..=90));
        for text in ["90-80", "80-", "-80", "a", "1-2-3"] {
            assert_eq!(
                MarkRule::parse_ports(text),
                Err(ModelError::PortRangeText(text.into())),
                "{text}"
            );
        }
        assert_eq!(
            MarkRule::parse_ports("70000"),
            Err(ModelError::PortRange(70000))
        );
    }
}
