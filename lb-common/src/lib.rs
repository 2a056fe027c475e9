//! What both sides of bpvs share: the [`abi`] of every map, and the way of a packet as pure code.
//!
//! A packet meets the modules in this order: [`link`] (is it for us?), [`family`] (the network header) or [`arp`],
//! [`icmp`] for ICMP, [`transport`] (ports and flags), [`conn`] (is its connection known, and what does the packet change
//! in it?), [`classify`] (for which virtual service is it?), [`schedule`] (which real server takes it?), [`rewrite`] (new
//! addresses, ports, checksums), [`emit`] (hop limit, size, way out). [`pipeline`] is these steps, one line each.
//!
//! The pipeline is generic over [`packet::Packet`], [`tables::Tables`] and [`family::Family`]. The programs implement the
//! first two over a socket buffer and BPF maps, the tests over bytes and hash maps, so that what runs in the kernel is
//! tested, checked against a model and fuzzed on the host.

#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "host")]
extern crate std;

pub mod abi;
pub mod arp;
pub mod checksum;
pub mod classify;
pub mod conn;
mod direct;
pub mod emit;
pub mod family;
mod forward;
#[cfg(feature = "host")]
pub mod host;
pub mod icmp;
pub mod link;
pub mod mss;
pub mod packet;
pub mod pipeline;
pub mod relay;
pub mod reset;
pub mod rewrite;
pub mod schedule;
pub mod socket;
pub mod tables;
pub mod transport;
pub mod verdict;
