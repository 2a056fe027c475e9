//! Keeping the link-layer addresses of chosen next hops resolved, so that the datapath finds their MAC addresses in the
//! hop table instead of asking for each packet.
//!
//! From Linux 5.16 the kernel does it itself for entries with `NTF_EXT_MANAGED`. Before, asking for an entry with
//! `NTF_USE` now and then makes the kernel probe it as if a packet had used it.
//!
//! The traps of this file, all of them in the kernel's `neigh_add`:
//!
//! - Either flag takes the permanence away from a permanent entry, and the "learned" from one that a control plane
//!   learned. An overlay network lives on such entries. So the table is read first, and fixed entries are left alone.
//! - A kernel that does not know `NTF_EXT_MANAGED` ignores it without a word. So the first entry is read back.
//! - An entry that its interface's going down swept away does not come back by itself. So [`NeighbourKeeper::keep`] is
//!   to be called again now and then, and finds out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::Connection;
use super::error::NetError;
use super::mirror::{Mirror, Table};
use super::netns::NetNs;
use super::reader;
use super::snapshot::Neighbour;

/// Marks an entry as made by bpvs (`proto 98` in `ip -d neigh`), so that a later process finds what an earlier one left.
const PROTOCOL: u8 = 98;

const QUEUE: usize = 1 << 20;

/// A neighbour: interface index and address.
type Key = (u32, IpAddr);

/// How the kernel is made to keep entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepingMode {
    /// Not found out yet: nothing has been asked for.
    Unknown,
    /// The kernel keeps them by itself.
    Managed,
    /// Each [`NeighbourKeeper::keep`] has them probed: call it every few seconds.
    Probed,
}

/// What a call of [`NeighbourKeeper::keep`] did.
#[derive(Debug, Default)]
pub struct KeepReport {
    /// Entries that were made or taken on.
    pub added: usize,
    /// Entries that were no longer wanted and are deleted.
    pub removed: usize,
    /// Wanted ones that somebody set on purpose (permanent, no ARP, learned by a control plane): left as they are.
    pub left_alone: usize,
    /// Wanted ones that the kernel refused, most often because the interface is down or gone. Tried again at the next
    /// call.
    pub failed: Vec<(u32, IpAddr, io::Error)>,
}

/// Keeps chosen neighbours of one namespace resolved.
///
/// Nothing is undone on drop: the datapath goes on without its daemon, and so should its neighbours. Call
/// [`NeighbourKeeper::release`] to take everything away.
#[derive(Debug)]
pub struct NeighbourKeeper {
    connection: Connection,
    mode: KeepingMode,
    made: BTreeSet<Key>,
}

impl NeighbourKeeper {
    /// A keeper for this namespace, which takes over what an earlier process made there and left. Must be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel refuses to list its neighbours.
    pub async fn open(netns: &NetNs) -> Result<Self, NetError> {
        let mut keeper = Self {
            connection: Connection::open(netns, 0, QUEUE)?,
            mode: KeepingMode::Unknown,
            made: BTreeSet::new(),
        };
        keeper.made = keeper
            .read()
            .await?
            .into_iter()
            .filter(|(_, entry)| is_ours(entry))
            .map(|(key, _)| key)
            .collect();
        Ok(keeper)
    }

    /// How the kernel is made to keep them.
    #[must_use]
    pub fn mode(&self) -> KeepingMode {
        self.mode
    }

    /// The entries that are there because of this keeper, or of one before it.
    pub fn made(&self) -> impl Iterator<Item = (u32, IpAddr)> + '_ {
        self.made.iter().copied()
    }

    /// Sees to it that these neighbours, as (interface index, address), are kept, and no others.
    ///
    /// To be called when the set changes, and every few seconds besides: it restores what was swept away, and in
    /// [`KeepingMode::Probed`] it is what keeps them. Reads the neighbour table once.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses to list the neighbours. What it refuses for single ones is in the report.
    pub async fn keep(&mut self, wanted: &BTreeSet<(u32, IpAddr)>) -> Result<KeepReport, NetError> {
        let mut report = KeepReport::default();
        let present = self.read().await?;
        let unwanted: Vec<Key> = self.made.difference(wanted).copied().collect();
        for key in unwanted {
            self.remove(key, present.get(&key), &mut report).await?;
        }
        for key in wanted {
            match present.get(key) {
                Some(entry) if entry.is_fixed() => {
                    self.made.remove(key);
                    report.left_alone += 1;
                }
                Some(entry) if is_ours(entry) && entry.managed => {
                    self.mode = KeepingMode::Managed;
                    self.made.insert(*key);
                }
                entry => self.add(*key, entry, &mut report).await?,
            }
        }
        Ok(report)
    }

    /// Deletes every entry that was made here.
    ///
    /// # Errors
    /// As [`NeighbourKeeper::keep`].
    pub async fn release(&mut self) -> Result<KeepReport, NetError> {
        self.keep(&BTreeSet::new()).await
    }

    async fn add(
        &mut self,
        key: Key,
        before: Option<&Neighbour>,
        report: &mut KeepReport,
    ) -> Result<(), NetError> {
        // Both flags: a kernel without the second acts on the first.
        let mut message = message(key);
        message.header.flags = NeighbourFlags::Use;
        message.attributes.extend([
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        ]);
        let outcome = self
            .connection
            .change(
                "keep a neighbour resolved",
                RouteNetlinkMessage::NewNeighbour(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )
            .await?;
        if let Err(error) = outcome {
            report.failed.push((key.0, key.1, error));
            return Ok(());
        }
        if self.made.insert(key) || before.is_none() {
            report.added += 1;
        }
        if self.mode == KeepingMode::Unknown {
            self.mode = match self.read().await?.get(&key) {
                Some(entry) if entry.managed => KeepingMode::Managed,
                Some(_) => {
                    tracing::info!(
                        "this kernel does not keep neighbours resolved by itself (Linux 5.16 does); probing them"
                    );
                    KeepingMode::Probed
                }
                // It is gone already: the next call finds out.
                None => KeepingMode::Unknown,
            };
        }
        Ok(())
    }

    async fn remove(
        &mut self,
        key: Key,
        before: Option<&Neighbour>,
        report: &mut KeepReport,
    ) -> Result<(), NetError> {
        // Swept away, or made into something of its own by somebody else since: no longer ours.
        let ours = before.is_some_and(is_ours);
        if ours {
            let outcome = self
                .connection
                .change(
                    "delete a neighbour",
                    RouteNetlinkMessage::DelNeighbour(message(key)),
                    0,
                )
                .await?;
            match outcome {
                Ok(()) => report.removed += 1,
                // Gone meanwhile, by itself or with its interface.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
                    ) => {}
                Err(error) => {
                    report.failed.push((key.0, key.1, error));
                    return Ok(());
                }
            }
        }
        self.made.remove(&key);
        Ok(())
    }

    async fn read(&mut self) -> Result<BTreeMap<Key, Neighbour>, NetError> {
        let mut mirror = Mirror::default();
        let tables = BTreeSet::from([Table::Neighbours]);
        let mut tally = reader::Tally::default();
        reader::read(&mut self.connection, &mut mirror, tables, &mut tally).await?;
        Ok(mirror.into_snapshot().neighbours)
    }
}

fn is_ours(entry: &Neighbour) -> bool {
    entry.protocol == PROTOCOL && !entry.is_fixed()
}

fn message((ifindex, address): Key) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}
