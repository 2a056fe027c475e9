use super::super::clients::ClientAddress;
use super::super::plan::tests::{World, specified, text, world};
use super::*;

/// The node of `web.1`, 192.168.77.2, whose sandbox is 10.0.0.3; `web.2` is on the other one, whose sandbox is 10.0.0.2.
fn keeping() -> World {
    let mut world = world();
    world.clients = ClientAddress::KeepAll;
    world.reach.answering = [2, 6].map(|last| Ipv4Addr::new(10, 0, 0, last)).into();
    world
}

fn sandbox(world: &World) -> Vec<String> {
    text(&world.plan().scopes[1].1)
}

#[test]
fn the_asked_node_calls_tasks_of_others_by_alias() {
    let plan = keeping().plan();
    assert_eq!(plan.problems, Vec::<String>::new());
    let table = &plan.scopes[1].1.table;
    let service = table
        .service(&"tcp:172.18.0.2:8080".parse().unwrap())
        .unwrap();
    assert_eq!(service.source_nat, SourceNat::Off);
    assert!(service.clamp_mss, "the ends do not see the network between");
    let servers: Vec<_> = service
        .servers
        .iter()
        .map(|server| (server.address.to_string(), server.weight, server.via))
        .collect();
    let via = Some(IpAddr::from([10, 0, 0, 2]));
    assert_eq!(
        servers,
        [
            ("10.0.0.5".to_owned(), 1, None),
            ("10.0.0.6".to_owned(), 0, None),
            ("100.64.24.6".to_owned(), 1, via)
        ]
    );
}

#[test]
fn datagrams_come_to_tasks_by_their_nodes_bridge() {
    let world = keeping();
    let plan = world.plan();
    let ends = |table: &Table, key: &str| -> Vec<_> {
        let service = table.service(&key.parse().unwrap()).unwrap();
        assert_eq!(service.source_nat, SourceNat::Off, "{key}");
        assert!(!service.clamp_mss && !service.reset, "{key}");
        let servers = service.servers.iter();
        let text = |address: IpAddr| address.to_string();
        servers
            .map(|server| {
                let ways = [server.via, server.return_via].map(|way| way.map(text));
                (server.socket().to_string(), server.weight, ways)
            })
            .collect()
    };
    let end = |socket: &str, weight, via: Option<&str>, return_via: Option<&str>| {
        let ways = [via, return_via].map(|way| way.map(str::to_owned));
        (socket.to_owned(), weight, ways)
    };
    let sandbox = &plan.scopes[1].1.table;
    assert_eq!(
        ends(sandbox, "udp:172.18.0.2:8081"),
        [
            end("10.0.0.5:0", 0, None, None),
            end("10.0.0.6:0", 0, None, None),
            end("100.64.24.5:0", 1, Some("172.18.0.1"), None),
            end("100.64.24.6:0", 1, Some("10.0.0.2"), None),
        ]
    );
    // Those that another node was asked.
    assert_eq!(
        ends(sandbox, "udp:100.64.16.5:8081"),
        [end(
            "100.64.24.5:0",
            1,
            Some("172.18.0.1"),
            Some("10.0.0.2")
        )]
    );
    // What the node itself asks is answered by way of the sandbox.
    let [own] = sandbox.marks() else {
        panic!("one rule: {:?}", sandbox.marks())
    };
    assert_eq!(own.source, Some("172.18.0.1/32".parse().unwrap()));
    assert_eq!(own.destination, Some("172.18.0.2/32".parse().unwrap()));
    assert_eq!(
        (own.protocol, &own.ports),
        (Some(Protocol::Udp), &Some(8081..=8081))
    );
    let own = ServiceKey::fwmark(own.mark, AddressFamily::V4).unwrap();
    let own = sandbox.service(&own).unwrap();
    assert_eq!(own.source_nat, SourceNat::Address([10, 0, 0, 3].into()));
    assert_eq!(own.servers.len(), 2);
    assert!(own.servers.iter().all(|server| server.weight == 1));
    // At the port at which the task listens.
    assert_eq!(
        ends(&plan.scopes[0].1.table, "udp:100.64.24.5:8081"),
        [end("172.18.0.4:80", 1, None, Some("172.18.0.2"))]
    );
}

