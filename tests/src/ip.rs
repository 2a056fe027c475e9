//! An IPv4 packet that was seen, whole or quoted by an ICMP error.

use std::net::Ipv4Addr;

/// A packet from its IPv4 header on; a quoted one may end early.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(&'a [u8]);

impl<'a> Packet<'a> {
    /// A packet of TCP or UDP as far as the end of its transport header; `None` for anything else.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let packet = Self(bytes);
        let first = *bytes.first()?;
        let least = match *bytes.get(9)? {
            6 => 20,
            17 => 8,
            _ => return None,
        };
        (first >> 4 == 4 && first & 15 >= 5 && bytes.len() >= packet.header() + least)
            .then_some(packet)
    }

    /// The packet that an ICMP error quotes; the error from its IPv4 header on.
    pub fn quoted_in(error: &'a [u8]) -> Option<Self> {
        let header = usize::from(*error.first()? & 15) * 4;
        let is_error = *error.get(9)? == 1 && matches!(*error.get(header)?, 3 | 4 | 11 | 12);
        is_error.then(|| Self::new(error.get(header + 8..)?))?
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3])
    }

    /// Bytes of the IPv4 header.
    pub fn header(&self) -> usize {
        usize::from(self.0[0] & 15) * 4
    }

    /// Bytes of the packet, as its header says.
    pub fn total(&self) -> usize {
        usize::from(self.word(2))
    }

    /// Protocol number: TCP or UDP.
    pub fn protocol(&self) -> u8 {
        self.0[9]
    }

    /// Source and destination address.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(12), self.address(16))
    }

    /// Source and destination port.
    pub fn ports(&self) -> (u16, u16) {
        (self.word(self.header()), self.word(self.header() + 2))
    }

    /// Bytes of the transport header.
    pub fn transport_header(&self) -> usize {
        match self.protocol() {
            6 => usize::from(self.0[self.header() + 12] >> 4) * 4,
            _ => 8,
        }
    }

    /// Whether the IPv4 header's checksum is right.
    pub fn is_header_right(&self) -> bool {
        fold(sum(&self.0[..self.header()])) == 0xffff
    }

    /// Offset of the transport checksum in the transport header.
    pub fn sum_offset(&self) -> usize {
        if self.protocol() == 6 { 16 } else { 6 }
    }

    /// The transport checksum.
    pub fn transport_sum(&self) -> u16 {
        self.word(self.header() + self.sum_offset())
    }

    /// The sum of the pseudo header for these addresses: what an unfinished checksum holds (RFC 9293, 3.1).
    pub fn pseudo_sum(&self, source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
        let length = self.total() - self.header();
        let fixed = u64::from(self.protocol()) + length as u64;
        fold(sum(&source.octets()) + sum(&destination.octets()) + fixed)
    }

    /// Whether the transport checksum is unfinished: that of the pseudo header, to be finished by whoever sends the packet
    /// on a wire.
    pub fn is_unfinished(&self) -> bool {
        let (source, destination) = self.addresses();
        self.transport_sum() == self.pseudo_sum(source, destination)
    }

    /// Whether the transport checksum is right; that of a packet that ends early never is. (It may be that of the pseudo
    /// header too, by chance.)
    pub fn is_transport_right(&self) -> bool {
        let (source, destination) = self.addresses();
        let pseudo = u64::from(self.pseudo_sum(source, destination));
        let segment = self.0.get(self.header()..self.total());
        segment.is_some_and(|segment| fold(sum(segment) + pseudo) == 0xffff)
    }
}

/// The sum of 16-bit words, the last byte padded (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The checksum of these bytes (RFC 1071); zero if they contain a right one.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header and a UDP header with four bytes, as `tcpdump -x` shows them; checksums by hand.
    fn datagram() -> Vec<u8> {
        let mut bytes = vec![
            0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 100, 0x9c, 0x40, 0,
            9, 0, 12, 0, 0, b'a', b'b', b'c', b'd',
        ];
        let header = checksum(&bytes[..20]).to_be_bytes();
        bytes[10..12].copy_from_slice(&header);
        bytes
    }

    #[test]
    fn checksum_is_that_of_rfc_1071() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[0xff]), !0xff00);
    }

    #[test]
    fn states_of_a_transport_checksum_are_told_apart() {
        let states = |bytes: &[u8]| {
            let packet = Packet::new(bytes).unwrap();
            (packet.is_unfinished(), packet.is_transport_right())
        };
        let mut bytes = datagram();
        assert_eq!(states(&bytes), (false, false));
        // 0a00 + 0002 + 0a00 + 0064 + 11 + 0c
        bytes[26..28].copy_from_slice(&0x1483_u16.to_be_bytes());
        assert_eq!(states(&bytes), (true, false));
        // and 9c40 + 0009 + 000c + 6162 + 6364, with the carry, inverted
        bytes[26..28].copy_from_slice(&(!0x759f_u16).to_be_bytes());
        assert_eq!(states(&bytes), (false, true));
        assert_eq!(states(&bytes[..28]), (false, false), "it ends early");
        assert!(Packet::new(&bytes).unwrap().is_header_right());
        bytes[15] ^= 1;
        assert_eq!(states(&bytes), (false, false));
        assert!(!Packet::new(&bytes).unwrap().is_header_right());
    }
}
