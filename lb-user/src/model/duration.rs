//! Durations as people write them: `90s`, `15m`, `1h30m`, `2d`.

use std::time::Duration;

use super::ModelError;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads a duration: one or more numbers, each with a unit, the larger units first.
///
/// # Errors
/// [`ModelError::Duration`].
pub fn parse_duration(text: &str) -> Result<Duration, ModelError> {
    let wrong = || ModelError::Duration(text.into());
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
        // Searching on from the last unit found keeps the order and refuses a unit given twice.
        let (_, seconds) = units
            .by_ref()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        total = number
            .checked_mul(*seconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(Duration::from_secs(total))
    }
}

/// Writes a duration so that [`parse_duration`] reads it back; parts of a second are left out.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, seconds) in UNITS {
        if rest >= seconds {
            text.push_str(&format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for seconds in [0, 1, 59, 60, 90, 900, 3600, 5400, 86_400, 90_061, 2_678_400] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "5",
            "m",
            "5x",
            "5m5m",
            "5s1m",
            "-5s",
            "5 m",
            "99999999999999999999s",
            "5é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
