//! Numbers and words behind options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::failure::Failure;
use super::view::{SchedulerFlags, TunnelKind};

/// The longest timeout that can be given: 31 days.
const MAX_TIMEOUT: i64 = 31 * 86_400;

/// The timeout of a persistent service when none is given.
const DEFAULT_PERSISTENCE: u32 = 360;

/// A decimal number as `strtol` reads it: blanks and a sign before it, nothing behind it.
fn decimal(text: &str) -> Option<i64> {
    let number = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// A number in a range.
pub(super) fn number<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    decimal(text)
        .filter(|number| (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
}

/// The number that a text begins with, as `atoi` reads it: what does not fit is cut off.
pub(super) fn leading_number(text: &str) -> i32 {
    let number = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let sign = usize::from(number.starts_with(['+', '-']));
    let digits = number[sign..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    if digits == 0 {
        return 0;
    }
    let limit = if number.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    let value: i64 = number[..sign + digits].parse().unwrap_or(limit);
    #[expect(clippy::cast_possible_truncation, reason = "as atoi does")]
    let value = value as i32;
    value
}

/// The timeout behind `-p`.
pub(super) fn persistence(text: Option<&str>) -> Result<u32, Failure> {
    text.map_or(Ok(DEFAULT_PERSISTENCE), |text| timeout(text, 1))
}

/// A timeout in seconds, at least `least`.
pub(super) fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    number(text, least, MAX_TIMEOUT)
        .ok_or_else(|| Failure::fatal(format!("invalid timeout value `{text}' specified")))
}

/// A firewall mark.
pub(super) fn fwmark(text: &str) -> Result<u32, Failure> {
    number(text, 1, i64::from(u32::MAX))
        .ok_or_else(|| Failure::fatal(format!("invalid fwmark value `{text}' specified")))
}

/// The kind of a tunnel; the port of one that needs it comes from another option.
pub(super) fn tunnel_kind(text: &str) -> Result<TunnelKind, Failure> {
    match text {
        "ipip" => Ok(TunnelKind::Ipip),
        "gue" => Ok(TunnelKind::Gue { port: 0 }),
        "gre" => Ok(TunnelKind::Gre),
        _ => Err(Failure::fatal("illegal tunnel type specified")),
    }
}

/// The group that sync daemons speak in.
pub(super) fn multicast_group(text: &str) -> Result<IpAddr, Failure> {
    let (family, group) = if text.contains(':') {
        let group = text.parse::<Ipv6Addr>().ok();
        ("IPv6", group.filter(Ipv6Addr::is_multicast).map(IpAddr::V6))
    } else {
        let group = text.parse::<Ipv4Addr>().ok();
        ("IPv4", group.filter(Ipv4Addr::is_multicast).map(IpAddr::V4))
    };
    group.ok_or_else(|| Failure::fatal(format!("invalid {family} mcast-group `{text}'")))
}

/// The flags for a scheduler, by their general names or by those of this scheduler.
pub(super) fn scheduler_flags(text: &str, scheduler: &str) -> Result<SchedulerFlags, Failure> {
    let mut flags = SchedulerFlags::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (of, place) = match word {
            "flag-1" => (None, 0),
            "flag-2" => (None, 1),
            "flag-3" => (None, 2),
            "sh-fallback" => (Some("sh"), 0),
            "sh-port" => (Some("sh"), 1),
            "mh-fallback" => (Some("mh"), 0),
            "mh-port" => (Some("mh"), 1),
            _ => {
                return Err(Failure::fatal(format!("invalid scheduler flag `{word}'")));
            }
        };
        if of.is_some_and(|of| of != scheduler) {
            return Err(Failure::fatal(format!(
                "incompatible scheduler flag `{word}'"
            )));
        }
        flags.0[place] = true;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_strtol_reads_them() {
        for (text, value) in [
            ("5", Some(5)),
            ("010", Some(10)),
            (" 7", Some(7)),
            ("+7", Some(7)),
            ("65535", Some(65535)),
            ("65536", None),
            ("-1", None),
            ("7 ", None),
            ("0x10", None),
            ("1.5", None),
            ("", None),
            ("+", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number::<u16>(text, 0, 65535), value, "{text:?}");
        }
    }

    #[test]
    fn numbers_as_atoi_reads_them() {
        for (text, value) in [
            ("12x", 12),
            (" -3", -3),
            ("x", 0),
            ("", 0),
            ("-", 0),
            ("2147483649", i32::MIN + 1),
            ("4294967297", 1),
            ("99999999999999999999", -1),
        ] {
            assert_eq!(leading_number(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_comma_alone_is_no_flag() {
        assert_eq!(scheduler_flags(",", "rr"), Ok(SchedulerFlags::default()));
        assert_eq!(
            scheduler_flags("sh-port,,flag-1", "sh"),
            Ok(SchedulerFlags([true, true, false]))
        );
    }
}
