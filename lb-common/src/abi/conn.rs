//! Connections: two entries each, one found by packets from the client, one by packets from the real server.
//!
//! The *forward* entry is the authority for state and deadline. The *reply* entry holds its own rewrite and a copy of the
//! forward entry's word, at most a second old while the connection is established. Both words carry the generation of
//! the connection: entries are freed to the allocator at once and may be another connection's when a reader is half
//! through, so a reader checks the generation again after copying.

use super::{Address, Be16, Shared, Tick};
use crate::checksum::{add, delta};

/// What identifies the packets of one direction. 16 bytes for IPv4, 40 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct ConnKey<A> {
    /// Source address of the packet.
    pub src: A,
    /// Destination address of the packet.
    pub dst: A,
    /// Source port of the packet.
    pub sport: Be16,
    /// Destination port of the packet.
    pub dport: Be16,
    /// Scope id in the upper 24 bits, protocol number in the lower 8.
    pub scope_protocol: u32,
}

impl<A: Address> ConnKey<A> {
    /// The scope id.
    #[inline(always)]
    pub const fn scope(&self) -> u32 {
        self.scope_protocol >> 8
    }

    /// The IP protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.scope_protocol as u8
    }

    /// Addresses and ports.
    #[inline(always)]
    pub fn tuple(&self) -> Tuple<A> {
        Tuple {
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
        }
    }

    /// The key of packets that answer those with this key.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        self.tuple().reversed().key(self.scope_protocol)
    }
}

/// The addresses and ports of a packet.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
}

impl<A: Address> Tuple<A> {
    /// The tuple of the answer.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
        }
    }

    /// The checksum delta of turning these addresses into those of `to`.
    #[inline(always)]
    pub fn addresses_delta(&self, to: &Self) -> u16 {
        let (source, destination) = (
            delta(self.src.sum(), to.src.sum()),
            delta(self.dst.sum(), to.dst.sum()),
        );
        add(source, destination)
    }

    /// The checksum delta of turning these ports into those of `to`.
    #[inline(always)]
    pub fn ports_delta(&self, to: &Self) -> u16 {
        add(
            delta(self.sport.raw(), to.sport.raw()),
            delta(self.dport.raw(), to.dport.raw()),
        )
    }

    /// All of it in one word, which no other tuple that a packet may meet by chance is likely to have.
    #[inline(always)]
    pub fn mix(&self) -> u32 {
        let ports = u32::from(self.sport.raw()) << 16 | u32::from(self.dport.raw());
        let source = self.src.mix().wrapping_mul(0x9e37_79b1);
        let destination = self.dst.mix().wrapping_mul(0x85eb_ca6b);
        source ^ destination ^ ports
    }

    /// The key of packets with this tuple.
    #[inline(always)]
    pub fn key(&self, scope_protocol: u32) -> ConnKey<A> {
        ConnKey {
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
            scope_protocol,
        }
    }
}

/// One entry of the connection table. 48 bytes for IPv4: with key and the kernel's own share, two entries stay below
/// the 320 bytes that a connection may cost.
#[repr(C)]
pub struct Conn<A> {
    /// A [`Word`]: deadline, generation, state, flags. Changed by compare-and-swap only.
    pub word: Shared<u64>,
    /// Source address after the rewrite.
    pub src: Shared<A>,
    /// Destination address after the rewrite.
    pub dst: Shared<A>,
    /// Source port after the rewrite.
    pub sport: Shared<Be16>,
    /// Destination port after the rewrite.
    pub dport: Shared<Be16>,
    /// Real server: index into the servers map.
    pub server: Shared<u32>,
    /// Next hop of packets of this direction: index into the hops map, with [`BENT`](super::BENT).
    pub hop: Shared<u32>,
    /// The delta that the new addresses make in the IP header's and the transport's checksum.
    pub addresses_delta: Shared<u16>,
    /// The delta that the new ports make in the transport's checksum.
    pub ports_delta: Shared<u16>,
    /// The ring ticket (forward entry), by which a half-open connection may be recycled.
    pub ticket: Shared<u32>,
    /// When (ticks) the word was last written for a packet of this direction: the next write is due a second later.
    pub seen: Shared<u32>,
    /// The template that controls it (forward entry): index into the templates map, 0 for none.
    pub template: Shared<u32>,
    /// [`Tuple::mix`] of the key: whether an entry still is the key's.
    pub mix: Shared<u32>,
}

