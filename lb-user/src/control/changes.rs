//! A difference in words, one line each: `+` for what comes, `-` for what goes, `~` for what changes.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::model::{
    MarkRule, Server, Service, ServiceKey, ServiceTimeouts, Setting, Settings, SourceNat, Table,
    Timeouts, format_duration,
};

/// What is different between `old` and `new`. Names are as on the command line, in the order of the services.
#[must_use]
pub fn changes(old: &Table, new: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    if old.settings() != new.settings() {
        settings_changes(old.settings(), new.settings(), &mut lines);
    }
    for service in new.services() {
        match old.service(&service.key) {
            None => {
                lines.push(format!("+ service {} {}", service.key, described(service)));
                let servers = service.servers.iter().rev();
                lines.extend(servers.map(|server| added(service, server)));
            }
            Some(there) => service_changes(there, service, &mut lines),
        }
    }
    mark_changes(old.marks(), new.marks(), &mut lines);
    for service in old
        .services()
        .filter(|service| new.service(&service.key).is_none())
    {
        lines.push(format!(
            "- service {} with {}",
            service.key,
            count(service.servers.len(), "server")
        ));
    }
    lines
}

fn settings_changes(old: &Settings, new: &Settings, lines: &mut Vec<String>) {
    let mut line = |name: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("~ settings {name} {before} -> {after}"));
        }
    };
    let timeouts = old.timeouts.all().into_iter().zip(new.timeouts.all());
    for (name, (before, after)) in Timeouts::NAMES.into_iter().zip(timeouts) {
        line(name, format_duration(before), format_duration(after));
    }
    line("xdp", old.xdp.to_string(), new.xdp.to_string());
    for setting in Setting::ALL {
        let (before, after) = (old.get(setting), new.get(setting));
        line(setting.name(), before.to_string(), after.to_string());
    }
}

fn mark_changes(old: &[MarkRule], new: &[MarkRule], lines: &mut Vec<String>) {
    let (before, after): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
    let added = new.iter().filter(|rule| !before.contains(rule));
    lines.extend(added.map(|rule| format!("+ mark {rule}")));
    let removed = old.iter().filter(|rule| !after.contains(rule));
    lines.extend(removed.map(|rule| format!("- mark {rule}")));
    let stay_before = old.iter().filter(|rule| after.contains(rule));
    let stay_after = new.iter().filter(|rule| before.contains(rule));
    if !stay_before.eq(stay_after) {
        lines.push("~ marks in another order".into());
    }
}

/// `1 server`, `2 servers`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn service_changes(old: &Service, new: &Service, lines: &mut Vec<String>) {
    let key = new.key;
    for ((name, default, before), (.., after)) in attributes(old).into_iter().zip(attributes(new)) {
        if before != after {
            let said = |value: Option<String>| value.unwrap_or_else(|| default.into());
            let (before, after) = (said(before), said(after));
            lines.push(format!("~ service {key} {name} {before} -> {after}"));
        }
    }
    for server in new.servers.iter().rev() {
        match old.server(server.socket()) {
            None => lines.push(added(new, server)),
            Some(there) => server_changes(new.key, there, server, lines),
        }
    }
    for server in old
        .servers
        .iter()
        .rev()
        .filter(|server| new.server(server.socket()).is_none())
    {
        lines.push(format!("- server {key} {}", server.socket()));
    }
}

fn server_changes(key: ServiceKey, old: &Server, new: &Server, lines: &mut Vec<String>) {
    let socket = new.socket();
    let mut line = |name: &str, before: String, after: String| {
        if before != after {
            lines.push(format!(
                "~ server {key} {socket} {name} {before} -> {after}"
            ));
        }
    };
    line("weight", old.weight.to_string(), new.weight.to_string());
    line("method", old.method.to_string(), new.method.to_string());
    for ((name, before), (_, after)) in thresholds(old).into_iter().zip(thresholds(new)) {
        line(name, before.to_string(), after.to_string());
    }
    for ((name, before), (_, after)) in neighbours(old).into_iter().zip(neighbours(new)) {
        let text = |address: Option<IpAddr>| address.map_or("-".into(), |there| there.to_string());
        line(name, text(before), text(after));
    }
}

