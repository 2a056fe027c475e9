//! Routes, hops, interfaces and answered addresses in the maps.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use lb_common::abi::{
    self, AnswerKey, Be32, ENTER, HOP_BLACKHOLE, HOP_FORWARD, HOP_LOCAL, HOP_NONE, HOP_ON_LINK,
    HOP_REDIRECT, HOP_RESOLVED, Interface, InterfaceKey, Mac, RouteKey, Tick, V4, WIRE_REDIRECT,
    Wire, WireKey, WireSet,
};

use super::maps::{Maps, Plain};
use super::services::ignore_missing;
use super::slots::Slots;
use super::{DatapathError, ebpf_map, sys, words};
use crate::model::ScopeId;
use crate::net::{self, HopId, HopKind, Medium, Network};

/// How long the Ethernet addresses of a hop may be trusted without the daemon.
const LEASE: u32 = Tick::from_secs(4).0;
/// How long a hop that has gone, or that an earlier daemon wrote, is kept for connections that have not seen a packet
/// since. They look their route up again with the next one.
const GRACE: Duration = Duration::from_secs(60);

/// What the daemon remembers of the network maps.
pub(super) struct Networks {
    slots: Slots,
    scopes: HashMap<ScopeId, Known>,
    /// Hops that nothing new uses.
    retired: Vec<(Instant, u32)>,
}

/// By what means packets of a scope reach hops.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    /// The interfaces that XDP is on.
    pub(super) early: &'a BTreeSet<u32>,
    /// Those that XDP can send frames of others to.
    pub(super) targets: &'a BTreeSet<u32>,
    /// What [`Setting::Shortcut`](crate::model::Setting::Shortcut) says.
    pub(super) shortcut: u32,
}

/// The ways to one hop beyond its output interface.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ways {
    /// XDP may send there from other interfaces.
    redirect: bool,
    /// [`abi::Hop::exit`].
    exit: u32,
}

impl Ways {
    fn to(hop: &net::Hop, means: Means<'_>) -> Self {
        let wire = hop.vlan.map_or(hop.oif, |(parent, _)| parent);
        let last = hop.port.filter(|_| means.shortcut > 0).unwrap_or(hop.oif);
        let enters = hop.leads_out && means.shortcut > 1;
        Self {
            redirect: means.targets.contains(&wire),
            exit: last | if enters { ENTER } else { 0 },
        }
    }
}

/// What one scope has in the maps.
#[derive(Default)]
struct Known {
    hops: HashMap<HopId, (u32, net::Hop, Ways)>,
    routes: HashMap<IpNet, u32>,
    interfaces: HashSet<u32>,
    wires: HashMap<WireKey, Wire>,
    answers: HashSet<V4>,
}

impl Networks {
    /// Takes up what is in the maps: the old hops serve until connections have found new ones.
    pub(super) fn adopt(maps: &Maps) -> Self {
        let now = Instant::now();
        let in_use = |index: u32| maps.hops.at(index).kind.load() != HOP_NONE;
        let retired: Vec<_> = (1..maps.hops.len())
            .filter(|&index| in_use(index))
            .map(|index| (now, index))
            .collect();
        for (_, index) in &retired {
            let hop = maps.hops.at(*index);
            // Written by a daemon that did not know of it.
            if hop.exit.load() == 0 {
                hop.exit.store(hop.oif.load());
            }
        }
        Self {
            slots: Slots::new(maps.hops.len(), in_use),
            scopes: HashMap::new(),
            retired,
        }
    }

