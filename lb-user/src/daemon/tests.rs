//! The engine on the in-memory datapath: changes, their failures, and what a restart makes of a change cut short.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::dying::Dying;
use super::engine::StartError;
use super::testing::{TempDir, network, new_netns, start};
use super::*;
use crate::control::testing::{server, table};
use crate::control::{Command, Declared};
use crate::datapath::fake::FakeDatapath;
use crate::model::{ScopeId, Service, ServiceKey, Table};
use crate::net::NetNs;

fn here() -> NetNs {
    NetNs::current().unwrap()
}

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn add_service(text: &str) -> Command {
    Command::AddService(Service::new(key(text), "rr".parse().unwrap()))
}

fn command(engine: &mut Engine, command: Command) -> Result<(), Failure> {
    engine
        .handle(Request::Command {
            netns: here(),
            command,
        })
        .map(drop)
}

fn apply(engine: &mut Engine, text: &str) -> Result<Vec<String>, Failure> {
    let declared = Declared {
        table: table(text),
        has_settings: false,
    };
    let scopes = vec![ApplyScope {
        name: None,
        netns: here(),
        declared,
    }];
    match engine.handle(Request::Apply {
        scopes,
        dry_run: false,
    })? {
        Reply::Changes(changes) => Ok(changes
            .into_iter()
            .flat_map(|scope| scope.changes)
            .collect()),
        other => panic!("{other:?}"),
    }
}

/// What the datapath holds in its only scope.
fn held(datapath: &FakeDatapath) -> Table {
    let state = datapath.state();
    assert!(state.scopes.len() <= 1);
    state
        .scopes
        .values()
        .next()
        .map(|scope| scope.table.clone())
        .unwrap_or_default()
}

#[test]
fn commands_change_the_table() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let web = key("tcp:10.0.0.1:80");
    command(&mut engine, add_service("tcp:10.0.0.1:80")).unwrap();
    for host in ["10.1.0.1:80/1", "10.1.0.2:80/2"] {
        command(
            &mut engine,
            Command::AddServer {
                service: web,
                server: server(&web, host),
            },
        )
        .unwrap();
    }
    assert_eq!(
        held(&datapath),
        table("tcp:10.0.0.1:80 rr 10.1.0.2:80/2 10.1.0.1:80/1")
    );
    // Where services are, the programs are attached; and nowhere else.
    assert_eq!(
        datapath.state().scopes[&ScopeId::MIN]
            .attached
            .iter()
            .copied()
            .collect::<Vec<_>>(),
        [2]
    );

    let again = command(&mut engine, add_service("tcp:10.0.0.1:80")).unwrap_err();
    assert_eq!(
        (again.kind, again.message.as_str()),
        (
            FailureKind::Conflict,
            "service tcp:10.0.0.1:80 is there already"
        )
    );
    let missing = command(&mut engine, Command::RemoveService(key("udp:10.0.0.1:53"))).unwrap_err();
    assert_eq!(
        (missing.kind, missing.message.as_str()),
        (FailureKind::Missing, "there is no service udp:10.0.0.1:53")
    );
    let later = command(&mut engine, add_service("tcp:[fd00::1]:80")).unwrap_err();
    assert_eq!(later.message, "tcp:[fd00::1]:80: IPv6 services come later");

    command(&mut engine, Command::RemoveService(web)).unwrap();
    assert_eq!(held(&datapath), Table::new());
    assert!(datapath.state().scopes[&ScopeId::MIN].attached.is_empty());
}

#[test]
fn a_failed_first_command_leaves_no_scope() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    // Wrong in itself: no scope is even made.
    assert!(command(&mut engine, Command::RemoveService(key("tcp:10.0.0.1:80"))).is_err());
    datapath.state().fail_after = Some(0);
    let full = command(&mut engine, add_service("tcp:10.0.0.1:80")).unwrap_err();
    assert_eq!(
        (full.kind, full.message.as_str()),
        (
            FailureKind::Full,
            "there is no room for more servers: the limit is 0"
        )
    );
    assert!(datapath.state().scopes.is_empty());
    assert!(engine.journal.scopes.is_empty());
}

