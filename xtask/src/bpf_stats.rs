//! `cargo xtask bpf-stats`: what each program costs the verifier, against committed limits.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{cargo::Cargo, machine, setup, stage::Outcome, test, toolchain::Search};

/// The limits, relative to the workspace's root.
const LIMITS: &str = "docs/bpf-stats.toml";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Fail where a program is over its limit in docs/bpf-stats.toml, or has none there.
    #[arg(long)]
    check: bool,
}

/// What the verifier said of one program, or what it may say at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    /// Instructions that it walked, over all paths.
    verified_insns: u64,
    /// The deepest stack, in bytes.
    stack: u64,
}

/// Costs by program name.
type Costs = BTreeMap<String, Cost>;

/// Prints the table; with `--check`, fails where a limit is passed.
///
/// # Errors
///
/// When the programs cannot be built or loaded, or do not keep their limits.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    if !machine::is_root() {
        bail!("loading programs to ask the verifier needs root");
    }
    test::release_build(&Cargo::find(&Search::here(&machine::root()))?)?;
    let (table, findings) = compare(&measured()?, &limits()?);
    print!("{table}");
    if arguments.check && !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(())
}

/// The check as a stage of `cargo xtask test`; `lab` has been built.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn stage() -> Result<Outcome> {
    if !machine::root().join(LIMITS).is_file() {
        return Ok(Outcome::LeftOut(format!("there is no {LIMITS}")));
    }
    judge_costs(&measured()?)
}

/// The same for what `lab bpf-stats --json` said on another kernel.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn judge(json: &str) -> Result<Outcome> {
    judge_costs(&read_measured(json)?)
}

fn judge_costs(costs: &Costs) -> Result<Outcome> {
    let (table, findings) = compare(costs, &limits()?);
    eprint!("{table}");
    Ok(match findings.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(findings.join("\n")),
    })
}

fn measured() -> Result<Costs> {
    let output = Command::new(machine::release("lab"))
        .args(["bpf-stats", "--json"])
        .output()
        .context("cannot start target/release/lab")?;
    if !output.status.success() {
        bail!(
            "`lab bpf-stats --json` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    read_measured(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `[{"program": "…", "verified_insns": 1, "stack": 2}, …]`.
fn read_measured(json: &str) -> Result<Costs> {
    let list: Vec<Value> = serde_json::from_str(json).context("`lab bpf-stats --json`")?;
    list.iter()
        .map(|entry| {
            let number = |name| entry.get(name).and_then(Value::as_u64);
            let program = entry.get("program").and_then(Value::as_str);
            match (program, number("verified_insns"), number("stack")) {
                (Some(program), Some(verified_insns), Some(stack)) => Ok((
                    program.to_owned(),
                    Cost {
                        verified_insns,
                        stack,
                    },
                )),
                _ => bail!("`lab bpf-stats --json`: an entry lacks a field: {entry}"),
            }
        })
        .collect()
}

fn limits() -> Result<Costs> {
    match fs::read_to_string(machine::root().join(LIMITS)) {
        Ok(text) => read_limits(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Costs::new()),
        Err(error) => Err(error).context(LIMITS),
    }
}

/// Reads one table a program, with `verified_insns` and `stack`.
fn read_limits(text: &str) -> Result<Costs> {
    let programs: toml::Table = text.parse().context(LIMITS)?;
    programs
        .iter()
        .map(|(program, limit)| {
            let number = |name| {
                let value = limit.get(name).and_then(toml::Value::as_integer);
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .with_context(|| {
                        format!("{LIMITS}: [{program}] needs `{name}`, a number of at least 0")
                    })
            };
            let cost = Cost {
                verified_insns: number("verified_insns")?,
                stack: number("stack")?,
            };
            Ok((program.clone(), cost))
        })
        .collect()
}

/// The table, and one sentence for everything that does not keep the limits.
fn compare(measured: &Costs, limits: &Costs) -> (String, Vec<String>) {
    let width = measured
        .keys()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .max("program".len());
    let mut table = String::new();
    let mut findings = Vec::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        table,
        "{:width$}  {:>14} {:>8}  {:>5} {:>5}",
        "program", "verified insns", "limit", "stack", "limit"
    );
    for (program, cost) in measured {
        let limit = limits.get(program);
        let shown = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let _ = writeln!(
            table,
            "{program:width$}  {:>14} {:>8}  {:>5} {:>5}",
            cost.verified_insns,
            shown(limit.map(|limit| limit.verified_insns)),
            cost.stack,
            shown(limit.map(|limit| limit.stack)),
        );
        let Some(limit) = limit else {
            findings.push(format!("{program} has no limit in {LIMITS}"));
            continue;
        };
        for (what, is, may) in [
            (
                "verified instructions",
                cost.verified_insns,
                limit.verified_insns,
            ),
            ("bytes of stack", cost.stack, limit.stack),
        ] {
            if is > may {
                findings.push(format!("{program}: {is} {what}, and {LIMITS} allows {may}"));
            }
        }
    }
    for program in limits
        .keys()
        .filter(|program| !measured.contains_key(*program))
    {
        findings.push(format!(
            "{LIMITS} has a limit for {program}, and there is no such program"
        ));
    }
    (table, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: &str = r#"[{"program":"tc_ingress","verified_insns":1200,"stack":200},
                               {"program":"tc_egress","verified_insns":300,"stack":64}]"#;

    fn findings(limits: &str) -> Vec<String> {
        compare(
            &read_measured(MEASURED).unwrap(),
            &read_limits(limits).unwrap(),
        )
        .1
    }

    #[test]
    fn a_program_at_its_limit_passes() {
        let limits = "[tc_ingress]\nverified_insns = 1200\nstack = 200\n\
                      [tc_egress]\nverified_insns = 400\nstack = 64\n";
        assert_eq!(findings(limits), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_break_a_limit_is_named() {
        let limits = "[tc_ingress]\nverified_insns = 1199\nstack = 199\n\
                      [gone]\nverified_insns = 1\nstack = 1\n";
        assert_eq!(
            findings(limits),
            [
                "tc_egress has no limit in docs/bpf-stats.toml",
                "tc_ingress: 1200 verified instructions, and docs/bpf-stats.toml allows 1199",
                "tc_ingress: 200 bytes of stack, and docs/bpf-stats.toml allows 199",
                "docs/bpf-stats.toml has a limit for gone, and there is no such program",
            ]
        );
    }

    #[test]
    fn a_field_that_is_not_there_is_an_error() {
        assert!(read_measured(r#"[{"program":"x","stack":1}]"#).is_err());
        let error = read_limits("[x]\nstack = 1\n").unwrap_err().to_string();
        assert!(error.contains("[x] needs `verified_insns`"), "{error}");
    }
}
