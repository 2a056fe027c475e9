//! What the kernel says there is in a namespace: links, addresses, routes, policy rules and neighbours, as it says it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::network::MacAddress;

/// The routing table that policy rules look at first: the addresses of the host itself.
pub(super) const TABLE_LOCAL: u32 = 255;
/// The routing table that `ip route` shows and changes when no table is named.
pub(super) const TABLE_MAIN: u32 = 254;
/// The routing table that is looked at last; nearly always empty.
pub(super) const TABLE_DEFAULT: u32 = 253;

/// Route and address scopes (`RT_SCOPE_*`): the larger, the nearer.
pub(super) const SCOPE_UNIVERSE: u8 = 0;
/// Valid on the link only.
pub(super) const SCOPE_LINK: u8 = 253;

/// All that was read from one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// In the kernel's order, which decides what is the first address of an interface. Those of one interface keep
    /// their order, those of different ones may be mixed.
    pub addresses: Vec<Address>,
    /// The IPv4 routes of every table. Routes with one key differ in how they go on, the first counts.
    pub routes: BTreeMap<RouteKey, Vec<RouteEntry>>,
    /// By interface index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// IPv4 policy rules.
    pub policy: Policy,
    /// By which port a bridge forwards to a MAC address, where it does not look at VLANs: by index of the bridge and address.
    pub forwarding: BTreeMap<(u32, MacAddress), u32>,
    /// The ports that sockets get by themselves, first and last (`ip_local_port_range`); None where it was not to be read.
    pub local_ports: Option<(u16, u16)>,
}

impl Snapshot {
    /// Whether the link exists and is administratively up.
    #[must_use]
    pub fn is_up(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.up)
    }

    /// For a VLAN whose parent is in this namespace: that, and the VLAN's number.
    #[must_use]
    pub fn vlan(&self, ifindex: u32) -> Option<(u32, u16)> {
        let link = self.links.get(&ifindex)?;
        match (&link.kind, link.peer, link.peer_namespace) {
            (LinkKind::Vlan { id }, Some(parent), None) if *id != 0 => Some((parent, *id)),
            _ => None,
        }
    }

    /// The port by which a bridge forwards frames to this MAC address, if it does so without a look at their VLAN.
    #[must_use]
    pub fn port_towards(&self, bridge: u32, mac: MacAddress) -> Option<&Link> {
        let link = self.links.get(&bridge)?;
        let plain = link.up && link.kind == (LinkKind::Bridge { filters: false });
        let port = self.links.get(self.forwarding.get(&(bridge, mac))?)?;
        (plain && port.master == Some(bridge) && port.up && port.forwards).then_some(port)
    }

    /// The link with this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, unique in the namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The kind of its link-layer header, an `ARPHRD_*` number.
    pub header_type: u16,
    /// Its MAC address, where it has one of six bytes.
    pub mac: Option<MacAddress>,
    /// Largest packet, in bytes, without the link-layer header.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// It is a loopback interface.
    pub loopback: bool,
    /// The bridge, bond, VRF … that it belongs to.
    pub master: Option<u32>,
    /// If it is a port of a bridge: that lets it forward (`BR_STATE_FORWARDING`).
    pub forwards: bool,
    /// The other interface that it depends on: a VLAN's parent, the far end of a veth. In the namespace
    /// [`Link::peer_namespace`] if that is given.
    pub peer: Option<u32>,
    /// The namespace of [`Link::peer`], as this namespace's own number for it, if it is another one.
    pub peer_namespace: Option<i32>,
    /// What made it.
    pub kind: LinkKind,
}

