//! Reading whole tables, and taking in what comes meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::{ANSWER_TIMEOUT, Answer, Connection, Envelopes, Received};
use super::error::NetError;
use super::message;
use super::mirror::{Applied, Mirror, Table};

/// How often a dump is begun again when changes run over it or events are lost under it.
const ATTEMPTS: u32 = 20;
/// Between two such attempts.
const RESPITE: Duration = Duration::from_millis(20);

/// What happened while tables were read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tables read to the end.
    pub(super) dumps: u64,
    /// Times that events were lost.
    pub(super) losses: u64,
    /// Events in between.
    pub(super) events: u64,
    /// Tables that those events made stale after they had been read.
    pub(super) stale: BTreeSet<Table>,
}

/// How a dump ended.
enum Ended {
    Complete,
    /// Changes ran over it: what was read may lack something.
    Interrupted,
    /// Events were lost: no table is to be trusted.
    Lost,
}

/// Takes in the events of one datagram. Returns what they did together, and how many there were.
pub(super) fn take_in(mirror: &mut Mirror, envelopes: Envelopes<'_>) -> (Applied, u64) {
    let mut together = Applied::default();
    let mut events = 0;
    for envelope in envelopes {
        match message::parse(&envelope) {
            Ok(Some(message)) => {
                let applied = mirror.apply(message, false);
                together.changed |= applied.changed;
                together.stale.extend(applied.stale);
                events += 1;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(
                    kind = envelope.kind,
                    error,
                    "passing over a netlink message"
                );
            }
        }
    }
    (together, events)
}

/// Reads the tables anew. When events are lost meanwhile, all tables are read.
pub(super) async fn read(
    connection: &mut Connection,
    mirror: &mut Mirror,
    mut tables: BTreeSet<Table>,
    tally: &mut Tally,
) -> Result<(), NetError> {
    let mut failures = 0;
    while let Some(table) = tables.first().copied() {
        // What made this table stale until here is answered by reading it now.
        tally.stale.remove(&table);
        mirror.begin(table);
        match dump(connection, mirror, table, tally).await? {
            Ended::Complete => {
                mirror.finish();
                tally.dumps += 1;
                tables.remove(&table);
                continue;
            }
            Ended::Interrupted if failures >= ATTEMPTS => {
                // It never holds still. Most of it is right, and every further change brings its event.
                tracing::debug!(?table, "taking a dump that changes ran over");
                mirror.finish();
                tally.dumps += 1;
                tables.remove(&table);
                continue;
            }
            Ended::Interrupted => {}
            Ended::Lost => {
                tally.losses += 1;
                tables.extend(Table::ALL);
                if failures >= ATTEMPTS {
                    return Err(NetError::Overrun { attempts: failures });
                }
            }
        }
        failures += 1;
        tokio::time::sleep(RESPITE).await;
    }
    Ok(())
}

async fn dump(
    connection: &mut Connection,
    mirror: &mut Mirror,
    table: Table,
    tally: &mut Tally,
) -> Result<Ended, NetError> {
    let (name, request) = request(table);
    let sequence = connection.request_dump(request)?;
    let mut interrupted = false;
    let mut lost = false;
    loop {
        let port = connection.port();
        let received = tokio::time::timeout(ANSWER_TIMEOUT, connection.receive())
            .await
            .map_err(|_| NetError::NoAnswer { request: name })??;
        let envelopes = match received {
            Received::Messages(envelopes) => envelopes,
            Received::Lost => {
                // The answer itself is not lost. It is read to its end, for the kernel allows no other before.
                lost = true;
                continue;
            }
        };
        for envelope in envelopes {
            let ours = envelope.port == port && envelope.sequence == sequence;
            if ours {
                interrupted |= envelope.is_interrupted_dump();
                match envelope.answer() {
                    Answer::Part => {}
                    Answer::Done => {
                        return Ok(match (lost, interrupted) {
                            (true, _) => Ended::Lost,
                            (false, true) => Ended::Interrupted,
                            (false, false) => Ended::Complete,
                        });
                    }
                    Answer::Failed(error) if is_absent(table, &error) => {
                        if table == Table::Rules {
                            default_policy(mirror);
                        }
                        return Ok(Ended::Complete);
                    }
                    Answer::Failed(source) => {
                        return Err(NetError::Refused {
                            request: name,
                            source,
                        });
                    }
                }
            }
            match message::parse(&envelope) {
                Ok(Some(message)) => {
                    let applied = mirror.apply(message, ours);
                    if !ours {
                        tally.events += 1;
                        tally.stale.extend(applied.stale);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(
                        kind = envelope.kind,
                        error,
                        "passing over a netlink message"
                    );
                }
            }
        }
    }
}

/// A kernel without policy routing has no rules to dump, and behaves as if it had the default ones; one without bridges
/// has no tables of theirs.
fn is_absent(table: Table, error: &io::Error) -> bool {
    matches!(table, Table::Rules | Table::Forwarding)
        && error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn default_policy(mirror: &mut Mirror) {
    for place in 0..3 {
        mirror.apply(
            message::Message::NewRule(message::Rule::Default(place)),
            true,
        );
    }
}

/// How to ask for a table, and how to say that one did.
pub(super) fn request(table: Table) -> (&'static str, RouteNetlinkMessage) {
    match table {
        Table::Links => {
            let mut message = LinkMessage::default();
            // Statistics are most of a link's description, and nobody here reads them.
            message
                .attributes
                .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
            ("list the links", RouteNetlinkMessage::GetLink(message))
        }
        Table::Addresses => (
            "list the addresses",
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        ),
        Table::Routes => {
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet;
            ("list the routes", RouteNetlinkMessage::GetRoute(message))
        }
        Table::Rules => {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            (
                "list the routing policy rules",
                RouteNetlinkMessage::GetRule(message),
            )
        }
        Table::Neighbours => (
            "list the neighbours",
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        ),
        Table::Forwarding => {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            (
                "list the forwarding tables of bridges",
                RouteNetlinkMessage::GetNeighbour(message),
            )
        }
    }
}
