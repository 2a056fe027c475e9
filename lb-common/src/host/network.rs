//! Interfaces, hops, routes and answered addresses, as the daemon writes them.

use super::Memory;
use crate::abi::{
    Address, AnswerKey, Be32, HOP_BLACKHOLE, HOP_FORWARD, HOP_LOCAL, HOP_ON_LINK, HOP_REDIRECT,
    HOP_RESOLVED, Hop, Interface, Mac, SCOPE_ANSWERS, Shared, Tick, ethernet,
};
use crate::tables::Tables;

/// A next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HopSpec {
    /// A `HOP_…` kind.
    pub kind: u32,
    /// Output interface index.
    pub oif: u32,
    /// The VLAN of which the output interface is, and what carries it; XDP sends by that.
    pub vlan: Option<(u16, u32)>,
    /// The interface by which TC sends, if that is not the output interface; with [`ENTER`](crate::abi::ENTER).
    pub exit: Option<u32>,
    /// Other interfaces' frames cannot be sent there by XDP.
    pub closed: bool,
    /// Ethernet destination and source; `None`: the kernel resolves the neighbour.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// The destination itself is the neighbour.
    pub on_link: bool,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Address of this host on this hop.
    pub address: [Be32; 4],
    /// Seconds for which the Ethernet addresses may be trusted from now on.
    pub lease: u32,
    /// The daemon is in the middle of writing it.
    pub torn: bool,
}

impl HopSpec {
    /// Out of the interface `oif`, on link, with these Ethernet addresses, 1500 bytes large.
    pub const fn forward(oif: u32, destination: [u8; 6], source: [u8; 6]) -> Self {
        Self {
            kind: HOP_FORWARD,
            oif,
            vlan: None,
            exit: None,
            closed: false,
            macs: Some((destination, source)),
            on_link: true,
            mtu: 1500,
            address: [Be32::ZERO; 4],
            lease: 1_000_000,
            torn: false,
        }
    }

    /// Up to this host.
    pub const fn local() -> Self {
        Self {
            kind: HOP_LOCAL,
            macs: None,
            ..Self::forward(0, [0; 6], [0; 6])
        }
    }

    /// To nowhere.
    pub const fn blackhole() -> Self {
        Self {
            kind: HOP_BLACKHOLE,
            ..Self::local()
        }
    }
}

pub(super) fn no_hop() -> Hop {
    Hop {
        sequence: Shared::new(0),
        kind: Shared::new(0),
        flags: Shared::new(0),
        oif: Shared::new(0),
        lease: Shared::new(0),
        mtu: Shared::new(0),
        ethernet: [const { Shared::new(0) }; 3],
        address: Shared::new([Be32::ZERO; 4]),
        wire: Shared::new(0),
        vlan: Shared::new(0),
        exit: Shared::new(0),
    }
}

impl<A: Address> Memory<A> {
    /// Writes the hop with this index.
    pub fn set_hop(&mut self, index: u32, spec: &HopSpec) {
        let lease = Tick::from_secs(spec.lease).0;
        let lease = self.now().plus(lease).0;
        let hop = &self.hops[index as usize];
        hop.sequence.store(if spec.torn { 1 } else { 2 });
        hop.kind.store(spec.kind);
        hop.oif.store(spec.oif);
        hop.mtu.store(spec.mtu);
        hop.address.store(spec.address);
        hop.lease.store(lease);
        let resolved = if spec.macs.is_some() { HOP_RESOLVED } else { 0 };
        let on_link = if spec.on_link { HOP_ON_LINK } else { 0 };
        let redirect = if spec.closed { 0 } else { HOP_REDIRECT };
        hop.flags.store(resolved | on_link | redirect);
        let (vlan, wire) = spec.vlan.unwrap_or((0, spec.oif));
        hop.vlan.store(vlan.into());
        hop.wire.store(wire);
        let (destination, source) = spec.macs.unwrap_or_default();
        let words = ethernet(Mac::new(destination), Mac::new(source));
        for (field, word) in hop.ethernet.iter().zip(words) {
            field.store(word);
        }
        hop.exit.store(spec.exit.unwrap_or(spec.oif));
    }

    /// Routes a prefix by a hop; 0 takes the route away.
    pub fn set_route(&mut self, network: A, prefix: u8, hop: u32) {
        let network = network.masked(prefix);
        self.routes
            .retain(|(other, length, _)| (*other, *length) != (network, prefix));
        if hop != 0 {
            self.routes.push((network, prefix, hop));
        }
    }

    /// Describes an interface.
    pub fn set_interface(&mut self, ifindex: u32, mac: [u8; 6], address: Be32) {
        self.interfaces.insert(
            ifindex,
            Interface {
                address,
                mac: Mac::new(mac),
                pad: 0,
            },
        );
    }

    /// Answers ARP and ping for an address, or does so no longer.
    pub fn set_answer(&mut self, address: A, answer: bool) {
        let key = AnswerKey {
            address,
            scope: self.id,
        };
        if answer {
            self.answers.insert(key);
        } else {
            self.answers.remove(&key);
        }
        self.set_flag(SCOPE_ANSWERS, !self.answers.is_empty());
    }

    /// Sets or clears a flag of the scope.
    pub fn set_flag(&mut self, flag: u32, on: bool) {
        self.scope.flags = if on {
            self.scope.flags | flag
        } else {
            self.scope.flags & !flag
        };
    }
}
