use super::super::seen::tests::{INGRESS, USER, read, read_bridge};
use super::super::seen::{Labels, Managed, Specified};
use super::*;

const ONE: &str = "web.1.5euftxp7bu2u7d2h45fe3ag0a";
const TWO: &str = "web.2.brsjk0h4evingxrypvkt11oy0";

pub(in crate::provider::swarm) struct World {
    pub(in crate::provider::swarm) seen: Seen,
    pub(in crate::provider::swarm) sandboxes: BTreeSet<String>,
    pub(in crate::provider::swarm) leaving: BTreeSet<String>,
    pub(in crate::provider::swarm) node: Node,
    pub(in crate::provider::swarm) reach: Reach,
    pub(in crate::provider::swarm) clients: ClientAddress,
}

pub(in crate::provider::swarm) fn world() -> World {
    let networks = vec![read(INGRESS), read(USER)];
    World {
        sandboxes: networks.iter().map(|network| network.id.clone()).collect(),
        seen: Seen {
            networks,
            bridge: read_bridge(),
            managed: Some(Managed {
                services: [("web".to_owned(), specified(""))].into(),
                running: Vec::new(),
            }),
            ..Seen::default()
        },
        leaving: BTreeSet::new(),
        reach: Reach::default(),
        clients: ClientAddress::Translate,
        node: Node {
            addresses: [Ipv4Addr::new(192, 168, 77, 1)].into(),
            ..Node::default()
        },
    }
}

pub(in crate::provider::swarm) fn specified(labels: &str) -> Specified {
    let labels: Labels = labels
        .split_once('=')
        .map(|(name, value)| (name.into(), value.into()))
        .into_iter()
        .collect();
    Specified {
        labels,
        published: vec![(Protocol::Tcp, 8080), (Protocol::Udp, 8081)],
    }
}

impl World {
    pub(in crate::provider::swarm) fn plan(&self) -> Plan {
        plan(&Input {
            seen: &self.seen,
            sandboxes: &self.sandboxes,
            leaving: &self.leaving,
            node: &self.node,
            reach: &self.reach,
            tcp_timeout: Duration::from_secs(7200),
            clients: self.clients,
        })
    }
}

/// Keys with servers and weights, in the order of the listing.
pub(in crate::provider::swarm) fn text(declared: &Declared) -> Vec<String> {
    let mut services: Vec<_> = declared.table.services().collect();
    services.sort_unstable_by_key(|service| service.key);
    let servers = |service: &Service| -> String {
        let servers = service.servers.iter();
        servers
            .map(|server| format!(" {}/{}", server.socket(), server.weight))
            .collect()
    };
    services
        .iter()
        .map(|service| format!("{}{}", service.key, servers(service)))
        .collect()
}

#[test]
fn what_dockerd_and_ipvs_would_have_done() {
    let plan = world().plan();
    assert_eq!(plan.problems, Vec::<String>::new());
    let places: Vec<_> = plan.scopes.iter().map(|(place, _)| place.clone()).collect();
    let sandbox = |text| Place::Sandbox(read(text).id);
    assert_eq!(places, [Place::Node, sandbox(INGRESS), sandbox(USER)]);
    assert_eq!(
        text(&plan.scopes[0].1),
        [
            "tcp:192.168.77.1:8080 172.18.0.2:8080/1",
            "udp:192.168.77.1:8081 172.18.0.2:8081/1",
        ]
    );
    assert_eq!(
        text(&plan.scopes[1].1),
        [
            "tcp:10.0.0.4:0 10.0.0.5:0/1 10.0.0.6:0/1",
            "tcp:172.18.0.2:8080 10.0.0.5:0/1 10.0.0.6:0/1",
            "udp:10.0.0.4:0 10.0.0.5:0/1 10.0.0.6:0/1",
            "udp:172.18.0.2:8081 10.0.0.5:0/1 10.0.0.6:0/1",
        ]
    );
    assert_eq!(
        text(&plan.scopes[2].1),
        [
            "tcp:10.0.1.2:0 10.0.1.3:0/1 10.0.1.4:0/1",
            "udp:10.0.1.2:0 10.0.1.3:0/1 10.0.1.4:0/1",
        ]
    );
    let (_, user) = &plan.scopes[2];
    for service in user.table.services() {
        assert!(service.answer);
        let balancer = SourceNat::Address(Ipv4Addr::new(10, 0, 1, 6).into());
        assert_eq!(service.source_nat, balancer);
        assert_eq!(service.reset, service.key.takes(Protocol::Tcp));
        assert_eq!(service.timeouts.tcp, Some(Duration::from_secs(7200)));
    }
    assert!(user.has_settings && user.table.settings().is_on(Setting::ExpireNodestConn));
    // The node's own settings are its own.
    assert!(!plan.scopes[0].1.has_settings);
    for service in plan.scopes[0].1.table.services() {
        assert_eq!(service.source_nat, SourceNat::Off, "the sandbox translates");
        assert!(!service.answer, "the node has its addresses");
        assert!(service.loopback, "the node itself asks there");
    }
}

