//! Commands that come together: each is made or refused by itself, and none is half made whenever the daemon dies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::dying::Dying;
use super::testing::{TempDir, start};
use super::*;
use crate::control::testing::{server, table};
use crate::control::{Command, Declared, diff};
use crate::datapath::fake::FakeDatapath;
use crate::model::{ScopeId, Service, ServiceKey, Table};
use crate::net::NetNs;

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn add_service(text: &str) -> Command {
    Command::AddService(Service::new(key(text), "rr".parse().unwrap()))
}

fn add_server(text: &str, address: &str) -> Command {
    let service = key(text);
    let server = server(&service, address);
    Command::AddServer { service, server }
}

/// All at once; what is said of those that are refused.
fn together(engine: &mut Engine, commands: &[Command]) -> Vec<Option<String>> {
    let request = Request::Commands {
        netns: NetNs::current().unwrap(),
        commands: commands.to_vec(),
    };
    match engine.handle(request).unwrap() {
        Reply::Outcomes(outcomes) => outcomes
            .into_iter()
            .map(|outcome| outcome.err().map(|failure| failure.message))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn held(datapath: &FakeDatapath) -> Table {
    let state = datapath.state();
    let mut scopes = state.scopes.values();
    scopes
        .next()
        .map(|scope| scope.table.clone())
        .unwrap_or_default()
}

const ONE: &str = "tcp:10.0.0.1:80";
const TWO: &str = "tcp:10.0.0.2:80";

fn commands() -> Vec<Command> {
    vec![
        add_service(ONE),
        add_service(ONE),
        add_server(TWO, "10.1.0.1:80/1"),
        add_server(ONE, "10.1.0.1:80/1"),
        add_service(TWO),
        add_server(TWO, "10.1.0.2:80/3"),
        Command::RemoveServer {
            service: key(TWO),
            address: "10.1.0.9:80".parse().unwrap(),
        },
        Command::RemoveService(key(ONE)),
        add_service(ONE),
    ]
}

const MADE: &str = "tcp:10.0.0.1:80 rr; tcp:10.0.0.2:80 rr 10.1.0.2:80/3";

fn said() -> Vec<Option<String>> {
    let mut said = vec![None; 9];
    said[1] = Some("service tcp:10.0.0.1:80 is there already".to_owned());
    said[2] = Some("there is no service tcp:10.0.0.2:80".to_owned());
    said[6] = Some("service tcp:10.0.0.2:80 has no server 10.1.0.9:80".to_owned());
    said
}

#[test]
fn each_is_made_or_refused_by_itself() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(together(&mut engine, &commands()), said());
    assert_eq!(held(&datapath), table(MADE));
    assert_eq!(engine.scopes[&ScopeId::MIN].table, table(MADE));
    assert!(engine.journal.change.is_empty());
    // A flush is done in its turn.
    let flushed = [
        add_service("tcp:10.0.0.9:80"),
        Command::Flush,
        add_service(TWO),
    ];
    assert_eq!(together(&mut engine, &flushed), vec![None; 3]);
    assert_eq!(held(&datapath), table("tcp:10.0.0.2:80 rr"));
    assert_eq!(together(&mut engine, &[]), Vec::<Option<String>>::new());
}

#[test]
fn more_than_a_group_of_them() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let all: Vec<Command> = (0..1500)
        .map(|number| {
            add_service(&format!(
                "tcp:10.0.{}.{}:80",
                number / 200,
                number % 200 + 1
            ))
        })
        .collect();
    assert_eq!(together(&mut engine, &all), vec![None; 1500]);
    assert_eq!(held(&datapath).services().len(), 1500);
}

#[test]
fn one_that_fails_in_the_datapath_leaves_those_before_and_lets_those_behind() {
    let fails = "there is no room for more servers: the limit is 0";
    for step in 0..6 {
        let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
        let mut engine = start(datapath.clone(), dir.path()).unwrap();
        together(&mut engine, &[add_service("udp:10.0.0.9:53")]);
        datapath.state().fail_after = Some(step);
        let outcomes = together(&mut engine, &commands());
        let failed = [0, 3, 4, 5, 7, 8][step];
        assert!(
            outcomes[failed]
                .as_deref()
                .is_some_and(|said| said.ends_with(fails)),
            "{step}: {outcomes:?}"
        );
        // Those that were made are, and those that were not are not, whatever was refused because of the one that failed.
        let mut expected = table("udp:10.0.0.9:53 rr");
        for (command, outcome) in commands().iter().zip(&outcomes) {
            if outcome.is_none() {
                for op in command.ops(&expected).unwrap() {
                    op.apply_to(&mut expected).unwrap();
                }
            }
        }
        assert_eq!(held(&datapath), expected, "{step}");
        assert_eq!(engine.scopes[&ScopeId::MIN].table, expected);
        assert!(engine.journal.change.is_empty());
        datapath.restart();
        drop(engine);
        let engine = start(datapath.clone(), dir.path()).unwrap();
        assert_eq!(engine.scopes[&ScopeId::MIN].table, expected);
    }
}

