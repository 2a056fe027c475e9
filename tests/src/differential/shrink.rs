//! Makes a script that differs shorter, as long as it still differs.

use anyhow::Result;

use super::run::{Bench, Script};
use super::step::Step;

/// How often a script is run to make it shorter.
const ATTEMPTS: usize = 120;

/// The shortest script found that still differs; `number` is the step (counted from 1) at which the
/// given one does.
///
/// # Errors
///
/// Where the suite itself fails.
pub fn shrink(bench: &Bench, script: &Script, number: usize) -> Result<Script> {
    let mut steps = script.steps[..number].to_vec();
    let mut attempts = 0;
    // Leave out pieces: halves first, then ever smaller ones, single steps at last.
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() && attempts < ATTEMPTS {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            attempts += 1;
            if let Some(end) = differs(bench, &script.name, &fewer)? {
                fewer.truncate(end);
                steps = fewer;
                shorter = true;
            } else {
                at += size;
            }
        }
        if size > 1 || !shorter {
            size /= 2;
        }
    }
    Ok(Script {
        name: script.name.clone(),
        steps,
    })
}

/// The step at which these steps differ, if they do.
fn differs(bench: &Bench, name: &str, steps: &[Step]) -> Result<Option<usize>> {
    if steps.is_empty() {
        return Ok(None);
    }
    let script = Script {
        name: name.to_owned(),
        steps: steps.to_vec(),
    };
    let report = bench.run(&script)?;
    Ok(report.differences.first().map(|(number, _)| *number))
}
