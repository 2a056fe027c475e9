//! The engine with real watches in a real network namespace, still on the in-memory datapath.

use std::process::Command as Process;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::engine::Message;
use super::networks::Watchers;
use super::testing::{TempDir, new_netns};
use super::*;
use crate::control::Command;
use crate::datapath::fake::FakeDatapath;
use crate::model::{ScopeId, Service};
use crate::net::NetNs;

/// `ip …` inside the namespace; false where there is no such program.
fn ip(netns: &NetNs, line: &str) -> bool {
    let run = || Process::new("ip").args(line.split_whitespace()).status();
    netns
        .run_in(run)
        .unwrap()
        .is_ok_and(|status| status.success())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn interfaces_of_a_real_namespace_are_attached_as_they_appear() {
    let Some(netns) = new_netns() else { return };
    if !ip(&netns, "link add one type veth peer name two") {
        eprintln!("skipped: there is no `ip` here that can make a veth pair");
        return;
    }
    assert!(ip(&netns, "link set one up") && ip(&netns, "link set two up"));
    assert!(ip(&netns, "address add 10.9.0.1/24 dev one"));

    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let (sender, messages) = mpsc::unbounded_channel();
    let engine = {
        let (runtime, sender, datapath) = (
            tokio::runtime::Handle::current(),
            sender.clone(),
            datapath.clone(),
        );
        let store = journal::Store::new(dir.path());
        std::thread::spawn(move || {
            let networks = Box::new(Watchers::new(runtime, sender));
            Engine::start(Box::new(datapath), networks, store, Box::new(|| Ok(())))
                .unwrap()
                .run(messages);
        })
    };
    let handle = Handle::new(sender.clone());
    let service = Service::new("tcp:10.0.0.1:80".parse().unwrap(), "rr".parse().unwrap());
    let command = |command| Request::Command {
        netns: netns.try_clone().unwrap(),
        command,
    };
    let begun = Instant::now();
    handle
        .call(command(Command::AddService(service.clone())))
        .await
        .unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(500), "a scope took {took:?}");

    let attached = || datapath.state().scopes[&ScopeId::MIN].attached.len();
    // All of it was there when the command returned: both ends, and perhaps the loopback.
    let first = attached();
    assert!(first >= 2, "{first}");
    let routes = datapath.state().scopes[&ScopeId::MIN]
        .network
        .clone()
        .unwrap()
        .routes;
    assert!(
        routes
            .iter()
            .any(|route| route.destination.to_string() == "10.9.0.0/24"),
        "{routes:?}"
    );

    assert!(ip(&netns, "link add three type veth peer name four"));
    assert!(ip(&netns, "link set three up"));
    until("new interfaces are attached", || attached() == first + 2).await;
    assert!(ip(&netns, "link delete one"));
    until("interfaces that are gone are detached", || {
        attached() == first
    })
    .await;
    let journal = std::fs::read_to_string(dir.path().join("journal.json")).unwrap();
    assert!(
        journal.contains("\"local\""),
        "hop ids are in the journal: {journal}"
    );

    handle
        .call(command(Command::RemoveService(service.key)))
        .await
        .unwrap();
    assert_eq!(attached(), 0);
    sender.send(Message::Stop).unwrap();
    tokio::task::spawn_blocking(move || engine.join())
        .await
        .unwrap()
        .unwrap();
}
