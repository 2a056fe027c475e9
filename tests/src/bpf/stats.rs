//! What each program costs the verifier and the stack: `lab bpf-stats`.

use std::path::Path;

use anyhow::{Context, Result};
use lb_common::host::Capacity;
use serde_json::{Value, json};

use super::{PROGRAMS, load_from, stack, verified};

/// Loads every program and prints what it costs; with `as_json` for other programs to read. `file` is another object than
/// the one that is embedded.
///
/// # Errors
/// A program does not load.
pub fn run(as_json: bool, file: Option<&Path>) -> Result<()> {
    let read = file.map(std::fs::read).transpose();
    let read = read.with_context(|| format!("cannot read {file:?}"))?;
    let bytes = read.as_deref().unwrap_or(lb_user::datapath::object());
    let mut object = load_from(bytes, Capacity::default())?;
    let stacks = stack::deepest(bytes)?;
    let mut rows = Vec::new();
    for name in PROGRAMS {
        let info = verified(&mut object, name)?;
        let verified = info.verified_instruction_count();
        let verified = verified.context("the kernel does not tell verified instructions (5.16)")?;
        let stack = stacks
            .get(name)
            .cloned()
            .with_context(|| format!("no stack of {name}"))?;
        rows.push((name, verified, stack));
    }
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, verified, stack)| {
                json!({ "program": name, "verified_insns": verified, "stack": stack.bytes })
            })
            .collect();
        println!("{}", Value::from(rows));
    } else {
        for (name, verified, stack) in rows {
            let bytes = stack.bytes;
            println!("{name:12} {verified:>8} verified instructions {bytes:>4} bytes of stack");
            for (function, frame) in &stack.frames {
                println!("             {frame:>4}  {function}");
            }
        }
    }
    Ok(())
}
