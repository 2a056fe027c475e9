//! `cargo xtask lint`: the house rules that no compiler knows.
//!
//! One file a group of rules; each is a function from a tree (or a text) to findings, and each is
//! shown to fire by a test on a tree made for it.

use std::{fmt, path::Path};

use anyhow::{Result, bail};

use crate::{console::note, machine};

mod imports;
mod layers;
mod licence;
mod oldest;
mod size;
mod tokens;
mod tree;
mod words;

#[cfg(test)]
mod tests;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Relative to the workspace's root.
    path: String,
    /// Counted from 1; 0 where the whole file is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks the workspace; findings go to standard output.
///
/// # Errors
///
/// When there are findings, or the tree cannot be read.
pub(crate) fn run() -> Result<()> {
    let findings = check(&machine::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => note("lint: the house rules are kept"),
        1 => bail!("1 place breaks a house rule"),
        many => bail!("{many} places break a house rule"),
    }
    Ok(())
}

/// All findings in the tree at `root`, in the order of paths and lines.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = tree::read(root)?;
    let mut findings = licence::check(root);
    let mut sources = Vec::new();
    for file in &files {
        if file.is_manifest() {
            findings.extend(imports::check(file)?);
        }
        if file.is_rust() {
            sources.push((file, tokens::read(&file.text)));
        }
        findings.extend(words::check(file));
        findings.extend(size::check(file));
        findings.extend(oldest::check(file));
    }
    findings.extend(layers::check(&sources));
    findings.sort();
    findings.dedup();
    Ok(findings)
}
