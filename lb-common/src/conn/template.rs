//! Persistence: a client's connections go to the real server of its template (ip_vs_sched_persist).
//!
//! A template is found by its key, an index in between, and lives in a slot. Whoever swaps [`DEAD`] into its word owns the
//! slot and gives it back; whoever swaps [`TEMPLATE_VOID`] into it takes the key away, and the slot stays for the
//! connections that it controls.

use crate::{
    abi::{
        AVAILABLE, Address, Be16, Be32, ConnKey, DEAD, KIND_ADDRESS, KIND_FWMARK,
        SCOPE_EXPIRE_QUIESCENT, Service, ServiceKey, TEMPLATE_ASSURED, TEMPLATE_NONE,
        TEMPLATE_USED, TEMPLATE_VOID, Template, TemplateKey, Tick, Word,
    },
    conn::load,
    tables::{Ring, Tables, Turn},
};

/// Ticks by which a template outlives its end while it controls connections (ip_vs_conn_expire): 60 s, again and again.
const CONTROLLING: u32 = Tick::from_secs(60).0;
/// The port of FTP: its data connections come to other ports, and belong to the same client's template.
const FTP: Be16 = Be16::new(21);
/// Slots looked at before there is no room.
const PROBES: u32 = 16;
/// How often a word is swapped again because another processor changed it meanwhile.
const TRIES: u32 = 4;

/// The key of a packet's template (ip_vs_conn_fill_param_persist).
#[inline(always)]
pub fn key<A: Address>(service: &Service, packet: &ConnKey<A>) -> TemplateKey<A> {
    let (words, mask) = (packet.src.words(), service.netmask.load());
    let client = A::from_words([
        Be32::from_raw(words[0].raw() & mask[0].raw()),
        Be32::from_raw(words[1].raw() & mask[1].raw()),
        Be32::from_raw(words[2].raw() & mask[2].raw()),
        Be32::from_raw(words[3].raw() & mask[3].raw()),
    ]);
    let service = if service.kind.load() == KIND_FWMARK {
        ServiceKey::fwmark(packet.scope(), service.mark.load())
    } else {
        let own = service.port.load();
        ServiceKey {
            address: packet.dst,
            scope: packet.scope(),
            port: if packet.dport == own && own != FTP {
                own
            } else {
                Be16::ZERO
            },
            protocol: packet.protocol(),
            kind: KIND_ADDRESS,
        }
    };
    TemplateKey { client, service }
}

/// The template with this key, if it names a real server that may be used (ip_vs_check_template); 0 for none. One that
/// may not is made void.
#[inline(always)]
pub fn find<A: Address, T: Tables<A>>(tables: &T, key: &TemplateKey<A>) -> u32 {
    let index = tables.template_index(key);
    let Some(template) = tables.template(index) else {
        return 0;
    };
    let word = Word(template.word.load());
    // A slot that is changing hands is not this key's.
    let found = word.flags() & (TEMPLATE_USED | TEMPLATE_VOID | DEAD) == TEMPLATE_USED;
    if index == 0 || !found || template.key.load() != *key {
        return 0;
    }
    let expired = word.expired(tables.now()) && template.children.load() == 0;
    let quiescent = tables
        .scope()
        .is_some_and(|scope| scope.flags & SCOPE_EXPIRE_QUIESCENT != 0);
    let usable = tables.server(template.server.load()).is_some_and(|server| {
        server.flags.load() & AVAILABLE != 0 && !(quiescent && server.weight.load() == 0)
    });
    if usable && !expired {
        return index;
    }
    make_void(tables, template, word);
    0
}

/// What making a template gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is made.
    Made,
    /// Another processor has just made it.
    Exists,
    /// There is no room.
    Full,
}

/// Makes the template of a client that was given this real server. Gives its index, 0 if it is not
/// [`Made`](Outcome::Made).
#[inline(always)]
pub fn make<A: Address, T: Tables<A>>(
    tables: &T,
    key: &TemplateKey<A>,
    server: u32,
    service: &Service,
) -> (u32, Outcome) {
    let mut walk = (Probe { index: 0 }, core::marker::PhantomData::<A>);
    tables.repeat(PROBES, &mut walk);
    let probe = walk.0;
    let (Some(template), true) = (tables.template(probe.index), probe.index != 0) else {
        return (0, Outcome::Full);
    };
    let timeout = service.persistence.load();
    template.key.store(*key);
    template.server.store(server);
    template.children.store(0);
    template.timeout.store(timeout);
    // As listings show it (ip_vs_sched_persist).
    let port = tables
        .server(server)
        .map_or(Be16::ZERO, |server| server.port.load());
    template.port.store(if key.service.port == Be16::ZERO {
        Be16::ZERO
    } else {
        port
    });
    let generation = Word(template.word.load()).generation();
    let deadline = tables.now().plus(timeout);
    load::bind_template(tables, server);
    template
        .word
        .store(Word::new(deadline, generation, TEMPLATE_NONE, TEMPLATE_USED).0);
    match tables.insert_template(key, probe.index) {
        Ok(()) => (probe.index, Outcome::Made),
        Err(error) => {
            // Nobody has found it: it is still this processor's.
            give_back(tables, template, generation);
            let full = matches!(error, crate::tables::InsertError::Full);
            (0, if full { Outcome::Full } else { Outcome::Exists })
        }
    }
}

