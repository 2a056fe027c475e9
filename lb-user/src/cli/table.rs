//! Tables in the manner of ipvsadm.

use crate::api::wire::{Counters, SourceNat, Timeouts};

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

/// `Masq`, as ipvsadm writes it.
pub(super) fn method_name(method: &str) -> String {
    let mut letters = method.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}

/// ` (source-nat, answer)`, or nothing.
pub(super) fn flags(source_nat: &SourceNat, answer: bool, timeouts: &Timeouts) -> String {
    let mut flags = Vec::new();
    match source_nat {
        SourceNat::Switch(false) => {}
        SourceNat::Switch(true) => flags.push("source-nat".to_owned()),
        SourceNat::Address(address) => flags.push(format!("source-nat={address}")),
    }
    if answer {
        flags.push("answer".into());
    }
    for (name, timeout) in [("tcp", &timeouts.tcp), ("udp", &timeouts.udp)] {
        if let Some(timeout) = timeout {
            flags.push(format!("{name}-timeout={timeout}"));
        }
    }
    if flags.is_empty() {
        String::new()
    } else {
        format!(" ({})", flags.join(", "))
    }
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
