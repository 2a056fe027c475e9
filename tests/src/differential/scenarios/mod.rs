//! The scripts that are written by hand: files of scripts, each under its name in brackets; and
//! those that a few lines of code write.

mod states;

use anyhow::{Context, Result};

use super::run::Script;
use super::step::parse;

/// The files, by the area that their scripts' names begin with.
const FILES: &[(&str, &str)] = &[
    ("basics", include_str!("basics.txt")),
    ("schedulers", include_str!("schedulers.txt")),
    ("weights", include_str!("weights.txt")),
    ("persistence", include_str!("persistence.txt")),
    ("methods", include_str!("methods.txt")),
    ("icmp", include_str!("icmp.txt")),
    ("lifetime", include_str!("lifetime.txt")),
    ("settings", include_str!("settings.txt")),
    ("counters", include_str!("counters.txt")),
];

/// All scripts.
///
/// # Errors
///
/// Where one cannot be read: a mistake in its file.
pub fn all() -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    for (area, text) in FILES {
        for (name, text) in pieces(text) {
            let name = format!("{area}/{name}");
            let steps = parse(text).with_context(|| name.clone())?;
            scripts.push(Script { name, steps });
        }
    }
    scripts.extend(states::all()?);
    Ok(scripts)
}

/// The scripts of a file and their names.
fn pieces(text: &str) -> Vec<(&str, &str)> {
    let text = text.split_once("\n[").map_or("", |(_, text)| text);
    text.split("\n[")
        .filter_map(|piece| piece.split_once("]\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_read_and_have_names_of_their_own() -> Result<()> {
        let scripts = all()?;
        let mut names: Vec<_> = scripts.iter().map(|script| &script.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), scripts.len());
        assert!(scripts.iter().all(|script| !script.steps.is_empty()));
        Ok(())
    }

    #[test]
    fn no_script_of_a_file_is_lost() {
        for (area, text) in FILES {
            let headings = text.lines().filter(|line| line.starts_with('[')).count();
            assert_eq!(pieces(text).len(), headings, "{area}");
            assert!(headings > 0, "{area}");
        }
    }
}
