//! An error on its way out: it knows the bytes that it is about, not yet the file and the line.

use std::ops::Range;

use super::ConfigError;
use crate::control::NotYet;
use crate::model::{ModelError, TableError};

/// What is wrong with some bytes of the text.
#[derive(Debug)]
pub(super) struct Problem {
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn model(span: Range<usize>, error: &ModelError) -> Self {
        Self {
            span,
            message: error.to_string(),
            hint: error.hint(),
        }
    }

    pub(super) fn not_yet(span: Range<usize>, error: &NotYet) -> Self {
        Self {
            span,
            message: error.to_string(),
            hint: Some(error.hint()),
        }
    }

    /// Only for what makes sense in a file: the hints of [`TableError`] speak of commands.
    pub(super) fn table(span: Range<usize>, error: &TableError) -> Self {
        let hint = match error {
            TableError::Model(_) | TableError::TooManyMarkShapes { .. } => error.hint(),
            _ => None,
        };
        Self {
            span,
            message: error.to_string(),
            hint,
        }
    }

    pub(super) fn placed(self, file: &str, text: &str) -> ConfigError {
        let (line, column) = place(text, self.span.start);
        ConfigError::Wrong {
            file: file.into(),
            line,
            column,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// Line and column, from 1, of a byte of the text.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
