//! Large numbers in narrow columns.

/// A number with a blank before it, nine characters wide. Above 99,999,999 it is cut to thousands and more, unless
/// `exact` asks for all digits, which then take the room that they need.
pub(super) fn large(number: u64, exact: bool) -> String {
    const UNITS: [(u64, u64, &str); 4] = [
        (1_000_000_000, 1_000, "K"),
        (100_000_000_000, 1_000_000, "M"),
        (100_000_000_000_000, 1_000_000_000, "G"),
        (u64::MAX, 1_000_000_000_000, "T"),
    ];
    if exact || number < 100_000_000 {
        return format!(" {number:>8}");
    }
    UNITS
        .iter()
        .find(|(below, _, _)| number < *below)
        .map_or_else(String::new, |(_, unit, letter)| {
            format!("{:>8}{letter}", number / unit)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (number, short, exact) in [
            (0, "        0", "        0"),
            (99_999_999, " 99999999", " 99999999"),
            (100_000_000, "  100000K", " 100000000"),
            (999_999_999, "  999999K", " 999999999"),
            (1_000_000_000, "    1000M", " 1000000000"),
            (99_999_999_999, "   99999M", " 99999999999"),
            (100_000_000_000, "     100G", " 100000000000"),
            (99_999_999_999_999, "   99999G", " 99999999999999"),
            (100_000_000_000_000, "     100T", " 100000000000000"),
            (
                18_000_000_000_000_000_000,
                "18000000T",
                " 18000000000000000000",
            ),
        ] {
            assert_eq!(large(number, false), short);
            assert_eq!(large(number, true), exact);
        }
    }
}
