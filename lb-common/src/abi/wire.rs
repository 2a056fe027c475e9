//! What XDP handles: the frames of these interfaces and VLANs, found without the kernel's help.
//!
//! XDP asks this of each frame, before it knows whose it is. A hash map's look-up would be a third of what a frame costs that is
//! nobody's; that in an array is a few instructions.

use super::{Mac, Shared};

/// Finds what XDP handles: frames that come in by an interface with the tag of a VLAN, or with none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct WireKey {
    /// Scope id.
    pub scope: u32,
    /// Index of the interface; never 0.
    pub ifindex: u32,
    /// The VLAN; 0 for none.
    pub vlan: u32,
}

impl WireKey {
    /// The [`WireSet`] that it is in.
    ///
    /// The VLANs of an interface lie side by side, the same interface of other scopes, and other interfaces, apart: the
    /// factors are odd, so that neither goes round before all sets had their turn.
    #[inline(always)]
    pub const fn set(&self) -> u32 {
        let interface = self.ifindex.wrapping_mul(0x9e5);
        let scope = self.scope.wrapping_mul(0x5b3);
        interface.wrapping_add(scope).wrapping_add(self.vlan) & (WIRE_SETS - 1)
    }
}

/// Wire flag: what goes back by the same interface is redirected there, as to any other. A veth lets what is sent back by
/// `XDP_TX` lie until something else comes.
pub const WIRE_REDIRECT: u16 = 1;

/// Whose such frames are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Wire {
    /// The interface on which the host's stack has them: the same, or the VLAN's.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// [`WIRE_REDIRECT`].
    pub flags: u16,
}

/// Sets of places in the table of wires. A power of two.
pub const WIRE_SETS: u32 = 2048;

/// The places of one set: with all VLANs of an interface two in each set are taken.
const PLACES: usize = 4;

/// The wires with one value of [`WireKey::set`]: an element of the array.
#[repr(C)]
#[derive(Default, Debug)]
pub struct WireSet([Place; PLACES]);

impl WireSet {
    /// The wire with this key.
    #[inline(always)]
    pub fn find(&self, key: &WireKey) -> Option<Wire> {
        let place = self.0.iter().find(|place| place.is_of(key))?;
        let wire = place.wire();
        // It may have been given up, and to another, meanwhile.
        (place.ifindex.load() == key.ifindex).then_some(wire)
    }
}

/// A key and its wire. Free while the key's interface is 0.
#[repr(C)]
#[derive(Default, Debug)]
struct Place {
    scope: Shared<u32>,
    ifindex: Shared<u32>,
    vlan: Shared<u32>,
    owner: Shared<u32>,
    /// The Ethernet address, its first word lowest, and above it the flags: read at once, they belong together.
    rest: Shared<u64>,
}

impl Place {
    #[inline(always)]
    fn is_of(&self, key: &WireKey) -> bool {
        self.ifindex.load() == key.ifindex
            && self.vlan.load() == key.vlan
            && self.scope.load() == key.scope
    }

    #[inline(always)]
    fn wire(&self) -> Wire {
        let rest = self.rest.load();
        Wire {
            ifindex: self.owner.load(),
            mac: Mac([rest as u16, (rest >> 16) as u16, (rest >> 32) as u16]),
            flags: (rest >> 48) as u16,
        }
    }
}

/// The daemon's half: one writer, beside readers.
#[cfg(not(target_arch = "bpf"))]
mod daemon {
    use core::sync::atomic::{Ordering, fence};

    use super::{Place, Wire, WireKey, WireSet};

    impl WireSet {
        /// Puts a wire in, in place of the one with the same key. `false`: all places are taken.
        pub fn put(&self, key: &WireKey, wire: Wire) -> bool {
            let of_key = self.0.iter().find(|place| place.is_of(key));
            let free = || self.0.iter().find(|place| place.key().is_none());
            let Some(place) = of_key.or_else(free) else {
                return false;
            };
            place.free();
            place.scope.store(key.scope);
            place.vlan.store(key.vlan);
            place.owner.store(wire.ifindex);
            place.rest.store(
                [wire.flags, wire.mac.0[2], wire.mac.0[1], wire.mac.0[0]]
                    .into_iter()
                    .fold(0, |rest, word| rest << 16 | u64::from(word)),
            );
            fence(Ordering::Release);
            place.ifindex.store(key.ifindex);
            true
        }

        /// Takes the wire with this key out, if it is there.
        pub fn remove(&self, key: &WireKey) {
            for place in self.0.iter().filter(|place| place.is_of(key)) {
                place.free();
            }
        }

        /// What is in it.
        pub fn iter(&self) -> impl Iterator<Item = (WireKey, Wire)> {
            self.0
                .iter()
                .filter_map(|place| Some((place.key()?, place.wire())))
        }
    }

    impl Place {
        fn key(&self) -> Option<WireKey> {
            let key = WireKey {
                scope: self.scope.load(),
                ifindex: self.ifindex.load(),
                vlan: self.vlan.load(),
            };
            (key.ifindex != 0).then_some(key)
        }

        /// Readers find it no more, those that have found it see that.
        fn free(&self) {
            self.ifindex.store(0);
            fence(Ordering::SeqCst);
        }
    }
}
