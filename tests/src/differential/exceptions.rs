//! Where bpvs is known to differ, and is meant to: each difference with a name, a reason and a
//! narrow test. All of them are in docs/differences.md.

use super::observe::{Body, Seen, Sum};
use super::step::Step;
use super::step::{self, Kind};

/// A known difference.
pub struct Exception {
    /// Its name in reports.
    pub name: &'static str,
    /// Why it is meant to be so.
    pub reason: &'static str,
    /// Whether it is what this frame of IPVS's (first) and of ours (second) differ by; none: there
    /// is no such frame.
    fits: fn(&Step, Option<&Seen>, Option<&Seen>) -> bool,
}

/// All of them.
pub const ALL: &[Exception] = &[
    Exception {
        name: "udp-without-checksum",
        reason: "a datagram without a checksum stays without; IPVS computes one",
        fits: |step, ipvs, bpvs| {
            let (Step::Packet(packet), Some(ipvs), Some(bpvs)) = (step, ipvs, bpvs) else {
                return false;
            };
            let mut same = ipvs.clone();
            let Body::Udp { sum, .. } = &mut same.ip.body else {
                return false;
            };
            packet.kind == Kind::Udp
                && packet.sum == step::Sum::None
                && std::mem::replace(sum, Sum::None) == Sum::Right
                && same == *bpvs
        },
    },
    Exception {
        name: "about-udp-without-checksum",
        reason: "the same, in the datagram that an ICMP error is about",
        fits: |_, ipvs, bpvs| {
            let (Some(mut same), Some(bpvs)) = (ipvs.cloned(), bpvs) else {
                return false;
            };
            let Body::Error { about, .. } = &mut same.ip.body else {
                return false;
            };
            let Body::Udp { sum, .. } = &mut about.body else {
                return false;
            };
            std::mem::replace(sum, Sum::None) != Sum::None && same == *bpvs
        },
    },
    Exception {
        name: "quoted-words",
        reason: "an ICMP error made by bpvs quotes whole words: up to 3 bytes less",
        fits: |_, ipvs, bpvs| {
            let (Some(ipvs), Some(bpvs)) = (ipvs, bpvs) else {
                return false;
            };
            let (Body::Error { quoted: theirs, .. }, Body::Error { quoted: ours, .. }) =
                (&ipvs.ip.body, &bpvs.ip.body)
            else {
                return false;
            };
            let less = theirs.wrapping_sub(*ours);
            let mut same = ipvs.clone();
            (1..=3).contains(&less) && shorten(&mut same.ip.body, less) && same == *bpvs
        },
    },
    Exception {
        name: "another-source-port",
        reason: "two connections whose replies could not be told apart: the second one gets another source port",
        fits: |step, ipvs, bpvs| {
            let (Step::Packet(packet), Some(ipvs), Some(bpvs)) = (step, ipvs, bpvs) else {
                return false;
            };
            let mut same = ipvs.clone();
            let (Body::Tcp { sport, .. } | Body::Udp { sport, .. }) = &mut same.ip.body else {
                return false;
            };
            let (Body::Tcp { sport: ours, .. } | Body::Udp { sport: ours, .. }) = &bpvs.ip.body
            else {
                return false;
            };
            let its_own = packet.way == step::Way::Request && packet.client.port() == *sport;
            *sport = *ours;
            its_own && *ours >= 1024 && same == *bpvs
        },
    },
    Exception {
        name: "icmp-with-a-wrong-checksum",
        reason: "an ICMP error with a wrong checksum goes on, still wrong; IPVS drops it",
        fits: |step, ipvs, bpvs| {
            let (Step::Packet(packet), None, Some(bpvs)) = (step, ipvs, bpvs) else {
                return false;
            };
            let Body::Error { sum, .. } = &bpvs.ip.body else {
                return false;
            };
            matches!(packet.kind, Kind::Error(..))
                && packet.sum == step::Sum::Wrong
                && *sum == Sum::Wrong
        },
    },
];

/// Takes bytes off the end of what an ICMP error quotes.
fn shorten(error: &mut Body, by: usize) -> bool {
    let Body::Error { quoted, about, .. } = error else {
        return false;
    };
    *quoted -= by;
    match &mut about.body {
        Body::Tcp { rest: end, sum, .. } | Body::Udp { data: end, sum, .. } => {
            *sum = Sum::Unknown;
            end.truncate(end.len().saturating_sub(by));
            true
        }
        Body::Error { .. } | Body::Tunnel(_) | Body::Other(..) => false,
    }
}

/// The exception by which these frames, the kernel's first, are the same but for what is known.
pub fn frames(step: &Step, ipvs: &[Seen], bpvs: &[Seen]) -> Option<&'static str> {
    let mut name = None;
    for place in 0..ipvs.len().max(bpvs.len()) {
        let (theirs, ours) = (ipvs.get(place), bpvs.get(place));
        if theirs != ours {
            let exception = ALL.iter().find(|known| (known.fits)(step, theirs, ours))?;
            name = Some(exception.name);
        }
    }
    name
}
