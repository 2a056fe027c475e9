//! The address family as a type parameter: each family has its own, smallest possible, keys and maps.

use core::hash::Hash;

use super::be::Be32;

/// An address of one family. The pipeline and every keyed map are generic over it.
pub trait Address: Copy + PartialEq + Eq + Hash + Default + 'static {
    /// The bits of an address.
    const BITS: u32;

    /// The address as four words; IPv4 uses the first, the others are zero.
    fn words(self) -> [Be32; 4];

    /// From four words, as [`Address::words`] gives them.
    fn from_words(words: [Be32; 4]) -> Self;

    /// The address with all but its first `prefix` bits cleared; `prefix` above [`Address::BITS`] keeps all.
    fn masked(self, prefix: u8) -> Self;

    /// The 16-bit one's complement sum of the address (RFC 1071), not inverted.
    fn sum(self) -> u16;

    /// All of its bits in one word, for [`Tuple::mix`](super::Tuple::mix).
    fn mix(self) -> u32;

    /// Whether a packet from another host can have this source: it names one host, which is not the sender itself. The
    /// kernel's stack drops all others (`ip_route_input_slow`).
    fn is_host(self) -> bool;

    /// Whether a socket that connects to it stays on this host whatever addresses the host has: a loopback address, or
    /// none at all.
    fn is_loopback(self) -> bool;
}

/// An IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct V4(pub Be32);

/// An IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct V6(pub [Be32; 4]);

/// The network mask of a prefix of one word, in network order.
#[inline(always)]
const fn mask(prefix: u32) -> u32 {
    if prefix == 0 {
        0
    } else if prefix >= 32 {
        u32::MAX
    } else {
        (u32::MAX << (32 - prefix)).to_be()
    }
}

impl V4 {
    /// From four octets as written: `[10, 0, 0, 1]`.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(Be32::from_octets(octets))
    }
}

impl Address for V4 {
    const BITS: u32 = 32;

    #[inline(always)]
    fn words(self) -> [Be32; 4] {
        [self.0, Be32::ZERO, Be32::ZERO, Be32::ZERO]
    }

    #[inline(always)]
    fn from_words(words: [Be32; 4]) -> Self {
        Self(words[0])
    }

    #[inline(always)]
    fn masked(self, prefix: u8) -> Self {
        Self(Be32::from_raw(self.0.raw() & mask(prefix as u32)))
    }

    #[inline(always)]
    fn sum(self) -> u16 {
        crate::checksum::fold(self.0.raw() as u64)
    }

    #[inline(always)]
    fn mix(self) -> u32 {
        self.0.raw()
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        let first = self.0.get() >> 24;
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0.get() >> 24 == 127 || self.0 == Be32::ZERO
    }
}

impl Address for V6 {
    const BITS: u32 = 128;

    #[inline(always)]
    fn words(self) -> [Be32; 4] {
        self.0
    }

    #[inline(always)]
    fn from_words(words: [Be32; 4]) -> Self {
        Self(words)
    }

    #[inline(always)]
    fn masked(self, prefix: u8) -> Self {
        let prefix = prefix as u32;
        let [a, b, c, d] = self.0;
        let part = |word: Be32, first: u32| {
            Be32::from_raw(word.raw() & mask(prefix.saturating_sub(first)))
        };
        Self([part(a, 0), part(b, 32), part(c, 64), part(d, 96)])
    }

    #[inline(always)]
    fn sum(self) -> u16 {
        let [a, b, c, d] = self.0;
        crate::checksum::fold(a.raw() as u64 + b.raw() as u64 + c.raw() as u64 + d.raw() as u64)
    }

    #[inline(always)]
    fn mix(self) -> u32 {
        let [a, b, c, d] = self.0;
        a.raw() ^ b.raw().wrapping_mul(3) ^ c.raw().wrapping_mul(5) ^ d.raw().wrapping_mul(7)
    }

    #[inline(always)]
    fn is_host(self) -> bool {
        let [a, b, c, d] = self.0;
        let unspecified_or_loopback = a.raw() | b.raw() | c.raw() == 0 && d.get() <= 1;
        a.get() >> 24 != 0xff && !unspecified_or_loopback
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        let [a, b, c, d] = self.0;
        a.raw() | b.raw() | c.raw() == 0 && d.get() <= 1
    }
}
