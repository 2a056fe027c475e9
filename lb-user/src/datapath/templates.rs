//! Persistence templates: reading them for a listing, and finding those whose time is over for the sweep.

use lb_common::abi::{
    AVAILABLE, Be16, DEAD, KIND_FWMARK, SWEEP_TEMPLATE, SWEEP_TEMPLATE_FORCED, SweepItem,
    TEMPLATE_ASSURED, TEMPLATE_USED, TEMPLATE_VOID, Template, Tick, V4, Word,
};

use super::connections::{Early, span};
use super::maps::Maps;
use super::{Connection, Kind, sys, words};
use crate::model::ScopeId;

/// Slots looked at in one tick.
const BUDGET: u32 = 262_144;
/// The port that a listing shows of what is kept for its connections only (`ip_vs_check_template`).
const VOID: u16 = u16::MAX;

/// Where the search for templates that are over stands.
#[derive(Debug, Default)]
pub(super) struct Templates {
    next: u32,
}

/// A slot in use.
struct Used<'m> {
    index: u32,
    template: &'m Template<V4>,
    word: Word,
}

impl Used<'_> {
    fn scope(&self) -> u32 {
        self.template.key.load().service.scope
    }

    /// Asks the sweep to look at it; with `force` it is to go, as soon as it controls nothing.
    fn item(&self, force: bool) -> SweepItem<V4> {
        let what = if force {
            SWEEP_TEMPLATE_FORCED
        } else {
            SWEEP_TEMPLATE
        };
        SweepItem::numbered(what, self.index)
    }
}

fn used(maps: &Maps, index: u32) -> Option<Used<'_>> {
    let template = maps.templates.at(index);
    let word = Word(template.word.load());
    (index != 0 && word.flags() & (TEMPLATE_USED | DEAD) == TEMPLATE_USED).then_some(Used {
        index,
        template,
        word,
    })
}

fn all(maps: &Maps) -> impl Iterator<Item = Used<'_>> {
    (1..maps.templates.len()).filter_map(|index| used(maps, index))
}

/// Shows every template of a scope once.
pub(super) fn read(maps: &Maps, scope: ScopeId, visit: &mut dyn FnMut(Connection)) {
    let now = sys::now();
    for used in all(maps).filter(|used| used.scope() == scope.get()) {
        if let Some(shown) = shown(used.template, used.word, now, maps) {
            visit(shown);
        }
    }
}

fn shown(template: &Template<V4>, word: Word, now: Tick, maps: &Maps) -> Option<Connection> {
    let key = template.key.load();
    let server = maps.servers.at(template.server.load());
    let address = words::address_of(server.address.load());
    // Read while the slot changed hands: another client's.
    if Word(template.word.load()).generation() != word.generation() {
        return None;
    }
    let void = word.has(TEMPLATE_VOID);
    let port = |port: Be16| if void { VOID } else { port.get() };
    let (protocol, service) = if key.service.kind == KIND_FWMARK {
        // Of all protocols; the mark stands in the service's place.
        (None, words::mark_address(key.service.mark()))
    } else {
        let protocol = words::protocol(key.service.protocol)?;
        (Some(protocol), words::address(key.service.address))
    };
    Some(Connection {
        kind: Kind::Template(protocol),
        client: words::socket(key.client, Be16::ZERO),
        service: (service, port(key.service.port)).into(),
        server: (address, port(template.port.load())).into(),
        socket: false,
        source_nat: None,
        state: if word.state() == TEMPLATE_ASSURED {
            "ASSURED"
        } else {
            "NONE"
        },
        expires: span(word.deadline().since(now)),
    })
}

impl Templates {
    /// The next templates that the sweep is to look at: those that have expired, and where connections are to be given up
    /// early some of those that no connection was ever established by.
    pub(super) fn over(&mut self, maps: &Maps, early: &Early) -> Vec<SweepItem<V4>> {
        let (now, count) = (sys::now(), maps.templates.len());
        let mut items = Vec::new();
        for _ in 0..BUDGET.min(count) {
            self.next = (self.next + 1) % count.max(1);
            let Some(used) = used(maps, self.next) else {
                continue;
            };
            if used.word.expired(now) {
                items.push(used.item(false));
            } else if used.word.state() != TEMPLATE_ASSURED
                && used.template.children.load() == 0
                && early.gives_up(used.scope(), u64::from(used.index))
            {
                items.push(used.item(true));
            }
        }
        items
    }
}

/// All templates of a scope, to go in any case.
pub(super) fn of_scope(maps: &Maps, scope: ScopeId) -> Vec<SweepItem<V4>> {
    all(maps)
        .filter(|used| used.scope() == scope.get())
        .map(|used| used.item(true))
        .collect()
}

/// Templates of these scopes that lead to servers that were removed.
pub(super) fn of_removed(maps: &Maps, scopes: impl Fn(u32) -> bool) -> Vec<SweepItem<V4>> {
    let removed = |used: &Used<'_>| {
        let server = maps.servers.at(used.template.server.load());
        server.flags.load() & AVAILABLE == 0
    };
    all(maps)
        .filter(|used| scopes(used.scope()) && removed(used))
        .map(|used| used.item(true))
        .collect()
}
