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
    /// [`KIND_ADDRESS`], [`KIND_FWMARK`] or [`KIND_LOOPBACK`].
    pub kind: u8,
}

/// A service found by address, port and protocol.
pub const KIND_ADDRESS: u8 = 0;
/// A service found by firewall mark.
pub const KIND_FWMARK: u8 = 1;
/// A service with [`LOOPBACK`], found by port and protocol: a second key beside its own.
pub const KIND_LOOPBACK: u8 = 2;

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

    /// The key by which local sockets find a service at the loopback addresses.
    #[inline(always)]
    pub fn loopback(scope: u32, protocol: u8, port: Be16) -> Self {
        Self {
            address: A::default(),
            scope,
            port,
            protocol,
            kind: KIND_LOOPBACK,
        }
    }

    /// The mark of a fwmark service, else 0.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        if self.kind == KIND_FWMARK {
            self.address.words()[0].raw()
        } else {
            0
        }
    }
}

/// Round robin.
pub const SCHEDULER_RR: u8 = 0;
/// Weighted round robin.
pub const SCHEDULER_WRR: u8 = 1;
/// Least connection.
pub const SCHEDULER_LC: u8 = 2;
/// Weighted least connection.
pub const SCHEDULER_WLC: u8 = 3;
/// Shortest expected delay.
pub const SCHEDULER_SED: u8 = 4;
/// Never queue.
pub const SCHEDULER_NQ: u8 = 5;
/// Weighted failover.
pub const SCHEDULER_FO: u8 = 6;
/// Weighted overflow.
pub const SCHEDULER_OVF: u8 = 7;
/// Destination hashing.
pub const SCHEDULER_DH: u8 = 8;
/// Source hashing.
pub const SCHEDULER_SH: u8 = 9;
/// Maglev hashing.
pub const SCHEDULER_MH: u8 = 10;
/// Locality-based least connection.
pub const SCHEDULER_LBLC: u8 = 11;
/// Locality-based least connection with replication.
pub const SCHEDULER_LBLCR: u8 = 12;
/// Power of two choices.
pub const SCHEDULER_TWOS: u8 = 13;
/// No scheduler ("none" in IPVS): no real server is ever chosen.
pub const SCHEDULER_NONE: u8 = 14;

/// Service option: local sockets are not led to real servers by the socket hook.
pub const NO_SOCKET: u8 = 1;
/// Service option: local sockets reach it at the loopback addresses too, by a key of [`KIND_LOOPBACK`].
pub const LOOPBACK: u8 = 2;
/// Service option: every packet goes to the newest real server's hop as it is, whatever it is of a connection, and nothing
/// is remembered.
pub const RELAY: u8 = 4;
/// Service option: what a TCP end says in its SYN that it takes at a time is lowered to what fits through this host.
pub const CLAMP_MSS: u8 = 8;

/// Service flag: ARP, neighbour requests and ping for the service address are answered.
pub const ANSWER: u8 = 1;
/// Service flag: the source address is translated too, to [`Service::nat_address`] or that of the hop.
pub const SOURCE_NAT: u8 = 2;
/// Service flag: connections of a client go to the same real server (`IP_VS_SVC_F_PERSISTENT`).
pub const PERSISTENT: u8 = 4;
/// Service flag: each UDP packet is scheduled by itself (`IP_VS_SVC_F_ONEPACKET`).
pub const ONE_PACKET: u8 = 8;
/// Service flag: `IP_VS_SVC_F_SCHED1`; for sh and mh: another real server where the chosen one takes nothing.
pub const SCHEDULER_FLAG_1: u8 = 16;
/// Service flag: `IP_VS_SVC_F_SCHED2`; for sh and mh: the source port counts too.
pub const SCHEDULER_FLAG_2: u8 = 32;
/// Service flag: `IP_VS_SVC_F_SCHED3`; no scheduler looks at it.
pub const SCHEDULER_FLAG_3: u8 = 64;
/// Service flag: a TCP segment of no known connection is answered by a reset, instead of going to the host's stack.
pub const RESET: u8 = 128;

