//! The recordings, played on a table in memory: output, complaints and exit status are those of the real program.

use std::path::PathBuf;

use lb_user::ipvsadm::memory::MemoryIpvs;
use lb_user::ipvsadm::names::Table;

use super::memory;
use super::transcript::{difference, play};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ipvsadm")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Plays a file; how many commands there were.
fn check(name: &str) -> usize {
    let names = Table::new(&read("hosts"), &read("services"));
    let expected = read(name);
    let mut ipvs = MemoryIpvs::default();
    let mut commands = 0;
    let found = play::<()>(&expected, |words, input| {
        commands += 1;
        Ok(memory::run(&mut ipvs, &names, words, input))
    });
    if let Some(difference) = difference(&expected, &found.unwrap()) {
        panic!("{name}: {difference}");
    }
    commands
}

#[test]
fn command_lines_that_are_wrong() {
    assert!(check("errors.txt") > 300);
}

#[test]
fn every_option_with_every_command() {
    assert!(check("matrix.txt") > 700);
}

#[test]
fn tables() {
    assert!(check("tables.txt") > 200);
}

#[test]
fn restore_and_save() {
    assert!(check("restore.txt") > 50);
}
