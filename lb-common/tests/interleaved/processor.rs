//! One of two processors: the tables, where every operation that another processor can notice is a point at which that
//! other processor may go on instead.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use corosensei::Yielder;
use lb_common::{
    abi::{
        AnswerKey, Conn, ConnKey, DEAD, FragmentKey, FragmentPorts, Hop, Interface, Locality,
        LocalityKey, MarkKey, MarkValue, RealKey, Scope, Server, Service, ServiceKey, Shared,
        Template, TemplateKey, Tick, V4, Word,
    },
    conn::create::Scratch,
    host::Memory,
    tables::{InsertError, Ring, Tables, Traffic, Turn},
    verdict::Reason,
};

/// What the processors share.
pub(crate) struct World {
    /// The tables.
    pub(crate) memory: Memory<V4>,
    /// Which processor has claimed the entry with this word.
    claims: RefCell<HashMap<*const Shared<u64>, usize>>,
    /// The first rule that was broken.
    fault: RefCell<Option<String>>,
}

impl World {
    /// Around these tables.
    pub(crate) fn new(memory: Memory<V4>) -> Self {
        Self {
            memory,
            claims: RefCell::default(),
            fault: RefCell::default(),
        }
    }

    /// A rule was broken.
    pub(crate) fn broken(&self, fault: String) {
        self.fault.borrow_mut().get_or_insert(fault);
    }

    /// The first rule that was broken.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.borrow_mut().take()
    }
}

/// One processor's view of the tables.
pub(crate) struct Processor<'y> {
    number: usize,
    world: Rc<World>,
    scratch: Scratch<V4>,
    yielder: &'y Yielder<(), ()>,
}

impl<'y> Processor<'y> {
    /// The processor with this number.
    pub(crate) fn new(number: usize, world: &Rc<World>, yielder: &'y Yielder<(), ()>) -> Self {
        let scratch = world.memory.another_scratch();
        Self {
            number,
            world: Rc::clone(world),
            scratch,
            yielder,
        }
    }

    /// The other processor may go on here.
    fn pause(&self) {
        self.yielder.suspend(());
    }

    fn memory(&self) -> &Memory<V4> {
        &self.world.memory
    }
}

