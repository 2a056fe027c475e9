//! Labels: how whoever makes a service says how it is to be balanced.

use std::time::Duration;

use super::clients::ClientAddress;
use super::seen::Labels;
use crate::model::{
    AddressFamily, DEFAULT_PERSISTENCE, ModelError, Netmask, Persistence, Scheduler,
    SchedulerFlags, ServiceTimeouts, check_timeout, nearest, parse_duration,
};

/// What all labels of ours begin with.
const PREFIX: &str = "bpvs.";

/// What can follow.
const KNOWN: [&str; 7] = [
    "scheduler",
    "scheduler-flags",
    "persistent",
    "netmask",
    "timeout",
    "timeout.udp",
    "client-address",
];

/// How a service is to be balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) scheduler: Scheduler,
    pub(super) flags: SchedulerFlags,
    pub(super) persistence: Option<Persistence>,
    pub(super) timeouts: ServiceTimeouts,
    pub(super) clients: ClientAddress,
}

/// Reads the labels of a service, of its local containers, and of its network, whichever there are; the first that has a
/// label counts. A label that cannot be read counts as absent, and is told.
pub(super) fn read(
    labels: &[&Labels],
    tcp_timeout: Duration,
    clients: ClientAddress,
) -> (Wishes, Vec<String>) {
    let mut problems = Vec::new();
    for name in labels.iter().flat_map(|labels| labels.keys()) {
        let Some(word) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if !KNOWN.contains(&word) {
            problems.push(match nearest(word, &KNOWN) {
                Some(meant) => format!("label {name} means nothing; {PREFIX}{meant}?"),
                None => format!(
                    "label {name} means nothing; have: {PREFIX}{}",
                    KNOWN.join(&format!(", {PREFIX}"))
                ),
            });
        }
    }
    let mut reader = Reader {
        labels,
        problems: &mut problems,
    };
    let persistence = reader.persistence();
    let wishes = Wishes {
        scheduler: reader.parsed("scheduler", str::parse).unwrap_or_default(),
        flags: reader
            .parsed("scheduler-flags", str::parse)
            .unwrap_or(SchedulerFlags::NONE),
        persistence,
        timeouts: ServiceTimeouts {
            tcp: Some(reader.parsed("timeout", time).unwrap_or(tcp_timeout)),
            udp: reader.parsed("timeout.udp", time),
        },
        clients: reader
            .parsed("client-address", str::parse)
            .unwrap_or(clients),
    };
    (wishes, problems)
}

struct Reader<'a> {
    labels: &'a [&'a Labels],
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn parsed<T>(
        &mut self,
        word: &str,
        read: impl FnOnce(&str) -> Result<T, ModelError>,
    ) -> Option<T> {
        let name = format!("{PREFIX}{word}");
        let text = self.labels.iter().find_map(|labels| labels.get(&name))?;
        match read(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let hint = error.hint().map(|hint| format!(" ({hint})"));
                let hint = hint.unwrap_or_default();
                self.problems
                    .push(format!("label {name}={text}: {error}{hint}"));
                None
            }
        }
    }

    fn persistence(&mut self) -> Option<Persistence> {
        let timeout = self.parsed("persistent", |text| match text {
            "true" => Ok(Some(DEFAULT_PERSISTENCE)),
            "false" => Ok(None),
            text => time(text).map(Some),
        });
        let netmask = self.parsed("netmask", |text| Netmask::parse(text, AddressFamily::V4));
        let mut persistence = Persistence::new(timeout??, AddressFamily::V4);
        persistence.netmask = netmask.unwrap_or(persistence.netmask);
        Some(persistence)
    }
}

/// A time with units, or as a number of seconds, as ipvsadm takes it.
fn time(text: &str) -> Result<Duration, ModelError> {
    let time = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => parse_duration(text)?,
    };
    check_timeout(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace()
            .filter_map(|label| label.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn wishes(text: &str) -> (Wishes, Vec<String>) {
        let translated = ClientAddress::Translate;
        read(&[&labels(text)], Duration::from_secs(100), translated)
    }

    #[test]
    fn what_is_not_said_is_as_in_a_swarm() {
        let (wishes, problems) = wishes("com.example=1");
        assert_eq!(wishes.scheduler.as_str(), "rr");
        assert_eq!(wishes.persistence, None);
        assert_eq!(wishes.timeouts.tcp, Some(Duration::from_secs(100)));
        assert!(problems.is_empty());
    }

    #[test]
    fn everything_can_be_said() {
        let (wishes, problems) = wishes(
            "bpvs.scheduler=sh bpvs.scheduler-flags=sh-port bpvs.persistent=300 bpvs.netmask=24 bpvs.timeout=8h bpvs.timeout.udp=30s bpvs.client-address=keep",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(wishes.scheduler.as_str(), "sh");
        assert_eq!(wishes.flags.bits(), [false, true, false]);
        let persistence = wishes.persistence.unwrap();
        assert_eq!(persistence.timeout, Duration::from_secs(300));
        assert_eq!(persistence.netmask.to_string(), "255.255.255.0");
        assert_eq!(wishes.timeouts.tcp, Some(Duration::from_secs(8 * 3600)));
        assert_eq!(wishes.timeouts.udp, Some(Duration::from_secs(30)));
        assert_eq!(wishes.clients, ClientAddress::Keep);
    }

    #[test]
    fn what_is_wrong_is_told_and_left_out() {
        let (wishes, problems) = wishes("bpvs.scheduler=best bpvs.timeout=0 bpvs.shceduler=lc");
        assert_eq!(wishes.scheduler.as_str(), "rr");
        assert_eq!(wishes.timeouts.tcp, Some(Duration::from_secs(100)));
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(
            problems[0],
            "label bpvs.shceduler means nothing; bpvs.scheduler?"
        );
        assert!(problems[1].starts_with("label bpvs.scheduler=best: "));
    }

    #[test]
    fn the_service_is_asked_before_its_network() {
        let (service, network) = (
            labels("bpvs.scheduler=lc"),
            labels("bpvs.scheduler=wlc bpvs.persistent=true"),
        );
        let all = [&service, &network];
        let (wishes, _) = read(&all, Duration::from_secs(100), ClientAddress::Keep);
        assert_eq!(wishes.clients, ClientAddress::Keep);
        assert_eq!(wishes.scheduler.as_str(), "lc");
        assert_eq!(wishes.persistence.unwrap().timeout, DEFAULT_PERSISTENCE);
    }
}