#[test]
fn a_task_that_is_about_to_go_gets_nothing_new() {
    let mut world = world();
    world.leaving = [ONE.to_owned()].into();
    let plan = world.plan();
    assert_eq!(
        text(&plan.scopes[2].1)[0],
        "tcp:10.0.1.2:0 10.0.1.3:0/0 10.0.1.4:0/1"
    );
    assert_eq!(
        text(&plan.scopes[1].1)[1],
        "tcp:172.18.0.2:8080 10.0.0.5:0/0 10.0.0.6:0/1"
    );
    world.leaving.insert(TWO.to_owned());
    assert_eq!(
        text(&world.plan().scopes[2].1)[0],
        "tcp:10.0.1.2:0 10.0.1.3:0/1 10.0.1.4:0/1"
    );
}

#[test]
fn a_worker_takes_both_protocols_but_for_what_the_node_has_itself() {
    let mut world = world();
    world.seen.managed = None;
    world.node.listeners = [(Protocol::Udp, 8080)].into();
    assert_eq!(
        text(&world.plan().scopes[0].1),
        [
            "tcp:192.168.77.1:8080 172.18.0.2:8080/1",
            "tcp:192.168.77.1:8081 172.18.0.2:8081/1",
            "udp:192.168.77.1:8081 172.18.0.2:8081/1",
        ]
    );
}

#[test]
fn networks_without_a_sandbox_here_are_left_alone() {
    let mut world = world();
    world.sandboxes.remove(&read(USER).id);
    assert_eq!(world.plan().scopes.len(), 2);
    world.seen.networks[0].balancer = None;
    let plan = world.plan();
    assert_eq!(plan.scopes.len(), 1);
    assert!(plan.scopes[0].1.is_empty(), "no way to published ports");
}

#[test]
fn labels_decide() {
    let mut world = world();
    let specified = specified("bpvs.scheduler=wlc");
    world.seen.managed = Some(Managed {
        services: [("web".to_owned(), specified)].into(),
        running: Vec::new(),
    });
    let plan = world.plan();
    for (_, declared) in &plan.scopes[1..] {
        for service in declared.table.services() {
            assert_eq!(
                service.scheduler,
                Scheduler::WeightedLeastConnection,
                "{}",
                service.key
            );
        }
    }
}

#[test]
fn wrong_labels_and_sctp_are_told_once_and_the_rest_is_served() {
    let mut world = world();
    let mut specified = specified("bpvs.scheduler=best");
    specified.published = vec![(Protocol::Sctp, 8080), (Protocol::Tcp, 8081)];
    world.seen.managed = Some(Managed {
        services: [("web".to_owned(), specified)].into(),
        running: Vec::new(),
    });
    let plan = world.plan();
    assert_eq!(plan.problems.len(), 2, "{:?}", plan.problems);
    assert_eq!(
        text(&plan.scopes[0].1),
        ["tcp:192.168.77.1:8081 172.18.0.2:8081/1"]
    );
}

#[test]
fn beside_ipvs_nothing_is_reset() {
    let mut world = world();
    world.node.ipvs = true;
    for (_, declared) in world.plan().scopes {
        assert!(declared.table.services().all(|service| !service.reset));
    }
}
