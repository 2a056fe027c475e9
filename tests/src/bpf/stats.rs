//! What each program costs the verifier and the stack: `lab bpf-stats`.

use anyhow::{Context, Result};
use lb_common::host::Capacity;
use serde_json::{Value, json};

use super::{PROGRAMS, load, program, stack};

/// Loads every program and prints what it costs; with `as_json` for other programs to read.
///
/// # Errors
/// A program does not load.
pub fn run(as_json: bool) -> Result<()> {
    let mut object = load(Capacity::default())?;
    let stacks = stack::deepest(lb_user::datapath::object())?;
    let mut rows = Vec::new();
    for name in PROGRAMS {
        let info = program(&mut object, name)?.info()?;
        let verified = info.verified_instruction_count();
        let verified = verified.context("the kernel does not tell verified instructions (5.16)")?;
        let stack = stacks
            .get(name)
            .copied()
            .with_context(|| format!("no stack of {name}"))?;
        rows.push((name, verified, stack));
    }
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, verified, stack)| {
                json!({ "program": name, "verified_insns": verified, "stack": stack })
            })
            .collect();
        println!("{}", Value::from(rows));
    } else {
        for (name, verified, stack) in rows {
            println!("{name:12} {verified:>8} verified instructions {stack:>4} bytes of stack");
        }
    }
    Ok(())
}
