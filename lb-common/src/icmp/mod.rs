//! ICMP (RFC 792): pings of a service address, errors about connections, and errors that bpvs sends itself.

pub(crate) mod echo;
pub mod error;
mod related;

use crate::{
    abi::V4,
    family::{Family, Fragment, Header, Ipv4},
    link::L3,
    packet::Packet,
    tables::Tables,
    verdict::{Reason, Step, Verdict},
};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;

/// Offset of the checksum in an ICMP header.
const CHECKSUM: u32 = 2;
/// Bytes of an ICMP header; the packet that an error is about follows.
const LENGTH: u32 = 8;

/// What becomes of an ICMP packet: a [`Verdict::word`], or [`crate::pipeline::OPEN`].
#[inline(always)]
pub fn control<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> u64 {
    let Some(header) = Ipv4::header(packet, L3, false) else {
        return Verdict::pass(Reason::Malformed).word();
    };
    match decide(packet, tables, &header) {
        Ok(word) => word,
        Err(verdict) => verdict.word(),
    }
}

#[inline(always)]
fn decide<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T, header: &Header<V4>) -> Step<u64> {
    if header.fragment == Fragment::Later {
        return echo::later_fragment(packet, tables, header).map(Verdict::word);
    }
    let Some(kind) = packet.u8(header.l4) else {
        return Err(Verdict::pass(Reason::Malformed));
    };
    if !header.carries(L3, LENGTH) {
        return Err(Verdict::pass(Reason::Malformed));
    }
    // The three errors that IPVS follows; "parameter problem" is not among them (ip_vs_in_icmp).
    match kind {
        ECHO => echo::answer(packet, tables, header).map(Verdict::word),
        UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED => related::follow(packet, tables, header),
        _ => Err(Verdict::pass(Reason::OtherProtocol)),
    }
}
