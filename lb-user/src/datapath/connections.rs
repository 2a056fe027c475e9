//! Reading and sweeping the connection table.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lb_common::abi::{
    AVAILABLE, Be16, Conn, ConnKey, DIRECT, REPLY, SweepItem, Tick, V4, Word, socket_cookie,
    socket_protocol,
};
use lb_common::conn::state;

use super::due::{self, Dues};
use super::maps::{Maps, SWEEP};
use super::sockets;
use super::sys::{self, BatchCursor};
use super::templates::{self, Templates};
use super::{Connection, DatapathError, Kind, SweepReport, ebpf, system, words};
use crate::model::ScopeId;

/// Entries read in one system call, and slots looked at in one go: some ten milliseconds of work at most.
const BATCH: u32 = 4096;
/// Entries that the walk over the table reads in one tick. It is for what no slot names: what is left of a connection
/// whose making was interrupted, an answered connection that found no slot, the sockets of connections.
const WALK: u64 = 16_384;
/// The same where connections are given up early: of each second's share.
const WALK_EARLY: u64 = 131_072;

/// The sweep: where it stands, and the program that deletes.
pub(super) struct Sweeper {
    program: SchedClassifier,
    cursor: BatchCursor,
    /// How many ticks this walk over the table has taken so far, and the one before took.
    ticks: (u32, u32),
    /// It gives connections up early.
    early: bool,
    dues: Dues,
    /// How many connections were taken apart since the last report.
    deleted: u64,
    templates: Templates,
    /// The walk for connections of servers that were removed, if there is one to make.
    removed: Option<BatchCursor>,
    /// Some were removed since that walk began.
    again: bool,
    /// The sockets that this walk has met.
    sockets: sockets::Watch,
    rest: Rest,
}

/// For how many ticks there has been no connection.
#[derive(Debug, Default)]
struct Rest(u32);

/// While no connection is counted, the table is walked over with each of so many ticks only: an empty one is not free, for its
/// buckets are looked at one by one.
const IDLE_EVERY: u32 = 8;

/// Which part of the connections that are not established goes each second, where `drop_entry` says so.
const EARLY: u32 = 32;

/// What is given up before its time (`ip_vs_random_dropentry`).
///
/// IPVS also drops some established connections that have seen few packets. Those are not counted here.
pub(super) struct Early {
    scopes: BTreeSet<u32>,
    /// Of 2^32, those that go.
    share: u64,
    random: RandomState,
}

impl Early {
    /// In these scopes, where the table is walked over in so many seconds.
    pub(super) fn new(scopes: BTreeSet<u32>, seconds: u32) -> Self {
        Self {
            scopes,
            share: (u64::from(seconds.max(1)) << 32) / u64::from(EARLY),
            random: RandomState::new(),
        }
    }

    /// Whether this one is to go now: another choice with each tick.
    pub(super) fn gives_up(&self, scope: u32, what: impl Hash) -> bool {
        self.scopes.contains(&scope) && u64::from(self.random.hash_one(what) as u32) < self.share
    }
}

/// Whether a connection is being opened, and has not got far.
fn half_open(key: &ConnKey<V4>, word: Word) -> bool {
    key.protocol() == lb_common::transport::TCP
        && matches!(word.state(), state::SYN_RECV | state::SYNACK)
}

/// What a walk sees of an entry.
pub(super) struct Entry {
    pub(super) key: ConnKey<V4>,
    pub(super) conn: Conn<V4>,
    pub(super) word: Word,
}

fn walk(
    maps: &Maps,
    cursor: &mut BatchCursor,
    most: u32,
    visit: &mut dyn FnMut(&Entry),
) -> Result<bool, DatapathError> {
    let map = maps.conns.fd();
    let sizes = (size_of::<ConnKey<V4>>(), size_of::<Conn<V4>>());
    let mut entry = |key: &[u8], value: &[u8]| {
        let conn: Conn<V4> = sys::from_bytes(value);
        let word = Word(conn.word.load());
        visit(&Entry {
            key: sys::from_bytes(key),
            conn,
            word,
        });
    };
    cursor
        .next(map.as_fd(), sizes.0, sizes.1, most, &mut entry)
        .map_err(system("read the connections".into()))
}

