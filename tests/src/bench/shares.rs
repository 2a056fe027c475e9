//! Which part of the instructions of a packet, a request and a connection bpvs' own programs have, by the kernel's count of
//! their run times: where the clock counts instructions those are instructions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::opponents::{Opponent, Way};
use super::spent::Spent;
use super::statistics::median;

/// How the names of pinned programs go on behind what they are.
const PROGRAM: &str = "_prog_";

/// What one program did in the rounds of one figure: runs for each, and instructions of a run.
#[derive(Debug, Default)]
struct Share {
    runs: Vec<f64>,
    each: Vec<f64>,
}

/// All of them: by way, by program, by figure.
#[derive(Debug, Default)]
pub struct Shares(BTreeMap<(Way, String), BTreeMap<&'static str, Share>>);

/// The programs of one daemon.
#[derive(Debug)]
pub struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// What the opponent's daemon has pinned; none where there is no daemon.
    ///
    /// # Errors
    ///
    /// Where its pins cannot be listed.
    pub fn of(opponent: &Opponent) -> Result<Self> {
        let Some(daemon) = &opponent.daemon else {
            return Ok(Self(Vec::new()));
        };
        let pins = daemon.pins()?;
        let named = pins.iter().filter_map(|pin| {
            let file = pin.rsplit('/').next()?;
            let (name, _) = file.split_once(PROGRAM)?;
            Some((name.to_owned(), daemon.bpf_folder().join(pin)))
        });
        Ok(Self(named.collect()))
    }

    fn spent(&self) -> Result<Vec<Spent>> {
        self.0.iter().map(|(_, pin)| Spent::of(pin)).collect()
    }
}

/// A way, one of its programs, and of each figure how often that runs and what a run is.
type Row<'a> = (Way, &'a str, Vec<(f64, f64)>);

impl Shares {
    /// Adds what the programs do while `work` does so many of a figure.
    ///
    /// # Errors
    ///
    /// Of the work, and where the kernel does not say what programs do.
    pub fn watch(
        &mut self,
        way: Way,
        programs: &Programs,
        figure: &'static str,
        count: u32,
        work: impl FnOnce() -> Result<f64>,
    ) -> Result<()> {
        let before = programs.spent()?;
        work()?;
        let spent = programs.spent()?;
        for (((name, _), spent), before) in programs.0.iter().zip(spent).zip(before) {
            let spent = spent.since(before);
            let share = self
                .0
                .entry((way, name.clone()))
                .or_default()
                .entry(figure)
                .or_default();
            #[expect(clippy::cast_precision_loss, reason = "few runs")]
            share.runs.push(spent.runs as f64 / f64::from(count));
            share.each.push(spent.each());
        }
        Ok(())
    }

    /// Those that run for at least every tenth: by way and program, of each figure the runs and what a run is.
    fn rows(&self, figures: &[&str]) -> Vec<Row<'_>> {
        self.0
            .iter()
            .map(|((way, program), by_figure)| {
                let parts = figures.iter().map(|figure| {
                    by_figure.get(figure).map_or((0.0, 0.0), |share| {
                        (median(&share.runs), median(&share.each))
                    })
                });
                (*way, program.as_str(), parts.collect::<Vec<_>>())
            })
            .filter(|(_, _, parts)| parts.iter().any(|(runs, _)| *runs >= 0.1))
            .collect()
    }

    /// For other programs to read.
    pub fn json(&self, figures: &[&str]) -> Value {
        let rows = self
            .rows(figures)
            .into_iter()
            .flat_map(|(way, program, parts)| {
                let parts: Vec<Value> = figures
                    .iter()
                    .zip(parts)
                    .map(|(figure, (runs, each))| {
                        json!({
                            "way": way.name(),
                            "program": program,
                            "figure": figure,
                            "runs": runs,
                            "instructions": each,
                        })
                    })
                    .collect();
                parts
            });
        rows.collect()
    }

    /// The table.
    ///
    /// # Errors
    ///
    /// Of what it is written to.
    pub fn table(&self, f: &mut fmt::Formatter<'_>, figures: &[&str]) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "\nof which in bpvs' programs: runs for each, times instructions of a run\n{:37}",
            ""
        )?;
        for figure in figures {
            write!(f, " {figure:>18}")?;
        }
        writeln!(f)?;
        for (way, program, parts) in self.rows(figures) {
            write!(f, "{:22} {program:14}", way.name())?;
            for (runs, each) in parts {
                let part = if runs < 0.1 {
                    String::new()
                } else {
                    format!("{runs:.1} x {each:.0}")
                };
                write!(f, " {part:>18}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(Shares);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.table(f, &["a packet", "a request"])
        }
    }

    #[test]
    fn programs_that_do_not_run_are_left_out() {
        let mut shares = Shares::default();
        for (program, runs) in [("ingress", 2.0), ("sweep", 0.01)] {
            let share = Share {
                runs: vec![runs, runs, 9.0],
                each: vec![500.0, 700.0, 600.0],
            };
            shares
                .0
                .entry((Way::Bpvs, program.to_owned()))
                .or_default()
                .insert("a packet", share);
        }
        let json = shares.json(&["a packet", "a request"]);
        assert_eq!(json[0]["instructions"], 600.0);
        assert_eq!(json[1]["runs"], 0.0, "none was seen for a request");
        assert_eq!(json[2], Value::Null, "the sweep is left out");
        let text = Shown(shares).to_string();
        assert!(text.contains("2.0 x 600"), "{text}");
        assert!(!text.contains("sweep"), "{text}");
    }
}
