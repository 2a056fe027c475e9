//! A packet, as words at offsets from the start of its Ethernet header.
//!
//! One implementation reads `__sk_buff`, one `xdp_md`, one a `Vec<u8>` in tests. An access outside of the packet gives
//! `None`, never a panic.

use crate::{
    abi::{Address, Be16, Be32, ConnKey},
    family::ipv4,
    mss,
    tables::Tables,
};

/// The bytes of an Ethernet header without tags.
pub const ETHERNET: u32 = 14;

/// Read and write access to one packet, and what its arrival says about it.
pub trait Packet {
    /// It runs before a layer that handles every packet by itself: XDP before TC. What it cannot finish it hands over to
    /// that layer ([`Action::HandOver`](crate::verdict::Action::HandOver)): as it came, uncounted, and not followed.
    const EARLY: bool = false;

    /// Reads a byte.
    fn u8(&self, at: u32) -> Option<u8>;
    /// Reads a word of 16 bits.
    fn u16(&self, at: u32) -> Option<Be16>;
    /// Reads a word of 32 bits.
    fn u32(&self, at: u32) -> Option<Be32>;
    /// Writes a byte.
    fn set_u8(&mut self, at: u32, value: u8) -> Option<()>;
    /// Writes a word of 16 bits.
    fn set_u16(&mut self, at: u32, value: Be16) -> Option<()>;
    /// Writes a word of 32 bits.
    fn set_u32(&mut self, at: u32, value: Be32) -> Option<()>;

    /// Reads words that follow each other, all or none.
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[Be32; N]> {
        let mut words = [Be32::ZERO; N];
        let mut next = at;
        for word in &mut words {
            *word = self.u32(next)?;
            next += 4;
        }
        Some(words)
    }

    /// Reads an IPv4 header without its options and its checksum, all or nothing.
    #[inline(always)]
    fn ipv4(&self, at: u32) -> Option<Fields> {
        Some(Fields {
            version: self.u8(at + ipv4::VERSION)?,
            total: self.u16(at + ipv4::TOTAL)?,
            id: self.u16(at + ipv4::ID)?,
            fragment: self.u16(at + ipv4::FRAGMENT)?,
            ttl: self.u8(at + ipv4::TTL)?,
            protocol: self.u8(at + ipv4::PROTOCOL)?,
            source: self.u32(at + ipv4::SOURCE)?,
            destination: self.u32(at + ipv4::DESTINATION)?,
        })
    }

    /// Writes words that follow each other, all or none.
    #[inline(always)]
    fn set_words<const N: usize>(&mut self, at: u32, words: [Be32; N]) -> Option<()> {
        self.u32(at + 4 * (N as u32 - 1))?;
        let mut next = at;
        for word in words {
            self.set_u32(next, word)?;
            next += 4;
        }
        Some(())
    }

    /// Updates the transport checksum at `at` for new addresses and ports. A checksum that the sender left to the
    /// hardware covers only the pseudo header, so the two deltas are kept apart. With `zero_is_none` (UDP over IPv4) a
    /// checksum of zero stays zero.
    fn update_checksum(
        &mut self,
        at: u32,
        addresses: u16,
        ports: u16,
        zero_is_none: bool,
    ) -> Option<()>;

    /// [`mss::clamp`], as a function of its own where that is better.
    #[inline(always)]
    fn clamp_mss<A: Address, T: Tables<A>>(
        &mut self,
        tables: &T,
        l4: u32,
        server: u32,
        hop: u32,
    ) -> Option<()>
    where
        Self: Sized,
    {
        mss::clamp(self, tables, l4, server, hop)
    }

    /// Payload bytes of each segment of a GSO packet; 0 if it is not one.
    fn segment_size(&self) -> u32;

    /// Keeps the first `length` bytes of the packet.
    fn truncate(&mut self, length: u32) -> Option<()>;

    /// Inserts `bytes` bytes of undefined content between the Ethernet header and the network header. A checksum that was
    /// left to the hardware stays unfinished, and nobody is asked any more to finish it: what it is in is content now.
    fn insert_after_ethernet(&mut self, bytes: u32) -> Option<()>;

    /// How it got here.
    fn arrival(&self) -> Arrival;

    /// The cookie of the local socket that sends it; 0 for none.
    #[inline(always)]
    fn cookie(&self) -> u64 {
        0
    }

    /// Whether a local socket speaks with whoever sends it: it may be one that the socket hook has led to a real server.
    #[inline(always)]
    fn is_for_socket(&self, _between: &Ends) -> bool {
        false
    }
}

/// What is read of an IPv4 header. Each field by itself: the verifier does not tell parts of a word apart, and would walk
/// half as much again of the programs.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Version and header length.
    pub version: u8,
    /// Total length.
    pub total: Be16,
    /// Identification.
    pub id: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
}

/// Between whom a packet goes.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source address, as [`Address::words`] gives it.
    pub source: [Be32; 4],
    /// Destination address.
    pub destination: [Be32; 4],
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
    /// Protocol number.
    pub protocol: u8,
}

impl<A: Address> From<ConnKey<A>> for Ends {
    #[inline(always)]
    fn from(key: ConnKey<A>) -> Self {
        Self {
            source: key.src.words(),
            destination: key.dst.words(),
            sport: key.sport,
            dport: key.dport,
            protocol: key.protocol(),
        }
    }
}

/// How a packet reached the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The interface that it belongs to: on which the program runs, or the VLAN whose tag it came with.
    pub ifindex: u32,
    /// The interface by which its frame came in; only looked at where it runs early.
    pub wire: u32,
    /// It is being sent by this host, not received.
    pub egress: bool,
    /// The Ethernet destination is this host.
    pub to_host: bool,
    /// It carries the tag of a VLAN outside of its bytes. A received one for VLAN 0 is none: it is a priority (IEEE 802.1Q).
    pub tagged: bool,
    /// The mark that it already has.
    pub mark: u32,
    /// Its length from the Ethernet header on.
    pub length: u32,
}