/// Shows every connection of a scope once, by its forward entry; then its templates.
pub(super) fn read(
    maps: &Maps,
    scope: ScopeId,
    netns: BorrowedFd<'_>,
    visit: &mut dyn FnMut(Connection),
) -> Result<(), DatapathError> {
    let now = sys::now();
    let mut cursor = BatchCursor::default();
    let mut local = sockets::Local::new(netns);
    let mut show = |entry: &Entry| {
        if entry.key.scope() != scope.get() || entry.word.has(REPLY) || entry.word.expired(now) {
            return;
        }
        let of_socket = socket_protocol(entry.key.protocol());
        let Some(protocol) = words::protocol(of_socket.unwrap_or(entry.key.protocol())) else {
            return;
        };
        let (key, to) = (&entry.key, entry.conn.to());
        let (client, source) = match of_socket {
            None => (
                words::socket(key.src, key.sport),
                words::socket(to.src, to.sport),
            ),
            Some(number) => {
                let own = local.address(number, socket_cookie(key.src, key.sport));
                (own, own)
            }
        };
        visit(Connection {
            kind: Kind::Connection(protocol),
            client,
            service: words::socket(key.dst, key.dport),
            server: destination(maps, entry),
            source_nat: (source != client).then_some(source),
            socket: of_socket.is_some(),
            state: state::NAMES
                .get(usize::from(entry.word.state()))
                .copied()
                .unwrap_or("NONE"),
            expires: span(entry.word.deadline().since(now)).min(sockets::longest(maps, entry)),
        });
    };
    while walk(maps, &mut cursor, BATCH, &mut show)? {}
    templates::read(maps, scope, visit);
    Ok(())
}

/// Where a connection's packets go: by direct routing they do not say so themselves.
fn destination(maps: &Maps, entry: &Entry) -> SocketAddr {
    let to = entry.conn.to();
    if !entry.word.has(DIRECT) {
        return words::socket(to.dst, to.dport);
    }
    let server = maps.servers.at(entry.conn.server.load());
    let port = match server.port.load() {
        Be16::ZERO => to.dport,
        port => port,
    };
    SocketAddr::new(words::address_of(server.address.load()), port.get())
}

/// From now to a deadline; nothing when it has passed.
pub(super) fn span(ticks: i32) -> Duration {
    Duration::from_nanos(Tick(ticks.max(0).unsigned_abs()).nanos())
}

impl Rest {
    /// Whether this tick is one to rest, where no connection is counted and the last walk is over (`idle`).
    fn rests(&mut self, idle: bool) -> bool {
        self.0 = if idle { self.0 + 1 } else { 0 };
        !self.0.is_multiple_of(IDLE_EVERY)
    }
}

impl Sweeper {
    pub(super) fn new(program: SchedClassifier) -> Self {
        Self {
            program,
            cursor: BatchCursor::default(),
            ticks: (0, 1),
            early: false,
            dues: Dues::default(),
            deleted: 0,
            templates: Templates::default(),
            removed: None,
            again: false,
            sockets: sockets::Watch::default(),
            rest: Rest::default(),
        }
    }

    /// Has the connections taken apart that have expired, and some more in the scopes that give up connections early.
    /// Where more have expired than are looked at in one go, [`Sweeper::follow`] goes on.
    pub(super) fn sweep(
        &mut self,
        maps: &Maps,
        early: BTreeSet<u32>,
        has_connections: bool,
    ) -> Result<SweepReport, DatapathError> {
        let mut report = SweepReport::default();
        if self.rest.rests(!has_connections && self.ticks.0 == 0) {
            let mut over = self.templates.over(maps, &Early::new(early, 1));
            self.run(maps, &mut over)?;
            return Ok(report);
        }
        if self.early == early.is_empty() {
            // Each walk gives up a share that is of its length: that of the one before says nothing of this one's.
            self.early = !early.is_empty();
            self.ticks = (0, 1);
        }
        self.ticks.0 += 1;
        let budget = if self.early { WALK_EARLY } else { WALK };
        let early = Early::new(early, self.ticks.1);
        self.look_at_due(maps)?;
        let mut items = Vec::new();
        let now = sys::now();
        while report.seen < budget {
            let more = walk(maps, &mut self.cursor, BATCH, &mut |entry| {
                report.seen += 1;
                self.sockets.meet(entry, now);
                if entry.word.expired(now) {
                    items.push(SweepItem::expired(entry.key));
                } else if !entry.word.has(REPLY)
                    && half_open(&entry.key, entry.word)
                    && early.gives_up(entry.key.scope(), entry.key)
                {
                    items.push(forced(entry));
                }
            })?;
            self.deleted += self.run(maps, &mut items)?;
            if !more {
                self.ticks = (0, self.ticks.0);
                self.sockets.walked();
                break;
            }
        }
        let mut over = self.templates.over(maps, &early);
        self.run(maps, &mut over)?;
        report.deleted = std::mem::take(&mut self.deleted);
        Ok(report)
    }

    /// Looks at some of the slots whose time has come.
    fn look_at_due(&mut self, maps: &Maps) -> Result<(), DatapathError> {
        let slots = self.dues.over(maps, BATCH as usize);
        let mut items = slots.iter().map(|slot| due::item(maps, *slot)).collect();
        self.run(maps, &mut items)
            .inspect_err(|_| self.dues.give_up())?;
        let free = slots.iter().filter(|slot| due::is_free(maps, **slot));
        self.deleted += free.count() as u64;
        Ok(())
    }