#[test]
fn datagrams_are_translated_where_only_connections_are_to_be_kept() {
    let mut world = keeping();
    world.clients = ClientAddress::Keep;
    let plan = world.plan();
    assert_eq!(plan.problems, Vec::<String>::new());
    let table = &plan.scopes[1].1.table;
    let service = |key: &str| table.service(&key.parse().unwrap()).unwrap();
    assert_eq!(service("tcp:172.18.0.2:8080").source_nat, SourceNat::Off);
    let translated = SourceNat::Address([10, 0, 0, 3].into());
    assert_eq!(service("udp:172.18.0.2:8081").source_nat, translated);
    assert!(table.marks().is_empty());
    // Another node may keep those, too.
    assert_eq!(service("udp:100.64.16.5:8081").servers.len(), 1);
}

#[test]
fn a_task_whose_end_on_the_bridge_is_not_known_gets_no_datagrams() {
    let mut world = keeping();
    world.seen.bridge.containers.clear();
    let plan = world.plan();
    assert_eq!(plan.problems, Vec::<String>::new());
    let weights = |key: &str| -> Vec<u32> {
        let service = plan.scopes[1].1.table.service(&key.parse().unwrap());
        let servers = service.unwrap().servers.iter();
        servers.map(|server| server.weight).collect()
    };
    // The other node's is the last but one.
    assert_eq!(weights("udp:172.18.0.2:8081"), [0, 0, 1, 0]);
    assert_eq!(weights("tcp:172.18.0.2:8080"), [1, 0, 1]);
    let aliases = |place: usize| text(&plan.scopes[place].1);
    let datagrams = |line: &&String| line.starts_with("udp:100.") && line.contains(":8081");
    assert_eq!(aliases(0).iter().find(datagrams), None);
    assert_eq!(
        aliases(1).iter().find(datagrams),
        None,
        "others see no answer"
    );
}

#[test]
fn a_port_of_which_the_tasks_own_is_not_said_is_translated() {
    let mut world = keeping();
    let published = &mut world.seen.networks[0].services[0].published;
    published.push(super::super::seen::Published {
        port: 8081,
        target: 90,
    });
    let plan = world.plan();
    let [problem] = plan.problems.as_slice() else {
        panic!("one problem: {:?}", plan.problems)
    };
    assert!(
        problem.contains("port 8081 is published for several"),
        "{problem}"
    );
    let service = plan.scopes[1]
        .1
        .table
        .service(&"udp:172.18.0.2:8081".parse().unwrap());
    let translated = SourceNat::Address([10, 0, 0, 3].into());
    assert_eq!(service.unwrap().source_nat, translated);
}

#[test]
fn the_node_of_a_task_knows_it_by_the_aliases_of_others_and_answers_over_them() {
    let plan = keeping().plan();
    let table = &plan.scopes[1].1.table;
    let called = table
        .service(&"tcp:100.64.16.5:8080".parse().unwrap())
        .unwrap();
    let [server] = called.servers.as_slice() else {
        panic!("one task: {:?}", called.servers)
    };
    assert_eq!(server.address, IpAddr::from([10, 0, 0, 5]));
    assert_eq!(server.return_via, Some([10, 0, 0, 2].into()));
    assert_eq!(called.source_nat, SourceNat::Off);
    let aliases = text(&plan.scopes[1].1);
    let aliases = aliases.iter().filter(|line| line.starts_with("tcp:100."));
    assert_eq!(aliases.count(), 1, "the tasks of others are not known here");
}

#[test]
fn what_tasks_answer_past_the_sandbox_is_led_into_it() {
    let plan = keeping().plan();
    let node = &plan.scopes[0].1.table;
    let [rule] = node.marks() else {
        panic!("one rule: {:?}", node.marks())
    };
    assert_eq!(rule.interface.as_deref(), Some("docker_gwbridge"));
    assert_eq!(rule.source, Some("10.0.0.0/24".parse().unwrap()));
    assert_eq!(rule.protocol, Some(Protocol::Tcp));
    let key = ServiceKey::fwmark(rule.mark, AddressFamily::V4).unwrap();
    let relay = node.service(&key).unwrap();
    assert!(relay.relay);
    assert_eq!(relay.servers[0].address, IpAddr::from([172, 18, 0, 2]));
}

