//! Which tasks are about to go: they are to get no new connections, and still serve those that they have.
//!
//! The inspection of a network lists a task until it is gone, which is too late. Two seconds before a task is told to
//! end, dockerd takes it out of its DNS (`tasks.SERVICE`); and managers know at once that it is no longer meant to run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use super::seen::{Managed, Network};

/// What the resolver of a network's sandbox says of its services, by their names.
pub(super) type Resolved = BTreeMap<String, BTreeSet<Ipv4Addr>>;

/// How long an answer stands in for one that does not come: a resolver on a busy node is silent at times, and a task that
/// has left the DNS is not to get connections again for it.
const STANDS: Duration = Duration::from_secs(3);

/// What the resolvers of networks, by their ids, have said of services, and when.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<(String, String), (Instant, BTreeSet<Ipv4Addr>)>);

impl Memory {
    /// Takes in what they say now; gives that, and what still stands of before.
    pub(super) fn complete(
        &mut self,
        said: BTreeMap<String, Resolved>,
        now: Instant,
    ) -> BTreeMap<String, Resolved> {
        for (network, names) in said {
            for (service, addresses) in names {
                self.0.insert((network.clone(), service), (now, addresses));
            }
        }
        self.0.retain(|_, (at, _)| now.duration_since(*at) < STANDS);
        let mut all: BTreeMap<String, Resolved> = BTreeMap::new();
        for ((network, service), (_, addresses)) in &self.0 {
            let names = all.entry(network.clone()).or_default();
            names.insert(service.clone(), addresses.clone());
        }
        all
    }
}

/// The services of a network whose tasks are worth asking for: a task that is the only one gets all connections anyway.
pub(super) fn worth_asking(network: &Network) -> Vec<&str> {
    let services = network.services.iter();
    services
        .filter(|service| service.tasks.len() > 1)
        .map(|service| service.name.as_str())
        .collect()
}

/// The names of the tasks that are about to go. `resolved` has what the resolvers said, by the ids of the networks.
pub(super) fn leaving(
    networks: &[Network],
    resolved: &BTreeMap<String, Resolved>,
    managed: Option<&Managed>,
) -> BTreeSet<String> {
    let mut leaving = BTreeSet::new();
    let running: Option<BTreeSet<&str>> =
        managed.map(|managed| managed.running.iter().map(String::as_str).collect());
    for network in networks {
        let names = resolved.get(&network.id);
        for service in &network.services {
            let answer = names.and_then(|names| names.get(&service.name));
            // One that knows none of them speaks of something else.
            let answer = answer.filter(|answer| {
                service
                    .tasks
                    .iter()
                    .any(|task| answer.contains(&task.address))
            });
            for task in &service.tasks {
                let unresolved = answer.is_some_and(|answer| !answer.contains(&task.address));
                let unwanted = running
                    .as_ref()
                    .is_some_and(|running| !running.contains(task.id()));
                if unresolved || unwanted {
                    leaving.insert(task.name.clone());
                }
            }
        }
    }
    leaving
}

#[cfg(test)]
mod tests {
    use super::super::seen::tests::{INGRESS, USER, read};
    use super::*;

    const ONE: &str = "web.1.5euftxp7bu2u7d2h45fe3ag0a";

    fn resolved(last: &[u8]) -> BTreeMap<String, Resolved> {
        let addresses = last.iter().map(|last| Ipv4Addr::new(10, 0, 1, *last));
        let names = BTreeMap::from([("web".to_owned(), addresses.collect())]);
        BTreeMap::from([(read(USER).id, names)])
    }

    #[test]
    fn what_is_no_longer_resolved_is_leaving_in_all_networks() {
        let networks = [read(INGRESS), read(USER)];
        assert_eq!(worth_asking(&networks[1]), ["web"]);
        let names = leaving(&networks, &resolved(&[4]), None);
        assert_eq!(names, BTreeSet::from([ONE.to_owned()]));
        assert!(leaving(&networks, &resolved(&[3, 4]), None).is_empty());
    }

    #[test]
    fn nothing_is_concluded_from_no_answer_or_a_strange_one() {
        let networks = [read(USER)];
        assert!(leaving(&networks, &BTreeMap::new(), None).is_empty());
        assert!(leaving(&networks, &resolved(&[77]), None).is_empty());
    }

    #[test]
    fn silence_brings_nobody_back_at_once() {
        let networks = [read(USER)];
        let (mut memory, begin) = (Memory::default(), Instant::now());
        let gone = BTreeSet::from([ONE.to_owned()]);
        let mut names = |said, after| {
            let resolved = memory.complete(said, begin + after);
            leaving(&networks, &resolved, None)
        };
        assert!(names(resolved(&[3, 4]), Duration::ZERO).is_empty());
        assert_eq!(names(resolved(&[4]), STANDS / 2), gone);
        assert_eq!(names(BTreeMap::new(), STANDS), gone, "silence");
        assert!(
            names(BTreeMap::new(), STANDS * 3 / 2).is_empty(),
            "for long"
        );
        assert_eq!(names(resolved(&[4]), STANDS * 2), gone);
        assert!(
            names(resolved(&[3, 4]), STANDS * 2).is_empty(),
            "it is back"
        );
    }

    #[test]
    fn what_a_manager_does_not_want_is_leaving() {
        let managed = Managed {
            running: vec!["brsjk0h4evingxrypvkt11oy0".into()],
            ..Managed::default()
        };
        let names = leaving(&[read(INGRESS)], &BTreeMap::new(), Some(&managed));
        assert_eq!(names, BTreeSet::from([ONE.to_owned()]));
    }
}