    /// Reads which routes, interfaces and answers an earlier daemon left for a scope, so that they go when they are no
    /// longer true.
    pub(super) fn open(&mut self, maps: &Maps, scope: ScopeId) -> Result<(), DatapathError> {
        let mut known = Known::default();
        for entry in maps.routes.iter() {
            let (key, Plain(hop)) = entry.map_err(ebpf_map("read the routes"))?;
            let Plain(RouteKey { scope: id, address }) = key.data();
            if id.get() == scope.get()
                && let Ok(prefix) = u8::try_from(key.prefix_len().saturating_sub(32))
            {
                let net = IpNet::new(words::address(address), prefix);
                known.routes.extend(net.ok().map(|net| (net, hop)));
            }
        }
        for key in maps.interfaces.keys() {
            let Plain(key) = key.map_err(ebpf_map("read the interfaces"))?;
            if key.scope == scope.get() {
                known.interfaces.insert(key.ifindex);
            }
        }
        let sets = (0..maps.wires.len()).map(|set| maps.wires.at(set));
        let ours = |(key, _): &(WireKey, Wire)| key.scope == scope.get();
        known
            .wires
            .extend(sets.flat_map(WireSet::iter).filter(ours));
        for key in maps.answers.keys() {
            let Plain(key) = key.map_err(ebpf_map("read the answered addresses"))?;
            if key.scope == scope.get() {
                known.answers.insert(key.address);
            }
        }
        self.scopes.insert(scope, known);
        Ok(())
    }

    /// Puts a scope's network in place of the one before. What is new comes before what goes.
    pub(super) fn set(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        network: &Network,
        means: Means<'_>,
    ) -> Result<(), DatapathError> {
        let mut known = self.scopes.remove(&scope).unwrap_or_default();
        let result = self
            .replace(maps, scope, network, means, &mut known)
            .and_then(|()| replace_wires(maps, scope, network, means, &mut known));
        self.scopes.insert(scope, known);
        result
    }

    fn replace(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        network: &Network,
        means: Means<'_>,
        known: &mut Known,
    ) -> Result<(), DatapathError> {
        for interface in &network.interfaces {
            let value = Interface {
                address: interface
                    .primary
                    .map_or(Be32::ZERO, |address| Be32::from_octets(address.octets())),
                mac: Mac::new(interface.mac),
                pad: 0,
            };
            let key = InterfaceKey {
                scope: scope.get(),
                ifindex: interface.ifindex,
            };
            maps.interfaces
                .insert(Plain(key), Plain(value), 0)
                .map_err(ebpf_map("add an interface"))?;
            known.interfaces.insert(interface.ifindex);
        }
        for hop in &network.hops {
            let ways = Ways::to(hop, means);
            let index = match known.hops.get(&hop.id) {
                Some((_, there, known)) if there == hop && *known == ways => continue,
                Some((index, ..)) => *index,
                None => self.slots.take().ok_or(DatapathError::Full {
                    what: "next hops",
                    limit: u64::from(maps.hops.len()),
                    hint: "fewer neighbours or routes in the namespaces that bpvs serves",
                })?,
            };
            write_hop(maps, index, hop, ways)?;
            known.hops.insert(hop.id, (index, *hop, ways));
        }
        let mut routes = HashMap::with_capacity(network.routes.len());
        for route in &network.routes {
            let IpNet::V4(net) = route.destination else {
                continue;
            };
            let Some((index, ..)) = known.hops.get(&route.hop) else {
                continue;
            };
            routes.insert(IpNet::V4(net.trunc()), *index);
        }
        for (net, index) in &routes {
            if known.routes.get(net) != Some(index) {
                let key = route_key(scope, net)?;
                maps.routes
                    .insert(&key, Plain(*index), 0)
                    .map_err(ebpf_map("add a route"))?;
            }
        }
        for net in known.routes.keys().filter(|net| !routes.contains_key(*net)) {
            let key = route_key(scope, net)?;
            ignore_missing(maps.routes.remove(&key)).map_err(ebpf_map("remove a route"))?;
        }
        known.routes = routes;
        let now = Instant::now();
        known.hops.retain(|id, (index, ..)| {
            let stays = network.hop(*id).is_some();
            if !stays {
                // Connections look their route up again.
                maps.hops.at(*index).kind.store(HOP_NONE);
                self.retired.push((now, *index));
            }
            stays
        });
        let there: HashSet<u32> = network
            .interfaces
            .iter()
            .map(|interface| interface.ifindex)
            .collect();
        for &ifindex in known.interfaces.difference(&there) {
            let key = Plain(InterfaceKey {
                scope: scope.get(),
                ifindex,
            });
            ignore_missing(maps.interfaces.remove(&key))
                .map_err(ebpf_map("remove an interface"))?;
        }
        known.interfaces = there;
        Ok(())
    }

