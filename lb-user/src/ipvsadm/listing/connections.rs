//! The listing of connections (`-L -c`).

use std::fmt::Write as _;

use super::super::command::Format;
use super::super::names::Names;
use super::super::view::{Connection, DestinationId};
use super::endpoint;
use crate::model::Protocol;

/// The connections in the order given.
pub(in super::super) fn connections(
    connections: &[Connection],
    format: Format,
    names: &dyn Names,
) -> String {
    let mut text = String::from("IPVS connection entries\n");
    let mut title = format!(
        "pro expire {:<11} {:<18} {:<18} ",
        "state", "source", "virtual"
    );
    title.push_str(&if format.persistent_conn {
        format!("{:<18} {:<16} {}", "destination", "pe name", "pe_data")
    } else {
        "destination".to_owned()
    });
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{title}");
    for connection in connections {
        let _ = writeln!(text, "{}", line(connection, format, names));
    }
    text
}

fn line(connection: &Connection, format: Format, names: &dyn Names) -> String {
    let protocol = match connection.protocol {
        Some(Protocol::Tcp) => "TCP",
        Some(Protocol::Udp) => "UDP",
        Some(Protocol::Sctp) => "SCTP",
        None => "IP",
    };
    // Ports of SCTP stay numbers here.
    let named = connection
        .protocol
        .filter(|protocol| matches!(protocol, Protocol::Tcp | Protocol::Udp));
    let end = |end: &DestinationId| endpoint(end.address, end.port, named, format, names);
    let expire = format!(
        "{:02}:{:02}",
        connection.expires / 60,
        connection.expires % 60
    );
    let begin = format!(
        "{protocol:<3} {expire:<6} {:<11} {:<18} {:<18}",
        connection.state,
        end(&connection.client),
        end(&connection.service)
    );
    let destination = end(&connection.destination);
    match &connection.engine {
        Some((name, data)) if format.persistent_conn => {
            format!("{begin} {destination:<18} {name:<16} {data}")
        }
        _ => format!("{begin} {destination}"),
    }
}
