//! `bpvs conns`.

use super::output::Output;
use super::table::trimmed;
use super::{CliError, Context};
use crate::api::wire;

pub(super) async fn conns(
    context: &Context,
    json: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let connections: Vec<wire::Connection> = context.client().await?.get("/v1/connections").await?;
    if json {
        return output.json(&connections);
    }
    output.text(&rendered(&connections))
}

/// The columns of `ipvsadm -Lnc`, wide enough for any IPv4 address and port, and one for source NAT, which says `socket` where
/// the socket hook made the connection.
pub(super) fn rendered(connections: &[wire::Connection]) -> String {
    let mut text = format!(
        "pro expire {:<11} {:<21} {:<21} {:<21} {}\n",
        "state", "source", "virtual", "destination", "source-nat"
    );
    for connection in connections {
        let expire = format!(
            "{:02}:{:02}",
            connection.expires / 60,
            connection.expires % 60
        );
        text.push_str(&format!(
            "{:<3} {expire:<6} {:<11} {:<21} {:<21} {:<21} {}\n",
            connection.protocol.to_ascii_uppercase(),
            connection.state,
            connection.client,
            connection.service,
            connection.server,
            connection
                .source_nat
                .as_deref()
                .unwrap_or(if connection.socket { "socket" } else { "" })
        ));
    }
    trimmed(&text)
}
