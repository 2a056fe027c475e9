//! The way of one packet, one line a step.

pub use crate::direct::Direct;
use crate::{
    abi::{
        AVAILABLE, Address, AnswerKey, Be16, Be32, Conn, ConnKey, HOP_LOCAL, KIND_FWMARK,
        NO_OUTPUT, ONE_PACKET, PERSISTENT, REPLY, RESET, RealKey, SCOPE_ANSWERS,
        SCOPE_CACHE_BYPASS, SCOPE_EXPIRE_REMOVED, SCOPE_HOLD_REMOVED, SCOPE_NO_REUSE, SCOPE_RELAYS,
        SCOPE_RESETS, SCOPE_REUSE_FIN_WAIT, SCOPE_SLOPPY_TCP, SCOPE_SOCKETS, SCOPE_TELLS_REALS,
        Tick, V4, Word,
    },
    arp, classify,
    conn::{
        claim,
        create::{self, Outcome},
        find::{self, Found, Known},
        state::{self, Event},
        track::{self, Tracked},
    },
    emit::Way,
    family::{Family, Ipv4},
    forward,
    icmp::error::Refusal,
    link::{self, Content, L3},
    packet::Packet,
    relay, socket,
    tables::Tables,
    transport::{self, Segment},
    verdict::{Action, Reason, Step, Verdict},
};

/// The port from which an FTP server opens data connections.
const FTP_DATA: Be16 = Be16::new(20);
/// Ticks that the later fragments of a packet may take: as long as the kernel's reassembly waits.
pub const FRAGMENT_LIFE: u32 = Tick::from_secs(30).0;

/// Handles one packet: the verdict is what the program must do with it. Counts its reason.
///
/// The way of an IP packet has parts, each of which begins with the packet and gives one word. A packet of a known
/// connection passes through [`follow`] only; one that opens a connection through [`classify`], [`create::create`] and
/// then [`follow`] too. A program makes each part a function of its own: the verifier then checks each by itself, and
/// the stack, which is small, holds one at a time.
#[inline(always)]
pub fn handle<P: Packet, T: Tables<V4>, X: Parts>(
    packet: &P,
    tables: &T,
    parts: &mut X,
) -> Verdict {
    let bytes = packet.arrival().length;
    let verdict = match link::content(packet) {
        Ok(Content::Ipv4) => network(parts),
        Ok(Content::Arp) => Verdict::from_word(parts.arp()),
        Err(verdict) => verdict,
    };
    end::<P, T>(tables, verdict, bytes)
}

/// Counts the packet, unless it is left to the next layer: which passes, tells senders of errors, and asks the kernel for
/// neighbours.
#[inline(always)]
fn end<P: Packet, T: Tables<V4>>(tables: &T, verdict: Verdict, bytes: u32) -> Verdict {
    if P::EARLY && !matches!(verdict.action, Action::Drop | Action::Transmit) {
        return Verdict::hand_over();
    }
    tables.count(verdict.reason, bytes);
    verdict
}

/// The parts of a packet's way, for one packet. Each gives a [`Verdict::word`] or one of the words below.
pub trait Parts {
    /// Whether it turns packets into ICMP errors and resets; where not, they are handed over.
    const REFUSES: bool;

    /// [`follow`].
    fn follow(&mut self) -> u64;
    /// [`classify`].
    fn classify(&mut self) -> u64;
    /// [`relay::relay`].
    fn relay(&mut self) -> u64;
    /// [`schedule`].
    fn schedule(&mut self) -> u64;
    /// [`persist`].
    fn persist(&mut self) -> u64;
    /// [`create`].
    fn create(&mut self) -> u64;
    /// [`once`].
    fn once(&mut self) -> u64;
    /// [`Family::control`]: once more when the connection that it asked for is there.
    fn control(&mut self) -> u64;
    /// [`refuse`], for the word of a [`Verdict::refuse`].
    fn refuse(&mut self, why: u64) -> u64;
    /// [`arp::process`].
    fn arp(&mut self) -> u64;
}

