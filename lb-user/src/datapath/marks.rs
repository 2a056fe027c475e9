//! Mark rules in the maps, and the scope's settings beside them.

use std::collections::HashMap;

use lb_common::abi::{
    self, Address, Be16, ConnKey, LBLC_EXPIRATION, LBLCR_EXPIRATION, MarkKey, Ports, SCOPE_ANSWERS,
    SCOPE_CACHE_BYPASS, SCOPE_EXPIRE_QUIESCENT, SCOPE_EXPIRE_REMOVED, SCOPE_FWMARKS,
    SCOPE_HOLD_REMOVED, SCOPE_MARK_MASKS, SCOPE_NO_REUSE, SCOPE_PORT_ZERO, SCOPE_RELAYS,
    SCOPE_RESETS, SCOPE_REUSE_FIN_WAIT, SCOPE_SCHEDULE_ICMP, SCOPE_SECURE_TCP, SCOPE_SLOPPY_TCP,
    SCOPE_SOCKETS, SCOPE_TELLS_REALS, SHAPES, Shape, Tick, V4,
};
use lb_common::conn::state;

use super::defence::Defence;
use super::maps::{Maps, Plain};
use super::services::ignore_missing;
use super::{DatapathError, ebpf_map, words};
use crate::model::{MarkRule, ScopeId, Setting, Settings, TableError, port_prefixes};
use crate::net::Network;

/// A scope's rules and settings as they were last set, with what the maps hold of them.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) rules: Vec<MarkRule>,
    pub(super) settings: Settings,
    /// The scope as it was last written.
    last: Option<abi::Scope>,
    defence: Defence,
    /// Whether an earlier daemon has written the scope.
    written: bool,
    shapes: Vec<Option<Shape>>,
    /// Whether any rule sets a part of the mark only.
    masks: bool,
    local_ports: Ports,
    keys: HashMap<MarkKey<V4>, abi::MarkValue>,
}

/// What the scope's flags depend on besides the rules.
#[derive(Clone, Copy, Default)]
pub(super) struct Has {
    pub(super) fwmarks: bool,
    pub(super) port_zero: bool,
    pub(super) answers: bool,
    pub(super) resets: bool,
    pub(super) sockets: bool,
    pub(super) relays: bool,
}

impl Rules {
    /// Reads what an earlier daemon left, so that it goes when it is no longer wanted. The rules themselves are in the
    /// journal: a range of ports and an interface's name cannot be read back. So are the settings.
    pub(super) fn open(maps: &Maps, scope: ScopeId) -> Result<Self, DatapathError> {
        let Plain(there) = maps
            .scopes
            .get(&scope.get(), 0)
            .map_err(ebpf_map("read the settings of a scope"))?;
        let mut rules = Self::default();
        let count = (there.shape_count as usize).min(SHAPES);
        rules.shapes = there.shapes[..count].iter().copied().map(Some).collect();
        rules.written = there.timeouts != [0; 16];
        rules.masks = there.flags & SCOPE_MARK_MASKS != 0;
        rules.defence = Defence {
            drop_rate: there.drop_rate,
            secure_tcp: there.flags & SCOPE_SECURE_TCP != 0,
        };
        rules.local_ports = there.local_ports;
        rules.last = Some(there);
        for entry in maps.marks.iter() {
            let (Plain(key), Plain(value)) = entry.map_err(ebpf_map("read the mark rules"))?;
            if key.scope == scope.get() {
                rules.keys.insert(key, value);
            }
        }
        Ok(rules)
    }

    /// Whether an earlier daemon has written the scope.
    pub(super) const fn is_written(&self) -> bool {
        self.written
    }