#[test]
fn an_apply_that_fails_midway_changes_nothing() {
    let before =
        "tcp:10.0.0.1:80 rr 10.1.0.2:80/1 10.1.0.1:80/1; tcp:10.0.0.2:80 rr 10.1.0.1:80/1; mark 1";
    let after = "tcp:10.0.0.1:80 wrr 10.1.0.3:80/2 10.1.0.2:80/0; fwmark:7 rr 10.1.0.1:0/1; mark 7";
    let mut failures = Vec::new();
    for step in 0.. {
        let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
        let mut engine = start(datapath.clone(), dir.path()).unwrap();
        apply(&mut engine, before).unwrap();
        datapath.state().fail_after = Some(step);
        let Err(failure) = apply(&mut engine, after) else {
            assert_eq!(held(&datapath), table(after));
            break;
        };
        failures.push(failure.message);
        // The same, but that a server that had to be put back is now the newest of its list.
        assert_eq!(crate::control::diff(&held(&datapath), &table(before)), []);
        assert_eq!(
            crate::control::diff(&engine.scopes[&ScopeId::MIN].table, &table(before)),
            []
        );
        assert!(engine.journal.change.is_empty());
        // And it can be done at the next try.
        apply(&mut engine, after).unwrap();
        assert_eq!(crate::control::diff(&held(&datapath), &table(after)), []);
    }
    assert_eq!(
        failures[0],
        "there is no room for more servers: the limit is 0"
    );
    assert_eq!(
        failures[1],
        "cannot add server 10.1.0.3:80 to tcp:10.0.0.1:80: there is no room for more servers: the limit is 0; nothing \
         was changed"
    );
    assert_eq!(failures.len(), 7);
}

#[test]
fn killed_at_every_step_it_finishes_the_change_on_start() {
    let before =
        "tcp:10.0.0.1:80 rr 10.1.0.2:80/1 10.1.0.1:80/1; tcp:10.0.0.2:80 rr 10.1.0.1:80/1; mark 1";
    let after = "tcp:10.0.0.1:80 wrr 10.1.0.3:80/2 10.1.0.2:80/0; fwmark:7 rr 10.1.0.1:0/1; mark 7";
    for kill_after in [false, true] {
        for step in 0.. {
            let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
            apply(&mut start(datapath.clone(), dir.path()).unwrap(), before).unwrap();
            datapath.restart();
            let fuse = Arc::new(AtomicUsize::new(usize::MAX));
            let dying = Dying::new(&datapath, &fuse, kill_after);
            let mut engine = start(dying, dir.path()).unwrap();
            fuse.store(step, Ordering::Relaxed);
            let outcome = catch_unwind(AssertUnwindSafe(|| apply(&mut engine, after)));
            if let Ok(done) = outcome {
                done.unwrap();
                assert_eq!(step, 7);
                break;
            }
            datapath.restart();
            let mut engine = start(datapath.clone(), dir.path()).unwrap();
            assert_eq!(held(&datapath), table(after), "killed at step {step}");
            assert_eq!(engine.scopes[&ScopeId::MIN].table, table(after));
            // The claims are those of the new file, too.
            apply(&mut engine, "").unwrap();
            assert_eq!(held(&datapath), Table::new());
        }
    }
}

#[test]
fn a_change_that_cannot_be_finished_on_start_is_undone() {
    let (before, after) = (
        "tcp:10.0.0.1:80 rr 10.1.0.1:80/1",
        "tcp:10.0.0.1:80 rr 10.1.0.2:80/1; fwmark:7 rr",
    );
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    apply(&mut start(datapath.clone(), dir.path()).unwrap(), before).unwrap();
    datapath.restart();
    let fuse = Arc::new(AtomicUsize::new(usize::MAX));
    let dying = Dying::new(&datapath, &fuse, false);
    let mut engine = start(dying, dir.path()).unwrap();
    fuse.store(1, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| apply(&mut engine, after))).is_err());
    datapath.restart();
    datapath.state().fail_after = Some(0);
    let engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(held(&datapath), table(before));
    assert!(engine.journal.change.is_empty());
    assert_eq!(
        engine.claims(ScopeId::MIN).unwrap().taken(&table(before)),
        Vec::<String>::new()
    );
}

