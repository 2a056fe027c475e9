//! ARP (RFC 826) for service addresses that no interface owns: the real answer, from the interface's own address.

use crate::{
    abi::{AnswerKey, Be16, Be32, V4},
    link::L3,
    packet::Packet,
    tables::Tables,
    verdict::{Action, Reason, Step, Verdict},
};

/// Hardware Ethernet, protocol IPv4.
const ETHERNET_IPV4: u32 = 0x0001_0800;
/// Address lengths 6 and 4, operation request.
const REQUEST: u32 = 0x0604_0001;
/// Operation reply.
const REPLY: u16 = 2;

const OPERATION: u32 = L3 + 6;
const SENDER_MAC: u32 = L3 + 8;
const SENDER: u32 = L3 + 14;
const TARGET_MAC: u32 = L3 + 18;
const TARGET: u32 = L3 + 24;

/// Answers a request for an address that bpvs answers for; all else passes. Gives a [`Verdict::word`].
#[inline(always)]
pub fn process<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> u64 {
    let (Ok(verdict) | Err(verdict)) = decide(packet, tables);
    verdict.word()
}

#[inline(always)]
fn decide<P: Packet, T: Tables<V4>>(packet: &mut P, tables: &T) -> Step<Verdict> {
    let not_ours = Verdict::pass(Reason::NotIp);
    let arrival = packet.arrival();
    if arrival.egress {
        // This host asks: the answer must come from the network, or nobody serves the address.
        return Err(not_ours);
    }
    let malformed = Verdict::pass(Reason::Malformed);
    if packet.u32(L3).ok_or(malformed)? != Be32::new(ETHERNET_IPV4) {
        return Err(not_ours);
    }
    if packet.u32(L3 + 4).ok_or(malformed)? != Be32::new(REQUEST) {
        return Err(not_ours);
    }
    let target = packet.u32(TARGET).ok_or(malformed)?;
    if !tables.answers(&AnswerKey {
        address: V4(target),
        scope: tables.scope_id(),
    }) {
        return Err(not_ours);
    }
    // An announcement: somebody else has the address, or takes it over. Like the kernel, do not dispute it.
    if packet.u32(SENDER).ok_or(malformed)? == target {
        return Err(not_ours);
    }
    let Some(interface) = tables.interface(arrival.ifindex) else {
        return Err(not_ours);
    };
    let own = interface.mac.0;
    let answer = (|| {
        let sender = packet.u32(SENDER)?;
        let mut word = 0;
        while word < 3 {
            let at = 2 * word;
            let asker = packet.u16(SENDER_MAC + at)?;
            let mine = Be16::from_raw(own[word as usize]);
            packet.set_u16(TARGET_MAC + at, asker)?;
            packet.set_u16(SENDER_MAC + at, mine)?;
            packet.set_u16(at, asker)?;
            packet.set_u16(6 + at, mine)?;
            word += 1;
        }
        packet.set_u32(SENDER, target)?;
        packet.set_u32(TARGET, sender)?;
        packet.set_u16(OPERATION, Be16::new(REPLY))
    })();
    match answer {
        Some(()) => Ok(Verdict::new(
            Action::Transmit,
            arrival.ifindex,
            Reason::ArpAnswered,
        )),
        None => Err(Verdict::drop(Reason::RewriteFailed)),
    }
}
