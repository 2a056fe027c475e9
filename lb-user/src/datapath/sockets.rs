//! Connections of local sockets, as the daemon sees them: whose they are, and whether their sockets are still there.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use lb_common::abi::{REPLY, SOCKET_FLOW, SweepItem, Tick, socket_cookie, socket_protocol};
use lb_common::conn::state;

use super::connections::{Entry, forced};
use super::maps::{Maps, Plain};
use super::services::ignore_missing;
use super::{DatapathError, ebpf_map};
use crate::net::NetNs;
use crate::net::diag::{self, Sockets};

/// From one look at the sockets to the next: it takes a walk over the table.
const EVERY: Duration = Duration::from_secs(30);
/// Ticks that a connection must have lived: its socket is found by its address only once the system call is through.
const SETTLED: i32 = Tick::from_secs(5).0 as i32;

/// What shows in place of an address that is not known.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The sockets of a namespace, listed when the first of them is asked for.
pub(super) struct Local<'n> {
    netns: BorrowedFd<'n>,
    listed: HashMap<u8, Sockets>,
}

impl<'n> Local<'n> {
    pub(super) fn new(netns: BorrowedFd<'n>) -> Self {
        Self {
            netns,
            listed: HashMap::new(),
        }
    }

    /// The address and port of the socket with this cookie; zero where the kernel does not list it.
    pub(super) fn address(&mut self, protocol: u8, cookie: u64) -> SocketAddr {
        let netns = self.netns;
        let listed = self
            .listed
            .entry(protocol)
            .or_insert_with(|| list(netns, protocol).unwrap_or_default());
        listed.get(&cookie).map_or(UNKNOWN, |socket| socket.local)
    }
}

fn list(netns: BorrowedFd<'_>, protocol: u8) -> Option<Sockets> {
    diag::sockets(&open(netns)?, protocol).ok()
}

fn open(netns: BorrowedFd<'_>) -> Option<NetNs> {
    NetNs::from_fd(netns.try_clone_to_owned().ok()?).ok()
}

/// The longest that a listing says a connection may live: its state's time. The deadline of a connected socket's lies
/// further off than anything.
pub(super) fn longest(maps: &Maps, entry: &Entry) -> Duration {
    let bits = entry.key.protocol();
    if socket_protocol(bits).is_none() || bits & SOCKET_FLOW != 0 {
        return Duration::MAX;
    }
    let usual = state::TIMEOUTS[usize::from(entry.word.state()) % state::TIMEOUTS.len()];
    let Ok(Plain(scope)) = maps.scopes.get(&entry.key.scope(), 0) else {
        return Duration::from_secs(usual.into());
    };
    let ticks = scope.timeouts[usize::from(entry.word.state() & 15)];
    Duration::from_nanos(Tick(ticks).nanos())
}

/// The connections of connected sockets that the sweep meets, and when they were last compared with the sockets there are.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// A walk has just ended.
    walked: bool,
    due: bool,
    looked: Option<Instant>,
    met: Vec<Met>,
    /// Those that are to be closed, for their servers were removed.
    doomed: Vec<Met>,
}

#[derive(Debug)]
struct Met {
    scope: u32,
    protocol: u8,
    cookie: u64,
    item: SweepItem<lb_common::abi::V4>,
}

impl Met {
    /// The socket of a connected socket's connection.
    fn of(entry: &Entry) -> Option<Self> {
        let bits = entry.key.protocol();
        let protocol = socket_protocol(bits)?;
        (bits & SOCKET_FLOW == 0 && !entry.word.has(REPLY)).then(|| Self {
            scope: entry.key.scope(),
            protocol,
            cookie: socket_cookie(entry.key.src, entry.key.sport),
            item: forced(entry),
        })
    }
}

impl Watch {
    /// This connection is taken apart, and its socket is to be closed.
    pub(super) fn doom(&mut self, entry: &Entry) {
        self.doomed.extend(Met::of(entry));
    }

    /// Closes those, where the kernel can. Where it cannot they go on as they are, and count no more.
    pub(super) fn close_doomed<'n>(&mut self, netns: impl Fn(u32) -> Option<BorrowedFd<'n>>) {
        let mut by_list = BTreeMap::<(u32, u8), Vec<u64>>::new();
        for met in self.doomed.drain(..) {
            let cookies = by_list.entry((met.scope, met.protocol)).or_default();
            cookies.push(met.cookie);
        }
        for ((scope, protocol), cookies) in by_list {
            let Some(netns) = netns(scope).and_then(open) else {
                continue;
            };
            let listed = diag::sockets(&netns, protocol).unwrap_or_default();
            let doomed: Vec<diag::Socket> = cookies
                .iter()
                .filter_map(|cookie| listed.get(cookie).copied())
                .collect();
            let _cannot = diag::destroy(&netns, protocol, &doomed);
        }
    }

    /// Notes an entry, if it is time to.
    pub(super) fn meet(&mut self, entry: &Entry, now: Tick) {
        if self.due && now.since(Tick(entry.conn.seen.load())) > SETTLED {
            self.met.extend(Met::of(entry));
        }
    }

    /// The walk is at its end.
    pub(super) const fn walked(&mut self) {
        self.walked = true;
    }

    /// The connections whose sockets are no more, which are forgotten here. Only where the kernel has listed the sockets.
    pub(super) fn orphans<'n>(
        &mut self,
        maps: &mut Maps,
        netns: impl Fn(u32) -> Option<BorrowedFd<'n>>,
    ) -> Result<Vec<SweepItem<lb_common::abi::V4>>, DatapathError> {
        if !std::mem::take(&mut self.walked) {
            return Ok(Vec::new());
        }
        if !self.due {
            self.due = self.looked.get_or_insert_with(Instant::now).elapsed() >= EVERY;
            return Ok(Vec::new());
        }
        (self.due, self.looked) = (false, Some(Instant::now()));
        let mut listed = BTreeMap::new();
        let mut items = Vec::new();
        for met in self.met.drain(..) {
            let there = listed
                .entry((met.scope, met.protocol))
                .or_insert_with(|| list(netns(met.scope)?, met.protocol));
            if there
                .as_ref()
                .is_some_and(|there| !there.contains_key(&met.cookie))
            {
                ignore_missing(maps.sockets.remove(&Plain(met.cookie)))
                    .map_err(ebpf_map("forget a socket"))?;
                items.push(met.item);
            }
        }
        Ok(items)
    }
}
