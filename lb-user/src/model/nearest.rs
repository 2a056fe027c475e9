//! The known word that a wrong one was probably meant to be.

/// The one of `known` that is the fewest edits away from `word`, if they are few for a word of this length.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let word = plain(word);
    known
        .iter()
        .map(|candidate| (edits(&word, &plain(candidate)), *candidate))
        .min()
        .filter(|(edits, candidate)| *edits <= candidate.chars().count().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed or replaced to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (place, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = [
            "address",
            "scheduler",
            "source-nat",
            "answer",
            "timeouts",
            "server",
        ];
        assert_eq!(nearest("adress", &known), Some("address"));
        assert_eq!(nearest("source_nat", &known), Some("source-nat"));
        assert_eq!(nearest("timeout", &known), Some("timeouts"));
        assert_eq!(nearest("Servers", &known), Some("server"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(
            nearest("drop-packets", &["drop_packet"]),
            Some("drop_packet")
        );
    }
}