#[test]
fn what_does_not_fit_is_refused_each_time_and_costs_no_more_than_itself() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    datapath.state().fail_from = Some(700);
    let all: Vec<Command> = (0..1500)
        .map(|number| {
            add_service(&format!(
                "tcp:10.0.{}.{}:80",
                number / 200,
                number % 200 + 1
            ))
        })
        .collect();
    let outcomes = together(&mut engine, &all);
    assert!(outcomes[..700].iter().all(Option::is_none));
    assert!(outcomes[700..].iter().all(Option::is_some));
    assert_eq!(held(&datapath).services().len(), 700);
    // Services that were read to undo: those of the group of the first that failed, and then one for each.
    assert_eq!(datapath.state().read, 512 + 799);
}

#[test]
fn killed_at_every_step_they_are_finished_on_start() {
    for kill_after in [false, true] {
        for step in 0.. {
            let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
            let mut engine = start(datapath.clone(), dir.path()).unwrap();
            together(&mut engine, &[add_service("udp:10.0.0.9:53")]);
            drop(engine);
            datapath.restart();
            let fuse = Arc::new(AtomicUsize::new(usize::MAX));
            let dying = Dying::new(&datapath, &fuse, kill_after);
            let mut engine = start(dying, dir.path()).unwrap();
            fuse.store(step, Ordering::Relaxed);
            let outcome = catch_unwind(AssertUnwindSafe(|| together(&mut engine, &commands())));
            if outcome.is_ok() {
                assert_eq!(step, 6);
                break;
            }
            datapath.restart();
            let engine = start(datapath.clone(), dir.path()).unwrap();
            let made = table(&format!("{MADE}; udp:10.0.0.9:53 rr"));
            assert_eq!(diff(&held(&datapath), &made), [], "killed at {step}");
            assert!(engine.journal.change.is_empty());
        }
    }
}

#[test]
fn a_first_one_that_fails_leaves_no_scope() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    datapath.state().fail_after = Some(0);
    let wrong = [add_server(ONE, "10.1.0.1:80/1"), add_service(ONE)];
    assert!(together(&mut engine, &wrong).iter().all(Option::is_some));
    assert!(datapath.state().scopes.is_empty() && engine.journal.scopes.is_empty());
}

#[test]
fn what_they_take_from_a_file_is_a_line_and_outlives_the_daemon() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    let file = format!("{ONE} rr 10.1.0.1:80/1; {TWO} rr 10.1.0.1:80/1 10.1.0.2:80/1");
    let apply = |engine: &mut Engine, text: &str| {
        let declared = Declared {
            table: table(text),
            has_settings: false,
        };
        let scopes = vec![ApplyScope {
            name: None,
            netns: NetNs::current().unwrap(),
            declared,
        }];
        let dry_run = false;
        engine.handle(Request::Apply { scopes, dry_run }).unwrap();
    };
    apply(&mut engine, &file);
    let whole = || std::fs::read(dir.path().join("scope-1.json")).unwrap();
    let before = whole();
    let taken = [
        Command::RemoveService(key(ONE)),
        add_service(ONE),
        Command::RemoveServer {
            service: key(TWO),
            address: "10.1.0.2:80".parse().unwrap(),
        },
        add_server(TWO, "10.1.0.2:80/7"),
    ];
    assert_eq!(together(&mut engine, &taken), vec![None; 4]);
    // What the file claims was not written once more.
    assert_eq!(whole(), before);
    let released = std::fs::read_to_string(dir.path().join("scope-1.released")).unwrap();
    assert_eq!(released.lines().count(), 2, "{released}");
    drop(engine);
    datapath.restart();

    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    apply(&mut engine, "udp:10.0.0.9:53 rr");
    let left = format!("{ONE} rr; {TWO} rr 10.1.0.2:80/7; udp:10.0.0.9:53 rr");
    assert_eq!(held(&datapath), table(&left));
    assert!(!dir.path().join("scope-1.released").exists());
}
