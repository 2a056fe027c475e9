//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624), on words in network order.
//!
//! One's complement sums do not depend on the byte order of the words, so nothing is swapped anywhere. A *delta* is the
//! folded sum of what is new and the complement of what was old; it is computed once for a connection and then added to
//! every packet of it.

/// Folds a sum to 16 bits with end-around carry.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The delta that turns `old` into `new`; both are folded sums or single words.
#[inline(always)]
pub const fn delta(old: u16, new: u16) -> u16 {
    add(!old, new)
}

/// The sum of two deltas. Of two words one step folds all.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field after a change of `delta` in what it covers (RFC 1624, equation 3).
#[inline(always)]
pub const fn apply(checksum: u16, delta: u16) -> u16 {
    !add(!checksum, delta)
}

/// The checksum of these bytes, as it would stand in their header (RFC 1071). For building packets and for tests.
pub fn compute(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The plain sum of these bytes as words in memory order; an odd last byte is padded with zero.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| match *pair {
            [a, b] => u64::from(u16::from_ne_bytes([a, b])),
            [a] => u64::from(u16::from_ne_bytes([a, 0])),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_words_are_folded_by_one_step() {
        for (a, b) in [
            (0, 0),
            (0xffff, 0xffff),
            (0xffff, 1),
            (0x8000, 0x8000),
            (1, 2),
        ] {
            assert_eq!(add(a, b), fold(u64::from(a) + u64::from(b)));
        }
    }

    proptest! {
        /// A wrong checksum stays wrong by the same amount, a right one stays right.
        #[test]
        fn incremental_is_recomputed(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..9, new: u16, wrong: u16) {
            bytes.truncate(bytes.len() & !1);
            let before = compute(&bytes);
            let old = u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]]);
            bytes[2 * at..2 * at + 2].copy_from_slice(&new.to_ne_bytes());
            let after = compute(&bytes);
            let updated = apply(before, delta(old, new));
            // 0x0000 and 0xffff are the same number in one's complement.
            prop_assert_eq!(fold(u64::from(!updated) % 0xffff), fold(u64::from(!after) % 0xffff));
            let off = delta(before, wrong);
            let kept = delta(updated, apply(wrong, delta(old, new)));
            prop_assert_eq!(u32::from(off) % 0xffff, u32::from(kept) % 0xffff);
        }
    }

    #[test]
    fn rfc_1071_example() {
        // RFC 1071, section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
        assert_eq!(
            fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])).to_be(),
            0xddf2
        );
    }
}
