//! The words of the domain, validated on construction: what a virtual service is, without saying how it is written
//! down, sent or put into a map.
//!
//! Addresses and ports are in host form (`IpAddr`, `u16`); only the datapath knows about byte order.

mod address;
mod duration;
mod error;
mod flags;
mod forwarding;
mod mark;
mod nearest;
mod persistence;
mod protocol;
mod scheduler;
mod scope;
mod server;
mod service;
mod settings;
mod table;
mod xdp;

pub use address::{AddressFamily, parse_prefix, unicast};
pub use duration::{format_duration, parse_duration};
pub use error::ModelError;
pub use flags::SchedulerFlags;
pub use forwarding::ForwardingMethod;
pub use mark::{MAX_MARK_SHAPES, MarkRule, MarkShape, MarkValue, port_prefixes};
pub use nearest::nearest;
pub use persistence::{DEFAULT_PERSISTENCE, Netmask, Persistence};
pub use protocol::Protocol;
pub use scheduler::Scheduler;
pub use scope::ScopeId;
pub use server::{MAX_THRESHOLD, MAX_WEIGHT, Server};
pub use service::{Service, ServiceKey, ServiceTimeouts, SourceNat};
pub use settings::{Fixed, MAX_TIMEOUT, Setting, Settings, SettingsEdit, Timeouts, check_timeout};
pub use table::{Table, TableError};
pub use xdp::Xdp;