    /// Renews the leases, and frees hops that have been gone for long enough. Called every second.
    pub(super) fn tick(&mut self, maps: &Maps) {
        let lease = sys::now().plus(LEASE).0;
        for (index, ..) in self.scopes.values().flat_map(|known| known.hops.values()) {
            maps.hops.at(*index).lease.store(lease);
        }
        self.retired.retain(|(since, index)| {
            let stays = since.elapsed() < GRACE;
            if !stays {
                maps.hops.at(*index).kind.store(HOP_NONE);
                self.slots.give(*index);
            }
            stays
        });
    }

    /// Answers for these addresses but those that an interface of the scope owns. `true` if there are any.
    pub(super) fn answer(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        wanted: impl Iterator<Item = IpAddr>,
        network: Option<&Network>,
    ) -> Result<bool, DatapathError> {
        let known = self.scopes.entry(scope).or_default();
        let answers = wanted
            .filter(|address| !is_own(network, *address))
            .map(words::v4)
            .collect::<Result<HashSet<V4>, _>>()?;
        let gone: Vec<V4> = known.answers.difference(&answers).copied().collect();
        for address in answers {
            known.answer(maps, scope, address, true)?;
        }
        for address in gone {
            known.answer(maps, scope, address, false)?;
        }
        Ok(!known.answers.is_empty())
    }

    /// The same of one address, which is wanted or not. `true` if any is answered for.
    pub(super) fn answer_one(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        (address, wanted): (IpAddr, bool),
        network: Option<&Network>,
    ) -> Result<(), DatapathError> {
        let known = self.scopes.entry(scope).or_default();
        let wanted = wanted && !is_own(network, address);
        known.answer(maps, scope, words::v4(address)?, wanted)
    }

    /// Whether any address is answered for.
    pub(super) fn answers(&self, scope: ScopeId) -> bool {
        let known = self.scopes.get(&scope);
        known.is_some_and(|known| !known.answers.is_empty())
    }

    /// Removes all that a scope has.
    pub(super) fn close(&mut self, maps: &mut Maps, scope: ScopeId) -> Result<(), DatapathError> {
        self.open_if_new(maps, scope)?;
        let none = BTreeSet::new();
        let means = Means {
            early: &none,
            targets: &none,
            shortcut: 0,
        };
        self.set(maps, scope, &Network::default(), means)?;
        self.answer(maps, scope, std::iter::empty(), None)?;
        self.scopes.remove(&scope);
        Ok(())
    }

    fn open_if_new(&mut self, maps: &Maps, scope: ScopeId) -> Result<(), DatapathError> {
        if self.scopes.contains_key(&scope) {
            Ok(())
        } else {
            self.open(maps, scope)
        }
    }
}

impl Known {
    /// Answers for an address, or no more.
    fn answer(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        address: V4,
        wanted: bool,
    ) -> Result<(), DatapathError> {
        if self.answers.contains(&address) == wanted {
            return Ok(());
        }
        let key = Plain(AnswerKey {
            address,
            scope: scope.get(),
        });
        if wanted {
            maps.answers
                .insert(key, Plain(1), 0)
                .map_err(ebpf_map("answer for an address"))?;
            self.answers.insert(address);
        } else {
            ignore_missing(maps.answers.remove(&key))
                .map_err(ebpf_map("answer for an address no more"))?;
            self.answers.remove(&address);
        }
        Ok(())
    }
}

/// Whether an interface of the scope owns an address.
fn is_own(network: Option<&Network>, address: IpAddr) -> bool {
    network
        .and_then(|network| network.lookup(address))
        .is_some_and(|hop| hop.kind == HopKind::Local)
}

