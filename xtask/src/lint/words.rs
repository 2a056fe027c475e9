//! Words that stay out of the tree.

use super::{
    Finding,
    tokens::{self, Kind},
    tree::File,
};

/// Paths that exist on one machine only. In two parts, or this list would be a finding.
const MACHINE_PATHS: [(&str, &str); 4] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("../sha", "red/"),
];

/// Other projects' words for what has a name here.
const BARE: [(&str, &str); 6] = [
    ("vip", "service address"),
    ("vips", "service addresses"),
    ("backend", "real server"),
    ("backends", "real servers"),
    ("upstream", "real server"),
    ("upstreams", "real servers"),
];

/// Where a word may be named to be explained, or excluded.
const EXEMPT: [&str; 3] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "xtask/src/lint/words.rs",
];

/// What a file says that it should not say.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for (front, back) in MACHINE_PATHS {
            let path = format!("{front}{back}");
            if names_path(line, &path) {
                findings.push(Finding::new(
                    &file.path,
                    at + 1,
                    format!("a machine's path: {path}"),
                ));
            }
        }
    }
    if EXEMPT.contains(&file.path.as_str()) {
        return findings;
    }
    if file.is_rust() {
        for token in tokens::read(&file.text) {
            match token.kind {
                Kind::Word => findings.extend(bare(file, token.line, &split_name(token.text))),
                Kind::Comment => {
                    for (at, line) in token.text.lines().enumerate() {
                        findings.extend(bare(file, token.line + at, line));
                    }
                }
                // What others call it, their interfaces want to hear.
                Kind::Text | Kind::Mark => {}
            }
        }
        findings.extend(unfinished(file));
    } else if file.path.ends_with(".md") {
        for (at, line) in file.text.lines().enumerate() {
            findings.extend(bare(file, at + 1, line));
        }
    }
    findings
}

/// Whether the path stands there by itself, not as the middle of another.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/'))
    })
}

fn bare(file: &File, line: usize, text: &str) -> Vec<Finding> {
    // Code in a document quotes others as a string does.
    let prose: String = text.split('`').step_by(2).collect();
    let lower = prose.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    words
        .filter_map(|word| BARE.iter().find(|(bare, _)| *bare == word))
        .map(|(word, better)| {
            Finding::new(
                &file.path,
                line,
                format!("`{word}`: here it is called {better}"),
            )
        })
        .collect()
}

/// `BackendTable` and `backend_table` as separate words.
fn split_name(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && words.chars().next_back().is_some_and(char::is_lowercase) {
            words.push(' ');
        }
        words.push(c);
    }
    words
}

/// Code that says that it is not there yet.
fn unfinished(file: &File) -> Vec<Finding> {
    let tokens = tokens::read(&file.text);
    tokens
        .windows(2)
        .filter(|pair| {
            (pair[0].is_word("todo") || pair[0].is_word("unimplemented")) && pair[1].is_mark("!")
        })
        .map(|pair| {
            let message = format!("`{}!`: what is not there yet is not offered", pair[0].text);
            Finding::new(&file.path, pair[0].line, message)
        })
        .collect()
}
