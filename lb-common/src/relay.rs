//! Sending packets on to where a service has them go, without remembering anything of them.
//!
//! IPVS's direct routing with a firewall mark, but of every packet: also of those that open no connection, as replies are
//! and resets. It bends a way: what the routes would send elsewhere goes to the real server's hop.

use crate::{
    abi::{Address, BENT, RELAY},
    emit,
    family::Family,
    forward,
    link::L3,
    packet::Packet,
    tables::{Tables, Traffic},
    verdict::{Reason, Verdict},
};

/// Whether this service, which may be none, relays.
#[inline(always)]
pub(crate) fn is_for<A: Address, T: Tables<A>>(tables: &T, service: u32) -> bool {
    service != 0
        && tables
            .service(service)
            .is_some_and(|service| service.options.load() & RELAY != 0)
}

/// Sends a packet to the newest real server of the service that was noted, as it is; after an early layer, which leaves it
/// alone. Gives a [`Verdict::word`].
#[inline(always)]
pub fn relay<F: Family, P: Packet, T: Tables<F::Address>>(packet: &mut P, tables: &T) -> u64 {
    if P::EARLY {
        return Verdict::hand_over().word();
    }
    let Some(header) = F::header(packet, L3, false) else {
        return Verdict::pass(Reason::Malformed).word();
    };
    let nobody = Verdict::refuse(Reason::NoServer, 0, false).word();
    let service = tables.scratch().map_or(0, |scratch| scratch.service.load());
    let index = tables
        .service(service)
        .map_or(0, |service| service.head.load());
    if index == 0 {
        return nobody;
    }
    let Some(server) = tables.server(index) else {
        return nobody;
    };
    let hop = tables.route(Address::from_words(server.address.load()));
    let way = emit::way::<F, P, T>(packet, tables, &header, L3, hop | BENT, tables.now());
    if way.is_obstacle() {
        // Whoever sent it hears it from here: to them this host is a router.
        return forward::obstructed(way, true).word();
    }
    tables.count_server(index, Traffic::In, forward::bytes(packet, &header));
    emit::leave::<F, P, T>(packet, tables, L3, way, Reason::Forwarded)
        .unwrap_or(Verdict::drop(Reason::RewriteFailed))
        .word()
}
