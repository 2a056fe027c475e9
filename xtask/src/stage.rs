//! A run of several stages, each timed, with a table at the end.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::console::note;

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// Not run: the reason, and what would make it run.
    LeftOut(String),
}

/// The stages so far.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<(&'static str, Outcome, Duration)>,
}

impl Stages {
    /// Runs one stage. Its failure is said at once, and does not end the run.
    pub(crate) fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<Outcome>) {
        note(&format!("== {name}"));
        let start = Instant::now();
        let outcome = work().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(reason) => note(&format!("{name} failed: {reason}")),
            Outcome::LeftOut(reason) => note(&format!("{name} left out: {reason}")),
        }
        self.done.push((name, outcome, start.elapsed()));
    }

    /// The same, but only if the stage `needed` passed.
    pub(crate) fn run_after(
        &mut self,
        needed: &str,
        name: &'static str,
        work: impl FnOnce() -> Result<Outcome>,
    ) {
        if self.passed(needed) {
            return self.run(name, work);
        }
        let reason = format!("not run: `{needed}` did not pass");
        self.done
            .push((name, Outcome::Failed(reason), Duration::ZERO));
    }

    /// Notes a stage that does not run.
    pub(crate) fn leave_out(&mut self, name: &'static str, reason: &str) {
        self.run(name, || Ok(Outcome::LeftOut(reason.to_owned())));
    }

    /// Whether this stage ran, and passed.
    pub(crate) fn passed(&self, name: &str) -> bool {
        self.done
            .iter()
            .any(|(done, outcome, _)| *done == name && *outcome == Outcome::Passed)
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The table, and `N passed, N failed` as its last line.
    pub(crate) fn summary(&self) -> String {
        let width = self
            .done
            .iter()
            .map(|(name, ..)| name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (name, outcome, time) in &self.done {
            let (word, reason) = match outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Failed(reason) => ("FAILED", reason.as_str()),
                Outcome::LeftOut(reason) => ("left out", reason.as_str()),
            };
            // The first line is enough in a table; the whole was said when it happened.
            let reason = reason.lines().next().unwrap_or("");
            let line = format!(
                "{name:width$}  {word:8}  {:7.1} s  {reason}",
                time.as_secs_f64()
            );
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let passed = self.count(|outcome| *outcome == Outcome::Passed);
        let _ = writeln!(text, "{passed} passed, {} failed", self.failed());
        text
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.done
            .iter()
            .filter(|(_, outcome, _)| which(outcome))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_is_counted_and_does_not_end_the_run() {
        let mut stages = Stages::default();
        stages.run("build", || bail!("no such crate\nand more"));
        stages.run_after("build", "packets", || unreachable!("the build failed"));
        stages.run("format", || Ok(Outcome::Passed));
        stages.leave_out("end to end", "needs root");

        assert_eq!(stages.failed(), 2);
        let summary = stages.summary();
        assert!(summary.ends_with("\n1 passed, 2 failed\n"), "{summary}");
        assert!(
            summary.contains("no such crate") && !summary.contains("and more"),
            "{summary}"
        );
    }
}
