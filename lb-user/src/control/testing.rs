//! Tables for tests: written short, or made at random.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{
    AddressFamily, ForwardingMethod, MarkRule, MarkValue, Netmask, Persistence, Protocol,
    Scheduler, SchedulerFlags, Server, Service, ServiceKey, Setting, Settings, SourceNat, Table,
};

/// Reads `KEY SCHEDULER SERVER/WEIGHT…; …; mark N; tcp-timeout SECONDS`, the newest server first.
pub(crate) fn table(text: &str) -> Table {
    let mut table = Table::new();
    let mut marks = Vec::new();
    for entry in text
        .split(';')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let words: Vec<&str> = entry.split_whitespace().collect();
        match words[0] {
            "mark" => marks.push(MarkRule::new(words[1].parse().unwrap())),
            "tcp-timeout" => {
                let mut settings = Settings::default();
                settings.timeouts.tcp = Duration::from_secs(words[1].parse().unwrap());
                table.set_settings(settings).unwrap();
            }
            key => {
                let mut service = Service::new(key.parse().unwrap(), words[1].parse().unwrap());
                service.servers = words[2..]
                    .iter()
                    .map(|word| server(&service.key, word))
                    .collect();
                table.add_service(service).unwrap();
            }
        }
    }
    table.set_marks(marks).unwrap();
    table
}

/// Reads `ADDRESS:PORT/WEIGHT`.
pub(crate) fn server(service: &ServiceKey, text: &str) -> Server {
    let (socket, weight) = text.split_once('/').unwrap();
    Server::new(
        service,
        socket.parse().unwrap(),
        weight.parse().unwrap(),
        ForwardingMethod::Masquerade,
    )
    .unwrap()
}

/// A small table, so that two of them often have the same entries.
pub(crate) fn table_strategy() -> impl Strategy<Value = Table> {
    let key = prop_oneof![
        (1u8..5).prop_map(|n| format!("tcp:10.0.0.{n}:80").parse().unwrap()),
        (1u8..3).prop_map(|n| format!("udp:10.0.0.{n}:0").parse().unwrap()),
        (1u32..4).prop_map(|mark| ServiceKey::fwmark(mark, AddressFamily::V4).unwrap()),
    ];
    let scheduler = prop_oneof![
        Just(Scheduler::RoundRobin),
        Just(Scheduler::WeightedRoundRobin)
    ];
    let source_nat = prop_oneof![Just(SourceNat::Off), Just(SourceNat::Interface)];
    let persistence = proptest::option::of((1u64..4, 31u8..33)).prop_map(|given| {
        given.map(|(minutes, bits)| Persistence {
            timeout: Duration::from_secs(minutes * 60),
            netmask: Netmask::parse(&bits.to_string(), AddressFamily::V4).unwrap(),
        })
    });
    let method = prop_oneof![
        Just(ForwardingMethod::Masquerade),
        Just(ForwardingMethod::Direct)
    ];
    let servers = vec((1u8..6, 0u32..3, method, 0u32..2), 0..5);
    let switches = any::<[bool; 10]>();
    let service = (key, scheduler, source_nat, persistence, switches, servers).prop_map(
        |(key, scheduler, source_nat, persistence, switches, servers)| {
            let [
                answer,
                one_packet,
                reset,
                socket,
                loopback,
                relay,
                clamp_mss,
                flags @ ..,
            ] = switches;
            let mut service = Service::new(key, scheduler);
            service.source_nat = source_nat;
            service.answer = answer && key.socket().is_some();
            service.loopback = loopback && key.port().is_some();
            service.socket = socket || service.loopback;
            service.relay = relay && key.socket().is_none();
            service.clamp_mss = clamp_mss;
            service.scheduler_flags = SchedulerFlags::new(flags);
            service.persistence = persistence;
            if key.socket().is_some_and(|socket| socket.port() == 0) {
                let minute = Duration::from_secs(60);
                service.persistence =
                    persistence.or(Some(Persistence::new(minute, AddressFamily::V4)));
            }
            service.one_packet = one_packet && key.takes(Protocol::Udp);
            service.reset = reset && key.takes(Protocol::Tcp);
            let port = key.port().unwrap_or(0);
            for (host, weight, method, threshold) in servers {
                let socket = SocketAddr::new([10, 1, 0, host].into(), port);
                let method = if service.relay {
                    ForwardingMethod::Direct
                } else {
                    method
                };
                if service.server(socket).is_none() {
                    let server = Server::new(&key, socket, weight, method).unwrap();
                    service.servers.push(Server {
                        upper_threshold: 2 * threshold,
                        lower_threshold: threshold,
                        via: (threshold > 0).then(|| [10, 2, 0, host].into()),
                        return_via: (weight > 1).then(|| [10, 2, 1, host].into()),
                        ..server
                    });
                }
            }
            service
        },
    );
    let marks = vec(1u32..5, 0..4);
    let settings = (1u64..4, 0u32..4);
    (vec(service, 0..5), marks, settings).prop_map(|(services, marks, (minutes, mode))| {
        let mut table = Table::new();
        for service in services {
            // A key that comes twice keeps its first service.
            let _ = table.add_service(service);
        }
        let mut rules: Vec<MarkRule> = Vec::new();
        for mark in marks {
            let rule = MarkRule::new(MarkValue::new(mark, u32::MAX).unwrap());
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        table.set_marks(rules).unwrap();
        let mut settings = Settings::default();
        settings.timeouts.udp = Duration::from_secs(minutes * 60);
        settings.set(Setting::DropEntry, mode).unwrap();
        table.set_settings(settings).unwrap();
        table
    })
}
