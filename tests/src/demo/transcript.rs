//! How the demo looks: headings, commands with their prompt, answers, remarks.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// Writes to standard output, with colour where that is wanted. Nobody reading any more is no
/// failure.
#[derive(Debug)]
pub(crate) struct Transcript {
    colour: bool,
}

impl Transcript {
    /// Without colour when `plain`, when `NO_COLOR` is set, or when nobody sits at a terminal.
    pub(crate) fn new(plain: bool) -> Self {
        let wanted = !plain && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colour: wanted && std::io::stdout().is_terminal(),
        }
    }

    fn line(&self, style: &str, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = if self.colour && !style.is_empty() {
            writeln!(out, "\x1b[{style}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
        let _ = out.flush();
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line("", "");
        self.line("1", &format!("== {text}"));
    }

    /// What a person would type on `host`.
    pub(crate) fn prompt(&self, host: impl Display, command: impl Display) {
        self.line("36", &format!("  {host}$ {command}"));
    }

    /// What came back, each line indented.
    pub(crate) fn answer(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line("", &format!("  {line}"));
        }
    }

    /// At most `most` lines of what came back, and how many more there are.
    pub(crate) fn beginning(&self, text: &str, most: usize) {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        self.answer(&lines[..most.min(lines.len())].join("\n"));
        if lines.len() > most {
            self.remark(&format!("… and {} lines more", lines.len() - most));
        }
    }

    /// A remark on what is seen.
    pub(crate) fn remark(&self, text: &str) {
        for line in text.lines() {
            self.line("2", &format!("  {line}"));
        }
    }

    /// A result that is worth looking at: green when it is as it should be, else red.
    pub(crate) fn result(&self, good: bool, text: &str) {
        self.line(if good { "32" } else { "1;31" }, &format!("  {text}"));
    }
}
