//! All sequences of segments from both sides, up to a length: what state a connection is in after
//! each.

use anyhow::Result;

use super::Script;
use crate::differential::step::{Step, parse};

/// What either side may send, as letters of flags.
const SEGMENTS: [&str; 8] = ["> S", "> A", "> FA", "> R", "< SA", "< A", "< FA", "< R"];

/// How many segments follow the first one.
const LENGTH: usize = 3;

/// A script takes so many sequences: the shortest timeout must not be over before it has looked.
const SEQUENCES: usize = 256;

/// For masquerade, where both sides are seen; and, client's segments only, for direct routing.
pub(super) fn all() -> Result<Vec<Script>> {
    let mut scripts = masquerade()?;
    scripts.push(routed()?);
    scripts.push(sloppy()?);
    scripts.push(secured("states/secured", "-m", &SEGMENTS)?);
    scripts.push(secured(
        "states/secured-direct-routing",
        "-g",
        &SEGMENTS[..4],
    )?);
    Ok(scripts)
}

/// The tables of `secure_tcp`: IPVS changes over to them within a second.
fn secured(name: &str, method: &str, segments: &[&str]) -> Result<Script> {
    let mut sequences = vec![Vec::new()];
    for _ in 0..2 {
        sequences = extended(&sequences, segments);
    }
    Ok(Script {
        name: name.into(),
        steps: script(method, "> S", &sequences, "setting secure_tcp 3\nwait 3\n")?,
    })
}

fn masquerade() -> Result<Vec<Script>> {
    let mut sequences = vec![Vec::new()];
    for _ in 0..LENGTH {
        sequences = extended(&sequences, &SEGMENTS);
    }
    sequences
        .chunks(SEQUENCES)
        .zip(1..)
        .map(|(chunk, number)| {
            let steps = script("-m", "> S", chunk, "")?;
            let name = format!("states/masquerade-{number}");
            Ok(Script { name, steps })
        })
        .collect()
}

fn routed() -> Result<Script> {
    let requests = &SEGMENTS[..4];
    let mut sequences = vec![Vec::new()];
    for _ in 0..LENGTH {
        sequences = extended(&sequences, requests);
    }
    Ok(Script {
        name: "states/direct-routing".into(),
        steps: script("-g", "> S", &sequences, "")?,
    })
}

/// Connections that begin with something else than a SYN.
fn sloppy() -> Result<Script> {
    let mut sequences = vec![Vec::new()];
    for _ in 0..2 {
        sequences = extended(&sequences, &SEGMENTS);
    }
    Ok(Script {
        name: "states/sloppy".into(),
        steps: script("-m", "> A", &sequences, "setting sloppy_tcp 1\n")?,
    })
}

fn extended<'a>(sequences: &[Vec<&'a str>], by: &[&'a str]) -> Vec<Vec<&'a str>> {
    let longer = |sequence: &Vec<&'a str>, segment: &'a str| {
        let mut sequence = sequence.clone();
        sequence.push(segment);
        sequence
    };
    sequences
        .iter()
        .flat_map(|sequence| by.iter().map(move |segment| longer(sequence, segment)))
        .collect()
}

/// Each sequence is a client's; all send their first segment, then all their second one.
fn script(method: &str, first: &str, sequences: &[Vec<&str>], settings: &str) -> Result<Vec<Step>> {
    let mut text =
        format!("{settings}ipvsadm -A -t v1:80 -s rr\nipvsadm -a -t v1:80 -r s1 {method}\n");
    let length = sequences.first().map_or(0, Vec::len);
    for place in 0..=length {
        for (sequence, client) in sequences.iter().zip(1..) {
            let segment = match place {
                0 => first,
                _ => sequence[place - 1],
            };
            let (arrow, flags) = segment.split_at(1);
            text.push_str(&format!("c{client}:1000 {arrow} v1:80 tcp {flags}\n"));
        }
        text.push_str("show connections\nshow services\n");
    }
    parse(&text)
}
