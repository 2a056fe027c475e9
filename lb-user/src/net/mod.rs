//! What a scope knows of its network: the namespace, and which way its packets leave.
//!
//! The words of this module, from the kernel to the datapath:
//!
//! 1. [`NetNs`] is a network namespace held by a descriptor; [`NetNs::run_in`] does a thing inside it.
//! 2. [`Snapshot`] is what the kernel says there is: links, addresses, routes, policy rules, neighbours. [`snapshot()`]
//!    reads it once; [`watch()`] keeps it fresh from multicast events.
//! 3. [`Network`] is what the datapath needs of it: a flat longest-prefix table of routes to next hops ([`hops`], pure)
//!    and the interfaces with the decision whether the programs attach there ([`attach`], pure).
//! 4. [`NeighbourKeeper`] asks the kernel to keep the link-layer addresses of chosen next hops resolved.
//!
//! Only IPv4 is routed for now: IPv6 addresses and neighbours are read, and IPv6 routes are not.

pub mod attach;
mod connection;
pub mod diag;
mod error;
mod hop_table;
pub mod hops;
mod keeper;
mod local_ports;
mod message;
mod mirror;
mod netns;
mod network;
mod prefixes;
mod reader;
mod snapshot;
mod source;
pub mod tunnel;
mod watch;

#[cfg(test)]
mod root_tests;
#[cfg(test)]
mod test_namespace;

pub use attach::AttachSettings;
pub use error::NetError;
pub use hop_table::{HopKey, HopTable, ID_QUARANTINE};
pub use keeper::{KeepReport, KeepingMode, NeighbourKeeper};
pub use netns::{NetNs, NetNsId};
pub use network::{Hop, HopId, HopKind, Interface, MacAddress, Medium, Network, Route};
pub use snapshot::{
    Address, Link, LinkKind, Neighbour, NeighbourState, NextHop, RouteEntry, RouteKey, RouteKind,
    Snapshot,
};
pub use watch::{Watch, WatchCounters, WatchOptions, snapshot, watch};
