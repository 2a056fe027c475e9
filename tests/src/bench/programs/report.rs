//! What programs cost, as a table and as JSON.

use std::fmt;
use std::fs;

use serde_json::{Value, json};

use crate::bench::kernel::Hook;
use crate::bench::statistics::{Interval, interval, quantile};

/// All rounds.
#[derive(Debug)]
pub struct Report {
    kernel: String,
    rounds: u32,
    unit: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    hook: Option<Hook>,
    name: &'static str,
    goal: Option<f64>,
    values: Vec<f64>,
}

/// What a hook is called.
pub(super) const fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "XDP",
        Hook::Tc => "TC ingress",
    }
}

impl Row {
    fn group(&self) -> &'static str {
        self.hook.map_or("socket hook", hook_name)
    }

    fn interval(&self) -> Interval {
        interval(&self.values)
    }

    /// Where it is beside its goal.
    fn judged(&self) -> String {
        match self.goal {
            Some(goal) if self.interval().median <= goal => format!("{goal:.0}, reached"),
            Some(goal) => format!("{goal:.0}, missed"),
            None => String::new(),
        }
    }
}

impl Report {
    pub(super) fn new(rounds: u32, counted: bool) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            rounds,
            unit: if counted { "instructions" } else { "ns" },
            rows: Vec::new(),
        }
    }

    /// Whether it is of instructions.
    pub(super) fn counted(&self) -> bool {
        self.unit == "instructions"
    }

    pub(super) fn add(&mut self, hook: Hook, name: &'static str, goal: Option<f64>, value: f64) {
        self.put(Some(hook), name, goal, value);
    }

    pub(super) fn add_socket(&mut self, name: &'static str, value: f64) {
        self.put(None, name, None, value);
    }

    fn put(&mut self, hook: Option<Hook>, name: &'static str, goal: Option<f64>, value: f64) {
        let mut rows = self.rows.iter_mut();
        match rows.find(|row| row.hook == hook && row.name == name) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                hook,
                name,
                goal,
                values: vec![value],
            }),
        }
    }

    fn by_hook(&self) -> impl Iterator<Item = &Row> {
        [Some(Hook::Xdp), Some(Hook::Tc), None]
            .into_iter()
            .flat_map(|hook| self.rows.iter().filter(move |row| row.hook == hook))
    }

    /// Everything, each round's values too.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .by_hook()
            .map(|row| {
                let Interval { median, low, high } = row.interval();
                json!({
                    "hook": row.group(),
                    "packet": row.name,
                    "median": median,
                    "low": low,
                    "high": high,
                    "goal": row.goal,
                    "rounds": row.values,
                })
            })
            .collect();
        json!({
            "unit": format!("{} over an empty program", self.unit),
            "kernel": self.kernel,
            "rounds": self.rounds,
            "rows": rows,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "programs by themselves: {} rounds, kernel {}",
            self.rounds, self.kernel
        )?;
        let mut group = "";
        for row in self.by_hook() {
            if row.group() != group {
                group = row.group();
                let over = if row.hook.is_some() {
                    "over an empty program"
                } else {
                    "by the kernel's count"
                };
                let over = format!("{} {over}", self.unit);
                writeln!(
                    f,
                    "\n{:34} {over:>34}  {:>17}  {:>17}  goal",
                    group, "median's 95 %", "middle half"
                )?;
            }
            let Interval { median, low, high } = row.interval();
            let bounds = format!("{low:.1} to {high:.1}");
            let half = format!(
                "{:.1} to {:.1}",
                quantile(&row.values, 0.25),
                quantile(&row.values, 0.75)
            );
            let line = format!(
                "  {:32} {median:>34.1}  {bounds:>17}  {half:>17}  {}",
                row.name,
                row.judged()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_goal_is_reached() {
        let mut report = Report::new(3, false);
        for value in [50.0, 55.0, 90.0] {
            report.add(Hook::Xdp, "TCP data", Some(60.0), value);
            report.add(Hook::Xdp, "more of them", Some(54.0), value);
            report.add(Hook::Tc, "TCP data", None, value);
            report.add_socket("connect", value);
        }
        let text = report.to_string();
        let row = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
        assert!(row("TCP data").ends_with("60, reached"), "{text}");
        assert!(row("more of them").ends_with("54, missed"), "{text}");
        let json = report.json();
        assert_eq!(json["rows"][2]["hook"], "TC ingress");
        assert_eq!(json["rows"][2]["goal"], Value::Null);
        assert_eq!(json["rows"][3]["rounds"], json!([50.0, 55.0, 90.0]));
    }
}
