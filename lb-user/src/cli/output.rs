//! Where data goes: stdout, or a buffer in tests.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::CliError;

/// The output of a command.
pub(super) struct Output {
    sink: Box<dyn Write>,
    terminal: bool,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self {
            sink: Box::new(io::stdout()),
            terminal: io::stdout().is_terminal(),
        }
    }

    #[cfg(test)]
    pub(super) fn to(sink: impl Write + 'static) -> Self {
        Self {
            sink: Box::new(sink),
            terminal: false,
        }
    }

    /// Whether a person is looking.
    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.sink.write_all(text.as_bytes())?;
        Ok(self.sink.flush()?)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.sink.write_all(bytes)?;
        Ok(self.sink.flush()?)
    }

    /// A value for programs, readable for people too.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.text(&format!("{text}\n"))
    }

    /// A value in one line, for a stream of them.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.text(&format!("{text}\n"))
    }
}