    /// Writes rules and settings. Shapes keep their place, so that no packet meets a rule under another shape.
    pub(super) fn write(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        network: Option<&Network>,
        has: Has,
    ) -> Result<(), DatapathError> {
        let wanted = expand(&self.rules, network)?;
        let kept = |shape: &Shape| wanted.iter().any(|rule| rule.shape == *shape);
        let mut shapes: Vec<Option<Shape>> =
            self.shapes.iter().map(|shape| shape.filter(kept)).collect();
        for rule in &wanted {
            if shapes.contains(&Some(rule.shape)) {
                continue;
            }
            match shapes.iter_mut().find(|shape| shape.is_none()) {
                // A shape that has just gone: its rules are taken out first, below.
                Some(free) => *free = Some(rule.shape),
                None => shapes.push(Some(rule.shape)),
            }
        }
        if shapes.len() > SHAPES {
            return Err(TableError::TooManyMarkShapes {
                shapes: shapes.len(),
            }
            .into());
        }
        let mut keys = HashMap::new();
        for rule in &wanted {
            let place = shapes
                .iter()
                .position(|shape| *shape == Some(rule.shape))
                .unwrap_or(0);
            let key = MarkKey::of(
                rule.shape,
                place as u8,
                scope.get(),
                rule.ifindex,
                &rule.matches,
            );
            let value = keys.entry(key).or_insert(abi::MarkValue::default());
            // Of two rules that match the same packets the later one wins, bit by bit.
            *value = abi::MarkValue {
                value: value.value & !rule.value.mask | rule.value.value,
                mask: value.mask | rule.value.mask,
                order: rule.value.order,
            };
        }
        for key in self.keys.keys().filter(|key| !keys.contains_key(*key)) {
            ignore_missing(maps.marks.remove(&Plain(*key)))
                .map_err(ebpf_map("remove a mark rule"))?;
        }
        self.keys.retain(|key, _| keys.contains_key(key));
        for (key, value) in &keys {
            if self.keys.get(key) != Some(value) {
                maps.marks
                    .insert(Plain(*key), Plain(*value), 0)
                    .map_err(ebpf_map("add a mark rule"))?;
                self.keys.insert(*key, *value);
            }
        }
        self.shapes = shapes;
        if let Some(network) = network {
            self.local_ports = network
                .local_ports
                .map_or(Ports::default(), |(first, last)| Ports {
                    first: first.max(1024),
                    last,
                });
        }
        self.masks = wanted.iter().any(|rule| rule.value.mask != u32::MAX);
        self.write_flags(maps, scope, has)
    }

    /// Writes the scope again where it is different, with the rules as they were last written.
    pub(super) fn write_flags(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        has: Has,
    ) -> Result<(), DatapathError> {
        let value = self.scope(has);
        if self.last == Some(value) {
            return Ok(());
        }
        self.put(maps, scope, value)
    }

    /// Has the scope defended like this from now on.
    pub(super) fn write_defence(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        defence: Defence,
    ) -> Result<(), DatapathError> {
        let changed = self.defence != defence;
        self.defence = defence;
        match self.last {
            Some(last) if changed => {
                let secure = u32::from(defence.secure_tcp) * SCOPE_SECURE_TCP;
                let value = abi::Scope {
                    drop_rate: defence.drop_rate,
                    flags: last.flags & !SCOPE_SECURE_TCP | secure,
                    ..last
                };
                self.put(maps, scope, value)
            }
            _ => Ok(()),
        }
    }

    fn put(
        &mut self,
        maps: &mut Maps,
        scope: ScopeId,
        value: abi::Scope,
    ) -> Result<(), DatapathError> {
        maps.scopes
            .set(scope.get(), Plain(value), 0)
            .map_err(ebpf_map("write the settings of a scope"))?;
        self.last = Some(value);
        Ok(())
    }

