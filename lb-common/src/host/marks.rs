//! Mark rules, split into shapes and keys as the daemon does.

use std::vec::Vec;

use super::Memory;
use crate::abi::{Address, Be16, MarkKey, MarkValue, SCOPE_MARK_MASKS, SHAPES, Shape};

/// A mark rule: what it leaves `None` (or a prefix of 0) matches everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MarkRule<A> {
    /// Interface index.
    pub ifindex: Option<u32>,
    /// Source network and prefix length.
    pub source: (A, u8),
    /// Destination network and prefix length.
    pub destination: (A, u8),
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Destination ports, first and last.
    pub ports: Option<(u16, u16)>,
    /// The bits to set.
    pub mark: u32,
    /// The bits to clear first; all ones sets the whole mark.
    pub mask: u32,
}

impl<A: Address> Memory<A> {
    /// Replaces all mark rules; `false`, and no rules at all, if they have more shapes than there may be.
    pub fn set_mark_rules(&mut self, rules: &[MarkRule<A>]) -> bool {
        self.marks.clear();
        self.scope.shape_count = 0;
        let mut shapes = Vec::new();
        for (order, rule) in (1..).zip(rules) {
            for (port, port_prefix) in prefixes(rule.ports) {
                let interface = if rule.ifindex.is_some() {
                    Shape::INTERFACE
                } else {
                    0
                };
                let protocol = if rule.protocol.is_some() {
                    Shape::PROTOCOL
                } else {
                    0
                };
                let shape = Shape {
                    source_prefix: rule.source.1,
                    destination_prefix: rule.destination.1,
                    port_prefix,
                    fields: interface | protocol,
                };
                let index = shapes
                    .iter()
                    .position(|other| *other == shape)
                    .unwrap_or_else(|| {
                        shapes.push(shape);
                        shapes.len() - 1
                    });
                let key = MarkKey {
                    src: rule.source.0.masked(rule.source.1),
                    dst: rule.destination.0.masked(rule.destination.1),
                    scope: self.id,
                    ifindex: rule.ifindex.unwrap_or(0),
                    port: Be16::new(port),
                    protocol: rule.protocol.unwrap_or(0),
                    shape: index as u8,
                };
                self.marks.insert(
                    key,
                    MarkValue {
                        value: rule.mark,
                        mask: rule.mask,
                        order,
                    },
                );
            }
        }
        if shapes.len() > SHAPES {
            self.marks.clear();
            return false;
        }
        for (place, shape) in self.scope.shapes.iter_mut().zip(&shapes) {
            *place = *shape;
        }
        self.scope.shape_count = shapes.len() as u32;
        self.set_flag(
            SCOPE_MARK_MASKS,
            rules.iter().any(|rule| rule.mask != u32::MAX),
        );
        true
    }
}

/// A range of ports as prefixes.
fn prefixes(ports: Option<(u16, u16)>) -> Vec<(u16, u8)> {
    let Some((first, last)) = ports else {
        return [(0, 0)].into();
    };
    let mut parts = Vec::new();
    let mut at = u32::from(first);
    while at <= u32::from(last) {
        let mut bits = at.trailing_zeros().min(16);
        while at + (1 << bits) - 1 > u32::from(last) {
            bits -= 1;
        }
        parts.push((at as u16, 16 - bits as u8));
        at += 1 << bits;
    }
    parts
}