impl Tables<V4> for Processor<'_> {
    fn scope_id(&self) -> u32 {
        self.memory().scope_id()
    }

    fn now(&self) -> Tick {
        self.memory().now()
    }

    fn random(&self) -> u32 {
        self.memory().random()
    }

    fn draw(&self) -> u32 {
        self.memory().draw()
    }

    fn scope(&self) -> Option<&Scope> {
        self.memory().scope()
    }

    fn service_index(&self, key: &ServiceKey<V4>) -> u32 {
        self.memory().service_index(key)
    }

    fn service(&self, index: u32) -> Option<&Service> {
        // The cursor is read next.
        self.pause();
        self.memory().service(index)
    }

    fn server(&self, index: u32) -> Option<&Server> {
        self.memory().server(index)
    }

    fn bucket(&self, index: u32) -> u32 {
        self.memory().bucket(index)
    }

    fn locality(&self, key: &LocalityKey<V4>) -> Option<&Locality> {
        self.memory().locality(key)
    }

    fn remember_locality(&self, key: &LocalityKey<V4>, server: u32) {
        self.memory().remember_locality(key, server);
    }

    fn mark(&self, key: &MarkKey<V4>) -> Option<MarkValue> {
        self.memory().mark(key)
    }

    fn is_real(&self, key: &RealKey<V4>) -> bool {
        self.memory().is_real(key)
    }

    fn answers(&self, key: &AnswerKey<V4>) -> bool {
        self.memory().answers(key)
    }

    fn route(&self, destination: V4) -> u32 {
        self.memory().route(destination)
    }

    fn hop(&self, index: u32) -> Option<&Hop> {
        self.memory().hop(index)
    }

    fn interface(&self, ifindex: u32) -> Option<Interface> {
        self.memory().interface(ifindex)
    }

    fn conn(&self, key: &ConnKey<V4>) -> Option<&Conn<V4>> {
        self.pause();
        let found = self.memory().conn(key);
        if found.is_some() {
            // Between the look-up and the first look at what was found.
            self.pause();
        }
        found
    }

    fn insert_conn(&self, key: &ConnKey<V4>, conn: &Conn<V4>) -> Result<(), InsertError> {
        self.pause();
        self.memory().insert_conn(key, conn)?;
        if let Some(entry) = self.memory().entries().get(key) {
            self.world
                .claims
                .borrow_mut()
                .remove(&(&raw const entry.word));
        }
        Ok(())
    }

    fn delete_conn(&self, key: &ConnKey<V4>) {
        self.pause();
        match self.memory().entries().get(key) {
            None => self.world.broken(format!(
                "{} deletes what is not there: {key:?}",
                self.number
            )),
            Some(entry) => {
                let claimed = self
                    .world
                    .claims
                    .borrow()
                    .get(&(&raw const entry.word))
                    .copied();
                if claimed != Some(self.number) {
                    self.world.broken(format!(
                        "{} deletes what {claimed:?} has claimed: {key:?} {:?}",
                        self.number,
                        Word(entry.word.load()),
                    ));
                }
            }
        }
        self.memory().delete_conn(key);
    }

    fn scratch(&self) -> Option<&Scratch<V4>> {
        Some(&self.scratch)
    }

    fn ticket(&self, ring: Ring) -> u32 {
        self.pause();
        self.memory().ticket(ring)
    }

    fn slots(&self, ring: Ring) -> u32 {
        self.memory().slots(ring)
    }

    fn slot(&self, ring: Ring, index: u32) -> Option<&Shared<ConnKey<V4>>> {
        self.pause();
        self.memory().slot(ring, index)
    }

    fn due(&self, ring: Ring, index: u32) -> Option<&Shared<u64>> {
        self.pause();
        self.memory().due(ring, index)
    }

    fn template_index(&self, key: &TemplateKey<V4>) -> u32 {
        self.pause();
        self.memory().template_index(key)
    }

    fn template(&self, index: u32) -> Option<&Template<V4>> {
        self.pause();
        self.memory().template(index)
    }

    fn insert_template(&self, key: &TemplateKey<V4>, index: u32) -> Result<(), InsertError> {
        self.pause();
        self.memory().insert_template(key, index)
    }

    fn delete_template(&self, key: &TemplateKey<V4>) {
        self.pause();
        self.memory().delete_template(key);
    }

    fn fragment(&self, key: &FragmentKey<V4>) -> Option<FragmentPorts> {
        self.memory().fragment(key)
    }

    fn remember_fragment(&self, key: &FragmentKey<V4>, ports: &FragmentPorts) {
        self.memory().remember_fragment(key, ports);
    }

    fn swap(&self, word: &Shared<u64>, old: u64, new: u64) -> Result<(), u64> {
        self.pause();
        self.memory().swap(word, old, new)?;
        // A cursor has no such bit: its weights stay far below.
        if Word(new).has(DEAD) {
            self.world.claims.borrow_mut().insert(word, self.number);
        }
        Ok(())
    }

    fn add(&self, word: &Shared<u32>, value: u32) {
        self.pause();
        self.memory().add(word, value);
    }

    fn may_send_error(&self) -> bool {
        self.memory().may_send_error()
    }

    fn count(&self, reason: Reason, bytes: u32) {
        self.memory().count(reason, bytes);
    }

    fn count_server(&self, server: u32, traffic: Traffic, bytes: u32) {
        self.memory().count_server(server, traffic, bytes);
    }

    fn repeat<B: Turn<Self>>(&self, most: u32, turn: &mut B) {
        for number in 0..most as usize {
            if !turn.nth(self, number) {
                return;
            }
        }
    }
}
