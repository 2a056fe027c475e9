//! The datapath as the rest of the daemon sees it: tables go in, counters and connections come out.
//!
//! Only this module knows about BPF. Everything above it works on the trait [`Datapath`], and is tested against the
//! in-memory one in `fake`.

#[cfg(any(test, feature = "fake"))]
pub mod fake;

mod accounts;
mod ahead;
mod attributes;
mod bpf;
mod buckets;
mod clsact;
mod connections;
mod counters;
mod defence;
mod devices;
mod drop_log;
mod due;
mod estimates;
mod hook;
mod index;
mod leaving;
mod loopback;
mod maps;
mod marks;
mod network;
mod pins;
mod programs;
mod rates;
mod reals;
mod services;
mod slots;
mod sockets;
mod statistics;
mod sys;
mod templates;
mod together;
mod turns;
mod words;
mod xdp;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::control::Op;
use crate::model::{MarkRule, Protocol, ScopeId, ServiceKey, Settings, Table, TableError};
use crate::net::{Interface, Network};

/// Where the datapath is pinned, and how large its maps are made. Maps that are there already keep their sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder for the pins, on a BPF file system.
    pub bpffs: PathBuf,
    /// How many connections there is room for.
    pub connections: u32,
    /// How many services, in all scopes together.
    pub services: u32,
    /// How many servers, in all scopes together.
    pub servers: u32,
    /// How many persistence templates there is room for, in all scopes together; rounded up to a power of two.
    pub templates: u32,
    /// How many buckets the tables of dh and sh (256 each) and mh (4093 each) may have, in all scopes together.
    pub buckets: u32,
    /// Whether the programs tell of every packet that they drop, and why.
    pub log_drops: bool,
}

/// How many servers there is room for unless that is said: their counters, of each CPU, are not to take more than 64 MiB.
#[must_use]
pub fn default_servers() -> u32 {
    servers_for(aya::util::nr_cpus().unwrap_or(1))
}

fn servers_for(cpus: usize) -> u32 {
    const MEMORY: usize = 64 << 20;
    let most = MEMORY / (size_of::<lb_common::abi::ServerStats>() * cpus.max(1));
    // A power of two, rounded down.
    let most = 1 << most.max(1).ilog2();
    most.clamp(1 << 14, 1 << 17)
}

/// Takes up the datapath that is pinned, or makes one.
///
/// # Errors
/// The system refuses, or what is pinned does not fit.
pub fn open(options: &Options) -> Result<Box<dyn Datapath>, DatapathError> {
    Ok(Box::new(bpf::Bpf::open(options)?))
}

/// The compiled programs, as an ELF object: for tests that load them by themselves.
#[must_use]
pub fn object() -> &'static [u8] {
    programs::OBJECT
}

/// Detaches from a scope's interfaces what would stay without its pins: filters, where the kernel has no TCX. For scopes
/// that no daemon has open; before [`remove_all`].
///
/// # Errors
/// The system refuses.
pub fn detach_filters(
    bpffs: &Path,
    scope: ScopeId,
    netns: BorrowedFd<'_>,
) -> Result<(), DatapathError> {
    programs::Programs::detach_filters(&pins::Pins::at(bpffs), scope, netns)
}

/// Removes everything that is pinned: programs, links, maps. Nothing happens if there is nothing.
///
/// # Errors
/// The system refuses.
pub fn remove_all(bpffs: &Path) -> Result<(), DatapathError> {
    pins::remove_folder(bpffs).map_err(system(format!("remove {}", bpffs.display())))
}

/// What the datapath cannot do, and why.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum DatapathError {
    #[error("scope {0} is not open")]
    NoSuchScope(ScopeId),
    #[error("scope {0} is open already")]
    ScopeExists(ScopeId),
    #[error(transparent)]
    Table(#[from] TableError),
    /// No room: `what` (in the plural, as in "servers") is limited to `limit`.
    #[error("there is no room for more {what}: the limit is {limit}")]
    Full {
        what: &'static str,
        limit: u64,
        hint: &'static str,
    },
    /// A system call or a BPF operation failed while doing `what`.
    #[error("cannot {what}: {source}")]
    System { what: String, source: io::Error },
    /// aya failed while doing `what`.
    #[error("cannot {what}: {reason}")]
    Ebpf { what: String, reason: String },
    /// XDP on an interface, and why not.
    #[error("{0}")]
    Xdp(String),
    #[error("{what} is not there yet")]
    Unsupported { what: String },
    #[error("{} is no BPF file system", .path.display())]
    NoBpffs { path: PathBuf },
    #[error("{} was made by another version of bpvs and does not fit this one", .path.display())]
    Incompatible { path: PathBuf },
}