impl<A: Address> Conn<A> {
    /// The tuple after the rewrite.
    #[inline(always)]
    pub fn to(&self) -> Tuple<A> {
        Tuple {
            src: self.src.load(),
            dst: self.dst.load(),
            sport: self.sport.load(),
            dport: self.dport.load(),
        }
    }
}

/// Both sides have been heard: the real server has answered and, with TCP, the handshake is over. A flood of connections
/// that never get so far cannot push it out.
pub const ASSURED: u8 = 1;
/// This is the reply entry.
pub const REPLY: u8 = 2;
/// The connection counts as active at its real server (notes of IPVS: established or being established).
pub const COUNTED: u8 = 4;
/// Claimed by whoever deletes it; nobody else may touch it or delete it.
pub const DEAD: u8 = 8;
/// The real server has answered.
pub const ANSWERED: u8 = 16;
/// Replies are not expected to come by here (`IP_VS_CONN_F_NOOUTPUT`): direct routing, until one does.
pub const NO_OUTPUT: u8 = 32;
/// Direct routing: packets go to the real server's hop with their addresses as they are.
pub const DIRECT: u8 = 64;
/// A packet of the client has been recorded: the next one that is, a second or more later, is not its first.
pub const HEARD: u8 = 128;

/// What the daemon asks the sweep program to look at: one of the `SWEEP_` kinds. An item of none ends the list.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SweepItem<A> {
    /// A forward or reply key, where the kind asks for one.
    pub key: ConnKey<A>,
    /// The kind.
    pub what: u32,
    /// A generation, or the index of a template or of a slot.
    pub number: u32,
}

/// Take the connection with this key apart if it has expired.
pub const SWEEP_EXPIRED: u32 = 1;
/// Take it apart in any case, if it still is of the generation that was seen.
pub const SWEEP_FORCED: u32 = 2;
/// Let go of the persistence template with this index if it has expired.
pub const SWEEP_TEMPLATE: u32 = 3;
/// Let go of it as soon as it controls nothing.
pub const SWEEP_TEMPLATE_FORCED: u32 = 4;
/// Look at the connection of this slot of the half-open ring, and say when to look again.
pub const SWEEP_HALF_OPEN: u32 = 5;
/// The same for the assured ring.
pub const SWEEP_ASSURED: u32 = 6;

impl<A: Address> SweepItem<A> {
    /// [`SWEEP_EXPIRED`].
    pub const fn expired(key: ConnKey<A>) -> Self {
        Self {
            key,
            what: SWEEP_EXPIRED,
            number: 0,
        }
    }

    /// [`SWEEP_FORCED`].
    pub const fn forced(key: ConnKey<A>, generation: u16) -> Self {
        Self {
            key,
            what: SWEEP_FORCED,
            number: generation as u32,
        }
    }

    /// Of a kind that asks for no key.
    pub fn numbered(what: u32, number: u32) -> Self {
        Self {
            key: ConnKey::default(),
            what,
            number,
        }
    }
}

/// Deadline, generation, state and flags of an entry in one word, so that one compare-and-swap changes them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub u64);

impl Word {
    /// A word of these parts.
    #[inline(always)]
    pub const fn new(deadline: Tick, generation: u16, state: u8, flags: u8) -> Self {
        Self(
            deadline.0 as u64
                | (generation as u64) << 32
                | (state as u64) << 48
                | (flags as u64) << 56,
        )
    }

    /// When the connection expires unless a packet comes.
    #[inline(always)]
    pub const fn deadline(self) -> Tick {
        Tick(self.0 as u32)
    }

    /// Which of the connections that had this key it is.
    #[inline(always)]
    pub const fn generation(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// The state: a `conn::state` number.
    #[inline(always)]
    pub const fn state(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// [`ASSURED`] and the other flags.
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Whether all of these flags are set.
    #[inline(always)]
    pub const fn has(self, flags: u8) -> bool {
        self.flags() & flags == flags
    }

    /// With these flags set as well.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, flags: u8) -> Self {
        Self(self.0 | (flags as u64) << 56)
    }

    /// Whether the deadline has passed.
    #[inline(always)]
    pub const fn expired(self, now: Tick) -> bool {
        now.since(self.deadline()) >= 0
    }
}

const _: () = {
    use super::{V4, V6};
    assert!(size_of::<ConnKey<V4>>() == 16);
    assert!(size_of::<ConnKey<V6>>() == 40);
    assert!(size_of::<Conn<V4>>() == 48);
};
