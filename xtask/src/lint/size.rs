//! File sizes.

use super::{Finding, tree::File};

/// No source file is longer than this many lines. (From 400 on, look for the second concept.)
const HARD: usize = 600;

/// A generated file says so in its first line.
const GENERATED: &str = "// @generated";

/// A source file that grew too long.
pub(super) fn check(file: &File) -> Option<Finding> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= HARD || file.text.starts_with(GENERATED) {
        return None;
    }
    Some(Finding::new(
        &file.path,
        0,
        format!("{lines} lines; {HARD} is the limit: which of its concepts wants its own file?"),
    ))
}
