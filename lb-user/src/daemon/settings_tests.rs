//! Settings and counters through the engine: kept by the journal, for the maps cannot say them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::dying::Dying;
use super::testing::{TempDir, spawn, start};
use super::*;
use crate::api::wire;
use crate::control::{Command, Op};
use crate::datapath::fake::FakeDatapath;
use crate::model::{ScopeId, Service, Settings, SettingsEdit};
use crate::net::NetNs;

fn netns() -> NetNs {
    NetNs::current().unwrap()
}

fn set(name: &str, value: &str) -> Request {
    let mut edit = SettingsEdit::default();
    edit.assign(name, value).unwrap();
    Request::Command {
        netns: netns(),
        command: Command::EditSettings(edit),
    }
}

fn read(engine: &mut Engine, name: &str) -> String {
    let Ok(Reply::Settings(settings)) = engine.handle(Request::Settings { netns: netns() }) else {
        panic!()
    };
    let found = |setting: &wire::Setting| setting.name == name;
    settings.into_iter().find(found).unwrap().value
}

/// What the datapath was last told.
fn told(datapath: &FakeDatapath) -> Settings {
    datapath.state().scopes[&ScopeId::MIN]
        .table
        .settings()
        .clone()
}

#[test]
fn settings_outlive_the_daemon() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    engine.handle(set("drop_packet", "3")).unwrap();
    engine.handle(set("timeouts.udp", "10s")).unwrap();
    let before = told(&datapath);
    for _ in 0..2 {
        drop(engine);
        datapath.restart();
        engine = start(datapath.clone(), dir.path()).unwrap();
        assert_eq!(read(&mut engine, "drop_packet"), "3");
        assert_eq!(read(&mut engine, "timeouts.udp"), "10s");
        assert_eq!(told(&datapath), before);
    }
    // Back at the defaults there is nothing to keep.
    engine.handle(set("drop_packet", "0")).unwrap();
    assert!(dir.path().join("scope-1.json").exists());
    engine.handle(set("timeouts.udp", "5m")).unwrap();
    assert!(!dir.path().join("scope-1.json").exists());
}

#[test]
fn a_change_of_settings_that_was_cut_short_is_made_on_start() {
    for after in [false, true] {
        let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
        let fuse = Arc::new(AtomicUsize::new(usize::MAX));
        let mut engine = start(Dying::new(&datapath, &fuse, after), dir.path()).unwrap();
        engine.handle(set("sloppy_tcp", "1")).unwrap();
        fuse.store(0, Ordering::Relaxed);
        let died = catch_unwind(AssertUnwindSafe(|| engine.handle(set("sloppy_tcp", "0"))));
        assert!(died.is_err());
        datapath.restart();
        datapath.state().applied.clear();
        let mut engine = start(datapath.clone(), dir.path()).unwrap();
        assert_eq!(read(&mut engine, "sloppy_tcp"), "0");
        // The datapath is told, whatever it seemed to have: it was told the old ones when its scope was opened.
        assert_eq!(
            datapath.state().applied,
            [(ScopeId::MIN, Op::SetSettings(Settings::default()))]
        );
    }
}

#[test]
fn a_flush_is_one_change() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let fuse = Arc::new(AtomicUsize::new(usize::MAX));
    let mut engine = start(Dying::new(&datapath, &fuse, false), dir.path()).unwrap();
    for port in 80..84 {
        let key = format!("tcp:10.0.0.1:{port}").parse().unwrap();
        let add = Command::AddService(Service::new(key, "rr".parse().unwrap()));
        let netns = netns();
        engine
            .handle(Request::Command {
                netns,
                command: add,
            })
            .unwrap();
    }
    let flush = || Request::Command {
        netns: netns(),
        command: Command::Flush,
    };
    // Killed in the middle it is finished.
    fuse.store(2, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| engine.handle(flush()))).is_err());
    let left = || {
        datapath.state().scopes[&ScopeId::MIN]
            .table
            .services()
            .len()
    };
    assert_eq!(left(), 2);
    datapath.restart();
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(left(), 0);
    engine.handle(flush()).unwrap();
}

#[test]
fn services_know_their_order() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    for port in [82, 80, 81] {
        let key = format!("tcp:10.0.0.1:{port}").parse().unwrap();
        let command = Command::AddService(Service::new(key, "rr".parse().unwrap()));
        let netns = netns();
        engine.handle(Request::Command { netns, command }).unwrap();
    }
    let newest_first = |engine: &mut Engine| {
        let Ok(Reply::Listing(listing)) = engine.handle(Request::Listing { netns: netns() }) else {
            panic!()
        };
        let mut services = listing.services;
        services.sort_by_key(|service| std::cmp::Reverse(service.order));
        services
            .into_iter()
            .map(|service| service.address)
            .collect::<Vec<_>>()
    };
    let addresses = |ports: [u16; 3]| ports.map(|port| format!("tcp:10.0.0.1:{port}"));
    assert_eq!(newest_first(&mut engine), addresses([81, 80, 82]));
    drop(engine);
    datapath.restart();
    let mut engine = start(datapath, dir.path()).unwrap();
    assert_eq!(newest_first(&mut engine), addresses([82, 81, 80]));
}

#[tokio::test]
async fn what_is_left_to_do_waits_for_nobody_and_holds_up_nobody() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let (handle, messages) = spawn(datapath.clone(), dir.path());
    datapath.state().work = 1_000_000_000;
    handle.call(Request::Status).await.unwrap();
    handle.call(Request::Status).await.unwrap();
    datapath.state().work = 3;
    let begun = Instant::now();
    while datapath.state().work > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    messages.send(Message::Stop).unwrap();
}
