//! Virtual services and real servers.
//!
//! The real servers of a service are a list, newest first as in IPVS, linked by their index: adding or removing one is
//! one store, whatever the length, and a pick that is under way goes on undisturbed. Both arrays are mapped into the
//! daemon's memory, so that it changes a word by the same atomic operations as the programs.

use super::{Address, Be16, Be32, Shared};

/// Finds a virtual service.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct ServiceKey<A> {
    /// Service address; for a fwmark service the mark (host order) in the first word.
    pub address: A,
    /// Scope id.
    pub scope: u32,
    /// Service port; 0 serves every port; 0 for a fwmark service.
    pub port: Be16,
    /// Protocol number; 0 for a fwmark service, which serves all of them.
    pub protocol: u8,
    /// [`KIND_ADDRESS`] or [`KIND_FWMARK`].
    pub kind: u8,
}

/// A service found by address, port and protocol.
pub const KIND_ADDRESS: u8 = 0;
/// A service found by firewall mark.
pub const KIND_FWMARK: u8 = 1;

impl<A: Address> ServiceKey<A> {
    /// The key of a fwmark service.
    #[inline(always)]
    pub fn fwmark(scope: u32, mark: u32) -> Self {
        let address = A::from_words([Be32::from_raw(mark), Be32::ZERO, Be32::ZERO, Be32::ZERO]);
        Self {
            address,
            scope,
            port: Be16::ZERO,
            protocol: 0,
            kind: KIND_FWMARK,
        }
    }
}

/// Round robin.
pub const SCHEDULER_RR: u8 = 0;
/// Weighted round robin.
pub const SCHEDULER_WRR: u8 = 1;

/// Service flag: ARP, neighbour requests and ping for the service address are answered.
pub const ANSWER: u8 = 1;
/// Service flag: the source address is translated too, to [`Service::nat_address`] or that of the hop.
pub const SOURCE_NAT: u8 = 2;

/// A virtual service. One cache line; index 0 is never used.
#[repr(C)]
#[derive(Debug)]
pub struct Service {
    /// The scheduler's cursor: a [`Cursor`].
    pub cursor: Shared<u64>,
    /// First (newest) real server: index into the servers map, 0 for none.
    pub head: Shared<u32>,
    /// wrr: where a round starts, the largest weight less (step - 1).
    pub wrr_start: Shared<u32>,
    /// wrr: the greatest common divisor of the weights.
    pub wrr_step: Shared<u32>,
    /// A scheduler: `SCHEDULER_…`.
    pub scheduler: Shared<u8>,
    /// [`ANSWER`], [`SOURCE_NAT`].
    pub flags: Shared<u8>,
    /// [`KIND_ADDRESS`] or [`KIND_FWMARK`].
    pub kind: Shared<u8>,
    /// Zero.
    pub pad: u8,
    /// Source NAT to this address; all zero: the address of the hop.
    pub nat_address: Shared<[Be32; 4]>,
    /// Ticks after which an idle established TCP connection expires; 0: the scope's setting.
    pub tcp_timeout: Shared<u32>,
    /// Ticks after which an idle UDP connection expires; 0: the scope's setting.
    pub udp_timeout: Shared<u32>,
    /// `tcp_timeout` in the seconds that were asked for; the datapath does not look at it.
    pub tcp_seconds: Shared<u32>,
    /// `udp_timeout` in seconds, likewise.
    pub udp_seconds: Shared<u32>,
    /// Zero.
    pub pad2: [u32; 2],
}

/// Where a list scheduler stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The real server chosen last; 0: none yet, the list starts at its head.
    pub server: u32,
    /// wrr: the weight that a real server must have in this round; 0: the round has not begun.
    pub weight: u32,
}

impl Cursor {
    /// From the word in [`Service::cursor`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            server: word as u32,
            weight: (word >> 32) as u32,
        }
    }

    /// The word in [`Service::cursor`].
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.server as u64 | (self.weight as u64) << 32
    }
}

/// Server flag: it is in its service's list. Cleared when it is removed; its connections may live on.
pub const AVAILABLE: u8 = 1;
/// Server flag: it has reached its upper threshold.
pub const OVERLOAD: u8 = 2;

/// Forwarding method masquerade (NAT).
pub const METHOD_MASQUERADE: u8 = 0;

/// A real server of one service. Two cache lines: what a pick reads, and what every new connection writes.
/// Index 0 is never used.
#[repr(C)]
#[derive(Debug)]
pub struct Server {
    /// Address.
    pub address: Shared<[Be32; 4]>,
    /// Port; 0 keeps the packet's.
    pub port: Shared<Be16>,
    /// A forwarding method: `METHOD_…`.
    pub method: Shared<u8>,
    /// [`AVAILABLE`], [`OVERLOAD`].
    pub flags: Shared<u8>,
    /// Its service: index into the services map.
    pub service: Shared<u32>,
    /// The next (older) real server of the service; 0 ends the list. A removed one keeps its value for picks under way.
    pub next: Shared<u32>,
    /// Weight, 0..=65535; 0 takes no new connections.
    pub weight: Shared<u32>,
    /// Zero: room for thresholds.
    pub pad: [u32; 8],
    /// Connections that IPVS counts as active.
    pub active: Shared<u32>,
    /// All connections, active or not.
    pub total: Shared<u32>,
    /// Zero.
    pub pad2: [u32; 14],
}

/// Counters of a real server on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ServerStats {
    /// Connections made.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Bytes to clients, from the IP header on.
    pub out_bytes: u64,
}

const _: () = {
    assert!(size_of::<Service>() == 64);
    assert!(size_of::<Server>() == 128);
};
