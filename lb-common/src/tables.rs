//! What the pipeline looks up and records. BPF maps in the kernel; hash maps in tests, where a second implementation
//! interleaves two processors at every call.

use crate::{
    abi::{
        Address, AnswerKey, Conn, ConnKey, FragmentKey, FragmentPorts, Hop, Interface, Locality,
        LocalityKey, MarkKey, MarkValue, RealKey, Scope, Server, Service, ServiceKey, Shared,
        Template, TemplateKey, Tick,
    },
    conn::create::Scratch,
    verdict::Reason,
};

/// Why an entry was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// The key is taken.
    Exists,
    /// There is no room.
    Full,
}

/// Which ring: two bound the connection table, one the templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ring {
    /// Connections that have not been answered yet: always recycled when the ring comes round.
    HalfOpen,
    /// Connections that have: recycled only when expired.
    Assured,
    /// Persistence templates, whose slots are the templates themselves: recycled only when expired and without children.
    Templates,
}

/// What happened, for the counters of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// A connection was made.
    Connection,
    /// A packet from the client.
    In,
    /// A packet to the client.
    Out,
}

/// One turn of [`Tables::repeat`].
pub trait Turn<T: ?Sized> {
    /// Does it; `false` ends the loop.
    fn turn(&mut self, tables: &T) -> bool;

    /// The same, told how many turns came before. A turn that counts by itself would be followed by the verifier as often
    /// as it is done, for it knows the count each time; this number it does not know, and follows the turn once.
    #[inline(always)]
    fn nth(&mut self, tables: &T, _number: usize) -> bool {
        self.turn(tables)
    }
}

/// The tables of one scope, for one address family.
pub trait Tables<A: Address> {
    /// The scope id.
    fn scope_id(&self) -> u32;
    /// The time.
    fn now(&self) -> Tick;
    /// A random number.
    fn random(&self) -> u32;
    /// A number that is one more with each call.
    fn draw(&self) -> u32;

    /// The scope's settings.
    fn scope(&self) -> Option<&Scope>;
    /// Index of a virtual service, 0 for none.
    fn service_index(&self, key: &ServiceKey<A>) -> u32;
    /// A virtual service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// A real server.
    fn server(&self, index: u32) -> Option<&Server>;
    /// A bucket of a hashing scheduler's table: index of a real server, 0 for none.
    fn bucket(&self, index: u32) -> u32;
    /// What lblc and lblcr remember of a destination.
    fn locality(&self, key: &LocalityKey<A>) -> Option<&Locality>;
    /// Has this destination remembered, with the real server of this name alone ([`Server::name`]).
    fn remember_locality(&self, key: &LocalityKey<A>, server: u32);
    /// The effect of a mark rule.
    fn mark(&self, key: &MarkKey<A>) -> Option<MarkValue>;
    /// Whether bpvs answers for this address.
    fn answers(&self, key: &AnswerKey<A>) -> bool;
    /// Whether a real server that is reached by masquerading sends from there.
    fn is_real(&self, key: &RealKey<A>) -> bool;
    /// The hop of the longest route that matches, 0 for none.
    fn route(&self, destination: A) -> u32;
    /// A next hop.
    fn hop(&self, index: u32) -> Option<&Hop>;
    /// An interface of the scope.
    fn interface(&self, ifindex: u32) -> Option<Interface>;

    /// A connection's entry.
    fn conn(&self, key: &ConnKey<A>) -> Option<&Conn<A>>;
    /// Inserts an entry, if the key is free.
    ///
    /// # Errors
    /// The key is taken, or there is no room.
    fn insert_conn(&self, key: &ConnKey<A>, conn: &Conn<A>) -> Result<(), InsertError>;
    /// Deletes an entry. Only whoever has claimed or made the connection may.
    fn delete_conn(&self, key: &ConnKey<A>);
    /// Room for a connection that is being made: this processor's own.
    fn scratch(&self) -> Option<&Scratch<A>>;
    /// The next ticket of a ring.
    fn ticket(&self, ring: Ring) -> u32;
    /// The slots of a ring.
    fn slots(&self, ring: Ring) -> u32;
    /// A slot of a ring of connections, by its index below [`Tables::slots`].
    fn slot(&self, ring: Ring, index: u32) -> Option<&Shared<ConnKey<A>>>;
    /// When the sweep is to look at the connection of that slot (`conn::due`).
    fn due(&self, ring: Ring, index: u32) -> Option<&Shared<u64>>;

    /// Index of the template with this key, 0 for none.
    fn template_index(&self, key: &TemplateKey<A>) -> u32;
    /// A template's slot.
    fn template(&self, index: u32) -> Option<&Template<A>>;
    /// Makes a template found by its key, if the key is free.
    ///
    /// # Errors
    /// The key is taken, or there is no room.
    fn insert_template(&self, key: &TemplateKey<A>, index: u32) -> Result<(), InsertError>;
    /// Makes this key find no template. Only whoever has claimed or voided the template may.
    fn delete_template(&self, key: &TemplateKey<A>);

    /// What the first fragment of a packet said.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    /// Remembers what the first fragment says.
    fn remember_fragment(&self, key: &FragmentKey<A>, ports: &FragmentPorts);

    /// Compare-and-swap.
    ///
    /// # Errors
    /// Gives the value that was there instead of `old`.
    fn swap(&self, word: &Shared<u64>, old: u64, new: u64) -> Result<(), u64>;
    /// Adds, wrapping.
    fn add(&self, word: &Shared<u32>, value: u32);

    /// Whether an ICMP error may be sent now: as the kernel's `icmp_msgs_per_sec`, 1000 a second.
    fn may_send_error(&self) -> bool;
    /// Counts a packet under its reason.
    fn count(&self, reason: Reason, bytes: u32);
    /// Counts for a real server.
    fn count_server(&self, server: u32, traffic: Traffic, bytes: u32);

    /// Runs `turn` up to `most` times, until it returns `false`.
    fn repeat<B: Turn<Self>>(&self, most: u32, turn: &mut B);
}