/// The error of a system call while doing `what`.
fn system(what: String) -> impl FnOnce(io::Error) -> DatapathError {
    move |source| DatapathError::System { what, source }
}

/// The error of an operation of aya's while doing `what`, with its causes.
fn ebpf<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> DatapathError {
    let what = what.into();
    move |error| {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let reason = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        DatapathError::Ebpf { what, reason }
    }
}

/// The error of a map operation while doing `what`.
fn ebpf_map(what: &'static str) -> impl FnOnce(aya::maps::MapError) -> DatapathError {
    ebpf(what)
}

impl DatapathError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Table(error) => error.hint(),
            Self::Full { hint, .. } => Some((*hint).into()),
            Self::NoBpffs { path } => Some(format!(
                "mount one (`mount -t bpf bpf DIR`) and name it with --bpffs; under `ip netns exec` {} is hidden: start \
                 the daemon outside, it serves every namespace",
                path.parent().unwrap_or(path).display()
            )),
            Self::Incompatible { .. } => {
                Some("`bpvs down` removes it, with its connections".into())
            }
            Self::Ebpf { .. } if !nix::unistd::geteuid().is_root() => Some("run it as root".into()),
            Self::NoSuchScope(_)
            | Self::ScopeExists(_)
            | Self::System { .. }
            | Self::Ebpf { .. }
            | Self::Xdp(_)
            | Self::Unsupported { .. } => None,
        }
    }
}

/// Counts of packets that a service or a server has seen; bytes are those of the IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// The counters of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerCounters {
    /// The server, by its address and port.
    pub address: SocketAddr,
    /// Connections in an active state (IPVS's ActiveConn).
    pub active: u64,
    /// Connections in another state (IPVS's InActConn).
    pub inactive: u64,
    /// Persistence templates (IPVS's PersistConn).
    pub persistent: u64,
    /// What passed since it was zeroed.
    pub counters: Counters,
    /// What passes a second.
    pub rates: Counters,
}

/// The counters of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCounters {
    /// The service.
    pub key: ServiceKey,
    /// What passed since it was zeroed, also through servers that are gone.
    pub counters: Counters,
    /// What passes a second.
    pub rates: Counters,
    /// Its servers, in the order of its list.
    pub servers: Vec<ServerCounters>,
}

/// The counters of one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeCounters {
    /// What passed since it was zeroed, also through services that are gone.
    pub counters: Counters,
    /// What passes a second.
    pub rates: Counters,
    /// Its services, in the order of their keys.
    pub services: Vec<ServiceCounters>,
}

/// What is remembered of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection of this protocol.
    Connection(Protocol),
    /// A persistence template: which server new connections of this protocol go to, or of all (with a mark).
    Template(Option<Protocol>),
}

/// One connection, or a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Which of the two.
    pub kind: Kind,
    /// The client; of a template the network of clients, and no port.
    pub client: SocketAddr,
    /// What the client connected to; of a template for a mark the mark, as an address.
    pub service: SocketAddr,
    /// The real server that has it.
    pub server: SocketAddr,
    /// Whether it is a local socket's, made by the socket hook.
    pub socket: bool,
    /// What the server sees in the client's place, with source NAT.
    pub source_nat: Option<SocketAddr>,
    /// IPVS's name of its state, as in `ESTABLISHED`.
    pub state: &'static str,
    /// How long until it is forgotten, if nothing more comes.
    pub expires: Duration,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Entries looked at.
    pub seen: u64,
    /// Entries deleted.
    pub deleted: u64,
}

/// A packet path that can be told what to serve.
///
/// There is one writer, the daemon's: no method is called while another runs. An error leaves what was there.
pub trait Datapath: Send {
    /// Makes one change whole, or none of it.
    ///
    /// # Errors
    /// It does not fit the table, there is no room, the scope is not open, or the system refuses.
    fn apply(&mut self, scope: ScopeId, op: &Op) -> Result<(), DatapathError>;

    /// The table as it stands in the maps.
    ///
    /// # Errors
    /// The scope is not open, or the system refuses.
    fn table(&self, scope: ScopeId) -> Result<Table, DatapathError>;

    /// The table as it stands in the maps, but of its services only those of these keys.
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn part(&self, scope: ScopeId, keys: &[ServiceKey]) -> Result<Table, DatapathError>;

    /// The counters of a scope and of all its services.
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn counters(&self, scope: ScopeId) -> Result<ScopeCounters, DatapathError>;

    /// The counters of one service and its servers.
    ///
    /// # Errors
    /// There is no such service, or as [`Datapath::table`].
    fn service_counters(
        &self,
        scope: ScopeId,
        key: &ServiceKey,
    ) -> Result<ServiceCounters, DatapathError>;