fn route_key(scope: ScopeId, net: &IpNet) -> Result<Key<Plain<RouteKey<V4>>>, DatapathError> {
    let address = words::v4(net.addr())?;
    let key = RouteKey {
        scope: Be32::new(scope.get()),
        address,
    };
    Ok(Key::new(32 + u32::from(net.prefix_len()), Plain(key)))
}

/// Puts what XDP handles in place of what it did: frames of the interfaces that it is on, and of their VLANs. What goes
/// comes before what is new: what is not there is TC's.
fn replace_wires(
    maps: &mut Maps,
    scope: ScopeId,
    network: &Network,
    Means { early, targets, .. }: Means<'_>,
    known: &mut Known,
) -> Result<(), DatapathError> {
    let served = network
        .interfaces
        .iter()
        .filter(|interface| interface.attach && interface.up);
    let mut wires: HashMap<WireKey, Wire> = served
        .filter_map(|interface| {
            let (ifindex, vlan) = interface.vlan.unwrap_or((interface.ifindex, 0));
            let redirects = network.interface(ifindex)?.medium == Medium::Veth;
            // Nothing can be sent back there: all is TC's.
            if redirects && !targets.contains(&ifindex) {
                return None;
            }
            let key = WireKey {
                scope: scope.get(),
                ifindex,
                vlan: vlan.into(),
            };
            let wire = Wire {
                ifindex: interface.ifindex,
                mac: Mac::new(interface.mac),
                flags: if redirects { WIRE_REDIRECT } else { 0 },
            };
            early.contains(&ifindex).then_some((key, wire))
        })
        .collect();
    for key in known.wires.keys().filter(|key| !wires.contains_key(key)) {
        maps.wires.at(key.set()).remove(key);
    }
    // What finds no place is not known, and tried again with the next change.
    wires.retain(|key, wire| {
        let is_there =
            known.wires.get(key) == Some(wire) || maps.wires.at(key.set()).put(key, *wire);
        if !is_there {
            tracing::warn!(
                scope = key.scope,
                ifindex = key.ifindex,
                vlan = key.vlan,
                "the table of what XDP handles has no place for it: TC handles it"
            );
        }
        is_there
    });
    known.wires = wires;
    Ok(())
}

/// Writes a hop so that no reader takes half of it for whole.
fn write_hop(maps: &Maps, index: u32, hop: &net::Hop, ways: Ways) -> Result<(), DatapathError> {
    let place = maps.hops.at(index);
    let sequence = place.sequence.load() | 1;
    place.sequence.store(sequence);
    fence(Ordering::SeqCst);
    let kind = match hop.kind {
        HopKind::Forward => HOP_FORWARD,
        HopKind::Local => HOP_LOCAL,
        HopKind::Blackhole => HOP_BLACKHOLE,
    };
    let (destination, source) = hop.macs.unwrap_or_default();
    let words = abi::ethernet(Mac::new(destination), Mac::new(source));
    for (word, value) in place.ethernet.iter().zip(words) {
        word.store(value);
    }
    let resolved = if hop.macs.is_some() { HOP_RESOLVED } else { 0 };
    let on_link = if hop.on_link { HOP_ON_LINK } else { 0 };
    let redirect = if ways.redirect { HOP_REDIRECT } else { 0 };
    place.flags.store(resolved | on_link | redirect);
    place.oif.store(hop.oif);
    place.exit.store(ways.exit);
    let (wire, vlan) = hop.vlan.unwrap_or((hop.oif, 0));
    place.wire.store(wire);
    place.vlan.store(vlan.into());
    place.mtu.store(hop.mtu);
    place.lease.store(sys::now().plus(LEASE).0);
    place.address.store(
        hop.source
            .map_or(Ok([Be32::ZERO; 4]), words::address_words)?,
    );
    place.kind.store(kind);
    fence(Ordering::SeqCst);
    place.sequence.store(sequence.wrapping_add(1));
    Ok(())
}
