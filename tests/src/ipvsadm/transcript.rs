//! Recordings of command lines and of what came of them, as text.
//!
//! ```text
//! # A remark.
//! $ ipvsadm -A -t 10.0.0.1:80 -q       a command; '…' holds blanks together
//! < -L -n                              a line of its input
//! > IP Virtual Server …                a line of its output
//! ! -q: unknown option                 a line of its complaints
//! = 255                                its exit status, unless that is 0
//! ```
//!
//! The commands of a file act on one table, which is empty in the beginning.

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Its output.
    pub out: Vec<u8>,
    /// Its complaints.
    pub err: Vec<u8>,
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
}

/// Runs all commands of a transcript; the same transcript with what came of them now.
///
/// # Errors
/// Those of `run`, which is given a command's words and its input.
pub fn play<E>(
    transcript: &str,
    mut run: impl FnMut(&[String], &[u8]) -> Result<Outcome, E>,
) -> Result<String, E> {
    let mut played = String::new();
    let mut lines = transcript.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(['>', '!', '=']) {
            continue;
        }
        played.push_str(line);
        played.push('\n');
        if let Some(command) = line.strip_prefix("$ ") {
            let mut input = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('<')) {
                played.push_str(line);
                played.push('\n');
                input.push_str(line.strip_prefix("< ").unwrap_or_default());
                input.push('\n');
            }
            let outcome = run(&words(command), input.as_bytes())?;
            quote(&mut played, '>', &outcome.out);
            quote(&mut played, '!', &outcome.err);
            match outcome.status {
                Some(0) => {}
                Some(status) => played.push_str(&format!("= {status}\n")),
                None => played.push_str("= ended by a signal\n"),
            }
        }
    }
    Ok(played)
}

/// The words of a command.
#[must_use]
pub fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    for (place, part) in command.split('\'').enumerate() {
        if place % 2 == 1 {
            word.get_or_insert_default().push_str(part);
            continue;
        }
        for (place, part) in part.split(' ').enumerate() {
            if place > 0 {
                words.extend(word.take());
            }
            if !part.is_empty() {
                word.get_or_insert_default().push_str(part);
            }
        }
    }
    words.extend(word);
    words
}

/// Text behind a mark, line by line; a last line without its end has a backslash behind the mark.
fn quote(transcript: &mut String, mark: char, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some("") => transcript.push_str(&format!("{mark}\n")),
            Some(line) => transcript.push_str(&format!("{mark} {line}\n")),
            None => transcript.push_str(&format!("{mark}\\ {line}\n")),
        }
    }
}

/// The first place at which two texts differ, for people.
#[must_use]
pub fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut command = "";
    let mut others = found.lines();
    for (number, line) in expected.lines().enumerate() {
        if line.starts_with("$ ") {
            command = line;
        }
        let other = others.next();
        if other != Some(line) {
            return Some(format!(
                "line {}, after\n  {command}\nexpected\n  {line:?}\nfound\n  {other:?}",
                number + 1
            ));
        }
    }
    Some(format!("one is longer: {:?}", others.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_blanks_in_them() {
        assert_eq!(words("a  'b c' '' d'e 'f "), ["a", "b c", "", "de f"]);
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn what_came_of_commands_is_written_anew() {
        let before = "# remark\n$ one 'two three'\n< in\n<\n> old\n= 7\n\n$ two\n";
        let played = play::<()>(before, |words, input| {
            let mut out = format!("{words:?}\n\n").into_bytes();
            out.extend_from_slice(input);
            Ok(Outcome {
                out,
                err: b"cut".to_vec(),
                status: Some(i32::from(words.len() == 1)),
            })
        });
        assert_eq!(
            played.unwrap(),
            "# remark\n$ one 'two three'\n< in\n<\n> [\"one\", \"two three\"]\n>\n> in\n>\n!\\ cut\n\n\
             $ two\n> [\"two\"]\n>\n!\\ cut\n= 1\n"
        );
    }
}
