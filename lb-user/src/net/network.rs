//! What the datapath needs to know of a scope's network: plain values, made by [`super::hops`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A MAC address, in the order of transmission.
pub type MacAddress = [u8; 6];

/// A scope's network as the datapath uses it. Two values are equal when the datapath would do the same with both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Sorted by destination, each destination once. The longest prefix that contains an address decides; an address
    /// that none contains cannot be reached.
    pub routes: Vec<Route>,
    /// Sorted by id. Every hop that a route names is here, and no other.
    pub hops: Vec<Hop>,
    /// Sorted by index: every interface of the namespace, also those where nothing attaches.
    pub interfaces: Vec<Interface>,
    /// The ports that the kernel gives to sockets by itself, first and last (`ip_local_port_range`); None where it was not
    /// to be read.
    pub local_ports: Option<(u16, u16)>,
}

impl Network {
    /// The hop with this id.
    #[must_use]
    pub fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops
            .binary_search_by_key(&id, |hop| hop.id)
            .ok()
            .and_then(|index| self.hops.get(index))
    }

    /// The hop that a packet to `address` takes: longest prefix first, as the datapath looks it up.
    ///
    /// Walks all routes: for one question of a person or a test, not for a packet.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<&Hop> {
        self.routes
            .iter()
            .filter(|route| route.destination.contains(&address))
            .max_by_key(|route| route.destination.prefix_len())
            .and_then(|route| self.hop(route.hop))
    }

    /// The neighbour, as (interface index, address), whose link-layer address a packet to `address` needs: its gateway
    /// if it has one, else `address` itself. None where the address is local, refused or not routed.
    ///
    /// This is what to give to [`super::NeighbourKeeper::keep`] for a real server.
    #[must_use]
    pub fn neighbour_for(&self, address: IpAddr) -> Option<(u32, IpAddr)> {
        let hop = self.lookup(address)?;
        match hop.kind {
            HopKind::Forward => Some((hop.oif, hop.gateway.unwrap_or(address))),
            HopKind::Local | HopKind::Blackhole => None,
        }
    }

    /// The interface with this index.
    #[must_use]
    pub fn interface(&self, ifindex: u32) -> Option<&Interface> {
        self.interfaces
            .binary_search_by_key(&ifindex, |interface| interface.ifindex)
            .ok()
            .and_then(|index| self.interfaces.get(index))
    }
}

/// One entry of the flat longest-prefix table: all of the kernel's tables that the default policy rules look at, plus a
/// /32 for each on-link neighbour whose link-layer address is known, and a /32 for each local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix, without host bits.
    pub destination: IpNet,
    /// The hop to take; always one of [`Network::hops`].
    pub hop: HopId,
}

/// Names a next hop for as long as it lives. Ids are small and dense, start at 1, and belong to one scope; 0 means none.
/// The same next hop keeps its id over refreshes, and the id of a vanished one rests for [`super::ID_QUARANTINE`]
/// before another gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub u32);

impl HopId {
    /// No hop.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for HopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A next hop: where a packet leaves, and what its Ethernet header then says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its id.
    pub id: HopId,
    /// What becomes of the packet.
    pub kind: HopKind,
    /// Index of the output interface; 0 unless the kind is [`HopKind::Forward`].
    pub oif: u32,
    /// The router's address, which is what must be resolved; None when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The address that the host itself would send from: the route's preferred source, else what the kernel would pick
    /// (see [`super::hops`]). None where the namespace has no suitable address.
    pub source: Option<IpAddr>,
    /// Destination and source of the Ethernet header. None when the neighbour is not resolved, stands for a whole
    /// subnet or the interface has no such header: `bpf_redirect_neigh` then finds out by itself.
    pub macs: Option<(MacAddress, MacAddress)>,
    /// If the output interface is a bridge that forwards to that destination by one port: the port.
    pub port: Option<u32>,
    /// The port, or the output interface where there is none, is a veth whose other end is in another namespace.
    pub leads_out: bool,
    /// The destination is on the link: there is no gateway.
    pub on_link: bool,
    /// Largest IP packet, in bytes: the route's own MTU if it has one, else the interface's.
    pub mtu: u32,
    /// If the output interface is a VLAN whose parent is in this namespace: that, and the VLAN's number.
    pub vlan: Option<(u32, u16)>,
}

/// What becomes of a packet at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HopKind {
    /// It leaves by the hop's interface.
    Forward,
    /// The destination is an address of this host: up the stack.
    Local,
    /// A route says that it must not go there (blackhole, unreachable, prohibit, throw, broadcast, multicast), or that
    /// it must go in a way that this datapath does not know (a lightweight tunnel).
    Blackhole,
}

/// An interface of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index, unique in the namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zeros where it has none.
    pub mac: MacAddress,
    /// Whether the programs attach here (see [`super::attach`]).
    pub attach: bool,
    /// Why they do or do not, in a few words for a person.
    pub attach_reason: &'static str,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Its first primary IPv4 address, a global one if there is one.
    pub primary: Option<Ipv4Addr>,
    /// If it is a VLAN whose parent is in this namespace: that, and the VLAN's number.
    pub vlan: Option<(u32, u16)>,
    /// What its frames come over.
    pub medium: Medium,
}

/// What the frames of an interface come over, so far as it decides about XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A wire, or what a hypervisor gives for one: each packet is a frame, with its checksum.
    Wire,
    /// The other end of a veth: packets may be larger than a frame, without checksums, and have their VLAN beside them.
    Veth,
    /// Anything else, which has the packets of other interfaces.
    Other,
}
