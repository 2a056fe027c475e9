//! The content of large transfers: byte `i` is known from `i` alone, so both ends check every byte
//! and every position without storing any.

use std::sync::LazyLock;

/// A prime, so that no power-of-two sized shift of the data goes unnoticed.
const PERIOD: usize = 65_521;

static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..PERIOD)
        .map(|_| {
            // xorshift64: any bytes will do that do not repeat within the block.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
});

/// Some bytes of the content from position `offset` on: at least one, at most `most`.
pub fn chunk(offset: u64, most: usize) -> &'static [u8] {
    let start = (offset % PERIOD as u64) as usize;
    let end = (start + most).min(PERIOD);
    &BLOCK[start..end]
}

/// The first position in `bytes`, which are the content from `offset` on, that is not as it should
/// be.
pub fn first_difference(mut offset: u64, mut bytes: &[u8]) -> Option<u64> {
    while !bytes.is_empty() {
        let expected = chunk(offset, bytes.len());
        let (head, rest) = bytes.split_at(expected.len());
        if head != expected {
            let at = head
                .iter()
                .zip(expected)
                .position(|(got, want)| got != want)
                .unwrap_or(0);
            return Some(offset + at as u64);
        }
        offset += head.len() as u64;
        bytes = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_recognised_over_the_end_of_the_block_and_one_wrong_byte_is_found() {
        let mut bytes = Vec::new();
        while bytes.len() < 200_000 {
            bytes.extend_from_slice(chunk(bytes.len() as u64, 200_000 - bytes.len()));
        }
        assert_eq!(first_difference(0, &bytes), None);
        assert_eq!(first_difference(100, &bytes[100..]), None);
        bytes[150_000] ^= 1;
        assert_eq!(first_difference(0, &bytes), Some(150_000));
    }

    #[test]
    fn shifted_content_is_wrong() {
        assert!(first_difference(1, chunk(0, 1000)).is_some());
        assert!(first_difference(65_536, chunk(0, 1000)).is_some());
    }
}
