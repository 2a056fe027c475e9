//! What `--list` prints, to the byte.

mod columns;
mod connections;
mod numbers;
mod order;

use std::net::IpAddr;

use super::command::Format;
use super::names::Names;
use super::view::{SchedulerFlags, Service, ServiceSpec, SyncDaemon, SyncRole, Timeouts, Version};
use crate::model::Protocol;
use columns::Columns;
pub(super) use connections::connections;
pub(super) use order::sorted;

/// The longest `ADDRESS:PORT` that is printed; what is longer is cut off.
const LONGEST_ENDPOINT: usize = 59;

/// All services.
pub(super) fn all(
    version: Version,
    services: Vec<Service>,
    format: Format,
    names: &dyn Names,
) -> String {
    let [major, minor, patch] = version.version;
    let columns = Columns::of(format);
    let mut text = format!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={})\n",
        version.size
    );
    text.push_str(&columns.title());
    for service in sorted(services, format) {
        columns.service(&mut text, &service, names);
    }
    text
}

/// One service.
pub(super) fn one(service: Service, format: Format, names: &dyn Names) -> String {
    let columns = Columns::of(format);
    let mut text = columns.title();
    for service in sorted(vec![service], format) {
        columns.service(&mut text, &service, names);
    }
    text
}

/// The timeouts.
pub(super) fn timeouts(timeouts: Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// The sync daemons that run; nothing where none does.
pub(super) fn daemons(daemons: &[SyncDaemon]) -> String {
    daemons.iter().map(daemon).collect()
}

fn daemon(daemon: &SyncDaemon) -> String {
    let role = match daemon.role {
        SyncRole::Master => "master",
        SyncRole::Backup => "backup",
    };
    let mut text = format!(
        "{role} sync daemon (mcast={}, syncid={}",
        daemon.interface, daemon.sync_id
    );
    if daemon.max_length > 0 {
        text.push_str(&format!(", maxlen={}", daemon.max_length));
    }
    if let Some(group) = daemon.group {
        text.push_str(&format!(", group={group}"));
    }
    if daemon.port > 0 {
        text.push_str(&format!(", port={}", daemon.port));
    }
    if daemon.ttl > 0 {
        text.push_str(&format!(", ttl={}", daemon.ttl));
    }
    text + ")\n"
}

/// `ADDRESS:PORT`, with names if they are asked for and known. Ports have names for a protocol only.
pub(super) fn endpoint(
    address: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
    format: Format,
    names: &dyn Names,
) -> String {
    let (host, service) = if format.numeric {
        (None, None)
    } else {
        let service = protocol.and_then(|protocol| names.service(port, protocol));
        (names.host(address), service)
    };
    let host = host.unwrap_or_else(|| address.to_string());
    let service = service.unwrap_or_else(|| port.to_string());
    let mut text = match address {
        IpAddr::V4(_) => format!("{host}:{service}"),
        IpAddr::V6(_) => format!("[{host}]:{service}"),
    };
    cut(&mut text, LONGEST_ENDPOINT);
    text
}

/// The flags of a service's scheduler, by the names that this scheduler has for them; none where none is set. A flag
/// without a name leaves an empty text, which is printed as such.
pub(super) fn flags(spec: &ServiceSpec) -> Option<String> {
    let words: [&str; 3] = match spec.scheduler.as_str() {
        "sh" => ["sh-fallback", "sh-port", ""],
        "mh" => ["mh-fallback", "mh-port", ""],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    if spec.flags == SchedulerFlags::default() {
        return None;
    }
    let set: Vec<&str> = words
        .into_iter()
        .zip(spec.flags.0)
        .filter(|(word, set)| *set && !word.is_empty())
        .map(|(word, _)| word)
        .collect();
    Some(set.join(","))
}

/// Leaves at most so many bytes.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rfind(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
}