#[test]
fn another_node_that_does_not_do_its_part_has_all_translated() {
    let mut world = keeping();
    world.reach.answering.clear();
    let plan = world.plan();
    let [problem] = plan.problems.as_slice() else {
        panic!("one problem: {:?}", plan.problems)
    };
    assert!(
        problem.contains("node 192.168.77.1 does not answer"),
        "{problem}"
    );
    let table = &plan.scopes[1].1.table;
    let service = table
        .service(&"tcp:172.18.0.2:8080".parse().unwrap())
        .unwrap();
    assert_eq!(service.source_nat, SourceNat::Address([10, 0, 0, 3].into()));
    // What is open by an alias goes on.
    let weights: Vec<_> = service.servers.iter().map(|server| server.weight).collect();
    assert_eq!(weights, [1, 1, 0]);
    // Others may keep them here.
    assert!(
        sandbox(&world)
            .iter()
            .any(|line| line.starts_with("tcp:100.64.16.5:8080 "))
    );
}

#[test]
fn where_containers_look_back_nothing_is_kept_and_nobody_is_told_so() {
    let mut world = keeping();
    world.reach.strict = true;
    assert!(world.plan().problems[0].contains("rp_filter"));
    let lines = sandbox(&world);
    let answers = |line: &&String| line.starts_with("tcp:100.") || line.starts_with("udp:100.");
    assert_eq!(lines.iter().find(answers), None);
}

#[test]
fn a_task_that_its_node_has_not_heard_of_gets_nothing_while_others_are_there() {
    let mut world = keeping();
    world.reach.answering.remove(&Ipv4Addr::new(10, 0, 0, 6));
    let weights = |world: &World| -> Vec<u32> {
        let plan = world.plan();
        assert_eq!(plan.problems, Vec::<String>::new());
        let table = &plan.scopes[1].1.table;
        let service = table
            .service(&"tcp:172.18.0.2:8080".parse().unwrap())
            .unwrap();
        service.servers.iter().map(|server| server.weight).collect()
    };
    assert_eq!(weights(&world), [1, 0, 0]);
    world.seen.networks[0].services[0].tasks.remove(0);
    assert_eq!(weights(&world), [0, 1]);
}

#[test]
fn nodes_ask_each_other_of_sandboxes_and_tasks() {
    let world = keeping();
    let asked = super::super::plan::to_ask(&world.seen, world.clients).unwrap();
    let there = [2, 6].map(|last| Ipv4Addr::new(10, 0, 0, last));
    assert_eq!(asked, there.into());
    let translated = super::super::plan::to_ask(&world.seen, ClientAddress::Translate);
    assert_eq!(translated, None);
    let lines = sandbox(&world);
    for line in [
        "udp:10.0.0.6:7 100.64.24.6:7/1",
        "udp:100.64.16.5:7 10.0.0.2:7/1",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    assert!(
        lines.contains(&"udp:10.0.0.2:7 100.64.24.2:7/1".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"udp:100.64.16.3:7 10.0.0.2:7/1".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_label_decides_for_its_service() {
    let mut world = keeping();
    let managed = world.seen.managed.as_mut().unwrap();
    let translated = specified("bpvs.client-address=translate");
    managed.services.insert("web".to_owned(), translated);
    let plan = world.plan();
    assert!(plan.scopes[0].1.table.marks().is_empty());
    assert_eq!(sandbox(&world).len(), 4, "nothing that serves to keep");
    let mut world = super::super::plan::tests::world();
    let managed = world.seen.managed.as_mut().unwrap();
    let kept = specified("bpvs.client-address=keep");
    managed.services.insert("web".to_owned(), kept);
    assert_eq!(world.plan().scopes[0].1.table.marks().len(), 1);
}