/// Handles a packet of one family, from its network header on: it follows its connection, or opens one and then follows
/// it.
#[inline(always)]
pub fn network<X: Parts>(parts: &mut X) -> Verdict {
    let mut word = parts.follow();
    let control = word == CONTROL;
    if control {
        word = parts.control();
    } else if word == UNKNOWN {
        word = parts.classify();
    }
    if word == RELAYED {
        word = parts.relay();
    }
    if word == OPEN {
        let mut choices = 0;
        word = AGAIN;
        while word == AGAIN && choices < CHOICES {
            word = parts.schedule();
            if word == PERSIST {
                word = parts.persist();
            }
            if word == CHOSEN {
                word = parts.create();
            }
            choices += 1;
        }
        if word == MADE && control {
            word = parts.control();
        } else if word == MADE {
            word = parts.follow();
        } else if word == ALONE {
            word = parts.once();
        }
    }
    if word == UNKNOWN || word == AGAIN || word == OPEN {
        // Gone again before it could be followed, or other processors were faster each time.
        return Verdict::drop(Reason::Busy);
    }
    let verdict = Verdict::from_word(word);
    if verdict.action == Action::Refuse && X::REFUSES {
        Verdict::from_word(parts.refuse(word))
    } else {
        verdict
    }
}

/// [`handle`] with [`Direct`] parts.
pub fn run<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> Verdict {
    let bytes = packet.arrival().length;
    let verdict = match link::content(packet) {
        Ok(Content::Ipv4) => network(&mut Direct::<Ipv4, P, T>::new(packet, tables)),
        Ok(Content::Arp) => Verdict::from_word(arp::process(packet, tables)),
        Err(verdict) => verdict,
    };
    end::<P, T>(tables, verdict, bytes)
}

/// What [`follow`] gives for a packet of no known connection. Not a verdict's word, like the next ones.
pub const UNKNOWN: u64 = u64::MAX;
/// What [`follow`] gives for a packet of the control protocol.
pub const CONTROL: u64 = u64::MAX - 1;
/// What [`classify`] gives for a packet that opens a connection, and [`Family::control`] for one about a connection that
/// is to be opened.
pub const OPEN: u64 = u64::MAX - 2;
/// What [`create`] gives when the connection is made.
pub const MADE: u64 = u64::MAX - 3;
/// What [`create`] gives when another processor chose a real server meanwhile, so that the choice must be made again.
pub const AGAIN: u64 = u64::MAX - 4;
/// What [`schedule`] gives when a real server is chosen.
pub const CHOSEN: u64 = u64::MAX - 5;
/// What [`schedule`] gives when one is chosen for a service whose clients are to stay with theirs.
pub const PERSIST: u64 = u64::MAX - 7;
/// What [`create`] gives for a packet that is scheduled by itself.
pub const ALONE: u64 = u64::MAX - 6;
/// What [`classify`] gives for a packet of a service that relays.
pub const RELAYED: u64 = u64::MAX - 8;
/// How often it is made again.
const CHOICES: u32 = 4;

/// Rewrites a packet of a known connection and sends it on. Gives a [`Verdict::word`], [`UNKNOWN`] or [`CONTROL`].
#[inline(always)]
pub fn follow<F: Family, P: Packet, T: Tables<F::Address>>(packet: &mut P, tables: &T) -> u64 {
    let Some(header) = F::header(packet, L3, false) else {
        return Verdict::pass(Reason::Malformed).word();
    };
    if header.protocol == F::CONTROL {
        return CONTROL;
    }
    let segment = match transport::segment(packet, tables, &header) {
        Ok(segment) => segment,
        Err(verdict) => return verdict.word(),
    };
    let now = tables.now();
    let found = known(tables, &segment, now);
    if let Some(reason) = found.ends {
        return Verdict::drop(reason).word();
    }
    let Some(conn) = found.conn else {
        // What most packets of other traffic are is known now, and need not be read once more.
        let flags = tables.scope().map_or(0, |scope| scope.flags);
        return if opens(segment.event, flags).is_none() && flags & SCOPE_TELLS_REALS == 0 {
            Verdict::pass(Reason::NoConnection).word()
        } else {
            UNKNOWN
        };
    };
    let mut way = Way::STAY;
    if P::EARLY {
        // Before the packet is recorded: the layer that it may be left to will record it.
        let Some(known) = Known::copy(conn, found.word) else {
            return Verdict::drop(Reason::Busy).word();
        };
        way = forward::way_out::<F, P, T>(packet, tables, &header, &segment.key, &known, now);
        if !way.is_for::<P>() {
            return Verdict::hand_over().word();
        }
    }
    match track::track(tables, &segment.key, conn, found.word, segment.event, now) {
        Tracked::Done => {}
        Tracked::Busy => return Verdict::drop(Reason::Busy).word(),
        Tracked::Gone => return UNKNOWN,
    }
    let Some(known) = Known::copy(conn, found.word) else {
        return Verdict::drop(Reason::Busy).word();
    };
    if !P::EARLY {
        way = forward::way_out::<F, P, T>(packet, tables, &header, &segment.key, &known, now);
    }
    let (Ok(verdict) | Err(verdict)) =
        forward::forward::<F, P, T>(packet, tables, &header, &segment, &known, way);
    verdict.word()
}

