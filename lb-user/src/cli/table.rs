//! Tables in the manner of ipvsadm.

use crate::api::wire::{Counters, ListedService, SourceNat};

/// `TCP  10.0.0.100:80`, `FWM  256`.
pub(super) fn service_name(address: &str) -> String {
    let (kind, rest) = address.split_once(':').unwrap_or(("", address));
    let kind = if kind == "fwmark" {
        "FWM".to_owned()
    } else {
        kind.to_ascii_uppercase()
    };
    format!("{kind:<4} {rest}")
}

/// `Masq`, `Route`, as ipvsadm writes it.
pub(super) fn method_name(method: &str) -> &str {
    match method {
        "masq" => "Masq",
        "direct" => "Route",
        other => other,
    }
}

/// ` (source-nat, answer) persistent 6m`, or nothing.
pub(super) fn flags(service: &ListedService) -> String {
    let mut flags = Vec::new();
    flags.extend(service.scheduler_flags.clone());
    match &service.source_nat {
        SourceNat::Switch(false) => {}
        SourceNat::Switch(true) => flags.push("source-nat".to_owned()),
        SourceNat::Address(address) => flags.push(format!("source-nat={address}")),
    }
    let switches = [
        ("answer", service.answer),
        ("reset", service.reset),
        ("loopback", service.loopback),
        ("relay", service.relay),
        ("clamp-mss", service.clamp_mss),
        ("socket=false", !service.socket),
    ];
    for (name, set) in switches {
        if set {
            flags.push(name.into());
        }
    }
    let timeouts = &service.timeouts;
    for (name, timeout) in [("tcp", &timeouts.tcp), ("udp", &timeouts.udp)] {
        if let Some(timeout) = timeout {
            flags.push(format!("{name}-timeout={timeout}"));
        }
    }
    let mut text = String::new();
    if !flags.is_empty() {
        text.push_str(&format!(" ({})", flags.join(", ")));
    }
    for (name, value) in [
        ("persistent", &service.persistent),
        ("mask", &service.netmask),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {value}"));
        }
    }
    if service.one_packet {
        text.push_str(" ops");
    }
    text
}

/// Five numbers in ipvsadm's columns.
pub(super) fn counters(counters: &Counters) -> String {
    let Counters {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = *counters;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
        .map(large)
        .concat()
}

/// A number in nine columns, cut to K, M, G, T as ipvsadm does.
pub(super) fn large(number: u64) -> String {
    const K: u64 = 1000;
    match number {
        0..100_000_000 => format!("{number:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", number / K),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", number / (K * K)),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", number / (K * K * K)),
        _ => format!("{:>8}T", number / (K * K * K * K)),
    }
}

/// Lines without spaces at their ends.
pub(super) fn trimmed(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
