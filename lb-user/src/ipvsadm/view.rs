//! What ipvsadm sees of a table: plain values as the kernel's interface has them, judged by [`super::Ipvs`] only.
//!
//! They are not [`crate::model`]'s types, which hold nothing that bpvs cannot serve: ipvsadm's commands are read, and
//! told what is wrong with them, before anybody asks whether they can be carried out.

use std::net::{IpAddr, Ipv4Addr};

use crate::model::{AddressFamily, Protocol};

/// The name of the scheduler that a service gets when none is given.
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// By which a service is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceId {
    /// Packets to this address.
    Address {
        /// Their protocol.
        protocol: Protocol,
        /// Their destination, of any kind.
        address: IpAddr,
        /// Their destination port; 0 for all, which only a persistent service serves.
        port: u16,
    },
    /// Packets with this mark.
    Fwmark {
        /// The mark, not 0.
        mark: u32,
        /// Their address family.
        family: AddressFamily,
    },
}

impl ServiceId {
    /// The address family of its packets.
    #[must_use]
    pub const fn family(&self) -> AddressFamily {
        match self {
            Self::Address { address, .. } => AddressFamily::of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }

    /// Its protocol; none for a fwmark service.
    #[must_use]
    pub const fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Address { protocol, .. } => Some(*protocol),
            Self::Fwmark { .. } => None,
        }
    }
}

/// The flags for schedulers of a service: `flag-1`, `flag-2`, `flag-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SchedulerFlags(pub [bool; 3]);

/// Persistence: the same client gets the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// For how many seconds after the last connection.
    pub timeout: u32,
    /// Which clients count as the same.
    pub netmask: Netmask,
}

/// The part of a client's address by which persistence knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// The bits of an IPv4 address, not necessarily the leading ones.
    V4(Ipv4Addr),
    /// This many leading bits of an IPv6 address.
    V6(u32),
}

impl Netmask {
    /// The whole address.
    #[must_use]
    pub const fn full(family: AddressFamily) -> Self {
        match family {
            AddressFamily::V4 => Self::V4(Ipv4Addr::BROADCAST),
            AddressFamily::V6 => Self::V6(128),
        }
    }

    /// Whether it is the whole address.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128))
    }
}

/// A service as a command describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// By which it is known.
    pub id: ServiceId,
    /// The name of its scheduler, unchecked.
    pub scheduler: String,
    /// What it tells its scheduler.
    pub flags: SchedulerFlags,
    /// Whether each packet is a connection of its own (`--ops`).
    pub one_packet: bool,
    /// Whether clients stay where they are.
    pub persistence: Option<Persistence>,
    /// The name of its persistence engine, unchecked; empty for none.
    pub engine: String,
}

/// How packets get to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `-m`, listed as `Masq`.
    Masquerade,
    /// A destination on this host; the kernel's own, no command sets it.
    Local,
    /// `-i`, listed as `Tunnel`.
    Tunnel(Tunnel),
    /// `-g`, listed as `Route`.
    Direct,
}

/// How packets are wrapped on their way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// In what.
    pub kind: TunnelKind,
    /// What becomes of checksums; of no meaning for IPIP.
    pub checksum: TunnelChecksum,
}

/// What packets are wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// To this port.
        port: u16,
    },
    /// Generic routing encapsulation.
    Gre,
}

/// The checksum of a tunnel's own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Computed.
    Full,
    /// Computed by the receiver.
    Remote,
}

/// By which a destination is known inside its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId {
    /// Its address, of any kind.
    pub address: IpAddr,
    /// Its port; 0 keeps the packet's own.
    pub port: u16,
}

/// A destination as a command describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationSpec {
    /// By which it is known.
    pub id: DestinationId,
    /// How packets get there.
    pub method: Method,
    /// 0 to `i32::MAX`.
    pub weight: u32,
    /// No new connections from this many on; 0 for no limit.
    pub upper: u32,
    /// New connections again below this many.
    pub lower: u32,
}

/// What was counted, and how fast it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections.
    pub connections: u64,
    /// Packets of clients.
    pub in_packets: u64,
    /// Packets of real servers.
    pub out_packets: u64,
    /// Bytes of clients.
    pub in_bytes: u64,
    /// Bytes of real servers.
    pub out_bytes: u64,
    /// Connections a second.
    pub connections_rate: u64,
    /// Packets of clients a second.
    pub in_packets_rate: u64,
    /// Packets of real servers a second.
    pub out_packets_rate: u64,
    /// Bytes of clients a second.
    pub in_bytes_rate: u64,
    /// Bytes of real servers a second.
    pub out_bytes_rate: u64,
}

/// A service as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What commands made of it.
    pub spec: ServiceSpec,
    /// What was counted for it.
    pub stats: Stats,
    /// Its destinations, newest first.
    pub destinations: Vec<Destination>,
}

/// A destination as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// What commands made of it.
    pub spec: DestinationSpec,
    /// Its active connections (ActiveConn).
    pub active: u32,
    /// Its other connections (InActConn).
    pub inactive: u32,
    /// Its persistence templates (PersistConn).
    pub persistent: u32,
    /// What was counted for it.
    pub stats: Stats,
}

/// What IPVS says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Its version: major, minor, patch.
    pub version: [u8; 3],
    /// The size of its table of connections.
    pub size: u32,
}

/// The timeouts of connections, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Of an established TCP connection.
    pub tcp: u32,
    /// Of a TCP connection that is being closed.
    pub tcp_fin: u32,
    /// Of a UDP exchange.
    pub udp: u32,
}

/// A connection as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its protocol; none for the template of a fwmark service, which is listed as `IP`.
    pub protocol: Option<Protocol>,
    /// The client.
    pub client: DestinationId,
    /// What it connected to; for the template of a fwmark service the mark as an address.
    pub service: DestinationId,
    /// Where it goes.
    pub destination: DestinationId,
    /// The name of its state.
    pub state: String,
    /// In how many seconds it is forgotten.
    pub expires: u32,
    /// Name and data of its persistence engine.
    pub engine: Option<(String, String)>,
}

/// The part that a sync daemon plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncRole {
    /// It tells of its connections.
    Master,
    /// It is told.
    Backup,
}

/// A sync daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Its part.
    pub role: SyncRole,
    /// The interface that it uses.
    pub interface: String,
    /// The number of its group of directors.
    pub sync_id: u8,
    /// The longest message; 0 for the default, as the two below.
    pub max_length: u16,
    /// The multicast group; none for the default.
    pub group: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// The TTL of its packets.
    pub ttl: u8,
}
