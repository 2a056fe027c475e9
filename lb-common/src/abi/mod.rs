//! The ABI: key and value of every map, written by one side and read by the other.
//!
//! Rules: `repr(C)`, explicit padding, every bit pattern valid, no Rust enums, `Option` or `bool`; addresses and ports as
//! [`Be32`]/[`Be16`]; numbers in host order. A change of any of these raises [`VERSION`], which names the folder in bpffs.

mod address;
mod be;
mod conn;
mod locality;
mod network;
mod scope;
mod service;
mod shared;
mod socket;
mod template;
mod tick;
mod wire;

pub use address::{Address, V4, V6};
pub use be::{Be16, Be32};
pub use conn::{
    ANSWERED, ASSURED, COUNTED, Conn, ConnKey, DEAD, DIRECT, HEARD, NO_OUTPUT, REPLY,
    SWEEP_ASSURED, SWEEP_EXPIRED, SWEEP_FORCED, SWEEP_HALF_OPEN, SWEEP_TEMPLATE,
    SWEEP_TEMPLATE_FORCED, SweepItem, Tuple, Word,
};
pub use locality::{LOCALITY_SERVERS, Locality, LocalityKey};
pub use network::{
    AnswerKey, BENT, ENTER, FragmentKey, FragmentPorts, HOP_BLACKHOLE, HOP_FORWARD, HOP_LOCAL,
    HOP_NONE, HOP_ON_LINK, HOP_REDIRECT, HOP_RESOLVED, Hop, Interface, InterfaceKey, Mac, RealKey,
    RouteKey, ethernet,
};
pub use scope::{
    EXPIRATION, LBLC_EXPIRATION, LBLCR_EXPIRATION, MarkKey, MarkValue, Ports, SCOPE_ANSWERS,
    SCOPE_CACHE_BYPASS, SCOPE_EXPIRE_QUIESCENT, SCOPE_EXPIRE_REMOVED, SCOPE_FWMARKS,
    SCOPE_HOLD_REMOVED, SCOPE_MARK_MASKS, SCOPE_NO_REUSE, SCOPE_PORT_ZERO, SCOPE_RELAYS,
    SCOPE_RESETS, SCOPE_REUSE_FIN_WAIT, SCOPE_SCHEDULE_ICMP, SCOPE_SECURE_TCP, SCOPE_SLOPPY_TCP,
    SCOPE_SOCKETS, SCOPE_TELLS_REALS, SECURE_TCP_BIT, SHAPES, Scope, Shape,
};
pub use service::{
    ANSWER, AVAILABLE, Buckets, CLAMP_MSS, Cursor, KIND_ADDRESS, KIND_FWMARK, KIND_LOOPBACK,
    LOOPBACK, METHOD_DIRECT, METHOD_MASQUERADE, NO_SOCKET, ONE_PACKET, PERSISTENT, RELAY, RESET,
    SCHEDULER_DH, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCHEDULER_FLAG_3, SCHEDULER_FO,
    SCHEDULER_LBLC, SCHEDULER_LBLCR, SCHEDULER_LC, SCHEDULER_MH, SCHEDULER_NONE, SCHEDULER_NQ,
    SCHEDULER_OVF, SCHEDULER_RR, SCHEDULER_SED, SCHEDULER_SH, SCHEDULER_TWOS, SCHEDULER_WLC,
    SCHEDULER_WRR, SERVERS_MAX, SOURCE_NAT, Server, ServerStats, Service, ServiceKey,
};
pub use shared::Shared;
pub use socket::{SOCKET, SOCKET_FLOW, socket_cookie, socket_end, socket_protocol};
pub use template::{
    TEMPLATE_ASSURED, TEMPLATE_NONE, TEMPLATE_USED, TEMPLATE_VOID, Template, TemplateKey,
};
pub use tick::Tick;
pub use wire::{WIRE_REDIRECT, WIRE_SETS, Wire, WireKey, WireSet};

/// Version of everything in this module.
pub const VERSION: u32 = 6;
