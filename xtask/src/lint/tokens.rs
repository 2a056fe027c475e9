//! Rust source as words, marks, texts and comments: as much of the grammar as the rules need.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier, a keyword, a number or a lifetime.
    Word,
    /// One character of punctuation.
    Mark,
    /// The inside of a string or character literal.
    Text,
    /// A comment, its slashes included.
    Comment,
}

/// A piece of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Counted from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub(super) fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }
}

/// The tokens of a file that compiles; of one that does not, something.
pub(super) fn read(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (kind, length, inside) = next(rest, first);
        let (taken, after) = rest.split_at(length);
        if let Some(kind) = kind {
            tokens.push(Token {
                kind,
                text: &taken[inside.0..length - inside.1],
                line,
            });
        }
        line += taken.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The kind of the next token, its length, and how much of it is delimiter in front and behind.
fn next(rest: &str, first: char) -> (Option<Kind>, usize, (usize, usize)) {
    const BARE: (usize, usize) = (0, 0);
    if rest.starts_with("//") {
        return (
            Some(Kind::Comment),
            rest.find('\n').unwrap_or(rest.len()),
            BARE,
        );
    }
    if rest.starts_with("/*") {
        return (Some(Kind::Comment), block_comment(rest), BARE);
    }
    if let Some((length, front, back)) = string(rest) {
        return (Some(Kind::Text), length, (front, back));
    }
    if first == '\'' {
        return match character(rest) {
            Some(length) => (Some(Kind::Text), length, (1, 1)),
            // A lifetime.
            None => (Some(Kind::Word), 1 + word(&rest[1..]), BARE),
        };
    }
    if first.is_whitespace() {
        return (None, first.len_utf8(), BARE);
    }
    if is_word(first) {
        return (Some(Kind::Word), word(rest), BARE);
    }
    (Some(Kind::Mark), first.len_utf8(), BARE)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a string literal at the front, and of its delimiters.
fn string(rest: &str) -> Option<(usize, usize, usize)> {
    let prefix = rest
        .find(|c| !matches!(c, 'b' | 'c' | 'r'))
        .filter(|&length| length <= 2)?;
    let raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..]
        .bytes()
        .take_while(|&byte| byte == b'#')
        .count();
    if (hashes > 0 && !raw) || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let front = prefix + hashes + 1;
    let inside = &rest[front..];
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(match inside.find(&end) {
            Some(at) => (front + at + end.len(), front, end.len()),
            None => (rest.len(), front, 0),
        });
    }
    match unescaped(inside, '"') {
        Some(at) => Some((front + at + 1, front, 1)),
        None => Some((rest.len(), front, 0)),
    }
}

/// Length of a character literal at the front, where the quote is not a lifetime's.
fn character(rest: &str) -> Option<usize> {
    let inside = &rest[1..];
    let first = inside.chars().next()?;
    if first == '\\' {
        return unescaped(inside, '\'').map(|at| at + 2);
    }
    inside[first.len_utf8()..]
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

/// Where `end` stands without a backslash before it.
fn unescaped(text: &str, end: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = !escaped && c == end;
        escaped = !escaped && c == '\\';
        found.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        read(source)
            .into_iter()
            .map(|token| (token.kind, token.text))
            .collect()
    }

    #[test]
    fn words_and_marks() {
        let tokens = kinds("use aya::Ebpf;");
        let texts: Vec<_> = tokens.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, ["use", "aya", ":", ":", "Ebpf", ";"]);
    }

    #[test]
    fn what_is_quoted_or_commented_is_no_word() {
        let source =
            "// aya\n/* a /* nested */ aya */ \"aya \\\" aya\" r#\"aya \" \"# b\"aya\" 'a'";
        assert!(
            kinds(source)
                .iter()
                .all(|(kind, _)| matches!(kind, Kind::Comment | Kind::Text))
        );
        assert_eq!(kinds(r##"r#"a "b" c"#"##), [(Kind::Text, r#"a "b" c"#)]);
    }

    #[test]
    fn lifetimes_are_no_characters() {
        let tokens = kinds("&'a str '\\'' 'x' 'static");
        assert_eq!(tokens[1], (Kind::Word, "'a"));
        assert_eq!(tokens[3], (Kind::Text, "\\'"));
        assert_eq!(tokens[4], (Kind::Text, "x"));
        assert_eq!(tokens[5], (Kind::Word, "'static"));
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let tokens = read("a\n/* \n */ b \"\n\" c");
        let lines: Vec<_> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 2, 3, 3, 4]);
    }
}