/// The packet's connection, unless the packet makes it begin anew.
#[inline(always)]
fn known<'t, A: Address, T: Tables<A>>(
    tables: &'t T,
    segment: &Segment<A>,
    now: Tick,
) -> Found<'t, A> {
    let found = find::find(tables, &segment.key, now);
    let Some(conn) = found.conn else {
        return found;
    };
    if found.word.has(REPLY) {
        return found;
    }
    let flags = || tables.scope().map_or(0, |scope| scope.flags);
    let server = tables.server(conn.server.load());
    let available = server.is_some_and(|server| server.flags.load() & AVAILABLE != 0);
    if segment.event == Some(Event::Syn) {
        let weight = server.map_or(0, |server| server.weight.load());
        // A client that uses the port of a connection to a removed real server again is not to wait for that one's end, as it
        // has to with IPVS.
        let reopens = !available & (flags() & SCOPE_HOLD_REMOVED == 0);
        if reopens || begins_anew(conn, found.word, flags(), weight) {
            return replace(tables, &segment.key, conn, found.word);
        }
    }
    if !available {
        if flags() & SCOPE_EXPIRE_REMOVED == 0 {
            return Found {
                conn: None,
                word: Word(0),
                ends: Some(Reason::ServerRemoved),
            };
        }
        return replace(tables, &segment.key, conn, found.word);
    }
    found
}

/// Whether a SYN opens a connection in place of the one that has its addresses and ports (ip_vs_in_hook): the client uses
/// the port again after that one has ended, or its real server, still there, takes no new ones. Not the connection that
/// this very SYN has made: a template may well have led it to such a server.
///
/// What a persistence template controls goes on as it is.
#[inline(always)]
fn begins_anew<A: Address>(conn: &Conn<A>, word: Word, flags: u32, weight: u32) -> bool {
    let state = word.state();
    let out_of_rotation =
        (flags & SCOPE_EXPIRE_REMOVED != 0) & (weight == 0) & (state != state::NONE);
    let reuse = (flags & SCOPE_NO_REUSE == 0) & (conn.template.load() == 0);
    let ended = (state == state::TIME_WAIT) | (state == state::CLOSE);
    let client_closed =
        (state == state::FIN_WAIT) & word.has(NO_OUTPUT) & (flags & SCOPE_REUSE_FIN_WAIT != 0);
    out_of_rotation | reuse & (ended | client_closed)
}

/// Takes the connection of a packet apart, so that the packet can open a new one.
#[inline(always)]
fn replace<'t, A: Address, T: Tables<A>>(
    tables: &T,
    key: &ConnKey<A>,
    conn: &Conn<A>,
    word: Word,
) -> Found<'t, A> {
    let claimed = claim::claim(tables, conn, word);
    if claimed {
        claim::bury(tables, key, conn, word);
    }
    Found {
        conn: None,
        word: Word(0),
        ends: if claimed { None } else { Some(Reason::Busy) },
    }
}

/// Finds the service of a packet that belongs to no connection, and notes it for [`create::create`]. Gives [`OPEN`],
/// or a [`Verdict::word`].
#[inline(always)]
pub fn classify<F: Family, P: Packet, T: Tables<F::Address>>(packet: &mut P, tables: &T) -> u64 {
    match service::<F, P, T>(packet, tables) {
        Ok(word) => word,
        Err(verdict) => verdict.word(),
    }
}

