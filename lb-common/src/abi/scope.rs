//! Settings of a scope, and its mark rules.

use super::{Address, Be16, ConnKey};

/// The most combinations of given fields and prefix lengths that the mark rules of a scope may have.
pub const SHAPES: usize = 16;

/// Settings of one scope: index is the scope id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Ticks for each state of `conn::state`, TCP's in IPVS's order, then UDP's; and at [`LBLC_EXPIRATION`] and
    /// [`LBLCR_EXPIRATION`]. A power of two, so that a mask bounds the index.
    pub timeouts: [u32; 16],
    /// The settable timeouts in the seconds that were asked for: TCP established, TCP closing, UDP. The datapath does not
    /// look at them.
    pub seconds: [u32; 3],
    /// `SCOPE_…` flags.
    pub flags: u32,
    /// One of so many new connections is dropped (`drop_packet`); 0: none.
    pub drop_rate: u32,
    /// The ports that the kernel gives to sockets of the scope (`ip_local_port_range`).
    pub local_ports: Ports,
    /// How many of `shapes` are in use.
    pub shape_count: u32,
    /// The shapes of the mark rules.
    pub shapes: [Shape; SHAPES],
}

/// Ports from the first to the last, both among them; zeros for none.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The first, in host order.
    pub first: u16,
    /// The last, in host order.
    pub last: u16,
}

impl Ports {
    /// Whether this is one of them.
    #[inline(always)]
    pub const fn contain(self, port: u16) -> bool {
        self.first != 0 && port >= self.first && port <= self.last
    }

    /// How many they are.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        if self.first == 0 || self.last < self.first {
            0
        } else {
            (self.last - self.first) as u32 + 1
        }
    }
}

/// In `timeouts`: after how long lblc forgets a destination that nobody asked for.
pub const LBLC_EXPIRATION: usize = 12;
/// In `timeouts`: after how long lblcr does, and an unchanged set of its loses a member.
pub const LBLCR_EXPIRATION: usize = 13;
/// Either of them unless it is set, in seconds: a day.
pub const EXPIRATION: u32 = 24 * 60 * 60;

/// Scope flag: there are fwmark services.
pub const SCOPE_FWMARKS: u32 = 1;
/// Scope flag: there are services with port 0.
pub const SCOPE_PORT_ZERO: u32 = 2;
/// Scope flag: a SYN that finds its connection in TIME_WAIT or CLOSE stays with its real server (`conn_reuse_mode` 0).
pub const SCOPE_NO_REUSE: u32 = 4;
/// Scope flag: some addresses are answered for.
pub const SCOPE_ANSWERS: u32 = 16;
/// Scope flag: a packet of a connection whose real server was removed begins anew (`expire_nodest_conn`), instead of
/// being dropped.
pub const SCOPE_EXPIRE_REMOVED: u32 = 32;
/// Scope flag: some mark rule sets only a part of the mark, so that all matching rules must be applied in their order.
pub const SCOPE_MARK_MASKS: u32 = 8;

/// Scope flag: any TCP segment but a reset may open a connection (`sloppy_tcp`).
pub const SCOPE_SLOPPY_TCP: u32 = 64;
/// Scope flag: a SYN begins anew on a direct-routing connection in FIN_WAIT too (bit 2 of `conn_reuse_mode`).
pub const SCOPE_REUSE_FIN_WAIT: u32 = 128;
/// Scope flag: a template whose real server has weight 0 is not followed (`expire_quiescent_template`).
pub const SCOPE_EXPIRE_QUIESCENT: u32 = 256;
/// Scope flag: local sockets are led to real servers by the socket hook.
pub const SCOPE_SOCKETS: u32 = 512;
/// Scope flag: where a fwmark service has no real server, packets go on to where they were sent (`cache_bypass`).
pub const SCOPE_CACHE_BYPASS: u32 = 1024;
/// Scope flag: a SYN on a connection whose real server was removed is dropped like its other packets (`reopen_removed` 0).
pub const SCOPE_HOLD_REMOVED: u32 = 4096;
/// Scope flag: a real server's packet of no known connection is answered by an ICMP error (`nat_icmp_send`).
pub const SCOPE_TELLS_REALS: u32 = 8192;
/// Scope flag: an ICMP error about no known connection may open one (`schedule_icmp`).
pub const SCOPE_SCHEDULE_ICMP: u32 = 16384;
/// Scope flag: some service relays every packet.
pub const SCOPE_RELAYS: u32 = 65536;
/// Scope flag: TCP's states are those of a director that is being flooded (`secure_tcp`).
pub const SCOPE_SECURE_TCP: u32 = 1 << SECURE_TCP_BIT;
/// The place of that flag.
pub const SECURE_TCP_BIT: u32 = 15;
/// Scope flag: some service answers segments of no known connection by a reset.
pub const SCOPE_RESETS: u32 = 2048;

/// Which fields of a packet the rules of one shape look at.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// Bits of the source address, 0..=128.
    pub source_prefix: u8,
    /// Bits of the destination address, 0..=128.
    pub destination_prefix: u8,
    /// Bits of the destination port, 0..=16: a range of ports is a few such prefixes.
    pub port_prefix: u8,
    /// 1: interface; 2: protocol.
    pub fields: u8,
}

impl Shape {
    /// In `fields`: the rules name an interface.
    pub const INTERFACE: u8 = 1;
    /// In `fields`: the rules name a protocol.
    pub const PROTOCOL: u8 = 2;
}

/// A mark rule's match: the fields that its shape looks at, all else zero.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct MarkKey<A> {
    /// Source address, masked.
    pub src: A,
    /// Destination address, masked.
    pub dst: A,
    /// Scope id.
    pub scope: u32,
    /// Interface index.
    pub ifindex: u32,
    /// Destination port, masked.
    pub port: Be16,
    /// Protocol number.
    pub protocol: u8,
    /// Index of the shape.
    pub shape: u8,
}

/// A mark rule's effect: `mark = mark & !mask | value`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct MarkValue {
    /// The bits to set.
    pub value: u32,
    /// The bits to clear first.
    pub mask: u32,
    /// Place of the rule in the list, from 1: the last match wins.
    pub order: u32,
}

impl<A: Address> MarkKey<A> {
    /// The key of this shape for a packet.
    #[inline(always)]
    pub fn of(shape: Shape, index: u8, scope: u32, ifindex: u32, packet: &ConnKey<A>) -> Self {
        let port_mask = ((0xffff_0000_u32 >> (shape.port_prefix as u32 & 31)) & 0xffff) as u16;
        Self {
            src: packet.src.masked(shape.source_prefix),
            dst: packet.dst.masked(shape.destination_prefix),
            scope,
            ifindex: if shape.fields & Shape::INTERFACE != 0 {
                ifindex
            } else {
                0
            },
            port: Be16::from_raw(packet.dport.raw() & port_mask.to_be()),
            protocol: if shape.fields & Shape::PROTOCOL != 0 {
                packet.protocol()
            } else {
                0
            },
            shape: index,
        }
    }
}
