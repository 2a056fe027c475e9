//! From netlink messages to the records of a [`super::Snapshot`].
//!
//! Links are read attribute by attribute and leniently: a link that some newer kernel describes in a way that a strict
//! parser refuses must not vanish for it. The other messages are small and settled; their parser is netlink-packet-route's.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::packet_core::ParseableParametrized;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::neighbour::{
    self as packet, NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags,
    NeighbourMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteType, RouteVia,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::Envelope;
use super::network::MacAddress;
use super::snapshot::{
    Address, Link, LinkKind, Neighbour, NeighbourState, NextHop, RouteEntry, RouteKey, RouteKind,
    TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BRPORT_STATE: u16 = 1;
const BR_STATE_FORWARDING: u8 = 3;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IEEE_8021Q: [u8; 2] = [0x81, 0];
const IFLA_VXLAN_ID: u16 = 1;
const LINK_HEADER_LEN: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_APPEND: u16 = 0x800;

/// A message, so far as it concerns a snapshot.
#[derive(Debug)]
pub(super) enum Message {
    NewLink(Link),
    DelLink(u32),
    NewAddress(Address),
    DelAddress(Address),
    NewRoute {
        key: RouteKey,
        entry: RouteEntry,
        placing: Placing,
    },
    DelRoute {
        key: RouteKey,
        entry: RouteEntry,
    },
    NewNeighbour((u32, IpAddr), Neighbour),
    DelNeighbour((u32, IpAddr)),
    /// A bridge forwards to this MAC address, (bridge, address), by this port.
    NewForwarding((u32, MacAddress), u32),
    DelForwarding((u32, MacAddress), u32),
    /// A bridge lets its port forward, or does not.
    Port {
        ifindex: u32,
        forwards: bool,
    },
    NewRule(Rule),
    DelRule,
    /// A next hop object, which routes refer to, was made, changed or deleted.
    NextHopObject,
}

/// Where a new route stands among those with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    First,
    Last,
    InPlaceOfFirst,
}

/// A policy rule: one of the default ones, by its place, or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Default(usize),
    Other,
}

/// Reads a message. `Ok(None)`: it does not concern a snapshot. `Err` says what is wrong with it.
pub(super) fn parse(envelope: &Envelope<'_>) -> Result<Option<Message>, String> {
    match envelope.kind {
        RTM_NEWLINK => Ok(link(envelope.payload)
            .map(Message::NewLink)
            .or_else(|| port(envelope.payload))),
        RTM_DELLINK => Ok(link(envelope.payload).map(|link| Message::DelLink(link.ifindex))),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Ok(Some(Message::NextHopObject)),
        kind => {
            let message = RouteNetlinkMessage::parse_with_param(envelope.payload, kind)
                .map_err(|error| error.to_string())?;
            Ok(other(message, envelope.flags))
        }
    }
}

fn other(message: RouteNetlinkMessage, flags: u16) -> Option<Message> {
    match message {
        RouteNetlinkMessage::NewAddress(message) => address(&message).map(Message::NewAddress),
        RouteNetlinkMessage::DelAddress(message) => address(&message).map(Message::DelAddress),
        RouteNetlinkMessage::NewRoute(message) => {
            let (key, entry) = route(&message)?;
            let placing = if flags & NLM_F_REPLACE != 0 {
                Placing::InPlaceOfFirst
            } else if flags & NLM_F_APPEND != 0 {
                Placing::Last
            } else {
                Placing::First
            };
            Some(Message::NewRoute {
                key,
                entry,
                placing,
            })
        }
        RouteNetlinkMessage::DelRoute(message) => {
            route(&message).map(|(key, entry)| Message::DelRoute { key, entry })
        }
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message)
            .map(|(key, entry)| Message::NewNeighbour(key, entry))
            .or_else(|| forwarding(&message).map(|(key, port)| Message::NewForwarding(key, port))),
        RouteNetlinkMessage::DelNeighbour(message) => neighbour(&message)
            .map(|(key, _)| Message::DelNeighbour(key))
            .or_else(|| forwarding(&message).map(|(key, port)| Message::DelForwarding(key, port))),
        RouteNetlinkMessage::NewRule(message) => rule(&message).map(Message::NewRule),
        RouteNetlinkMessage::DelRule(message) => rule(&message).map(|_| Message::DelRule),
        _ => None,
    }
}