#[test]
fn a_restart_keeps_table_claims_and_numbers() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    apply(&mut engine, "tcp:10.0.0.1:80 rr 10.1.0.1:80/1").unwrap();
    let web = key("tcp:10.0.0.1:80");
    let address = "10.1.0.1:80".parse().unwrap();
    command(
        &mut engine,
        Command::EditServer {
            service: web,
            address,
            edit: crate::control::ServerEdit {
                weight: Some(0),
                ..Default::default()
            },
        },
    )
    .unwrap();
    drop(engine);
    datapath.restart();

    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let Reply::Status(status) = engine.handle(Request::Status).unwrap() else {
        panic!()
    };
    assert_eq!(status.scopes.len(), 1);
    assert_eq!(
        (
            status.scopes[0].id,
            status.scopes[0].services,
            status.scopes[0].servers
        ),
        (1, 1, 1)
    );
    assert_eq!(status.scopes[0].interfaces, ["eth0"]);
    assert_eq!(
        status.scopes[0].taken_from_file,
        ["~ server tcp:10.0.0.1:80 10.1.0.1:80 weight 0 -> 1"]
    );
    assert_eq!(
        apply(&mut engine, "").unwrap(),
        ["- service tcp:10.0.0.1:80 with 1 server"]
    );
}

#[test]
fn what_the_journal_does_not_know_stops_the_start() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    command(
        &mut start(datapath.clone(), dir.path()).unwrap(),
        add_service("tcp:10.0.0.1:80"),
    )
    .unwrap();
    datapath.restart();
    std::fs::remove_file(dir.path().join("journal.json")).unwrap();
    let Err(error) = start(datapath.clone(), dir.path()) else {
        panic!()
    };
    assert!(matches!(error, StartError::UnknownScope(ScopeId::MIN)));
    assert_eq!(
        error.to_string(),
        "scope 1 is in the datapath, and the journal does not know its namespace"
    );

    std::fs::write(dir.path().join("journal.json"), "{\"version\":").unwrap();
    let Err(error) = start(datapath, dir.path()) else {
        panic!()
    };
    assert!(
        error
            .to_string()
            .contains("cannot be understood: EOF while parsing"),
        "{error}"
    );
    assert!(error.hint().unwrap().starts_with("`bpvs down` removes all"));
}

#[test]
fn interfaces_are_attached_as_they_come_and_go() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    command(&mut engine, add_service("tcp:10.0.0.1:80")).unwrap();
    let attached = || {
        datapath.state().scopes[&ScopeId::MIN]
            .attached
            .iter()
            .copied()
            .collect::<Vec<_>>()
    };
    engine.network(
        ScopeId::MIN,
        network(&[(2, "eth0", true), (4, "eth1", true)]),
        Vec::new(),
    );
    assert_eq!(attached(), [2, 4]);
    engine.network(
        ScopeId::MIN,
        network(&[(2, "eth0", false), (4, "eth1", true)]),
        Vec::new(),
    );
    assert_eq!(attached(), [4]);

    // A daemon that died while an interface became one not to attach to.
    drop(engine);
    datapath.restart();
    datapath
        .state()
        .scopes
        .get_mut(&ScopeId::MIN)
        .unwrap()
        .attached
        .insert(9);
    let _engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(attached(), [2]);
}

#[test]
fn a_file_for_several_scopes_is_one_change() {
    let Some(other) = new_netns() else { return };
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let scopes = |here_text: &str, other_text: Option<&str>| {
        let declared = |text: &str| Declared {
            table: table(text),
            has_settings: false,
        };
        let mut scopes = vec![ApplyScope {
            name: None,
            netns: here(),
            declared: declared(here_text),
        }];
        if let Some(text) = other_text {
            let netns = other.try_clone().unwrap();
            scopes.push(ApplyScope {
                name: Some("lb".into()),
                netns,
                declared: declared(text),
            });
        }
        scopes
    };
    let mut run = |scopes, dry_run| match engine.handle(Request::Apply { scopes, dry_run }) {
        Ok(Reply::Changes(changes)) => Ok(changes
            .into_iter()
            .map(|scope| (scope.netns, scope.changes))
            .collect::<Vec<_>>()),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.message),
    };
    let expected = vec![
        (None, vec!["+ service tcp:10.0.0.1:80 rr".to_owned()]),
        (
            Some("lb".to_owned()),
            vec!["+ service tcp:10.0.0.1:80 wrr".to_owned()],
        ),
    ];
    let both = || scopes("tcp:10.0.0.1:80 rr", Some("tcp:10.0.0.1:80 wrr"));
    assert_eq!(run(both(), true).unwrap(), expected);
    assert!(datapath.state().scopes.is_empty());

    // The second scope fails: the first has nothing either.
    datapath.state().fail_after = Some(1);
    assert!(
        run(both(), false)
            .unwrap_err()
            .ends_with("nothing was changed")
    );
    assert!(datapath.state().scopes.is_empty());

    assert_eq!(run(both(), false).unwrap(), expected);
    let tables: Vec<Table> = datapath
        .state()
        .scopes
        .values()
        .map(|scope| scope.table.clone())
        .collect();
    assert_eq!(
        tables,
        [table("tcp:10.0.0.1:80 rr"), table("tcp:10.0.0.1:80 wrr")]
    );

    // A scope that the file no longer names loses what the file brought.
    let gone = run(scopes("tcp:10.0.0.1:80 rr", None), false).unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].1, ["- service tcp:10.0.0.1:80 with 0 servers"]);
    let twice = run(
        scopes("", Some(""))
            .into_iter()
            .chain(scopes("", Some("")).into_iter().skip(1))
            .collect(),
        false,
    );
    assert_eq!(
        twice.unwrap_err(),
        "the scope lb is the same namespace as another one of this file"
    );
}

