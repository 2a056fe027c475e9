//! What `--save` writes: commands that make the same table, without thresholds, as ipvsadm.

use std::fmt::Write as _;

use super::command::Format;
use super::listing::{endpoint, flags, sorted};
use super::names::Names;
use super::view::{
    Destination, Method, Netmask, Service, ServiceId, ServiceSpec, TunnelChecksum, TunnelKind,
};
use crate::model::{AddressFamily, Protocol};

/// The commands for these services.
pub(super) fn save(services: Vec<Service>, format: Format, names: &dyn Names) -> String {
    let mut text = String::new();
    for service in sorted(services, format) {
        let name = service_name(&service.spec.id, format, names);
        line(&mut text, &service_line(&service.spec, &name));
        for destination in &service.destinations {
            let of = destination_line(&service.spec.id, destination, &name, format, names);
            line(&mut text, &of);
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The options that say which service.
fn service_name(id: &ServiceId, format: Format, names: &dyn Names) -> String {
    match *id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            let endpoint = endpoint(address, port, Some(protocol), format, names);
            format!("{option} {endpoint}")
        }
        ServiceId::Fwmark { mark, family } => {
            // Signed, as everywhere in its output.
            let mark = mark.cast_signed();
            match family {
                AddressFamily::V4 => format!("-f {mark}"),
                AddressFamily::V6 => format!("-f {mark} -6"),
            }
        }
    }
}

fn service_line(spec: &ServiceSpec, name: &str) -> String {
    let mut text = format!("-A {name} -s {}", spec.scheduler);
    if let Some(persistence) = spec.persistence {
        text.push_str(&format!(" -p {}", persistence.timeout));
        if !persistence.netmask.is_full() {
            text.push_str(&match persistence.netmask {
                Netmask::V4(mask) => format!(" -M {mask}"),
                Netmask::V6(length) => format!(" -M {length}"),
            });
        }
    }
    if !spec.engine.is_empty() {
        text.push_str(&format!(" --pe {}", spec.engine));
    }
    if spec.one_packet {
        text.push_str(" -o");
    }
    if let Some(flags) = flags(spec) {
        text.push_str(&format!(" -b {flags}"));
    }
    text
}

fn destination_line(
    service: &ServiceId,
    destination: &Destination,
    name: &str,
    format: Format,
    names: &dyn Names,
) -> String {
    let spec = &destination.spec;
    let server = endpoint(
        spec.id.address,
        spec.id.port,
        service.protocol(),
        format,
        names,
    );
    let (method, tunnel) = match spec.method {
        Method::Masquerade | Method::Local => ("-m", None),
        Method::Tunnel(tunnel) => ("-i", Some(tunnel)),
        Method::Direct => ("-g", None),
    };
    let mut text = format!("-a {name} -r {server} {method} -w {}", spec.weight);
    if let Some(tunnel) = tunnel {
        text.push_str(&match tunnel.kind {
            TunnelKind::Ipip => " --tun-type ipip".to_owned(),
            TunnelKind::Gue { port } => format!(" --tun-type gue --tun-port {port}"),
            TunnelKind::Gre => " --tun-type gre".to_owned(),
        });
        if tunnel.kind != TunnelKind::Ipip {
            text.push_str(match tunnel.checksum {
                TunnelChecksum::None => " --tun-nocsum",
                TunnelChecksum::Full => " --tun-csum",
                TunnelChecksum::Remote => " --tun-remcsum",
            });
        }
    }
    text
}