#[inline(always)]
fn service<F: Family, P: Packet, T: Tables<F::Address>>(packet: &P, tables: &T) -> Step<u64> {
    let Some(header) = F::header(packet, L3, false) else {
        return Err(Verdict::pass(Reason::Malformed));
    };
    let segment = transport::segment(packet, tables, &header)?;
    if !segment.has_header {
        return Err(Verdict::pass(Reason::FragmentEarly));
    }
    let flags = tables.scope().map_or(0, |scope| scope.flags);
    // Before anything of the packet's destination is asked, as ip_vs_out comes before ip_vs_in. Nobody is told of a reset.
    let key = &segment.key;
    if flags & SCOPE_TELLS_REALS != 0
        && segment.event != Some(Event::Rst)
        && tables.is_real(&RealKey::new(key.scope_protocol, key.src, key.sport))
        && !(flags & SCOPE_SOCKETS != 0 && packet.is_for_socket(&segment.key.into()))
    {
        let to_host = is_local(tables, key.dst);
        return Err(Verdict::refuse(Reason::UnknownReply, 0, !to_host));
    }
    let Some(opens) = opens(segment.event, flags) else {
        return Err(Verdict::pass(Reason::NoConnection));
    };
    // Nobody can be answered at such an address; the host's stack drops it.
    if !header.src.is_host() || header.src == header.dst {
        return Err(Verdict::pass(Reason::Malformed));
    }
    let Some(scope) = tables.scope() else {
        return Err(Verdict::pass(Reason::NoService));
    };
    let service = classify::service(tables, scope, &segment.key, &packet.arrival());
    if service != 0
        && packet.arrival().egress
        && socket::is_led(tables, packet.cookie(), &segment.key)
    {
        return Err(Verdict::pass(Reason::NoService));
    }
    if flags & SCOPE_RELAYS != 0 && relay::is_for(tables, service) {
        return Ok(match tables.scratch() {
            Some(scratch) => {
                scratch.service.store(service);
                RELAYED
            }
            None => Verdict::drop(Reason::Busy).word(),
        });
    }
    if !opens {
        let resets = segment.event != Some(Event::Rst)
            && tables
                .service(service)
                .is_some_and(|service| service.flags.load() & RESET != 0);
        return Err(if service != 0 && resets {
            Verdict::refuse(Reason::Reset, 0, false)
        } else {
            Verdict::pass(Reason::NoConnection)
        });
    }
    if service != 0 {
        // An active FTP data connection comes from the real server (ip_vs_schedule).
        if segment.key.sport == FTP_DATA {
            return Err(Verdict::pass(Reason::NoConnection));
        }
        // Its choice is made good before it is known where it leaves.
        if P::EARLY && header.protocol == transport::UDP && is_one_packet(tables, service) {
            return Err(Verdict::hand_over());
        }
        let rate = scope.drop_rate;
        if rate != 0 && tables.draw() % rate == rate - 1 {
            return Err(Verdict::drop(Reason::DropDefence));
        }
        let noted = create::note(
            tables,
            &segment.key,
            service,
            forward::bytes(packet, &header),
        );
        return if noted {
            Ok(OPEN)
        } else {
            Err(Verdict::drop(Reason::Busy))
        };
    }
    let answered = scope.flags & SCOPE_ANSWERS != 0
        && tables.answers(&AnswerKey {
            address: header.dst,
            scope: tables.scope_id(),
        });
    Err(if answered {
        Verdict::refuse(Reason::PortClosed, 0, false)
    } else {
        Verdict::pass(Reason::NoService)
    })
}

/// Whether a packet of no known connection opens one, by these flags of the scope; `None`: it does not, and whether there
/// is a service for it makes no difference.
#[inline(always)]
const fn opens(event: Option<Event>, flags: u32) -> Option<bool> {
    let (opens, others) = match event {
        Some(Event::Syn) | None => (true, 0),
        Some(Event::Rst) => (false, SCOPE_RELAYS),
        Some(Event::Fin | Event::Ack | Event::Nothing) => {
            (flags & SCOPE_SLOPPY_TCP != 0, SCOPE_RELAYS | SCOPE_RESETS)
        }
    };
    if opens || flags & others != 0 {
        Some(opens)
    } else {
        None
    }
}

#[inline(always)]
fn is_one_packet<A: Address, T: Tables<A>>(tables: &T, service: u32) -> bool {
    tables
        .service(service)
        .is_some_and(|service| service.flags.load() & ONE_PACKET != 0)
}

/// Chooses the real server for the connection that was noted. Gives [`CHOSEN`], [`AGAIN`] or a [`Verdict::word`].
#[inline(always)]
pub fn schedule<A: Address, T: Tables<A>>(tables: &T) -> u64 {
    let Some(scratch) = tables.scratch() else {
        return Verdict::drop(Reason::Busy).word();
    };
    let Some(service) = tables.service(scratch.service.load()) else {
        return Verdict::refuse(Reason::NoServer, 0, false).word();
    };
    if create::choose(tables, scratch, service) {
        return if service.flags.load() & PERSISTENT != 0 {
            PERSIST
        } else {
            CHOSEN
        };
    }
    // Past the cache, to where it was sent (ip_vs_leave).
    let bypass = service.kind.load() == KIND_FWMARK
        && tables
            .scope()
            .is_some_and(|scope| scope.flags & SCOPE_CACHE_BYPASS != 0);
    if bypass && !is_local(tables, scratch.forward_key.load().dst) {
        Verdict::pass(Reason::Bypassed).word()
    } else {
        Verdict::refuse(Reason::NoServer, 0, false).word()
    }
}

