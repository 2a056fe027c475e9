//! Throw-away networks for bpvs: namespaces with real servers and real load in them.
//!
//! A [`Lab`] owns everything that it makes (namespaces, mounts, processes, files) and takes it away
//! when it is dropped, when the program panics, and on SIGINT and SIGTERM. What a killed run leaves
//! behind, `lab clean` finds by the process id in its name.
//!
//! From the bottom up: [`netns`] enters namespaces, [`lab`] owns them, [`wiring`] joins them,
//! [`topology`] has the networks that the cases use, [`serve`] and [`load`] are the two ends of the
//! traffic, [`daemon`] runs `bpvs`, [`swarm`] runs real container engines, [`suite`] and [`demo`] are
//! what a person starts.
//!
//! Nothing is made in the namespace in which the lab is started: every interface lives in a
//! namespace of the lab's own.

pub mod bench;
pub mod bpf;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod demo;
pub mod differential;
pub mod features;
pub mod host;
pub mod http;
pub mod icmp;
pub mod ip;
pub mod ipvsadm;
pub mod lab;
pub mod load;
pub mod netns;
pub mod offload;
pub mod packets;
pub mod pattern;
pub mod process;
pub mod scale;
pub mod serve;
pub mod signals;
pub mod slow;
pub mod soak;
mod socket;
pub mod state;
pub mod suite;
pub mod swarm;
pub mod tap;
pub mod task;
pub mod topology;
pub mod wire;
pub mod wiring;

pub use host::Host;
pub use lab::Lab;