#[test]
fn a_scope_whose_namespace_is_gone_is_removed_on_start() {
    let Some(other) = new_netns() else { return };
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let request = Request::Command {
        netns: other,
        command: add_service("tcp:10.0.0.1:80"),
    };
    engine.handle(request).unwrap();
    command(&mut engine, add_service("tcp:10.0.0.2:80")).unwrap();
    assert_eq!(datapath.state().scopes.len(), 2);
    // Nobody but the engine holds it.
    drop(engine);
    datapath.restart();
    let _engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(
        datapath
            .state()
            .scopes
            .keys()
            .map(|id| id.get())
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn the_run_directory_has_one_daemon() {
    let dir = TempDir::new();
    let held = RunDir::take(dir.path()).unwrap();
    let error = RunDir::take(dir.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "another bpvs runs with the run directory {}",
            dir.path().display()
        )
    );
    drop(held);
    RunDir::take(dir.path()).unwrap();
}

/// Time is only looked at: `cargo test --release -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_services_with_ten_servers_each() {
    let entry = |n: u32| {
        let servers: String = (1..=10)
            .map(|host| format!(" 10.1.{}.{host}:80/1", n % 250))
            .collect();
        format!("tcp:10.0.{}.{}:80 rr{servers};", n / 250, n % 250 + 1)
    };
    let text: String = (0..10_000).map(entry).collect();
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath, dir.path()).unwrap();
    for what in ["first", "again"] {
        let begun = std::time::Instant::now();
        apply(&mut engine, &text).unwrap();
        eprintln!("{what}: {:?}", begun.elapsed());
    }
    let begun = std::time::Instant::now();
    let web = key("tcp:10.0.0.1:80");
    command(
        &mut engine,
        Command::AddServer {
            service: web,
            server: server(&web, "10.2.0.1:80/1"),
        },
    )
    .unwrap();
    eprintln!("one command: {:?}", begun.elapsed());
}

#[test]
fn a_provider_removes_only_what_it_declared() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let provide = |engine: &mut Engine, text: Option<&str>| {
        let scope = |text: &str| ApplyScope {
            name: None,
            netns: here(),
            declared: Declared {
                table: table(text),
                has_settings: false,
            },
        };
        let request = Request::Provide {
            provider: "swarm".into(),
            scopes: text.map(scope).into_iter().collect(),
        };
        engine.handle(request).map(drop).unwrap();
    };
    apply(&mut engine, "tcp:10.0.0.9:80 rr 10.1.0.9:80/1").unwrap();
    provide(&mut engine, Some("tcp:10.0.0.1:80 rr 10.1.0.1:80/1"));
    let both = table("tcp:10.0.0.9:80 rr 10.1.0.9:80/1; tcp:10.0.0.1:80 rr 10.1.0.1:80/1");
    assert_eq!(held(&datapath), both);
    // The file that was applied here is another source than the provider.
    apply(&mut engine, "").unwrap();
    let own = table("tcp:10.0.0.1:80 rr 10.1.0.1:80/1");
    assert_eq!(held(&datapath), own);
    apply(&mut engine, "tcp:10.0.0.9:80 rr 10.1.0.9:80/1").unwrap();
    // A scope that it no longer speaks of.
    provide(&mut engine, None);
    assert_eq!(held(&datapath), table("tcp:10.0.0.9:80 rr 10.1.0.9:80/1"));
}
