//! Figures beside their goals.

use std::fmt;

use serde_json::{Value, json};

/// One figure.
#[derive(Debug)]
pub struct Row {
    /// What it is.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is not to exceed.
    pub goal: Option<f64>,
}

impl Row {
    fn is_reached(&self) -> Option<bool> {
        self.goal.map(|goal| self.value <= goal)
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds a figure, and says it at once.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Option<f64>,
    ) {
        let row = Row {
            what: what.into(),
            value,
            unit,
            goal,
        };
        eprintln!("{row}");
        self.rows.push(row);
    }

    /// As JSON, for programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "what": row.what,
                "value": row.value,
                "unit": row.unit,
                "goal": row.goal,
                "reached": row.is_reached(),
            })
        });
        json!({
            "kernel": kernel(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = format!("{} {}", digits(self.value), self.unit);
        write!(f, "{:<66} {value:>16}", self.what)?;
        match (self.goal, self.is_reached()) {
            (Some(goal), Some(reached)) => {
                let said = if reached { "" } else { "  MISSED" };
                write!(f, "   goal {}{said}", digits(goal))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}", kernel())?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_is_missed_is_said() {
        let mut report = Report::default();
        report.add("as fast as it should be", 1.998, "s", Some(2.0));
        report.add("too slow", 2.5, "s", Some(2.0));
        report.add("whatever it is", 1234.5, "µs", None);
        let text = report.to_string();
        let lines: Vec<&str> = text.lines().skip(1).map(str::trim_end).collect();
        assert!(lines[0].ends_with("2.00 s   goal 2.00"), "{text}");
        assert!(lines[1].ends_with("2.50 s   goal 2.00  MISSED"), "{text}");
        assert!(lines[2].ends_with("1234 µs"), "{text}");
        assert_eq!(report.json()["rows"][1]["reached"], false);
        assert_eq!(report.json()["rows"][2]["reached"], Value::Null);
    }
}