/// What made a link, so far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// Hardware, or something that does not say what it is.
    Physical,
    /// An Ethernet bridge.
    Bridge {
        /// It looks at VLANs of frames (`vlan_filtering`).
        filters: bool,
    },
    /// A VLAN of its parent, by IEEE 802.1Q.
    Vlan {
        /// The VLAN id, 1 to 4094.
        id: u16,
    },
    /// A bond of several links.
    Bond,
    /// A team of several links.
    Team,
    /// A MAC-addressed child of another link.
    Macvlan,
    /// The same, but read by a program, usually a virtual machine.
    Macvtap,
    /// An IP-addressed child of another link.
    Ipvlan,
    /// The same, but read by a program.
    Ipvtap,
    /// A VXLAN tunnel.
    Vxlan {
        /// The network identifier; None for one that carries any.
        vni: Option<u32>,
    },
    /// One end of a pair.
    Veth,
    /// One end of a pair that BPF programs join.
    Netkit,
    /// A link to nowhere.
    Dummy,
    /// An intermediate functional block, for traffic control.
    Ifb,
    /// A virtual routing domain, master of its members.
    Vrf,
    /// TUN or TAP: a program is at the far end.
    Tun,
    /// Anything else, by the kernel's name for it.
    Other(String),
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub ifindex: u32,
    /// The address itself.
    pub local: IpAddr,
    /// The address that, with the prefix length, gives the subnet: the peer's on a point-to-point link, else `local`.
    pub peer: IpAddr,
    /// Length of the subnet's prefix, in bits.
    pub prefix_len: u8,
    /// Where it is valid, an `RT_SCOPE_*` number: 0 everywhere, 253 on the link, 254 on the host.
    pub scope: u8,
    /// Another address of the same subnet came before it.
    pub secondary: bool,
}

/// What tells IPv4 routes apart. In the order in which the kernel prefers them, but for the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// The routing table.
    pub table: u32,
    /// The destinations.
    pub destination: Ipv4Net,
    /// The type of service that it is for; 0 for all.
    pub tos: u8,
    /// The metric: the lower is preferred.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// What it does.
    pub kind: RouteKind,
    /// How far its destinations are, an `RT_SCOPE_*` number.
    pub scope: u8,
    /// The source address that it asks for.
    pub source: Option<Ipv4Addr>,
    /// Its own MTU, in bytes, if it has one.
    pub mtu: Option<u32>,
    /// Where it goes on; more than one for a multipath route.
    pub next_hops: Vec<NextHop>,
}

/// What a route does (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// Forwards.
    Unicast,
    /// Delivers to this host.
    Local,
    /// Broadcasts.
    Broadcast,
    /// Multicasts.
    Multicast,
    /// Drops silently.
    Blackhole,
    /// Drops, saying that the destination is unreachable.
    Unreachable,
    /// Drops, saying that it is forbidden.
    Prohibit,
    /// Ends the search in this table.
    Throw,
    /// Anything else.
    Other(u8),
}

/// One way for a route to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the output interface; 0 if the route names none.
    pub oif: u32,
    /// The router; None when destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// The kernel does not use it at present.
    pub dead: bool,
    /// Packets are encapsulated on this way (a lightweight tunnel).
    pub encapsulated: bool,
}

/// An entry of the neighbour table (ARP, neighbour discovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// How sure the kernel is of it.
    pub state: NeighbourState,
    /// Its MAC address, where it is known and of six bytes.
    pub mac: Option<MacAddress>,
    /// The kernel keeps it resolved by itself (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// A control plane put it there, the kernel neither probes nor forgets it (`NTF_EXT_LEARNED`).
    pub externally_learned: bool,
    /// Who put it there (`RTPROT_*`); 0 for nobody in particular.
    pub protocol: u8,
}

/// States of a neighbour entry (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Nothing known.
    None,
    /// Being asked for the first time.
    Incomplete,
    /// Confirmed of late.
    Reachable,
    /// Known, not confirmed of late.
    Stale,
    /// Used while stale; a probe follows.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by hand.
    Permanent,
}

impl Neighbour {
    /// The MAC address, if the kernel would send to it as things are: it is known, and neither given up nor all zeros.
    #[must_use]
    pub fn usable_mac(&self) -> Option<MacAddress> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::NoArp
            | NeighbourState::Permanent => self.mac.filter(|mac| *mac != [0; 6]),
            NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed => None,
        }
    }

    /// Whether somebody set it on purpose, so that it is not ours to touch.
    pub(super) fn is_fixed(&self) -> bool {
        self.externally_learned
            || matches!(
                self.state,
                NeighbourState::Permanent | NeighbourState::NoArp
            )
    }
}

/// The policy rules of a namespace: which of the three default ones are there, and how many others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// local, main and default are looked up, in this order.
    pub default_rules: [bool; 3],
    /// Rules beyond the default ones.
    pub others: usize,
}

impl Policy {
    /// Whether the tables local, main and default, in this order, are all there is to routing. If not, the flat table
    /// of [`super::Network`] may differ from what the kernel would do for some packets.
    #[must_use]
    pub fn is_default(&self) -> bool {
        let [local, main, _] = self.default_rules;
        local && main && self.others == 0
    }
}
