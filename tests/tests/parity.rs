//! docs/ipvs-parity.md is a promise: no row without a state, none without a test or a reason, and no test named that is not
//! there. docs/differences.md has every difference that the differential suite excepts.

use std::fs;
use std::path::{Path, PathBuf};

use lab::{differential, suite};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A row of a table: feature, state, and what shows it.
struct Row {
    feature: String,
    state: String,
    shown: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/ipvs-parity.md")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| feature"))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [feature, state, shown] = cells[..] else {
                panic!("not three columns: {line}");
            };
            Row {
                feature: feature.into(),
                state: state.into(),
                shown: shown.into(),
            }
        })
        .collect()
}

/// What stands in backticks behind a word, up to the next such word, semicolon or crate.
fn named(shown: &str, kind: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut present = "";
    for (number, part) in shown.split('`').enumerate() {
        if number % 2 == 0 {
            for word in part.split_inclusive([' ', ';', ',']) {
                let bare = word.trim_end_matches([' ', ';', ',']);
                if ["differential", "packets", "lab"].contains(&bare) {
                    present = bare;
                }
                if word.ends_with(';') {
                    present = "";
                }
            }
        } else if part.starts_with("lb-") {
            present = "";
        } else if present == kind {
            names.push(part.to_owned());
        }
    }
    names
}

#[test]
fn every_row_has_a_state_and_a_test_or_a_reason() {
    let rows = rows();
    assert!(rows.len() > 50, "{} rows", rows.len());
    for row in &rows {
        assert!(
            ["yes", "differs", "no"].contains(&row.state.as_str()),
            "{}: {}",
            row.feature,
            row.state
        );
        assert!(row.shown.len() > 8, "{}: nothing shows it", row.feature);
    }
}

#[test]
fn the_scripts_that_it_names_exist() {
    let scripts: Vec<String> = differential::scenarios::all()
        .unwrap()
        .into_iter()
        .map(|script| script.name)
        .collect();
    for row in rows() {
        let mut area = String::new();
        for name in named(&row.shown, "differential") {
            if name.contains(' ') {
                continue;
            }
            let name = match name.split_once('/') {
                Some((of, _)) => {
                    of.clone_into(&mut area);
                    name
                }
                None => format!("{area}/{name}"),
            };
            // NAME stands for each scheduler; … for the beginning or the end of several.
            let name = name.replace("NAME", "rr");
            let (begin, end) = name.split_once('…').unwrap_or((&name, ""));
            let area = begin.split('/').next().unwrap_or_default();
            let found = scripts.iter().any(|script| {
                script.starts_with(if begin.is_empty() { area } else { begin })
                    && script.ends_with(end)
                    && (name.contains('…') || script.len() == name.len())
            });
            assert!(found, "{}: there is no script {name}", row.feature);
        }
    }
}

#[test]
fn the_cases_that_it_names_exist() {
    let cases = suite::names();
    for row in rows() {
        for name in named(&row.shown, "lab") {
            if name.contains('/') {
                assert!(
                    cases.contains(&name.as_str()),
                    "{}: there is no case {name}",
                    row.feature
                );
            }
        }
    }
}

#[test]
fn the_packet_cases_that_it_names_exist() {
    let folder = root().join("tests/src/packets/cases");
    let sources: String = fs::read_dir(&folder)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for row in rows() {
        for name in named(&row.shown, "packets") {
            let is_there = folder.join(format!("{name}.rs")).exists()
                || sources.contains(&format!("fn {name}("));
            assert!(is_there, "{}: no packet case {name}", row.feature);
        }
    }
}

#[test]
fn what_the_differential_suite_excepts_is_written_down() {
    let text = fs::read_to_string(root().join("docs/differences.md")).unwrap();
    for exception in differential::exceptions::ALL {
        assert!(
            text.contains(&format!("`{}`", exception.name)),
            "docs/differences.md does not name the exception `{}`",
            exception.name
        );
    }
}
