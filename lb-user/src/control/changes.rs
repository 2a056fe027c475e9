//! A difference in words, one line each: `+` for what comes, `-` for what goes, `~` for what changes.

use std::collections::HashSet;

use crate::model::{MarkRule, Server, Service, ServiceTimeouts, SourceNat, Table, format_duration};

/// What is different between `old` and `new`. Names are as on the command line, in the order of the services.
#[must_use]
pub fn changes(old: &Table, new: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    if old.settings() != new.settings() {
        let (old, new) = (old.settings().timeouts, new.settings().timeouts);
        let fields = [
            ("tcp", old.tcp, new.tcp),
            ("tcp-fin", old.tcp_fin, new.tcp_fin),
            ("udp", old.udp, new.udp),
        ];
        for (name, before, after) in fields {
            if before != after {
                lines.push(format!(
                    "~ settings timeout {name} {} -> {}",
                    format_duration(before),
                    format_duration(after)
                ));
            }
        }
    }
    for service in new.services() {
        match old.service(&service.key) {
            None => {
                lines.push(format!("+ service {} {}", service.key, attributes(service)));
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
    if old.scheduler != new.scheduler {
        lines.push(format!(
            "~ service {key} scheduler {} -> {}",
            old.scheduler, new.scheduler
        ));
    }
    if old.source_nat != new.source_nat {
        let (before, after) = (source_nat(old.source_nat), source_nat(new.source_nat));
        lines.push(format!("~ service {key} source-nat {before} -> {after}"));
    }
    if old.answer != new.answer {
        lines.push(format!(
            "~ service {key} answer {} -> {}",
            old.answer, new.answer
        ));
    }
    if old.timeouts != new.timeouts {
        let (before, after) = (timeouts(old.timeouts), timeouts(new.timeouts));
        lines.push(format!("~ service {key} timeouts {before} -> {after}"));
    }
    for server in new.servers.iter().rev() {
        match old.server(server.socket()) {
            None => lines.push(added(new, server)),
            Some(there) if there.weight != server.weight => lines.push(format!(
                "~ server {key} {} weight {} -> {}",
                server.socket(),
                there.weight,
                server.weight
            )),
            Some(there) if there.method != server.method => lines.push(format!(
                "~ server {key} {} method {} -> {}",
                server.socket(),
                there.method,
                server.method
            )),
            Some(_) => {}
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

fn added(service: &Service, server: &Server) -> String {
    format!(
        "+ server {} {} {} weight {}",
        service.key,
        server.socket(),
        server.method,
        server.weight
    )
}

/// Scheduler, and what is not at its default.
fn attributes(service: &Service) -> String {
    let mut text = service.scheduler.to_string();
    if service.source_nat != SourceNat::Off {
        text.push_str(&format!(" source-nat {}", source_nat(service.source_nat)));
    }
    if service.answer {
        text.push_str(" answer");
    }
    if service.timeouts != ServiceTimeouts::default() {
        text.push_str(&format!(" timeouts {}", timeouts(service.timeouts)));
    }
    text
}

fn source_nat(source_nat: SourceNat) -> String {
    match source_nat {
        SourceNat::Off => "off".into(),
        SourceNat::Interface => "interface".into(),
        SourceNat::Address(address) => address.to_string(),
    }
}

fn timeouts(timeouts: ServiceTimeouts) -> String {
    let given: Vec<String> = [("tcp", timeouts.tcp), ("udp", timeouts.udp)]
        .into_iter()
        .filter_map(|(name, timeout)| {
            timeout.map(|timeout| format!("{name}={}", format_duration(timeout)))
        })
        .collect();
    if given.is_empty() {
        "default".into()
    } else {
        given.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::table;

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
                "~ settings timeout tcp 15m -> 2h",
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
}