    fn scope(&self, has: Has) -> abi::Scope {
        let timeouts = self.settings.timeouts;
        let mut value = abi::Scope {
            timeouts: state::usual_timeouts(),
            seconds: [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].map(words::seconds),
            flags: 0,
            drop_rate: self.defence.drop_rate,
            local_ports: self.local_ports,
            shape_count: self.shapes.len() as u32,
            shapes: [Shape::default(); SHAPES],
        };
        value.timeouts[usize::from(state::ESTABLISHED)] = words::ticks(timeouts.tcp);
        value.timeouts[usize::from(state::FIN_WAIT)] = words::ticks(timeouts.tcp_fin);
        value.timeouts[usize::from(state::UDP)] = words::ticks(timeouts.udp);
        for (place, setting) in [
            (LBLC_EXPIRATION, Setting::LblcExpiration),
            (LBLCR_EXPIRATION, Setting::LblcrExpiration),
        ] {
            value.timeouts[place] = Tick::from_secs(self.settings.get(setting)).0;
        }
        for (place, shape) in value.shapes.iter_mut().zip(&self.shapes) {
            // A place without a shape matches nothing: its rules are gone.
            *place = shape.unwrap_or_default();
        }
        let on = |setting| self.settings.is_on(setting);
        let reuse = self.settings.get(Setting::ConnReuseMode);
        let flags = [
            (reuse == 0, SCOPE_NO_REUSE),
            (reuse & 2 != 0, SCOPE_REUSE_FIN_WAIT),
            (on(Setting::ExpireNodestConn), SCOPE_EXPIRE_REMOVED),
            (on(Setting::ExpireQuiescentTemplate), SCOPE_EXPIRE_QUIESCENT),
            (on(Setting::SloppyTcp), SCOPE_SLOPPY_TCP),
            (on(Setting::CacheBypass), SCOPE_CACHE_BYPASS),
            (!on(Setting::ReopenRemoved), SCOPE_HOLD_REMOVED),
            (on(Setting::NatIcmpSend), SCOPE_TELLS_REALS),
            (on(Setting::ScheduleIcmp), SCOPE_SCHEDULE_ICMP),
            (has.fwmarks, SCOPE_FWMARKS),
            (has.port_zero, SCOPE_PORT_ZERO),
            (has.answers, SCOPE_ANSWERS),
            (has.resets, SCOPE_RESETS),
            (has.relays, SCOPE_RELAYS),
            (has.sockets && on(Setting::SocketHook), SCOPE_SOCKETS),
            (self.masks, SCOPE_MARK_MASKS),
            (self.defence.secure_tcp, SCOPE_SECURE_TCP),
        ];
        value.flags = flags
            .iter()
            .filter(|(set, _)| *set)
            .fold(0, |all, (_, flag)| all | flag);
        value
    }
}

/// One entry of the map to be.
struct Wanted {
    shape: Shape,
    ifindex: u32,
    matches: ConnKey<V4>,
    value: abi::MarkValue,
}

/// The map's entries of all rules, in their order. Rules for an interface that is not there match nothing yet.
fn expand(rules: &[MarkRule], network: Option<&Network>) -> Result<Vec<Wanted>, DatapathError> {
    let mut wanted = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let ifindex = match &rule.interface {
            None => 0,
            Some(name) => {
                let known = network.and_then(|network| {
                    network.interfaces.iter().find(|there| there.name == *name)
                });
                match known {
                    Some(interface) => interface.ifindex,
                    None => continue,
                }
            }
        };
        let side = |net: Option<ipnet::IpNet>| -> Result<(V4, u8), DatapathError> {
            net.map_or(Ok((V4::default(), 0)), |net| {
                Ok((
                    words::v4(net.addr())?.masked(net.prefix_len()),
                    net.prefix_len(),
                ))
            })
        };
        let (src, source_prefix) = side(rule.source)?;
        let (dst, destination_prefix) = side(rule.destination)?;
        let protocol = rule.protocol.map(words::protocol_number).transpose()?;
        let interface = if rule.interface.is_some() {
            Shape::INTERFACE
        } else {
            0
        };
        let fields = interface
            | if protocol.is_some() {
                Shape::PROTOCOL
            } else {
                0
            };
        let value = abi::MarkValue {
            value: rule.mark,
            mask: rule.mask,
            order: place as u32 + 1,
        };
        let ports = rule
            .ports
            .as_ref()
            .map_or_else(|| vec![(0, 0)], port_prefixes);
        for (port, port_prefix) in ports {
            wanted.push(Wanted {
                shape: Shape {
                    source_prefix,
                    destination_prefix,
                    port_prefix,
                    fields,
                },
                ifindex,
                matches: ConnKey {
                    src,
                    dst,
                    sport: Be16::ZERO,
                    dport: Be16::new(port),
                    scope_protocol: u32::from(protocol.unwrap_or(0)),
                },
                value,
            });
        }
    }
    Ok(wanted)
}
