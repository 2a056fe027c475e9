//! Reading and sweeping the connection table.

use std::os::fd::AsFd;
use std::time::Duration;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lb_common::abi::{Conn, ConnKey, REPLY, SweepItem, Tick, V4, Word};
use lb_common::conn::state;

use super::maps::{Maps, Plain, SWEEP};
use super::sys::{self, BatchCursor};
use super::{Connection, DatapathError, SweepReport, ebpf, ebpf_map, system, words};
use crate::model::ScopeId;

/// Entries read in one system call: some ten milliseconds of work at most.
const BATCH: u32 = 4096;

/// The sweep: where it stands, and the program that deletes.
pub(super) struct Sweeper {
    program: SchedClassifier,
    cursor: BatchCursor,
}

/// What a walk sees of an entry.
struct Entry {
    key: ConnKey<V4>,
    conn: Conn<V4>,
    word: Word,
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

/// Shows every connection of a scope once, by its forward entry.
pub(super) fn read(
    maps: &Maps,
    scope: ScopeId,
    visit: &mut dyn FnMut(Connection),
) -> Result<(), DatapathError> {
    let now = sys::now();
    let mut cursor = BatchCursor::default();
    let mut show = |entry: &Entry| {
        if entry.key.scope() != scope.get() || entry.word.has(REPLY) || entry.word.expired(now) {
            return;
        }
        let Some(protocol) = words::protocol(entry.key.protocol()) else {
            return;
        };
        let (key, to) = (&entry.key, entry.conn.to());
        let client = words::socket(key.src, key.sport);
        let source = words::socket(to.src, to.sport);
        visit(Connection {
            protocol,
            client,
            service: words::socket(key.dst, key.dport),
            server: words::socket(to.dst, to.dport),
            source_nat: (source != client).then_some(source),
            state: state::NAMES
                .get(usize::from(entry.word.state()))
                .copied()
                .unwrap_or("NONE"),
            expires: span(entry.word.deadline().since(now)),
        });
    };
    while walk(maps, &mut cursor, BATCH, &mut show)? {}
    Ok(())
}

fn span(ticks: i32) -> Duration {
    Duration::from_nanos(Tick(ticks.max(0).unsigned_abs()).nanos())
}

impl Sweeper {
    pub(super) fn new(program: SchedClassifier) -> Self {
        Self {
            program,
            cursor: BatchCursor::default(),
        }
    }

    /// Looks at the next entries, at most about `budget`, and has those that have expired taken apart.
    pub(super) fn sweep(
        &mut self,
        maps: &mut Maps,
        budget: u64,
    ) -> Result<SweepReport, DatapathError> {
        let mut report = SweepReport::default();
        let mut items = Vec::new();
        let now = sys::now();
        while report.seen < budget {
            let more = walk(maps, &mut self.cursor, BATCH, &mut |entry| {
                report.seen += 1;
                if entry.word.expired(now) {
                    items.push(SweepItem {
                        key: entry.key,
                        force: 0,
                    });
                }
            })?;
            report.deleted += self.run(maps, &mut items)?;
            if !more {
                break;
            }
        }
        Ok(report)
    }

    /// Takes all connections of a scope apart, whatever their deadline.
    pub(super) fn purge(&mut self, maps: &mut Maps, scope: ScopeId) -> Result<(), DatapathError> {
        let mut cursor = BatchCursor::default();
        let mut items = Vec::new();
        loop {
            let more = walk(maps, &mut cursor, BATCH, &mut |entry| {
                if entry.key.scope() == scope.get() && !entry.word.has(REPLY) {
                    items.push(SweepItem {
                        key: entry.key,
                        force: u32::from(entry.word.generation()) + 1,
                    });
                }
            })?;
            self.run(maps, &mut items)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Has the program look at these entries: it decides, by what they are when it looks.
    fn run(&self, maps: &mut Maps, items: &mut Vec<SweepItem<V4>>) -> Result<u64, DatapathError> {
        let count = items.len() as u64;
        for chunk in items.chunks(SWEEP as usize - 1) {
            // A protocol of zero ends the list.
            for (index, item) in chunk.iter().chain([&SweepItem::default()]).enumerate() {
                maps.sweep
                    .set(index as u32, Plain(*item), 0)
                    .map_err(ebpf_map("list connections for the sweep"))?;
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