/// A link message. Those of the bridge family are others ([`port`]): a `RTM_DELLINK` among them means that the port left
/// the bridge, not that the link is gone.
fn link(payload: &[u8]) -> Option<Link> {
    let header: &[u8; LINK_HEADER_LEN] = payload.first_chunk()?;
    let [family, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
    if family != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let mut link = Link {
        ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: String::new(),
        header_type: u16::from_ne_bytes([t0, t1]),
        mac: None,
        mtu: 0,
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        master: None,
        forwards: false,
        peer: None,
        peer_namespace: None,
        kind: LinkKind::Physical,
    };
    for (kind, value) in attributes(payload.get(LINK_HEADER_LEN..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().ok(),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number(value).unwrap_or(0),
            IFLA_LINK => link.peer = number(value).filter(|index| *index != 0),
            IFLA_MASTER => link.master = number(value).filter(|index| *index != 0),
            IFLA_LINK_NETNSID => {
                link.peer_namespace = value.try_into().ok().map(i32::from_ne_bytes)
            }
            IFLA_LINKINFO => {
                link.kind = link_kind(value);
                link.forwards = attributes(value)
                    .find(|(kind, _)| *kind == IFLA_INFO_SLAVE_DATA)
                    .is_some_and(|(_, data)| forwards(data));
            }
            _ => {}
        }
    }
    Some(link)
}

/// What a bridge says of one of its ports.
fn port(payload: &[u8]) -> Option<Message> {
    let header: &[u8; LINK_HEADER_LEN] = payload.first_chunk()?;
    let [family, _, _, _, i0, i1, i2, i3, ..] = *header;
    if family != libc::AF_BRIDGE as u8 {
        return None;
    }
    let (_, about) = attributes(payload.get(LINK_HEADER_LEN..)?)
        .find(|(kind, value)| *kind == IFLA_PROTINFO && value.len() > 1)?;
    Some(Message::Port {
        ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
        forwards: forwards(about),
    })
}

/// Whether attributes of a bridge's port say that it forwards.
fn forwards(port: &[u8]) -> bool {
    attributes(port)
        .any(|(kind, value)| kind == IFLA_BRPORT_STATE && value == [BR_STATE_FORWARDING])
}

fn link_kind(info: &[u8]) -> LinkKind {
    let mut name = String::new();
    let mut data: &[u8] = &[];
    for (kind, value) in attributes(info) {
        match kind {
            IFLA_INFO_KIND => name = text(value),
            IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    let detail = |wanted: u16| {
        attributes(data)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    match name.as_str() {
        "" => LinkKind::Physical,
        "bridge" => LinkKind::Bridge {
            filters: detail(IFLA_BR_VLAN_FILTERING).is_some_and(|value| value != [0]),
        },
        // One by 802.1ad has other tags.
        "vlan" if detail(IFLA_VLAN_PROTOCOL).is_some_and(|value| value != IEEE_8021Q) => {
            LinkKind::Other(name)
        }
        "vlan" => LinkKind::Vlan {
            id: detail(IFLA_VLAN_ID)
                .and_then(|value| value.try_into().ok())
                .map_or(0, u16::from_ne_bytes),
        },
        "bond" => LinkKind::Bond,
        "team" => LinkKind::Team,
        "macvlan" => LinkKind::Macvlan,
        "macvtap" => LinkKind::Macvtap,
        "ipvlan" => LinkKind::Ipvlan,
        "ipvtap" => LinkKind::Ipvtap,
        "vxlan" => LinkKind::Vxlan {
            vni: detail(IFLA_VXLAN_ID).and_then(number),
        },
        "veth" => LinkKind::Veth,
        "netkit" => LinkKind::Netkit,
        "dummy" => LinkKind::Dummy,
        "ifb" => LinkKind::Ifb,
        "vrf" => LinkKind::Vrf,
        "tun" => LinkKind::Tun,
        _ => LinkKind::Other(name),
    }
}

/// The kinds and values of attributes, up to the first that is cut short.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say how the value is to be read, not what it is.
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut peer = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            _ => {}
        }
    }
    let local = local.or(peer)?;
    Some(Address {
        ifindex: message.header.index,
        local,
        peer: peer.unwrap_or(local),
        prefix_len: message.header.prefix_len,
        scope: message.header.scope.into(),
        secondary: local.is_ipv4() && message.header.flags.contains(AddressHeaderFlags::Secondary),
    })
}

/// An IPv4 route. Cache entries are passed over.
fn route(message: &RouteMessage) -> Option<(RouteKey, RouteEntry)> {
    let header = &message.header;
    if header.address_family != AddressFamily::Inet || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut key = RouteKey {
        table: header.table.into(),
        destination: Ipv4Net::new(Ipv4Addr::UNSPECIFIED, header.destination_prefix_length).ok()?,
        tos: header.tos,
        metric: 0,
    };
    let mut entry = RouteEntry {
        kind: route_kind(header.kind),
        scope: header.scope.into(),
        source: None,
        mtu: None,
        next_hops: Vec::new(),
    };
    let mut only = next_hop(
        &message.attributes,
        0,
        header.flags.contains(RouteFlags::Dead),
    );
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => key.table = *table,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                key.destination = Ipv4Net::new(*address, header.destination_prefix_length)
                    .ok()?
                    .trunc();
            }
            RouteAttribute::Priority(metric) => key.metric = *metric,
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => {
                entry.source = Some(*address);
            }
            RouteAttribute::Metrics(metrics) => {
                entry.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::Oif(oif) => only.oif = *oif,
            RouteAttribute::MultiPath(hops) => {
                entry.next_hops = hops
                    .iter()
                    .map(|hop| {
                        next_hop(
                            &hop.attributes,
                            hop.interface_index,
                            hop.flags.contains(RouteNextHopFlags::Dead),
                        )
                    })
                    .collect();
            }
            _ => {}
        }
    }
    if entry.next_hops.is_empty() {
        entry.next_hops.push(only);
    }
    Some((key, entry))
}