const fn neighbours(server: &Server) -> [(&'static str, Option<IpAddr>); 2] {
    [("via", server.via), ("return-via", server.return_via)]
}

const fn thresholds(server: &Server) -> [(&'static str, u32); 2] {
    [
        ("upper-threshold", server.upper_threshold),
        ("lower-threshold", server.lower_threshold),
    ]
}

fn added(service: &Service, server: &Server) -> String {
    let mut text = format!(
        "+ server {} {} {} weight {}",
        service.key,
        server.socket(),
        server.method,
        server.weight
    );
    for (name, threshold) in thresholds(server) {
        if threshold != 0 {
            text.push_str(&format!(" {name} {threshold}"));
        }
    }
    text
}

/// Scheduler, and what is not at its default.
fn described(service: &Service) -> String {
    let given = attributes(service).into_iter().skip(1);
    given.fold(
        service.scheduler.to_string(),
        |text, (name, _, value)| match value.as_deref() {
            None => text,
            Some("on") => format!("{text} {name}"),
            Some(value) => format!("{text} {name} {value}"),
        },
    )
}

/// All attributes by their names, the scheduler first: what they are unless given, in a word, and what they are if they
/// are given.
fn attributes(service: &Service) -> [(&'static str, &'static str, Option<String>); 13] {
    let flag = |set: bool| set.then(|| "on".to_owned());
    let persistence = service.persistence;
    let given =
        (service.timeouts != ServiceTimeouts::default()).then(|| timeouts(service.timeouts));
    [
        ("scheduler", "rr", Some(service.scheduler.to_string())),
        (
            "scheduler-flags",
            "none",
            (!service.scheduler_flags.is_empty()).then(|| service.scheduler_flags.to_string()),
        ),
        (
            "persistent",
            "off",
            persistence.map(|persistence| format_duration(persistence.timeout)),
        ),
        (
            "netmask",
            "full",
            persistence
                .filter(|persistence| !persistence.netmask.is_full())
                .map(|persistence| persistence.netmask.to_string()),
        ),
        ("one-packet", "off", flag(service.one_packet)),
        ("reset", "off", flag(service.reset)),
        ("source-nat", "off", source_nat(service.source_nat)),
        ("answer", "off", flag(service.answer)),
        ("socket", "on", (!service.socket).then(|| "off".into())),
        ("loopback", "off", flag(service.loopback)),
        ("relay", "off", flag(service.relay)),
        ("clamp-mss", "off", flag(service.clamp_mss)),
        ("timeouts", "default", given),
    ]
}

fn source_nat(source_nat: SourceNat) -> Option<String> {
    match source_nat {
        SourceNat::Off => None,
        SourceNat::Interface => Some("interface".into()),
        SourceNat::Address(address) => Some(address.to_string()),
    }
}

fn timeouts(timeouts: ServiceTimeouts) -> String {
    let given: Vec<String> = [("tcp", timeouts.tcp), ("udp", timeouts.udp)]
        .into_iter()
        .filter_map(|(name, timeout)| {
            timeout.map(|timeout| format!("{name}={}", format_duration(timeout)))
        })
        .collect();
    given.join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::testing::table;
    use crate::model::{AddressFamily, ForwardingMethod, Netmask, Persistence};

    #[test]
    fn says_what_comes_goes_and_changes() {
        let old = table(
            "tcp:10.0.0.1:80 rr 10.1.0.2:80/1 10.1.0.1:80/1; udp:10.0.0.1:53 rr 10.1.0.1:53/1; mark 1; mark 2; mark 4",
        );
        let new = table(
            "tcp:10.0.0.1:80 wrr 10.1.0.3:80/2 10.1.0.2:80/0; fwmark:7 rr 10.1.0.1:0/1; mark 4; mark 2; mark 3; \
             tcp-timeout 7200",
        );
        assert_eq!(
            changes(&old, &new),
            [
                "~ settings timeouts.tcp 15m -> 2h",
                "~ service tcp:10.0.0.1:80 scheduler rr -> wrr",
                "~ server tcp:10.0.0.1:80 10.1.0.2:80 weight 1 -> 0",
                "+ server tcp:10.0.0.1:80 10.1.0.3:80 masq weight 2",
                "- server tcp:10.0.0.1:80 10.1.0.1:80",
                "+ service fwmark:7 rr",
                "+ server fwmark:7 10.1.0.1:0 masq weight 1",
                "+ mark --mark 3",
                "- mark --mark 1",
                "~ marks in another order",
                "- service udp:10.0.0.1:53 with 1 server",
            ]
        );
        assert_eq!(changes(&new, &new), Vec::<String>::new());
    }

    #[test]
    fn every_attribute_and_setting_is_named() {
        let old = table("tcp:10.0.0.1:80 rr 10.1.0.1:80/1");
        let mut service = old.services().next().unwrap().clone();
        service.scheduler_flags = "flag-2".parse().unwrap();
        service.persistence = Some(Persistence {
            timeout: Duration::from_secs(60),
            netmask: Netmask::parse("24", AddressFamily::V4).unwrap(),
        });
        service.reset = true;
        service.answer = true;
        service.socket = false;
        service.source_nat = SourceNat::Interface;
        service.timeouts.tcp = Some(Duration::from_secs(60));
        service.servers[0].upper_threshold = 10;
        service.servers[0].lower_threshold = 5;
        service.servers[0].method = ForwardingMethod::Direct;
        let mut new = Table::new();
        new.add_service(service).unwrap();
        let mut settings = Settings::default();
        settings.set(Setting::DropPacket, 3).unwrap();
        new.set_settings(settings.clone()).unwrap();
        assert_eq!(
            changes(&old, &new),
            [
                "~ settings drop_packet 0 -> 3",
                "~ service tcp:10.0.0.1:80 scheduler-flags none -> flag-2",
                "~ service tcp:10.0.0.1:80 persistent off -> 1m",
                "~ service tcp:10.0.0.1:80 netmask full -> 255.255.255.0",
                "~ service tcp:10.0.0.1:80 reset off -> on",
                "~ service tcp:10.0.0.1:80 source-nat off -> interface",
                "~ service tcp:10.0.0.1:80 answer off -> on",
                "~ service tcp:10.0.0.1:80 socket on -> off",
                "~ service tcp:10.0.0.1:80 timeouts default -> tcp=1m",
                "~ server tcp:10.0.0.1:80 10.1.0.1:80 method masq -> direct",
                "~ server tcp:10.0.0.1:80 10.1.0.1:80 upper-threshold 0 -> 10",
                "~ server tcp:10.0.0.1:80 10.1.0.1:80 lower-threshold 0 -> 5",
            ]
        );
        let mut without = Table::new();
        without.set_settings(settings).unwrap();
        assert_eq!(
            changes(&without, &new),
            [
                "+ service tcp:10.0.0.1:80 rr scheduler-flags flag-2 persistent 1m netmask 255.255.255.0 reset \
                 source-nat interface answer socket off timeouts tcp=1m",
                "+ server tcp:10.0.0.1:80 10.1.0.1:80 direct weight 1 upper-threshold 10 lower-threshold 5",
            ]
        );
    }
}
