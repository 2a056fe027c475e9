//! Which virtual service is a new packet for? By mark, then by address and port, then by address alone
//! (ip_vs_service_find).

use crate::{
    abi::{
        Address, Be16, ConnKey, KIND_ADDRESS, MarkKey, MarkValue, SCOPE_FWMARKS, SCOPE_MARK_MASKS,
        SCOPE_PORT_ZERO, SHAPES, Scope, ServiceKey,
    },
    packet::Arrival,
    tables::{Tables, Turn},
};

/// The service of a packet that belongs to no known connection: its index, 0 for none.
#[inline(always)]
pub fn service<A: Address, T: Tables<A>>(
    tables: &T,
    scope: &Scope,
    key: &ConnKey<A>,
    arrival: &Arrival,
) -> u32 {
    let id = tables.scope_id();
    if scope.flags & SCOPE_FWMARKS != 0 {
        let mark = mark(tables, scope, key, arrival);
        if mark != 0 {
            let service = tables.service_index(&ServiceKey::fwmark(id, mark));
            if service != 0 {
                return service;
            }
        }
    }
    by_address(tables, scope, key)
}

/// The service at a packet's destination: at its port, else at port 0.
#[inline(always)]
pub(crate) fn by_address<A: Address, T: Tables<A>>(
    tables: &T,
    scope: &Scope,
    key: &ConnKey<A>,
) -> u32 {
    let mut wanted = ServiceKey {
        address: key.dst,
        scope: tables.scope_id(),
        port: key.dport,
        protocol: key.protocol(),
        kind: KIND_ADDRESS,
    };
    let service = tables.service_index(&wanted);
    if service != 0 || scope.flags & SCOPE_PORT_ZERO == 0 {
        return service;
    }
    wanted.port = Be16::ZERO;
    tables.service_index(&wanted)
}

/// The packet's mark after the mark rules: they apply in their order, so the last match wins.
#[inline(never)]
pub fn mark<A: Address, T: Tables<A>>(
    tables: &T,
    scope: &Scope,
    key: &ConnKey<A>,
    arrival: &Arrival,
) -> u32 {
    let mut rules = Rules {
        scope,
        key,
        ifindex: arrival.ifindex,
        mark: arrival.mark,
        applied: 0,
        best: NO_RULE,
        at: 0,
    };
    // Where every rule sets the whole mark, the last one alone decides; else they are applied one after the other.
    let passes = if scope.flags & SCOPE_MARK_MASKS == 0 {
        1
    } else {
        scope.shape_count
    };
    tables.repeat(passes.saturating_mul(scope.shape_count), &mut rules);
    rules.mark
}

/// No rule: its order is above all.
const NO_RULE: MarkValue = MarkValue {
    value: 0,
    mask: 0,
    order: 0,
};

/// The search for matching rules, one shape a turn; a pass over all shapes finds the next rule to apply.
struct Rules<'a, A> {
    scope: &'a Scope,
    key: &'a ConnKey<A>,
    ifindex: u32,
    mark: u32,
    /// Order of the rule applied last.
    applied: u32,
    /// The best match of this pass.
    best: MarkValue,
    /// The shape to look at.
    at: u32,
}

impl<A: Address, T: Tables<A>> Turn<T> for Rules<'_, A> {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        let index = self.at & (SHAPES as u32 - 1);
        let shape = self.scope.shapes[index as usize];
        let key = MarkKey::of(
            shape,
            index as u8,
            tables.scope_id(),
            self.ifindex,
            self.key,
        );
        let in_order = self.scope.flags & SCOPE_MARK_MASKS != 0;
        if let Some(rule) = tables.mark(&key) {
            let better = if in_order {
                rule.order > self.applied && (self.best.order == 0 || rule.order < self.best.order)
            } else {
                rule.order > self.best.order
            };
            if better {
                self.best = rule;
            }
        }
        self.at += 1;
        if self.at < self.scope.shape_count {
            return true;
        }
        if self.best.order == 0 {
            return false;
        }
        self.mark = self.mark & !self.best.mask | self.best.value;
        self.applied = self.best.order;
        self.best = NO_RULE;
        self.at = 0;
        in_order
    }
}
