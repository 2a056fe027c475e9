//! Persistence: which real server a client's connections go to.
//!
//! A template has a slot in an array, and a key that finds the slot. The connections that it controls hold the slot's
//! index; it lives at least as long as they do, so the index needs no generation.

use super::{Be16, ServiceKey, Shared};

/// Finds a template: the client, by as many bits of its address as the service's netmask has, and the service as the
/// client sees it (`ip_vs_conn_fill_param_persist`).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct TemplateKey<A> {
    /// The client's address, masked.
    pub client: A,
    /// Service address or mark, port (0 for all), protocol and scope.
    pub service: ServiceKey<A>,
}

/// One slot of the template array. Index 0 is never used.
#[repr(C)]
pub struct Template<A> {
    /// A [`Word`](super::Word): deadline, generation, state ([`TEMPLATE_NONE`] or [`TEMPLATE_ASSURED`]), flags
    /// ([`TEMPLATE_USED`], [`TEMPLATE_VOID`], [`DEAD`](super::DEAD)). Changed by compare-and-swap only; a free slot has no
    /// flags and keeps its generation.
    pub word: Shared<u64>,
    /// The key that finds it; once the template is void, it may find another one.
    pub key: Shared<TemplateKey<A>>,
    /// Real server: index into the servers map.
    pub server: Shared<u32>,
    /// Connections that it controls (`n_control`).
    pub children: Shared<u32>,
    /// Ticks from the last new connection to its end.
    pub timeout: Shared<u32>,
    /// The real server's port as listings show it.
    pub port: Shared<Be16>,
    /// Zero.
    pub pad: u16,
}

/// State of a template: none of its connections was ever established.
pub const TEMPLATE_NONE: u8 = 0;
/// State of a template: one was.
pub const TEMPLATE_ASSURED: u8 = 1;
/// Flag of a template's word: the slot is in use.
pub const TEMPLATE_USED: u8 = 1;
/// Flag of a template's word: it is no longer found by its key, and kept for its children only.
pub const TEMPLATE_VOID: u8 = 2;

const _: () = {
    use super::V4;
    assert!(size_of::<TemplateKey<V4>>() == 16);
    assert!(size_of::<Template<V4>>() == 40);
};