/// A virtual service. Two cache lines: what every choice reads, and what persistence does. Index 0 is never used.
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
    /// [`ANSWER`] and the other service flags.
    pub flags: Shared<u8>,
    /// [`KIND_ADDRESS`] or [`KIND_FWMARK`].
    pub kind: Shared<u8>,
    /// [`NO_SOCKET`] and the other service options.
    pub options: Shared<u8>,
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
    /// dh, sh, mh: its [`Buckets`].
    pub buckets: Shared<u64>,
    /// Persistence: the bits of the client's address that count.
    pub netmask: Shared<[Be32; 4]>,
    /// Persistence: ticks that a template lives after the last new connection.
    pub persistence: Shared<u32>,
    /// `persistence` in the seconds that were asked for; the datapath does not look at it.
    pub persistence_seconds: Shared<u32>,
    /// The mark of a fwmark service, else 0.
    pub mark: Shared<u32>,
    /// Its port; 0 serves every port.
    pub port: Shared<Be16>,
    /// Zero.
    pub pad2: u16,
    /// lblc, lblcr: when (ticks) the scheduler began. What it remembers from before is of another life of this place.
    pub bound: Shared<u32>,
    /// Zero.
    pub pad3: [u32; 7],
}

/// The hash table of a service: a block of the buckets map, each bucket the index of a real server, 0 for none.
///
/// The daemon fills a new block and then stores this word, so that a choice sees the old table or the new one. The length
/// is stored with the place: whatever scheduler reads it stays inside the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets {
    /// Index of the first bucket.
    pub first: u32,
    /// How many there are; 0: there is no table.
    pub count: u32,
}

impl Buckets {
    /// From the word in [`Service::buckets`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            first: word as u32,
            count: (word >> 32) as u32,
        }
    }

    /// The word in [`Service::buckets`].
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.first as u64 | (self.count as u64) << 32
    }
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

/// Forwarding method masquerade (NAT).
pub const METHOD_MASQUERADE: u8 = 0;
/// Forwarding method direct routing: the packet goes to the real server's hop as it is. IPVS's number.
pub const METHOD_DIRECT: u8 = 3;

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
    /// [`AVAILABLE`]. Only the daemon writes it.
    pub flags: Shared<u8>,
    /// Its service: index into the services map.
    pub service: Shared<u32>,
    /// The next (older) real server of the service; 0 ends the list. A removed one keeps its value for picks under way.
    pub next: Shared<u32>,
    /// Weight, 0..=65535; 0 takes no new connections.
    pub weight: Shared<u32>,
    /// Connections, active or not, from which on it takes no new ones; 0: as many as come.
    pub upper_threshold: Shared<u32>,
    /// Connections below which it takes new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: Shared<u32>,
    /// mh: the last weight that was not 0, so that a server out of rotation keeps its place in the table.
    pub last_weight: Shared<u32>,
    /// How often this place has been given to a new real server, modulo 256: with the index it makes a name that lblc and
    /// lblcr can remember ([`Server::name`]).
    pub life: Shared<u32>,
    /// The neighbour by which packets get there; all zero: by the route to [`Server::address`].
    pub via: Shared<[Be32; 4]>,
    /// Connections that IPVS counts as active.
    pub active: Shared<u32>,
    /// All connections, active or not.
    pub total: Shared<u32>,
    /// Persistence templates that name it.
    pub templates: Shared<u32>,
    /// 1: it has reached its upper threshold and not yet come below the lower one (`IP_VS_DEST_F_OVERLOAD`). A word of
    /// its own, for the programs write it.
    pub overload: Shared<u32>,
    /// The neighbour by which replies go; all zero: by the route to the client.
    pub return_via: Shared<[Be32; 4]>,
    /// Zero.
    pub pad2: [u32; 8],
}

/// The most places for real servers: an index has so many bits in a name.
pub const SERVERS_MAX: u32 = 1 << NAME_BITS;
const NAME_BITS: u32 = 24;

impl Server {
    /// The neighbour by which packets of one direction go whatever the routes say; none: the routes say it.
    #[inline(always)]
    pub fn next<A: Address>(&self, is_reply: bool) -> Option<A> {
        let next = if is_reply {
            self.return_via.load()
        } else {
            self.via.load()
        };
        let next = A::from_words(next);
        if next == A::default() {
            None
        } else {
            Some(next)
        }
    }

    /// The name of the real server that has this place: another one once the place is somebody else's.
    #[inline(always)]
    pub fn name(&self, index: u32) -> u32 {
        self.life.load() << NAME_BITS | index
    }

    /// The place of the real server with this name.
    #[inline(always)]
    pub const fn index(name: u32) -> u32 {
        name & (SERVERS_MAX - 1)
    }
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
    assert!(size_of::<Service>() == 128);
    assert!(size_of::<Server>() == 128);
};
