//! Words in network byte order. Aligned words, never byte arrays: with byte arrays the BPF code generator loads and
//! stores byte by byte, which costs several times the instructions.

/// A 16-bit word in network byte order: a port, a length, a checksum.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Be16(u16);

impl Be16 {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From a host-order number.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the word as it lies in a packet.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The word as it lies in a packet.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// As a host-order number.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// A 32-bit word in network byte order: an IPv4 address, a quarter of an IPv6 address.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Be32(u32);

impl Be32 {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From a host-order number.
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// From four octets in the order in which they are written and sent.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four octets in the order in which they are written and sent.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// From the word as it lies in a packet.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The word as it lies in a packet.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// As a host-order number.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// Of two words of 16 bits, in the order in which they are sent.
    #[inline(always)]
    pub const fn join(first: Be16, second: Be16) -> Self {
        let ([a, b], [c, d]) = (first.0.to_ne_bytes(), second.0.to_ne_bytes());
        Self(u32::from_ne_bytes([a, b, c, d]))
    }

    /// The two words of 16 bits that it is made of, in the order in which they are sent.
    #[inline(always)]
    pub const fn halves(self) -> (Be16, Be16) {
        let [a, b, c, d] = self.0.to_ne_bytes();
        (
            Be16(u16::from_ne_bytes([a, b])),
            Be16(u16::from_ne_bytes([c, d])),
        )
    }
}
