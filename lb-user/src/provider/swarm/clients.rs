//! The clients' own addresses behind published ports.
//!
//! A task that sees the client itself answers past the sandbox that chose it: by its default route, over its own node's
//! bridge. There the answer is caught (a relay in the node's scope) and led into that node's sandbox, which has the
//! connection. If the client had asked another node, the sandbox hands the answer on to that node's, over the network of
//! published ports. So such a connection goes through both sandboxes, and the chosen task is called by an *alias* between
//! them, an address that names the asked node and the task: the same client port on two nodes stays two connections.
//!
//! Datagrams go another way in the task's node: see [`super::datagrams`].
//!
//! Whether another node does its part is asked of it: a datagram to the alias of that node's sandbox, which comes back from
//! there. Where it does not, addresses are translated. Each task's alias is asked as well: a task that its own node has not
//! yet heard of gets no connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::seen::Network;
use crate::model::ModelError;
use crate::net::NetNs;

/// What becomes of a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAddress {
    /// It becomes that of the sandbox, as with IPVS.
    #[default]
    Translate,
    /// Tasks see it, where that can be done; TCP.
    Keep,
    /// The same, UDP too.
    KeepAll,
}

impl FromStr for ClientAddress {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "translate" => Ok(Self::Translate),
            "keep" => Ok(Self::Keep),
            "keep-all" => Ok(Self::KeepAll),
            _ => Err(ModelError::SettingValue {
                name: "client-address",
                value: text.into(),
                right: "have: keep, keep-all, translate".into(),
            }),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Translate => "translate",
            Self::Keep => "keep",
            Self::KeepAll => "keep-all",
        })
    }
}

/// The port at which aliases of sandboxes are asked, and answer: that of echo.
pub(super) const PROBE: u16 = 7;

/// Where aliases are from: addresses for carriers' own use (RFC 6598). They are met between sandboxes only.
const ALIASES: u32 = u32::from_be_bytes([100, 64, 0, 0]);
/// How many bits of an alias each of the two has.
const BITS: u32 = 11;

/// The name of an end in the network of published ports between two sandboxes: that of the node that was asked, and the
/// end's own. None in a network in which the ends are too many.
pub(super) fn alias(network: &Network, asked: Ipv4Addr, end: Ipv4Addr) -> Option<Ipv4Addr> {
    let subnet = network.subnet?;
    let host = |address: Ipv4Addr| {
        let host = u32::from(address) & u32::from(subnet.hostmask());
        (subnet.contains(&address) && host >> BITS == 0).then_some(host)
    };
    Some((ALIASES | host(asked)? << BITS | host(end)?).into())
}

/// What is known of how clients' addresses can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Reach {
    /// Containers on this node drop what comes from elsewhere than they would answer to (`rp_filter` 1).
    pub(super) strict: bool,
    /// The sandboxes of other nodes that do their part, and the tasks that are known there.
    pub(super) answering: BTreeSet<Ipv4Addr>,
}

/// How often others are asked.
const EVERY: Duration = Duration::from_secs(5);
/// How soon those are asked again that have not answered: with each look.
const AGAIN: Duration = Duration::from_millis(300);
/// How long an answer is good for.
const GOOD: Duration = Duration::from_secs(16);
/// How long is waited for answers.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was asked of other nodes, and what came back.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    at: BTreeMap<Ipv4Addr, Instant>,
    answered: BTreeMap<Ipv4Addr, Instant>,
}

impl Asked {
    /// What can be done from this sandbox, whose address is `own`; others are asked where it is time. Blocks for a short time.
    pub(super) fn reach(
        &mut self,
        sandbox: &NetNs,
        own: Ipv4Addr,
        others: &BTreeSet<Ipv4Addr>,
    ) -> Reach {
        let now = Instant::now();
        self.at.retain(|other, _| others.contains(other));
        self.answered.retain(|other, at| {
            others.contains(other) && now.saturating_duration_since(*at) < GOOD
        });
        let due: BTreeSet<Ipv4Addr> = others
            .iter()
            .copied()
            .filter(|other| {
                let pause = if self.answered.contains_key(other) {
                    EVERY
                } else {
                    AGAIN
                };
                let before = self.at.get(other);
                before.is_none_or(|before| now.saturating_duration_since(*before) >= pause)
            })
            .collect();
        self.at.extend(due.iter().map(|other| (*other, now)));
        let (strict, answered) = sandbox
            .run_in(|| (is_strict(), ask(own, &due).unwrap_or_default()))
            .unwrap_or_default();
        self.answered
            .extend(answered.into_iter().map(|other| (other, now)));
        Reach {
            strict,
            answering: self.answered.keys().copied().collect(),
        }
    }
}

/// Whether containers look back: dockerd makes their namespaces as it makes its own sandboxes', with the same settings.
fn is_strict() -> bool {
    let value = |name| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or(0)
    };
    value("all").max(value("default")) == 1
}

/// Those of these ends from which a datagram comes back.
fn ask(own: Ipv4Addr, others: &BTreeSet<Ipv4Addr>) -> io::Result<BTreeSet<Ipv4Addr>> {
    let mut answered = BTreeSet::new();
    if others.is_empty() {
        return Ok(answered);
    }
    let socket = UdpSocket::bind(SocketAddrV4::new(own, PROBE))?;
    // From another port: else what comes back could not be told from what another node asks.
    let question = UdpSocket::bind(SocketAddrV4::new(own, 0))?;
    for other in others {
        // One that cannot be sent to has not answered.
        let _ = question.send_to(&other.octets(), SocketAddrV4::new(*other, PROBE));
    }
    let end = Instant::now() + PATIENCE;
    while answered.len() < others.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let mut datagram = [0; 8];
        match socket.recv_from(&mut datagram) {
            Ok((4, _)) => {
                let [a, b, c, d, ..] = datagram;
                let other = Ipv4Addr::new(a, b, c, d);
                if others.contains(&other) {
                    answered.insert(other);
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::super::seen::tests::{INGRESS, read};
    use super::*;

    #[test]
    fn aliases_tell_nodes_and_ends_apart() {
        let mut network = read(INGRESS);
        let at = |last| Ipv4Addr::new(10, 0, 0, last);
        assert_eq!(
            alias(&network, at(2), at(5)),
            Some(Ipv4Addr::new(100, 64, 16, 5))
        );
        assert_ne!(alias(&network, at(2), at(5)), alias(&network, at(5), at(2)));
        assert_eq!(alias(&network, at(2), Ipv4Addr::new(10, 0, 1, 5)), None);
        network.subnet = Some("10.0.0.0/16".parse().unwrap());
        let last = alias(&network, Ipv4Addr::new(10, 0, 7, 255), at(255));
        assert_eq!(last, Some(Ipv4Addr::new(100, 127, 248, 255)));
        assert_eq!(alias(&network, at(2), Ipv4Addr::new(10, 0, 8, 0)), None);
        network.subnet = None;
        assert_eq!(alias(&network, at(2), at(5)), None);
    }

    #[test]
    fn what_can_be_said() {
        assert_eq!(
            "keep".parse::<ClientAddress>().unwrap(),
            ClientAddress::Keep
        );
        for word in [
            ClientAddress::Keep,
            ClientAddress::KeepAll,
            ClientAddress::Translate,
        ] {
            assert_eq!(word.to_string().parse::<ClientAddress>().unwrap(), word);
        }
        assert!("true".parse::<ClientAddress>().is_err());
    }
}
