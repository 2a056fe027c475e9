//! The licence: one expression for the whole workspace, and its texts.

use std::{fs, path::Path};

use super::Finding;

/// SPDX expression of every crate.
const EXPRESSION: &str = "MIT OR Apache-2.0";

/// The licence texts, each with words that it must hold.
const TEXTS: [(&str, &str); 2] = [
    (
        "LICENSE-MIT",
        "Permission is hereby granted, free of charge",
    ),
    ("LICENSE-APACHE", "Version 2.0, January 2004"),
];

/// What of it is not as it should be. That each member inherits it is `imports`' to see, which
/// reads the manifests.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    let texts = TEXTS.iter().filter(|(name, words)| {
        !fs::read_to_string(root.join(name)).is_ok_and(|text| text.contains(words))
    });
    texts
        .map(|(name, _)| Finding::new(name, 0, "the licence text is missing here"))
        .collect()
}

/// What is wrong with the licence that a manifest states.
pub(super) fn check_manifest(path: &str, manifest: &toml::Table) -> Option<Finding> {
    let table = |value: Option<&toml::Value>| value.and_then(toml::Value::as_table).cloned();
    let workspace_package =
        table(manifest.get("workspace")).and_then(|workspace| table(workspace.get("package")));
    for package in [table(manifest.get("package")), workspace_package]
        .into_iter()
        .flatten()
    {
        let stated = match package.get("license") {
            Some(toml::Value::String(expression)) => expression == EXPRESSION,
            Some(toml::Value::Table(inherited)) => inherited.contains_key("workspace"),
            _ => false,
        };
        if !stated {
            return Some(Finding::new(
                path,
                0,
                format!("no `license.workspace = true` (the workspace's is \"{EXPRESSION}\")"),
            ));
        }
    }
    None
}
