//! Whether both sides did the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::exceptions;
use super::names::abbreviated;
use super::observe::Seen;
use super::side::{Outcome, Said};
use super::step::{Show, Step};

/// By how many seconds the remaining times of a connection may differ: the sides act one after the
/// other, each shows whole seconds, and bpvs moves deadlines once a second.
const SECONDS: i64 = 3;

/// What became of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Both did the same.
    Same,
    /// They differ as is known of them; by which exception.
    Excepted(&'static str),
    /// They differ.
    Differ(String),
    /// One of them cannot do it yet.
    Missing(String),
}

/// Compares what came of a step; loosely, where real servers are drawn by lot.
pub fn compare(step: &Step, names: [&str; 2], outcomes: [&Outcome; 2], loosely: bool) -> Judgement {
    let differ = match outcomes {
        [Outcome::Missing(what), _] | [_, Outcome::Missing(what)] => {
            return Judgement::Missing(what.clone());
        }
        [a, b] if a == b => return Judgement::Same,
        [Outcome::Said(a), Outcome::Said(b)] => match step {
            Step::Show(Show::Connections) if loosely => None,
            Step::Show(_) if loosely => figures(&a.output, &b.output, share),
            Step::Show(Show::Connections) => connections(&a.output, &b.output),
            Step::Show(Show::Rate) => figures(&a.output, &b.output, rate),
            Step::Show(_) if a.exact && b.exact => said(a, b),
            Step::Show(_) => shown(&a.output, &b.output),
            _ => said(a, b),
        },
        [Outcome::Frames(a), Outcome::Frames(b)] if loosely && a.len() == b.len() => None,
        [Outcome::Frames(a), Outcome::Frames(b)] => {
            if let (true, Some(name)) = (names[0] != names[1], exceptions::frames(step, a, b)) {
                return Judgement::Excepted(name);
            }
            Some([frames(a), frames(b)])
        }
        [a, b] => Some([a, b].map(|outcome| match outcome {
            Outcome::NotSent => "(no request to answer)\n".into(),
            Outcome::Frames(seen) => frames(seen),
            other => format!("{other:?}\n"),
        })),
    };
    match differ {
        None => Judgement::Same,
        Some(texts) => {
            let mut text = String::new();
            for (name, said) in names.iter().zip(texts) {
                for line in abbreviated(&said).lines() {
                    // Writing to a string does not fail.
                    let _ = writeln!(text, "      {name}: {line}");
                }
            }
            Judgement::Differ(text)
        }
    }
}

fn frames(seen: &[Seen]) -> String {
    if seen.is_empty() {
        return "(nothing came out)\n".into();
    }
    seen.iter().map(|seen| format!("{seen}\n")).collect()
}

/// Commands: what they said and how they ended; where one is not ipvsadm, only whether it succeeded.
fn said(a: &Said, b: &Said) -> Option<[String; 2]> {
    let text = |said: &Said| format!("[{}] {}\n{}\n", said.status, said.error, said.output);
    let same = if a.exact && b.exact {
        (a.status, &a.error) == (b.status, &b.error)
            && without_size(&a.output) == without_size(&b.output)
    } else {
        (a.status == 0) == (b.status == 0)
    };
    (!same).then(|| [text(a), text(b)])
}

/// Without the size of the table of connections, which is everybody's own.
fn without_size(text: &str) -> String {
    match text.split_once("(size=") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}(size={after}")
        }
        None => text.to_owned(),
    }
}

/// Lists where one is not ipvsadm's: the same lines, in any order, but for what each says of a
/// service behind its scheduler.
fn shown(a: &str, b: &str) -> Option<[String; 2]> {
    let short = |line: String| match line.contains("->") {
        true => line,
        false => line.split(' ').take(3).collect::<Vec<_>>().join(" "),
    };
    let [a, b] = [a, b].map(|text| -> Vec<String> { lines(text).into_iter().map(short).collect() });
    let only = |these: &[String], those: &[String]| -> String {
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.map(|line| format!("{line}\n")).collect()
    };
    (a != b).then(|| [only(&a, &b), only(&b, &a)])
}

/// The lines but for the banner, sorted; each real server's with its service's name.
fn lines(text: &str) -> Vec<String> {
    let mut lines = lines_in_order(text);
    lines.sort();
    lines
}