    /// Shows counts from now on, and rates from nothing: of one service and its servers, or of everything in the scope.
    ///
    /// # Errors
    /// There is no such service, or as [`Datapath::table`].
    fn zero(&mut self, scope: ScopeId, only: Option<&ServiceKey>) -> Result<(), DatapathError>;

    /// Moves the rates by what was counted since the last call, `elapsed` ago; called every two seconds.
    ///
    /// # Errors
    /// The system refuses.
    fn estimate(&mut self, elapsed: Duration) -> Result<(), DatapathError>;

    /// In how many ways packets left, and how often: (reason, packets, bytes).
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn reasons(&self, scope: ScopeId) -> Result<Vec<(&'static str, u64, u64)>, DatapathError>;

    /// Shows each connection once, in no order.
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn connections(
        &self,
        scope: ScopeId,
        visit: &mut dyn FnMut(Connection),
    ) -> Result<(), DatapathError>;

    /// Makes a scope of this namespace, or takes up the one that is pinned under this id. Its mark rules and settings were
    /// these when they were last set: they cannot be read back from the maps.
    ///
    /// # Errors
    /// The scope is open already, there is no room, or the system refuses.
    fn open_scope(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        marks: &[MarkRule],
        settings: &Settings,
    ) -> Result<(), DatapathError>;

    /// Removes all that there is of a scope, whether it is open or only pinned: programs, services, connections.
    ///
    /// # Errors
    /// The system refuses.
    fn close_scope(&mut self, scope: ScopeId) -> Result<(), DatapathError>;

    /// Attaches the scope's programs to an interface; nothing happens if they are attached already.
    ///
    /// # Errors
    /// The scope is not open, the interface is gone, or the system refuses.
    fn attach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<(), DatapathError>;

    /// Detaches the scope's programs from the interface with this index; nothing happens if they are not attached.
    ///
    /// # Errors
    /// As [`Datapath::attach`].
    fn detach(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        ifindex: u32,
    ) -> Result<(), DatapathError>;

    /// Has XDP handle what an interface receives, before the programs of [`Datapath::attach`], which must be there; nothing
    /// happens if it does already. Gives what is to be known about it, if there is anything.
    ///
    /// # Errors
    /// As [`Datapath::attach`]; [`DatapathError::Xdp`] says why XDP would not work there, or would be wrong.
    fn attach_xdp(
        &mut self,
        scope: ScopeId,
        netns: BorrowedFd<'_>,
        interface: &Interface,
    ) -> Result<Option<&'static str>, DatapathError>;

    /// Takes XDP from the interface with this index; nothing happens if it is not there.
    ///
    /// # Errors
    /// As [`Datapath::attach`].
    fn detach_xdp(&mut self, scope: ScopeId, ifindex: u32) -> Result<(), DatapathError>;

    /// Puts routes, hops and interfaces in place of those that were there.
    ///
    /// # Errors
    /// The scope is not open, or the system refuses.
    fn set_network(&mut self, scope: ScopeId, network: &Network) -> Result<(), DatapathError>;

    /// Deletes connections that have expired; called every second.
    ///
    /// # Errors
    /// The system refuses.
    fn sweep(&mut self) -> Result<SweepReport, DatapathError>;

    /// Whether there is something for [`Datapath::work`] to do.
    fn has_work(&self) -> bool;

    /// Does a small part of what could not be done at once: getting ready for the next scope, taking apart connections that
    /// have expired in great numbers, and with `expire_nodest_conn` those of servers that were removed. Called until [`Datapath::has_work`] says that there is none, and other things between.
    ///
    /// # Errors
    /// The system refuses; what was to be done is given up.
    fn work(&mut self) -> Result<(), DatapathError>;

    /// The indices of the interfaces to which the scope's programs are attached, also by an earlier daemon.
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn attached(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError>;

    /// The same of XDP.
    ///
    /// # Errors
    /// As [`Datapath::table`].
    fn attached_xdp(&self, scope: ScopeId) -> Result<Vec<u32>, DatapathError>;

    /// Why local sockets are not led to servers, if they cannot be.
    fn socket_hook_problem(&self) -> Option<&str>;

    /// The scopes that the maps hold anything of, open or only pinned: those that a daemon before this one left.
    ///
    /// # Errors
    /// The system refuses.
    fn scopes(&self) -> Result<Vec<ScopeId>, DatapathError>;
}

#[cfg(test)]
mod tests {
    #[test]
    fn many_processors_mean_fewer_servers() {
        for (cpus, servers) in [
            (0, 131_072),
            (1, 131_072),
            (12, 131_072),
            (13, 65_536),
            (25, 65_536),
            (26, 32_768),
            (64, 16_384),
            (1024, 16_384),
        ] {
            assert_eq!(super::servers_for(cpus), servers, "{cpus}");
        }
    }
}
