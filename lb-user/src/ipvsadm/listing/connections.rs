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
            // Not the widths of the title.
            format!("{begin} {destination:<16} {name:<18} {data}")
        }
        _ => format!("{begin} {destination}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::names::Table;
    use super::*;

    /// What ipvsadm printed in a guest.
    const LISTED: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
IP  00:58  ASSURED     10.9.0.1:0         0.0.0.7:0          127.0.0.1:0
TCP 14:58  ESTABLISHED 10.9.0.1:52752     10.9.0.1:443       127.0.0.1:8080
UDP 00:38  NONE        10.9.0.1:0         10.9.0.1:5060      127.0.0.1:5353   sip                abc@def
";

    #[test]
    fn templates_and_engines() {
        let end = |text: &str| {
            let socket: std::net::SocketAddr = text.parse().unwrap();
            DestinationId {
                address: socket.ip(),
                port: socket.port(),
            }
        };
        let of = |protocol, ends: [&str; 3], state: &str, expires| Connection {
            protocol,
            client: end(ends[0]),
            service: end(ends[1]),
            destination: end(ends[2]),
            state: state.to_owned(),
            expires,
            engine: None,
        };
        let mut called = of(
            Some(Protocol::Udp),
            ["10.9.0.1:0", "10.9.0.1:5060", "127.0.0.1:5353"],
            "NONE",
            38,
        );
        called.engine = Some(("sip".to_owned(), "abc@def".to_owned()));
        let listed = [
            of(
                None,
                ["10.9.0.1:0", "0.0.0.7:0", "127.0.0.1:0"],
                "ASSURED",
                58,
            ),
            of(
                Some(Protocol::Tcp),
                ["10.9.0.1:52752", "10.9.0.1:443", "127.0.0.1:8080"],
                "ESTABLISHED",
                898,
            ),
            called,
        ];
        let format = Format {
            numeric: true,
            persistent_conn: true,
            ..Format::default()
        };
        let names = Table::default();
        assert_eq!(connections(&listed, format, &names), LISTED);
        // With minutes that are more than an hour, and without the last columns.
        let mut long = listed[1].clone();
        long.expires = 2_678_400;
        let text = connections(&[long], Format::default(), &names);
        assert!(text.ends_with(
            "TCP 44640:00 ESTABLISHED 10.9.0.1:52752     10.9.0.1:443       127.0.0.1:8080\n"
        ));
    }
}
