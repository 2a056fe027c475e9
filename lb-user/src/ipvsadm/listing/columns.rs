//! The columns of the ways to list services.

use std::fmt::Write as _;

use super::super::command::Format;
use super::super::names::Names;
use super::super::view::{
    Destination, Method, Netmask, Service, ServiceId, ServiceSpec, Stats, TunnelChecksum,
    TunnelKind,
};
use super::numbers::large;
use super::{cut, endpoint, flags};
use crate::model::{AddressFamily, Protocol};

/// How much of a service's name is printed, and of a destination's, for IPv4.
const SERVICE_WIDTH: usize = 33;
const DESTINATION_WIDTH: usize = 28;

/// A way to list services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    kind: Kind,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Tunnels,
    Default,
}

impl Columns {
    /// Of several that are asked for, the first of this list.
    pub(super) const fn of(format: Format) -> Self {
        let kind = if format.stats {
            Kind::Stats
        } else if format.rate {
            Kind::Rate
        } else if format.thresholds {
            Kind::Thresholds
        } else if format.persistent_conn {
            Kind::PersistentConn
        } else if format.tunnels {
            Kind::Tunnels
        } else {
            Kind::Default
        };
        Self { kind, format }
    }

    /// The two lines above.
    pub(super) fn title(self) -> String {
        const LOCAL: &str = "Prot LocalAddress:Port";
        const REMOTE: &str = "  -> RemoteAddress:Port";
        let numbers = |names: [&str; 5]| {
            let names: String = names.iter().map(|name| format!(" {name:>8}")).collect();
            format!("{LOCAL:<33}{names}\n{REMOTE}\n")
        };
        match self.kind {
            Kind::Stats => numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
            Kind::Rate => numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
            Kind::Thresholds => format!(
                "{LOCAL:<33} {:<10} {:<10} {:<10} {:<10}\n{REMOTE}\n",
                "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            ),
            Kind::PersistentConn => format!(
                "{LOCAL:<33} {:<9} {:<11} {:<10} {:<10}\n{REMOTE}\n",
                "Weight", "PersistConn", "ActiveConn", "InActConn"
            ),
            Kind::Tunnels => format!(
                "{LOCAL} Scheduler Flags\n{REMOTE:<33} Forward TunnelInfo    Weight ActiveConn InActConn\n"
            ),
            Kind::Default => format!(
                "{LOCAL} Scheduler Flags\n{REMOTE:<33} Forward Weight ActiveConn InActConn\n"
            ),
        }
    }

    /// A service and its destinations.
    pub(super) fn service(self, text: &mut String, service: &Service, names: &dyn Names) {
        let name = service_name(&service.spec.id, self.format, names);
        let line = match self.kind {
            Kind::Stats => format!("{name:<33}{}", self.large(counts(&service.stats))),
            Kind::Rate => format!("{name:<33}{}", self.large(rates(&service.stats))),
            _ => format!(
                "{name} {}{}",
                service.spec.scheduler,
                attributes(&service.spec)
            ),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
        for destination in &service.destinations {
            let line = self.destination(&service.spec.id, destination, names);
            let _ = writeln!(text, "{line}");
        }
    }

    fn destination(self, service: &ServiceId, listed: &Destination, names: &dyn Names) -> String {
        let spec = &listed.spec;
        let mut name = endpoint(
            spec.id.address,
            spec.id.port,
            service.protocol(),
            self.format,
            names,
        );
        if spec.id.address.is_ipv4() {
            cut(&mut name, DESTINATION_WIDTH);
        }
        let Destination {
            active, inactive, ..
        } = listed;
        let begin = format!("  -> {name:<28}");
        match self.kind {
            Kind::Stats => format!("{begin}{}", self.large(counts(&listed.stats))),
            Kind::Rate => {
                let [connections, in_packets, out_packets, bytes @ ..] = rates(&listed.stats);
                format!(
                    "{begin} {connections:>8} {in_packets:>8} {out_packets:>8}{}",
                    self.large(bytes)
                )
            }
            Kind::Thresholds => format!(
                "{begin} {:<10} {:<10} {active:<10} {inactive:<10}",
                spec.upper, spec.lower
            ),
            Kind::PersistentConn => format!(
                "{begin} {:<9} {:<11} {active:<10} {inactive:<10}",
                spec.weight, listed.persistent
            ),
            Kind::Tunnels => format!(
                "{begin} {:<7} {:<13} {:<6} {active:<10} {inactive:<10}",
                method(spec.method),
                tunnel(spec.method),
                spec.weight
            ),
            Kind::Default => format!(
                "{begin} {:<7} {:<6} {active:<10} {inactive:<10}",
                method(spec.method),
                spec.weight
            ),
        }
    }

    fn large<const N: usize>(self, numbers: [u64; N]) -> String {
        numbers
            .iter()
            .map(|number| large(*number, self.format.exact))
            .collect()
    }
}

/// The first column of a service's line.
fn service_name(id: &ServiceId, format: Format, names: &dyn Names) -> String {
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let word = match protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
                Protocol::Sctp => "SCTP",
            };
            let endpoint = endpoint(address, port, Some(protocol), format, names);
            let mut name = format!("{word:<4} {endpoint}");
            if address.is_ipv4() {
                cut(&mut name, SERVICE_WIDTH);
            }
            name
        }
        // Printed as a signed number.
        ServiceId::Fwmark { mark, family } => match family {
            AddressFamily::V4 => format!("FWM  {}", mark.cast_signed()),
            AddressFamily::V6 => format!("FWM  {} IPv6", mark.cast_signed()),
        },
    }
}

/// What follows the scheduler.
fn attributes(spec: &ServiceSpec) -> String {
    let mut text = String::new();
    if let Some(flags) = flags(spec) {
        text.push_str(&format!(" ({flags})"));
    }
    if let Some(persistence) = spec.persistence {
        text.push_str(&format!(" persistent {}", persistence.timeout));
        if !persistence.netmask.is_full() {
            text.push_str(&match persistence.netmask {
                Netmask::V4(mask) => format!(" mask {mask}"),
                Netmask::V6(length) => format!(" mask {length}"),
            });
        }
        if !spec.engine.is_empty() {
            text.push_str(&format!(" pe {}", spec.engine));
        }
    }
    if spec.one_packet {
        text.push_str(" ops");
    }
    text
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Masquerade => "Masq",
        Method::Local => "Local",
        Method::Tunnel(_) => "Tunnel",
        Method::Direct => "Route",
    }
}

fn tunnel(method: Method) -> String {
    let Method::Tunnel(tunnel) = method else {
        return "n/a".to_owned();
    };
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue { port } => format!("gue:{port}:{checksum}"),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

const fn counts(stats: &Stats) -> [u64; 5] {
    [
        stats.connections,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
}

const fn rates(stats: &Stats) -> [u64; 5] {
    [
        stats.connections_rate,
        stats.in_packets_rate,
        stats.out_packets_rate,
        stats.in_bytes_rate,
        stats.out_bytes_rate,
    ]
}
