//! Where packets go after the rewrite, and what the interfaces are.

use super::{Be16, Be32, Shared};

/// An Ethernet address as three words in the order in which they are sent.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// From its six octets.
    pub const fn new(octets: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = octets;
        Self([
            u16::from_ne_bytes([a, b]),
            u16::from_ne_bytes([c, d]),
            u16::from_ne_bytes([e, f]),
        ])
    }

    /// Its six octets.
    pub const fn octets(self) -> [u8; 6] {
        let [[a, b], [c, d], [e, f]] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
        ];
        [a, b, c, d, e, f]
    }
}

/// The Ethernet addresses of a frame to `destination` from `source`, as they lie in it.
pub const fn ethernet(destination: Mac, source: Mac) -> [u32; 3] {
    let ([a, b, c], [d, e, f]) = (destination.0, source.0);
    [join(a, b), join(c, d), join(e, f)]
}

const fn join(first: u16, second: u16) -> u32 {
    Be32::join(Be16::from_raw(first), Be16::from_raw(second)).raw()
}

/// A route: longest-prefix-match key. `prefix` counts the 32 bits of the scope too.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct RouteKey<A> {
    /// Scope id, in network order, for the trie compares bits from the first byte on.
    pub scope: Be32,
    /// Destination.
    pub address: A,
}

/// Nothing is known.
pub const HOP_NONE: u32 = 0;
/// Send it out of [`Hop::oif`].
pub const HOP_FORWARD: u32 = 1;
/// An address of this host: pass it up.
pub const HOP_LOCAL: u32 = 2;
/// Drop it.
pub const HOP_BLACKHOLE: u32 = 3;

/// Hop flag: the MACs are known.
pub const HOP_RESOLVED: u32 = 1;
/// Hop flag: the destination itself is the neighbour; there is no gateway.
pub const HOP_ON_LINK: u32 = 2;
/// Hop flag: [`Hop::wire`] takes frames that XDP redirects from other interfaces.
pub const HOP_REDIRECT: u32 = 4;

/// With an interface by which a packet leaves ([`Hop::exit`]): it is a veth, and the packet goes on at once in the network
/// namespace behind it. Indexes of interfaces have 31 bits.
pub const ENTER: u32 = 1 << 31;

/// With the index of a [`Hop`], where a connection has one: it is not on the way to the packet's destination, by which the kernel
/// therefore cannot find the neighbour. Ethernet addresses whose lease is over are then the best there is.
pub const BENT: u32 = 1 << 31;

/// A next hop. One cache line; index 0 is never used.
///
/// The daemon changes it in place: it makes `sequence` odd, writes, and makes it even again. A reader that sees an odd or
/// a changed sequence sends by `bpf_redirect_neigh`, which resolves by itself.
#[repr(C)]
#[derive(Debug)]
pub struct Hop {
    /// Odd while the hop is being written.
    pub sequence: Shared<u32>,
    /// A `HOP_…` kind.
    pub kind: Shared<u32>,
    /// [`HOP_RESOLVED`], [`HOP_ON_LINK`].
    pub flags: Shared<u32>,
    /// Output interface index.
    pub oif: Shared<u32>,
    /// Until when (ticks) the MACs may be trusted: a dead daemon costs speed, not packets.
    pub lease: Shared<u32>,
    /// Largest IP packet, in bytes.
    pub mtu: Shared<u32>,
    /// Ethernet destination and source, as they lie in a frame.
    pub ethernet: [Shared<u32>; 3],
    /// Address of this host to use as source on this hop.
    pub address: Shared<[Be32; 4]>,
    /// The interface by which XDP sends there: [`Hop::oif`], or what carries that VLAN. 0: XDP cannot.
    pub wire: Shared<u32>,
    /// The VLAN whose tag is then to be set; 0 for none.
    pub vlan: Shared<u32>,
    /// The interface by which TC sends there: [`Hop::oif`], or the port of the bridge that that is. With [`ENTER`].
    pub exit: Shared<u32>,
}

/// Finds an interface.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct InterfaceKey {
    /// Scope id: indexes are only unique within a namespace.
    pub scope: u32,
    /// Interface index.
    pub ifindex: u32,
}

/// An interface that programs are attached to.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Interface {
    /// Its primary IPv4 address: the source of ICMP errors towards real servers. Zero if it has none.
    pub address: Be32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
}

/// An address that bpvs answers ARP and ping for.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct AnswerKey<A> {
    /// The address.
    pub address: A,
    /// Scope id.
    pub scope: u32,
}

/// What a real server of some service sends from (ip_vs_has_real_service).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct RealKey<A> {
    /// Its address.
    pub address: A,
    /// Scope id in the upper 24 bits, protocol number in the lower 8.
    pub scope_protocol: u32,
    /// Its port.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
}

impl<A> RealKey<A> {
    /// This address and port of a protocol in a scope.
    #[inline(always)]
    pub const fn new(scope_protocol: u32, address: A, port: Be16) -> Self {
        Self {
            address,
            scope_protocol,
            port,
            pad: 0,
        }
    }
}

/// A fragmented packet under way.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification: 16 bits of IPv4 in the lower half, 32 of IPv6, as they lie in the packet.
    pub id: u32,
    /// Scope id in the upper 24 bits, protocol number in the lower 8.
    pub scope_protocol: u32,
}

/// What the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct FragmentPorts {
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
    /// Until when (ticks) it holds: 30 s, as the kernel's reassembly waits.
    pub deadline: u32,
}

const _: () = assert!(size_of::<Hop>() == 64);