#[inline(always)]
fn is_local<A: Address, T: Tables<A>>(tables: &T, address: A) -> bool {
    tables
        .hop(tables.route(address))
        .is_some_and(|hop| hop.kind.load() == HOP_LOCAL)
}

/// Sends a packet on that was scheduled by itself: as its connection says, which is in the scratch and nowhere else. Gives
/// a [`Verdict::word`].
#[inline(always)]
pub fn once<F: Family, P: Packet, T: Tables<F::Address>>(packet: &mut P, tables: &T) -> u64 {
    let Some(header) = F::header(packet, L3, false) else {
        return Verdict::pass(Reason::Malformed).word();
    };
    let segment = match transport::segment(packet, tables, &header) {
        Ok(segment) => segment,
        Err(verdict) => return verdict.word(),
    };
    let Some(scratch) = tables.scratch() else {
        return Verdict::drop(Reason::Busy).word();
    };
    let word = Word(scratch.entry.word.load());
    let Some(known) = Known::copy(&scratch.entry, word) else {
        return Verdict::drop(Reason::Busy).word();
    };
    let now = tables.now();
    let way = forward::way_out::<F, P, T>(packet, tables, &header, &segment.key, &known, now);
    let (Ok(verdict) | Err(verdict)) =
        forward::forward::<F, P, T>(packet, tables, &header, &segment, &known, way);
    verdict.word()
}

/// Puts the connection that was noted under its template. Gives [`CHOSEN`], [`AGAIN`] or a [`Verdict::word`].
#[inline(always)]
pub fn persist<A: Address, T: Tables<A>>(tables: &T) -> u64 {
    match create::persist(tables) {
        Outcome::Made => CHOSEN,
        outcome => ended(outcome),
    }
}

/// Makes the connection that was noted. Gives [`MADE`], [`ALONE`], [`AGAIN`] or a [`Verdict::word`].
#[inline(always)]
pub fn create<A: Address, T: Tables<A>>(tables: &T) -> u64 {
    match create::create(tables) {
        Outcome::Made | Outcome::Exists => MADE,
        Outcome::Once => ALONE,
        outcome => ended(outcome),
    }
}

/// What becomes of a packet whose connection was not made.
#[inline(always)]
pub(crate) fn ended(outcome: Outcome) -> u64 {
    let reason = match outcome {
        Outcome::NoServer => return Verdict::refuse(Reason::NoServer, 0, false).word(),
        Outcome::NoRoute => Reason::NoRoute,
        Outcome::NoPort => Reason::NoPort,
        Outcome::TableFull => Reason::TableFull,
        Outcome::Contended => return AGAIN,
        Outcome::Made | Outcome::Exists | Outcome::Once | Outcome::Busy => Reason::Busy,
    };
    Verdict::drop(reason).word()
}

/// Tells the packet's sender why it ends here: the word of a [`Verdict::refuse`]. Gives a [`Verdict::word`].
#[inline(always)]
pub fn refuse<F: Family, P: Packet, T: Tables<F::Address>>(
    packet: &mut P,
    tables: &T,
    why: u64,
) -> u64 {
    let Verdict {
        ifindex: value,
        reason,
        ..
    } = Verdict::from_word(why);
    let Some(header) = F::header(packet, L3, false) else {
        return Verdict::drop(reason).word();
    };
    if reason == Reason::Reset {
        return F::reset(packet, tables, &header).word();
    }
    let to_client = value >> 16 & 1 == 0;
    // Its hop limit has been counted down by then (ip_vs_nat_xmit); that of a reply has not. A stranger's has, where it was
    // being forwarded.
    let counted_down =
        (reason == Reason::TooBig) & to_client | (reason == Reason::UnknownReply) & !to_client;
    if counted_down && !packet.arrival().egress && F::decrement_hop_limit(packet, L3).is_none() {
        return Verdict::drop(reason).word();
    }
    let refusal = match reason {
        Reason::TimeExceeded => Refusal::TIME_EXCEEDED,
        Reason::TooBig => Refusal::fragmentation_needed(value & 0xffff),
        _ => Refusal::PORT_UNREACHABLE,
    };
    // To the client the director is the service address, to the real server it is the interface's.
    let from = if !to_client {
        let own = tables
            .interface(packet.arrival().ifindex)
            .map_or(Be32::ZERO, |interface| interface.address);
        Address::from_words([own, Be32::ZERO, Be32::ZERO, Be32::ZERO])
    } else {
        header.dst
    };
    F::refuse(packet, tables, &header, refusal, from, reason).word()
}
