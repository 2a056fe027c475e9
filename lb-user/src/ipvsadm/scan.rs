//! How words become options: the rules of popt, the library that ipvsadm reads its command line with.
//!
//! * Long options: `--name`, `--name value`, `--name=value`. Names are not abbreviated.
//! * Short options: `-n`, `-w 5`, `-w5`, `-w=5`; those without a value can stand together, as in `-Lnc`.
//! * A value may begin with a dash (`-t -s` gives `-t` the value `-s`), but for an optional value it may not.
//! * Words that are no options, `-` among them, are kept for later, wherever they stand. After `--` all words are.

use super::options::{OPTIONS, Opt, Value};

/// One option as it was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Which.
    pub(super) option: Opt,
    /// Its value, for those that take one and got one.
    pub(super) value: Option<String>,
}

/// Why reading stopped; the text is popt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanError {
    Unknown,
    Unwanted,
    Missing,
}

impl ScanError {
    /// What popt says about it.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown option",
            Self::Unwanted => "option does not take an argument",
            Self::Missing => "missing argument",
        }
    }
}

/// The words behind the program's name, and how far they have been read.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    words: &'a [String],
    next: usize,
    /// What is left of a word with several short options.
    bundle: Option<&'a str>,
    only_words: bool,
    leftover: Vec<&'a str>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        Self {
            words,
            next: 0,
            bundle: None,
            only_words: false,
            leftover: Vec::new(),
        }
    }

    /// The next option, if there is one.
    pub(super) fn option(&mut self) -> Result<Option<Found>, ScanError> {
        loop {
            if let Some(bundle) = self.bundle.take() {
                return self.short(bundle).map(Some);
            }
            let Some(word) = self.words.get(self.next) else {
                return Ok(None);
            };
            self.next += 1;
            let Some(rest) = word.strip_prefix('-').filter(|_| !self.only_words) else {
                self.leftover.push(word);
                continue;
            };
            match rest {
                "" => self.leftover.push(word),
                "-" => self.only_words = true,
                _ => match rest.strip_prefix('-') {
                    Some(long) => return self.long(long).map(Some),
                    None => self.bundle = Some(rest),
                },
            }
        }
    }

    /// The word that was read last: what complaints are about.
    pub(super) fn last_word(&self) -> &'a str {
        match self.next {
            0 => "",
            next => self.words.get(next - 1).map_or("", String::as_str),
        }
    }

    /// The words that are no options.
    pub(super) fn into_words(self) -> std::vec::IntoIter<&'a str> {
        self.leftover.into_iter()
    }

    fn long(&mut self, text: &'a str) -> Result<Found, ScanError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let row = OPTIONS
            .iter()
            .find(|row| row.long == Some(name))
            .ok_or(ScanError::Unknown)?;
        self.value(row.option, row.value, value)
    }

    fn short(&mut self, bundle: &'a str) -> Result<Found, ScanError> {
        let mut letters = bundle.chars();
        let letter = letters.next();
        let rest = letters.as_str();
        let row = OPTIONS
            .iter()
            .find(|row| row.short.is_some() && row.short == letter)
            .ok_or(ScanError::Unknown)?;
        if matches!(row.value, Value::None) {
            if rest.starts_with('=') {
                return Err(ScanError::Unwanted);
            }
            self.bundle = Some(rest).filter(|rest| !rest.is_empty());
            return Ok(Found {
                option: row.option,
                value: None,
            });
        }
        let attached = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        self.value(row.option, row.value, attached)
    }

    /// The value: attached to the option, or the next word.
    fn value(
        &mut self,
        option: Opt,
        value: Value,
        attached: Option<&str>,
    ) -> Result<Found, ScanError> {
        let next = self.words.get(self.next);
        let value = match (value, attached, next) {
            (Value::None, None, _) => None,
            (Value::None, Some(_), _) => return Err(ScanError::Unwanted),
            (_, Some(attached), _) => Some(attached.to_owned()),
            (Value::Needed, None, None) => return Err(ScanError::Missing),
            (Value::Optional, None, None) => None,
            (Value::Optional, None, Some(next)) if next.starts_with('-') => None,
            (_, None, Some(next)) => {
                self.next += 1;
                Some(next.clone())
            }
        };
        Ok(Found { option, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a line, as text, and the words left over.
    fn scan(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut scanner = Scanner::new(&words);
        let mut found = Vec::new();
        loop {
            match scanner.option() {
                Ok(None) => break,
                Ok(Some(Found { option, value })) => match value {
                    Some(value) => found.push(format!("{option:?}({value})")),
                    None => found.push(format!("{option:?}")),
                },
                Err(error) => {
                    return format!(
                        "{} {}: {}",
                        found.join(" "),
                        scanner.last_word(),
                        error.text()
                    );
                }
            }
        }
        found.extend(scanner.into_words().map(str::to_owned));
        found.join(" ")
    }

    #[test]
    fn forms_of_options() {
        for (line, found) in [
            ("-Lnc", "List Numeric Connection"),
            (
                "-a -w5 -w=6 -w 7 -w==8",
                "AddServer Weight(5) Weight(6) Weight(7) Weight(=8)",
            ),
            (
                "--weight 5 --weight=6 --weight=",
                "Weight(5) Weight(6) Weight()",
            ),
            ("-t -s rr", "Tcp(-s) rr"),
            ("-p -s rr", "Persistent Scheduler(rr)"),
            ("-p 5 -p", "Persistent(5) Persistent"),
            ("-p5 -pq", "Persistent(5) Persistent(q)"),
            ("-p - -n", "Persistent Numeric -"),
            ("-n x - -- -n --", "Numeric x - -n --"),
            ("-t -- -n", "Tcp(--) Numeric"),
            ("-n -nq", "Numeric Numeric -nq: unknown option"),
            ("-n=", " -n=: option does not take an argument"),
            (
                "--numeric=",
                " --numeric=: option does not take an argument",
            ),
            ("--numer", " --numer: unknown option"),
            ("-=", " -=: unknown option"),
            ("--=", " --=: unknown option"),
            ("-n -w", "Numeric -w: missing argument"),
        ] {
            assert_eq!(scan(line), found, "{line}");
        }
    }
}
