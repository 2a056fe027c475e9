//! What was measured, as a table, as JSON, and as plots.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::opponents::Way;
use super::plot;
use super::statistics::{Ratio, median, quantile, ratio};
use super::workloads::{FIGURES, Figure};

/// All rounds.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    milliseconds: u64,
    absent: Vec<(&'static str, String)>,
    values: BTreeMap<(Figure, Way), Vec<f64>>,
}

/// Where it was measured.
#[derive(Debug)]
struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
}

impl Machine {
    fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches(['\t', ' ', ':']).to_owned());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: processor.unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

impl Report {
    /// An empty one.
    pub fn new(rounds: u32, milliseconds: u64, absent: Vec<(&'static str, String)>) -> Self {
        Self {
            machine: Machine::here(),
            rounds,
            milliseconds,
            absent,
            values: BTreeMap::new(),
        }
    }

    /// Adds what an opponent did in one round.
    pub fn add(&mut self, way: Way, figures: impl IntoIterator<Item = (Figure, f64)>) {
        for (figure, value) in figures {
            self.values.entry((figure, way)).or_default().push(value);
        }
    }

    fn of(&self, figure: Figure, way: Way) -> &[f64] {
        self.values.get(&(figure, way)).map_or(&[], Vec::as_slice)
    }

    /// The opponents that took part, for a figure: values and ratio to plain routing.
    pub fn rows(&self, figure: Figure) -> Vec<(Way, &[f64], Ratio)> {
        let plain = self.of(figure, Way::Plain);
        Way::ALL
            .into_iter()
            .map(|way| (way, self.of(figure, way)))
            .filter(|(_, values)| !values.is_empty())
            .map(|(way, values)| (way, values, ratio(values, plain)))
            .collect()
    }

    /// Everything, each round's values too.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = FIGURES
            .into_iter()
            .map(|figure| {
                let rows: Vec<Value> = self
                    .rows(figure)
                    .into_iter()
                    .map(|(way, values, ratio)| {
                        json!({
                            "way": way.name(),
                            "median": median(values),
                            "rounds": values,
                            "ratio": ratio.median,
                            "ratio_low": ratio.low,
                            "ratio_high": ratio.high,
                        })
                    })
                    .collect();
                json!({
                    "figure": figure.name,
                    "more_is_better": figure.more_is_better,
                    "ways": rows,
                })
            })
            .collect();
        json!({
            "kernel": self.machine.kernel,
            "processor": self.machine.processor,
            "processors": self.machine.processors,
            "rounds": self.rounds,
            "milliseconds": self.milliseconds,
            "absent": self.absent.iter().map(|(way, reason)| json!({ "way": way, "reason": reason })).collect::<Vec<_>>(),
            "figures": figures,
        })
    }

    /// Writes report.json and a plot for each figure.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let failed = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        fs::write(folder.join("report.json"), format!("{:#}\n", self.json()))
            .with_context(failed)?;
        fs::write(folder.join("ratios.svg"), plot::ratios(self)).with_context(failed)
    }

    /// One line about where and how.
    pub fn caption(&self) -> String {
        format!(
            "{} rounds of {} ms, kernel {}, {} x {}",
            self.rounds,
            self.milliseconds,
            self.machine.kernel,
            self.machine.processors,
            self.machine.processor
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.caption())?;
        for (way, reason) in &self.absent {
            writeln!(f, "absent: {way}: {reason}")?;
        }
        for figure in FIGURES {
            let better = if figure.more_is_better {
                "more"
            } else {
                "less"
            };
            writeln!(f, "\n{} ({better} is better)", figure.name)?;
            writeln!(
                f,
                "  {:22} {:>12} {:>25}  to plain routing (95 %)",
                "", "median", "middle half of rounds"
            )?;
            for (way, values, ratio) in self.rows(figure) {
                let half = format!(
                    "{:.0} to {:.0}",
                    quantile(values, 0.25),
                    quantile(values, 0.75)
                );
                writeln!(
                    f,
                    "  {:22} {:>12.0} {half:>25}  {:.2} ({:.2} to {:.2})",
                    way.name(),
                    median(values),
                    ratio.median,
                    ratio.low,
                    ratio.high
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_all_that_took_part() {
        let mut report = Report::new(2, 10, vec![("IPVS NAT", "this kernel has no IPVS".into())]);
        for round in [1.0, 2.0] {
            report.add(Way::Plain, FIGURES.map(|figure| (figure, 100.0 * round)));
            report.add(Way::Bpvs, FIGURES.map(|figure| (figure, 150.0 * round)));
        }
        let text = report.to_string();
        assert_eq!(text.matches("1.50 (1.50 to 1.50)").count(), FIGURES.len());
        assert!(text.contains("absent: IPVS NAT: this kernel has no IPVS"));
        let json = report.json();
        assert_eq!(json["figures"][0]["ways"][1]["ratio"], 1.5);
        assert_eq!(
            json["figures"][0]["ways"][1]["rounds"],
            json!([150.0, 300.0])
        );
        let svg = plot::ratios(&report);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("bpvs TC NAT").count(), FIGURES.len());
    }
}
