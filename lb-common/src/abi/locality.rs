//! What the schedulers lblc and lblcr remember: which real servers serve a destination address.

use super::{Be16, Shared};

/// Finds what is remembered of a destination.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct LocalityKey<A> {
    /// The packet's destination address.
    pub address: A,
    /// Index of the service.
    pub service: u32,
}

/// The most real servers that lblcr remembers for a destination. IPVS has no limit.
pub const LOCALITY_SERVERS: usize = 12;

/// The real servers of a destination: lblc's one, lblcr's set. Two processors that change it at the same time may lose one
/// of the two changes, which costs a choice made anew.
#[repr(C)]
#[derive(Debug)]
pub struct Locality {
    /// When (ticks) it was last used.
    pub used: Shared<u32>,
    /// When (ticks) the set was last changed.
    pub changed: Shared<u32>,
    /// Indexes of the real servers, 0 for none.
    pub servers: [Shared<u32>; LOCALITY_SERVERS],
    /// Zero.
    pub pad: [Be16; 4],
}

const _: () = assert!(size_of::<Locality>() == 64);
