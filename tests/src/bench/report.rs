//! What was measured, as a table, as JSON, and as plots.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::opponents::{Absent, Group, Way};
use super::plot;
use super::statistics::{Ratio, median, quantile, ratio};
use super::workloads::{FIGURES, Figure};

/// All rounds.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    milliseconds: u64,
    absent: Vec<Absent>,
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
    pub fn new(rounds: u32, milliseconds: u64) -> Self {
        Self {
            machine: Machine::here(),
            rounds,
            milliseconds,
            absent: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// Adds those that cannot be had here.
    pub fn add_absent(&mut self, absent: Vec<Absent>) {
        self.absent.extend(absent);
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

    /// The opponents in a network that took part, for a figure: values, and ratio to no balancer.
    pub fn rows(&self, figure: Figure, group: Group) -> Vec<(Way, &[f64], Ratio)> {
        let plain = self.of(figure, group.base());
        Way::ALL
            .into_iter()
            .filter(|way| way.group() == group)
            .map(|way| (way, self.of(figure, way)))
            .filter(|(_, values)| !values.is_empty())
            .map(|(way, values)| (way, values, ratio(values, plain)))
            .collect()
    }

    /// Everything, each round's values too.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = Group::ALL
            .into_iter()
            .flat_map(|group| FIGURES.map(|figure| (group, figure)))
            .map(|(group, figure)| {
                let rows: Vec<Value> = self
                    .rows(figure, group)
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
                    "network": group.name(),
                    "figure": figure.name,
                    "more_is_better": figure.more_is_better,
                    "goal": figure.goal_of(group),
                    "compared_with": group.base().name(),
                    "ways": rows,
                })
            })
            .filter(|figure| {
                figure["ways"]
                    .as_array()
                    .is_some_and(|ways| !ways.is_empty())
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

    /// Writes report.json and a plot of each network, twice.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write(folder, "report.json", format!("{:#}\n", self.json()))?;
        for (group, name) in [
            (Group::Bridge, "ratios"),
            (Group::Cable, "xdp"),
            (Group::Local, "local"),
        ] {
            if let Some(canvas) = plot::ratios(self, group) {
                write(folder, &format!("{name}.svg"), canvas.svg())?;
                write(folder, &format!("{name}.png"), canvas.png()?)?;
            }
        }
        Ok(())
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, figure: Figure, group: Group) -> fmt::Result {
        let better = if figure.more_is_better {
            "more"
        } else {
            "less"
        };
        let goal = figure
            .goal_of(group)
            .map_or(String::new(), |goal| format!("; goal {goal:.2}"));
        writeln!(f, "\n{} ({better} is better{goal})", figure.name)?;
        writeln!(
            f,
            "  {:22} {:>12} {:>25}  to {} (95 %)",
            "",
            "median",
            "middle half of rounds",
            group.base().name()
        )?;
        for (way, values, ratio) in self.rows(figure, group) {
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
        Ok(())
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

/// Writes a file into a folder, which is made if need be.
///
/// # Errors
///
/// Where it cannot be written.
pub fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join(name), content))
        .with_context(|| format!("cannot write to {}", folder.display()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.caption())?;
        for (way, reason) in &self.absent {
            writeln!(f, "absent: {way}: {reason}")?;
        }
        for group in Group::ALL {
            if FIGURES
                .iter()
                .all(|figure| self.rows(*figure, group).is_empty())
            {
                continue;
            }
            writeln!(f, "\n== {} ==", group.name())?;
            for figure in FIGURES {
                self.table(f, figure, group)?;
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
        let mut report = Report::new(2, 10);
        report.add_absent(vec![("IPVS NAT", "this kernel has no IPVS".into())]);
        for round in [1.0, 2.0] {
            for (way, value) in [
                (Way::Plain, 100.0),
                (Way::Bpvs, 150.0),
                (Way::Local, 200.0),
                (Way::LocalBpvs, 210.0),
            ] {
                report.add(way, FIGURES.map(|figure| (figure, value * round)));
            }
        }
        let text = report.to_string();
        assert_eq!(text.matches("1.50 (1.50 to 1.50)").count(), FIGURES.len());
        assert_eq!(text.matches("1.05 (1.05 to 1.05)").count(), FIGURES.len());
        assert!(text.contains("absent: IPVS NAT: this kernel has no IPVS"));
        assert!(!text.contains(Group::Cable.name()), "nobody took part");
        let json = report.json();
        let figures = json["figures"].as_array().unwrap();
        assert_eq!(figures.len(), 2 * FIGURES.len());
        assert_eq!(figures[0]["ways"][1]["ratio"], 1.5);
        assert_eq!(figures[0]["ways"][1]["rounds"], json!([150.0, 300.0]));
        assert_eq!(figures[FIGURES.len()]["goal"], 0.99);
        let svg = plot::ratios(&report, Group::Bridge).unwrap().svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("bpvs TC NAT").count(), FIGURES.len());
        assert_eq!(svg.matches(">goal 1.20<").count(), 2);
        assert!(plot::ratios(&report, Group::Cable).is_none());
    }
}