    /// Takes the connections of sockets apart that are no more, though nothing has told of their end: those of the kernel's
    /// own, say. Now and then.
    pub(super) fn audit_sockets<'n>(
        &mut self,
        maps: &mut Maps,
        netns: impl Fn(u32) -> Option<BorrowedFd<'n>>,
    ) -> Result<(), DatapathError> {
        let mut items = self.sockets.orphans(maps, netns)?;
        self.run(maps, &mut items).map(drop)
    }

    /// Closes the sockets whose connections [`Sweeper::follow`] has taken apart.
    pub(super) fn close_doomed<'n>(&mut self, netns: impl Fn(u32) -> Option<BorrowedFd<'n>>) {
        self.sockets.close_doomed(netns);
    }

    /// Connections of servers that were removed are to be taken apart, by [`Sweeper::follow`].
    pub(super) fn servers_removed(&mut self) {
        match self.removed {
            None => self.removed = Some(BatchCursor::default()),
            Some(_) => self.again = true,
        }
    }

    /// Whether there is something for [`Sweeper::follow`] to do.
    pub(super) const fn has_to_follow(&self) -> bool {
        self.removed.is_some() || self.dues.behind()
    }

    /// Looks at some more of the slots whose time has come; then takes apart some of the connections of servers that were
    /// removed, in these scopes, and at the end the templates that lead to such servers.
    pub(super) fn follow(
        &mut self,
        maps: &Maps,
        scopes: impl Fn(u32) -> bool,
    ) -> Result<(), DatapathError> {
        if self.dues.behind() {
            self.look_at_due(maps)?;
        }
        let Some(mut cursor) = self.removed.take() else {
            return Ok(());
        };
        let mut items = Vec::new();
        let more = walk(maps, &mut cursor, BATCH, &mut |entry| {
            let server = maps.servers.at(entry.conn.server.load());
            if !entry.word.has(REPLY)
                && scopes(entry.key.scope())
                && server.flags.load() & AVAILABLE == 0
            {
                self.sockets.doom(entry);
                items.push(forced(entry));
            }
        })?;
        self.run(maps, &mut items)?;
        if more {
            self.removed = Some(cursor);
            return Ok(());
        }
        let mut items = templates::of_removed(maps, scopes);
        self.run(maps, &mut items)?;
        if std::mem::take(&mut self.again) {
            self.removed = Some(BatchCursor::default());
        }
        Ok(())
    }

    /// Takes all connections and templates of a scope apart, whatever their deadline.
    pub(super) fn purge(&mut self, maps: &Maps, scope: ScopeId) -> Result<(), DatapathError> {
        let mut cursor = BatchCursor::default();
        let mut items = Vec::new();
        loop {
            let more = walk(maps, &mut cursor, BATCH, &mut |entry| {
                if entry.key.scope() == scope.get() && !entry.word.has(REPLY) {
                    items.push(forced(entry));
                }
            })?;
            self.run(maps, &mut items)?;
            if !more {
                break;
            }
        }
        let mut items = templates::of_scope(maps, scope);
        self.run(maps, &mut items).map(drop)
    }

    /// Has the program look at these entries: it decides, by what they are when it looks.
    fn run(&self, maps: &Maps, items: &mut Vec<SweepItem<V4>>) -> Result<u64, DatapathError> {
        let count = items.len() as u64;
        for chunk in items.chunks(SWEEP as usize - 1) {
            for (index, item) in (0..).zip(chunk.iter().chain([&SweepItem::default()])) {
                maps.sweep.at(index).store(*item);
            }
            let frame = [0_u8; 64];
            let options = TestRunOptions {
                data_in: Some(&frame),
                ..TestRunOptions::default()
            };
            self.program
                .test_run(options)
                .map_err(ebpf("run the sweep program"))?;
        }
        items.clear();
        Ok(count)
    }
}

/// Asks the sweep to take a connection apart in any case, if it still is the one that was seen.
pub(super) fn forced(entry: &Entry) -> SweepItem<V4> {
    SweepItem::forced(entry.key, entry.word.generation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_nothing_one_tick_in_eight_looks_all_the_same() {
        let mut rest = Rest::default();
        let looks = |rest: &mut Rest, idle| !rest.rests(idle);
        assert!((0..5).all(|_| looks(&mut rest, false)));
        let looked: Vec<bool> = (0..16).map(|_| looks(&mut rest, true)).collect();
        assert_eq!(looked.iter().filter(|looked| **looked).count(), 2);
        assert!(looked[7] && looked[15]);
        // What comes is looked at with the next tick.
        assert!(looks(&mut rest, false));
    }

    #[test]
    fn one_of_thirty_two_is_given_up_where_that_is_wanted() {
        let gone = |early: &Early, scope| (0..32_000).filter(|n| early.gives_up(scope, n)).count();
        let early = Early::new(BTreeSet::from([7]), 1);
        assert!(
            (800..1200).contains(&gone(&early, 7)),
            "{}",
            gone(&early, 7)
        );
        assert_eq!(gone(&early, 8), 0);
        // Of a table that takes four seconds to walk over, each walk takes four times as many.
        let early = Early::new(BTreeSet::from([7]), 4);
        assert!(
            (3500..4500).contains(&gone(&early, 7)),
            "{}",
            gone(&early, 7)
        );
        assert_eq!(gone(&Early::new(BTreeSet::from([7]), 100), 7), 32_000);
    }
}