fn next_hop(attributes: &[RouteAttribute], oif: u32, dead: bool) -> NextHop {
    let mut next_hop = NextHop {
        oif,
        gateway: None,
        dead,
        encapsulated: false,
    };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => {
                next_hop.gateway = Some((*address).into());
            }
            RouteAttribute::Via(RouteVia::Inet(address)) => {
                next_hop.gateway = Some((*address).into());
            }
            RouteAttribute::Via(RouteVia::Inet6(address)) => {
                next_hop.gateway = Some((*address).into());
            }
            RouteAttribute::EncapType(_) => next_hop.encapsulated = true,
            _ => {}
        }
    }
    next_hop
}

fn route_kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        other => RouteKind::Other(other.into()),
    }
}

/// An entry of the ARP or neighbour discovery table. Forwarding entries of bridges and proxy entries are passed over.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let header = &message.header;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        || header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let mut address = None;
    let mut entry = Neighbour {
        state: neighbour_state(header.state),
        mac: None,
        managed: false,
        externally_learned: header.flags.contains(NeighbourFlags::ExtLearned),
        protocol: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => {
                address = Some(IpAddr::V4(*inet));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(inet6)) => {
                address = Some(IpAddr::V6(*inet6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                entry.mac = MacAddress::try_from(bytes.as_slice()).ok();
            }
            NeighbourAttribute::ExtFlags(flags) => {
                entry.managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => entry.protocol = u8::from(*protocol),
            _ => {}
        }
    }
    Some(((header.ifindex, address?), entry))
}

/// An entry of a bridge's forwarding table: by which port it forwards to which address. Those for one VLAN are passed
/// over, and so are the host's own addresses.
fn forwarding(message: &NeighbourMessage) -> Option<((u32, MacAddress), u32)> {
    let header = &message.header;
    if header.family != AddressFamily::Bridge || header.state == packet::NeighbourState::Permanent {
        return None;
    }
    let (mut bridge, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = MacAddress::try_from(bytes.as_slice()).ok();
            }
            NeighbourAttribute::Vlan(_) => return None,
            _ => {}
        }
    }
    Some(((bridge?, mac?), header.ifindex))
}

fn neighbour_state(state: packet::NeighbourState) -> NeighbourState {
    match state {
        packet::NeighbourState::Incomplete => NeighbourState::Incomplete,
        packet::NeighbourState::Reachable => NeighbourState::Reachable,
        packet::NeighbourState::Stale => NeighbourState::Stale,
        packet::NeighbourState::Delay => NeighbourState::Delay,
        packet::NeighbourState::Probe => NeighbourState::Probe,
        packet::NeighbourState::Failed => NeighbourState::Failed,
        packet::NeighbourState::Noarp => NeighbourState::NoArp,
        packet::NeighbourState::Permanent => NeighbourState::Permanent,
        _ => NeighbourState::None,
    }
}

/// A rule is one of the default ones if it sends every packet to one of their tables, wherever it stands: distributions
/// and VRF set-ups move the rule of the local table down to make room before it.
fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.family != AddressFamily::Inet {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut plain = header.action == RuleAction::ToTable
        && header.dst_len == 0
        && header.src_len == 0
        && header.tos == 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            // The kernel states "none" as all ones.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::Priority(_)
            | RuleAttribute::Protocol(_) => {}
            _ => plain = false,
        }
    }
    let place = [TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT]
        .iter()
        .position(|default| *default == table);
    Some(match place {
        Some(place) if plain => Rule::Default(place),
        _ => Rule::Other,
    })
}
