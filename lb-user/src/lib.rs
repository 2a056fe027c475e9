//! The userspace half of bpvs: what is wanted, how it is asked for, and how it gets into the BPF maps.
//!
//! A change walks through the modules in this order: [`cli`] or [`config`] turn words into [`model`] types, [`api`]
//! carries them to the daemon, [`daemon`] asks [`control`] which operations lead from what is there to what is wanted,
//! and [`datapath`] carries those out. [`ipvsadm`] is another command line, over
//! the same API, and so does a [`provider`], inside the daemon. [`net`] watches the network namespace that a scope lives in.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod ipvsadm;
pub mod model;
pub mod net;
pub mod provider;
