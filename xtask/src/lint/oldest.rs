//! xtask is what a newcomer's cargo builds, before anything newer is there: it keeps to Rust 1.85.

use super::{Finding, tree::File};

/// Where that holds.
const FOLDER: &str = "xtask/src/";

/// Conditions that need Rust 1.88: a `let` that is joined with others.
pub(super) fn check(file: &File) -> Vec<Finding> {
    if !file.path.starts_with(FOLDER) || !file.is_rust() {
        return Vec::new();
    }
    file.text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("&& let ") || line.contains(" && let "))
        .filter(|(_, line)| !line.contains('"'))
        .map(|(at, _)| {
            let message = "Rust 1.85 has no `let` in a chain of conditions";
            Finding::new(&file.path, at + 1, message)
        })
        .collect()
}