fn lines_in_order(text: &str) -> Vec<String> {
    let mut service = String::new();
    text.lines()
        .filter(|line| !line.starts_with("IP Virtual Server"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let line = words.join(" ");
            if let Some(server) = line.strip_prefix("->") {
                return format!("{service} ->{server}");
            }
            service = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
            line
        })
        .collect()
}

/// A connection's row without its remaining time.
type Row = [String; 5];

fn rows(text: &str) -> BTreeMap<Row, i64> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [protocol, expires, state, client, service, server, ..] = words[..] else {
                return None;
            };
            let (minutes, seconds) = expires.split_once(':')?;
            let expires = minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?;
            let row = [protocol, client, service, server, state].map(str::to_owned);
            Some((row, expires))
        })
        .collect()
}

/// Connections: the same ones in the same states, and about the same time left.
fn connections(a: &str, b: &str) -> Option<[String; 2]> {
    let sides = [rows(a), rows(b)];
    let text = |(row, expires): (&Row, &i64)| format!("{} {expires} s\n", row.join(" "));
    let mut texts = [String::new(), String::new()];
    for (this, that) in [(0, 1), (1, 0)] {
        for (row, expires) in &sides[this] {
            let same = match sides[that].get(row) {
                Some(other) => (expires - other).abs() <= SECONDS,
                // About to end on one side, it may have ended on the other.
                None => *expires <= SECONDS && !sides[that].keys().any(|o| o[..3] == row[..3]),
            };
            if !same {
                texts[this].push_str(&text((row, expires)));
            }
        }
    }
    (texts != [String::new(), String::new()]).then_some(texts)
}

/// Rates depend on when the estimator looks.
fn rate(a: f64, b: f64) -> bool {
    (a - b).abs() <= 3.0 + 0.4 * a.max(b)
}

/// Shares that were drawn by lot: within five standard deviations of each other.
fn share(a: f64, b: f64) -> bool {
    (a - b).abs() <= 5.0 * (a + b).sqrt()
}

/// The same lines, and figures that are near each other.
fn figures(a: &str, b: &str, near: fn(f64, f64) -> bool) -> Option<[String; 2]> {
    let words = |text: &str| -> Vec<Vec<String>> {
        lines_in_order(text)
            .iter()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };
    let agree = |a: &String, b: &String| match (a.parse(), b.parse()) {
        (Ok(a), Ok(b)) => near(a, b),
        _ => a == b,
    };
    let (these, those) = (words(a), words(b));
    let same = these.len() == those.len()
        && these
            .iter()
            .zip(&those)
            .all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)));
    (!same).then(|| [a.to_owned(), b.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 10.0.0.2:1000      10.9.0.1:80        10.1.0.11:80
";

    #[test]
    fn remaining_times_may_differ_by_a_little_and_states_not_at_all() {
        assert_eq!(connections(ROWS, &ROWS.replace("14:58", "15:00")), None);
        assert!(connections(ROWS, &ROWS.replace("14:58", "14:50")).is_some());
        assert!(connections(ROWS, &ROWS.replace("ESTABLISHED", "SYN_RECV")).is_some());
        assert!(connections(ROWS, "").is_some());
        let ending = ROWS.replace("14:58", "00:02");
        assert_eq!(connections(&ending, ""), None);
        let other = ending.replace("ESTABLISHED", "CLOSE");
        assert!(connections(&ending, &other).is_some());
    }

    #[test]
    fn real_servers_are_compared_below_their_service() {
        let two = "TCP  1.1.1.1:80 rr\n  -> 2.2.2.2:80  Masq 1 0 0\nTCP  1.1.1.2:80 rr\n";
        let moved = "TCP  1.1.1.1:80 rr\nTCP  1.1.1.2:80 rr\n  -> 2.2.2.2:80  Masq 1 0 0\n";
        assert_eq!(shown(two, two), None);
        assert!(shown(two, moved).is_some());
    }

    #[test]
    fn shares_drawn_by_lot_may_differ_by_chance_only() {
        let text = |one: u32, two: u32| {
            format!(
                "TCP  1.1.1.1:80 twos\n  -> 2.2.2.2:80  Masq 1 {one} 0\n  -> 2.2.2.3:80  Masq 1 {two} 0\n"
            )
        };
        assert_eq!(figures(&text(300, 100), &text(290, 110), share), None);
        assert!(figures(&text(300, 100), &text(100, 300), share).is_some());
        assert!(figures(&text(300, 100), &text(200, 200), share).is_some());
    }
}
