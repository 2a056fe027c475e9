//! Which crate may depend on which: the rules of the workspace's manifests.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Finding, licence, tree::File};

/// What a member's manifest may name.
struct Rule {
    /// The member's folder.
    member: &'static str,
    /// Whether it may depend on this package.
    allows: fn(&Dependency) -> bool,
    /// Said of one that it may not.
    why: &'static str,
}

/// One line of a manifest.
struct Dependency {
    package: String,
    optional: bool,
    /// `dependencies`, `dev-dependencies` or `build-dependencies`.
    table: &'static str,
}

const RULES: [Rule; 5] = [
    Rule {
        member: "lb-common",
        allows: |dependency| {
            dependency.table == "dev-dependencies"
                || dependency.optional
                || dependency.package == "network-types"
        },
        why: "lb-common is pure code for both sides: network-types, and optional crates, only",
    },
    Rule {
        member: "lb-ebpf",
        allows: |dependency| {
            let package = dependency.package.as_str();
            package == "lb-common"
                || package == "aya-log-ebpf"
                || package == "aya-ebpf"
                || package.starts_with("aya-ebpf-")
        },
        why: "lb-ebpf is thin: lb-common and the aya-ebpf family, only",
    },
    Rule {
        member: "lb-user",
        allows: |dependency| !matches!(dependency.package.as_str(), "lab" | "lb-ebpf" | "xtask"),
        why: "lb-user stands on lb-common, and on no other member",
    },
    Rule {
        member: "tests",
        allows: |dependency| !matches!(dependency.package.as_str(), "lb-ebpf" | "xtask"),
        why: "the tests import the libraries, not the programs or xtask",
    },
    Rule {
        member: "xtask",
        allows: |dependency| {
            let package = dependency.package.as_str();
            !matches!(package, "lb-common" | "lb-ebpf" | "lb-user" | "lab")
        },
        why: "xtask builds and runs the members, and must compile without them",
    },
];

/// What a manifest has that it may not have.
pub(super) fn check(file: &File) -> Result<Vec<Finding>> {
    let manifest: Table = file.text.parse().with_context(|| file.path.clone())?;
    let mut findings: Vec<Finding> = licence::check_manifest(&file.path, &manifest)
        .into_iter()
        .collect();
    let Some(rule) = RULES.iter().find(|rule| rule.member == file.member()) else {
        return Ok(findings);
    };
    for dependency in dependencies(&manifest) {
        if !(rule.allows)(&dependency) {
            let Dependency { package, table, .. } = dependency;
            let line = line_of(&file.text, &package);
            let message = format!("`{package}` among its {table}: {}", rule.why);
            findings.push(Finding::new(&file.path, line, message));
        }
    }
    Ok(findings)
}

/// Every dependency of a manifest, those for single targets too.
fn dependencies(manifest: &Table) -> Vec<Dependency> {
    let mut places = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        places.extend(targets.values().filter_map(Value::as_table));
    }
    let mut found = Vec::new();
    for place in places {
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(entries) = place.get(table).and_then(Value::as_table) else {
                continue;
            };
            for (key, entry) in entries {
                let renamed = entry.get("package").and_then(Value::as_str);
                let optional = entry.get("optional").and_then(Value::as_bool);
                found.push(Dependency {
                    package: renamed.unwrap_or(key).to_owned(),
                    optional: optional.unwrap_or(false),
                    table,
                });
            }
        }
    }
    found
}

fn line_of(text: &str, package: &str) -> usize {
    let names = |line: &str| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
            .any(|word| word == package)
    };
    text.lines().position(names).map_or(0, |at| at + 1)
}
