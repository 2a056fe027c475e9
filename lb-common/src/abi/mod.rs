//! The ABI: key and value of every map, written by one side and read by the other.
//!
//! Rules: `repr(C)`, explicit padding, every bit pattern valid, no Rust enums, `Option` or `bool`; addresses and ports as
//! [`Be32`]/[`Be16`]; numbers in host order. A change of any of these raises [`VERSION`], which names the folder in bpffs.

mod address;
mod be;
mod conn;
mod network;
mod scope;
mod service;
mod shared;
mod tick;

pub use address::{Address, V4, V6};
pub use be::{Be16, Be32};
pub use conn::{ANSWERED, ASSURED, COUNTED, Conn, ConnKey, DEAD, REPLY, SweepItem, Tuple, Word};
pub use network::{
    AnswerKey, FragmentKey, FragmentPorts, HOP_BLACKHOLE, HOP_FORWARD, HOP_LOCAL, HOP_NONE,
    HOP_ON_LINK, HOP_RESOLVED, Hop, Interface, InterfaceKey, Mac, RouteKey,
};
pub use scope::{
    MarkKey, MarkValue, SCOPE_ANSWERS, SCOPE_EXPIRE_REMOVED, SCOPE_FWMARKS, SCOPE_MARK_MASKS,
    SCOPE_NO_REUSE, SCOPE_PORT_ZERO, SHAPES, Scope, Shape,
};
pub use service::{
    ANSWER, AVAILABLE, Cursor, KIND_ADDRESS, KIND_FWMARK, METHOD_MASQUERADE, OVERLOAD,
    SCHEDULER_RR, SCHEDULER_WRR, SOURCE_NAT, Server, ServerStats, Service, ServiceKey,
};
pub use shared::Shared;
pub use tick::Tick;

/// Version of everything in this module.
pub const VERSION: u32 = 1;