/// Puts a new connection under the template and begins its time anew. `false`: it is gone.
#[inline(always)]
pub fn join<A: Address, T: Tables<A>>(tables: &T, index: u32) -> bool {
    let Some(template) = tables.template(index) else {
        return false;
    };
    // First: who would give the slot back sees it, or its swap fails.
    tables.add(&template.children, 1);
    let mut tries = 0;
    while tries < TRIES {
        tries += 1;
        let word = Word(template.word.load());
        if word.flags() & (TEMPLATE_USED | TEMPLATE_VOID | DEAD) != TEMPLATE_USED {
            break;
        }
        let deadline = tables.now().plus(template.timeout.load());
        let next = Word::new(deadline, word.generation(), word.state(), word.flags());
        if tables.swap(&template.word, word.0, next.0).is_ok() {
            return true;
        }
    }
    tables.add(&template.children, u32::MAX);
    false
}

/// Takes a connection that ends from under its template. The sweep gives back what then stands for nothing.
#[inline(always)]
pub fn leave<A: Address, T: Tables<A>>(tables: &T, index: u32) {
    if index != 0
        && let Some(template) = tables.template(index)
    {
        tables.add(&template.children, u32::MAX);
    }
}

/// One of its connections is established, or answered: a listing shows it, and `drop_entry` spares it. By itself, for the
/// stack of whoever calls it is part of the deepest.
#[inline(never)]
pub fn assure<A: Address, T: Tables<A>>(tables: &T, index: u32) {
    if index == 0 {
        return;
    }
    let Some(template) = tables.template(index) else {
        return;
    };
    let word = Word(template.word.load());
    if word.state() == TEMPLATE_NONE && word.has(TEMPLATE_USED) && !word.has(DEAD) {
        let next = Word::new(
            word.deadline(),
            word.generation(),
            TEMPLATE_ASSURED,
            word.flags(),
        );
        // Lost to another processor: the next packet of a new connection does it.
        let _ = tables.swap(&template.word, word.0, next.0);
    }
}

/// The sweep's look at a slot: what has expired is given back, or goes on while it controls connections. With `force` it
/// goes in any case: its real server has been removed, and nothing is to lead there.
#[inline(always)]
pub fn sweep<A: Address, T: Tables<A>>(tables: &T, index: u32, force: bool) {
    let Some(template) = tables.template(index) else {
        return;
    };
    let word = Word(template.word.load());
    if word.flags() & (TEMPLATE_USED | DEAD) != TEMPLATE_USED {
        return;
    }
    let controls = template.children.load() != 0;
    if force {
        if !word.has(TEMPLATE_VOID) {
            make_void(tables, template, word);
        }
        return;
    }
    let void = word.has(TEMPLATE_VOID);
    if !controls && (void || word.expired(tables.now())) {
        release(tables, template, word);
        return;
    }
    if void || !word.expired(tables.now()) {
        return;
    }
    template.timeout.store(CONTROLLING);
    let deadline = tables.now().plus(CONTROLLING);
    let next = Word::new(deadline, word.generation(), word.state(), word.flags());
    let _ = tables.swap(&template.word, word.0, next.0);
}

/// Takes the key from a template, and the slot if it controls nothing.
#[inline(always)]
fn make_void<A: Address, T: Tables<A>>(tables: &T, template: &Template<A>, word: Word) {
    let next = word.with(TEMPLATE_VOID);
    if tables.swap(&template.word, word.0, next.0).is_err() {
        return;
    }
    tables.delete_template(&template.key.load());
    if template.children.load() == 0 {
        release(tables, template, next);
    }
}

/// Gives a slot back, if it still says `word`.
#[inline(never)]
fn release<A: Address, T: Tables<A>>(tables: &T, template: &Template<A>, word: Word) {
    if word.has(DEAD)
        || tables
            .swap(&template.word, word.0, word.with(DEAD).0)
            .is_err()
    {
        return;
    }
    if !word.has(TEMPLATE_VOID) {
        tables.delete_template(&template.key.load());
    }
    give_back(tables, template, word.generation());
}

/// Gives back a slot that is this processor's.
#[inline(always)]
fn give_back<A: Address, T: Tables<A>>(tables: &T, template: &Template<A>, generation: u16) {
    load::unbind_template(tables, template.server.load());
    template
        .word
        .store(Word::new(Tick(0), generation.wrapping_add(1), TEMPLATE_NONE, 0).0);
}

/// One look at a slot.
struct Probe {
    /// The slot that was taken.
    index: u32,
}

impl Probe {
    /// Takes the slot if it is free, or its template has expired. Index 0 means none.
    #[inline(always)]
    fn look<A: Address, T: Tables<A>>(&mut self, tables: &T) -> bool {
        let index = tables.ticket(Ring::Templates) & tables.slots(Ring::Templates).wrapping_sub(1);
        let Some(template) = tables.template(index) else {
            return true;
        };
        let mut word = Word(template.word.load());
        if word.flags() & (TEMPLATE_USED | DEAD) == TEMPLATE_USED
            && (word.has(TEMPLATE_VOID) || word.expired(tables.now()))
            && template.children.load() == 0
        {
            release(tables, template, word);
            word = Word(template.word.load());
        }
        if index == 0 || word.flags() != 0 {
            return true;
        }
        let taken = Word::new(
            Tick(0),
            word.generation(),
            TEMPLATE_NONE,
            TEMPLATE_USED | DEAD,
        );
        if tables.swap(&template.word, word.0, taken.0).is_err() {
            return true;
        }
        self.index = index;
        false
    }
}

impl<A: Address, T: Tables<A>> Turn<T> for (Probe, core::marker::PhantomData<A>) {
    #[inline(always)]
    fn turn(&mut self, tables: &T) -> bool {
        self.0.look(tables)
    }
}
