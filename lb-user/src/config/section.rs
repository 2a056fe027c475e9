//! One table of the file, read key by key, each value with the place where it stands.

use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use crate::model::{ModelError, nearest};

/// A value and its bytes in the text.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table of the file, as `[[service]]`.
pub(super) struct Section<'t> {
    /// How errors call it.
    pub(super) name: &'static str,
    /// Its header.
    pub(super) span: Range<usize>,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// A table that has only these keys.
    pub(super) fn new(
        name: &'static str,
        span: Range<usize>,
        table: &'t DeTable<'t>,
        known: &[&str],
    ) -> Result<Self, Problem> {
        let unknown = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let word = key.get_ref().as_ref();
            let problem = Problem::new(key.span(), format!("unknown key `{word}` in {name}"));
            return Err(match nearest(word, known) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem.hint(format!("have: {}", known.join(", "))),
            });
        }
        Ok(Self { name, span, table })
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, right: &str) -> Problem {
        let kind = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        Problem::new(
            value.span(),
            format!("`{key}` in {} cannot be {kind}", self.name),
        )
        .hint(format!("write {right}"))
    }

    /// A string, as in `example`.
    pub(super) fn text(
        &self,
        key: &str,
        example: &str,
    ) -> Result<Option<Placed<&'t str>>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(Placed {
                value: text.as_ref(),
                span: value.span(),
            })),
            _ => Err(self.wrong_type(key, value, &format!("{key} = \"{example}\""))),
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &str, example: &str) -> Result<Placed<&'t str>, Problem> {
        self.text(key, example)?.ok_or_else(|| {
            Problem::new(self.span.clone(), format!("{} without `{key}`", self.name))
                .hint(format!("write {key} = \"{example}\""))
        })
    }

    /// A string that the model reads.
    pub(super) fn parsed<T: FromStr<Err = ModelError>>(
        &self,
        key: &str,
        example: &str,
    ) -> Result<Option<T>, Problem> {
        self.parsed_by(key, example, str::parse)
    }

    /// A string that `read` reads.
    pub(super) fn parsed_by<T>(
        &self,
        key: &str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, Problem> {
        self.text(key, example)?
            .map(|text| read(text.value).map_err(|error| Problem::model(text.span, &error)))
            .transpose()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(Some(*flag)),
            _ => Err(self.wrong_type(key, value, &format!("{key} = true or {key} = false"))),
        }
    }

    /// `true`, `false` or a string.
    pub(super) fn flag_or_text(
        &self,
        key: &str,
        example: &str,
    ) -> Result<Option<FlagOrText<'t>>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(Some(FlagOrText::Flag(*flag))),
            DeValue::String(text) => Ok(Some(FlagOrText::Text(Placed {
                value: text.as_ref(),
                span: value.span(),
            }))),
            _ => Err(self.wrong_type(
                key,
                value,
                &format!("{key} = true or {key} = \"{example}\""),
            )),
        }
    }

    /// An integer from 0 to `most`, written as an integer; `wrong` makes the error of one that is not.
    pub(super) fn number(
        &self,
        key: &str,
        most: u64,
        wrong: impl FnOnce(u64) -> ModelError,
    ) -> Result<Option<u64>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong_type(key, value, &format!("{key} = 1")));
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (0..=i128::from(most)).contains(&number) => Ok(Some(number as u64)),
            Ok(number) if number > 0 => Err(Problem::model(
                value.span(),
                &wrong(u64::try_from(number).unwrap_or(u64::MAX)),
            )),
            _ => {
                let problem = Problem::new(
                    value.span(),
                    format!("{key} {} is out of range", integer.as_str()),
                );
                Err(match wrong(0).hint() {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
        }
    }

    /// A string or an integer, as text that the model reads: `256`, `"0x100/0xff00"`.
    pub(super) fn word<T>(
        &self,
        key: &str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => {
                match i128::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => integer.as_str().to_owned(),
                }
            }
            _ => return Err(self.wrong_type(key, value, &format!("{key} = {example}"))),
        };
        read(&text)
            .map(Some)
            .map_err(|error| Problem::model(value.span(), &error))
    }

    /// A string, or several in an array.
    pub(super) fn words<T>(
        &self,
        key: &str,
        example: &str,
        read: impl FnOnce(Words) -> Result<T, ModelError>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let example = format!("{key} = {example}");
        let words = match value.get_ref() {
            DeValue::String(text) => Words::One(text.to_string()),
            DeValue::Array(array) => Words::Several(
                array
                    .iter()
                    .map(|item| match item.get_ref() {
                        DeValue::String(text) => Ok(text.to_string()),
                        _ => Err(self.wrong_type(key, item, &example)),
                    })
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(self.wrong_type(key, value, &example)),
        };
        read(words)
            .map(Some)
            .map_err(|error| Problem::model(value.span(), &error))
    }

    /// A table inside this one, as `timeouts = { … }`.
    pub(super) fn table(
        &self,
        key: &str,
        name: &'static str,
        known: &[&str],
        example: &str,
    ) -> Result<Option<Section<'t>>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Table(table) => Section::new(name, value.span(), table, known).map(Some),
            _ => Err(self.wrong_type(key, value, example)),
        }
    }

    /// The tables of an array of tables, as `[[service]]`, in the order of the file.
    pub(super) fn tables(
        &self,
        key: &str,
        name: &'static str,
        known: &[&str],
    ) -> Result<Vec<Section<'t>>, Problem> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(array) = value.get_ref() else {
            let problem = self.wrong_type(key, value, name);
            return Err(match value.get_ref() {
                // `[[service.server]]` with no `[[service]]` before it, or `[service]`.
                DeValue::Table(table)
                    if key == "service"
                        && table.contains_key("server")
                        && !table.contains_key("address") =>
                {
                    server_without_service(value.span(), name)
                }
                _ => problem,
            });
        };
        array
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(table) => Section::new(name, item.span(), table, known),
                _ => Err(self.wrong_type(key, item, name)),
            })
            .collect()
    }
}

/// What [`Section::words`] found.
pub(super) enum Words {
    /// A string.
    One(String),
    /// An array of strings.
    Several(Vec<String>),
}

/// The value of a key that takes two types.
pub(super) enum FlagOrText<'t> {
    Flag(bool),
    Text(Placed<&'t str>),
}

/// `service` is the name of the section that is missing.
pub(super) fn server_without_service(span: Range<usize>, service: &str) -> Problem {
    Problem::new(span, "a server without a service")
        .hint(format!("begin its service with {service} above it"))
}
