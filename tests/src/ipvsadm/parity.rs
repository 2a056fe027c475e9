//! The same commands for both programs, and every byte of what they say compared.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use lb_user::ipvsadm::memory::MemoryIpvs;
use lb_user::ipvsadm::names::Names;

use super::real::{Real, names};
use super::tables::{Table, table};
use super::transcript::{Outcome, difference, words};
use super::{memory, traffic};

/// The ways to list a table, or one service.
const COLUMNS: [&str; 11] = [
    "",
    "--stats",
    "--stats --exact",
    "--rate",
    "--rate -X",
    "--thresholds",
    "--persistent-conn",
    "--tun-info",
    "--stats --rate --thresholds",
    "--thresholds --tun-info --persistent-conn",
    "--sort --syncid 3",
];

/// What is listed apart from services.
const OTHERS: [&str; 8] = [
    "-S",
    "-S -n",
    "-L --timeout",
    "-L --daemon",
    "-L -c",
    "-Lnc",
    "-lnc --persistent-conn",
    "--save --numeric",
];

/// Compares so many tables, the first of this seed; then counters and connections. Whether nothing differed.
///
/// # Errors
/// There is no IPVS here.
pub fn run(program: &Path, tables: u64, seed: u64) -> Result<bool> {
    let real = Real::enter(program)?;
    let names = names();
    let (mut differing, mut compared) = (0_u32, Compared::default());
    for number in 0..tables {
        let seed = seed.wrapping_add(number);
        real.reset()?;
        let table = table(seed);
        if let Some(difference) = compare(&real, &names, &table, &mut compared)? {
            differing += 1;
            println!("failed: table {seed}\n{difference}");
            println!("made by\n{}", table.lines.join("\n"));
            if differing == 5 {
                println!("and so on");
                break;
            }
        }
    }
    println!(
        "{tables} tables: {} lines carried out, {} refused, {} listings of {} bytes, {differing} tables differ",
        compared.lines, compared.refused, compared.listings, compared.bytes
    );
    real.reset()?;
    let traffic = traffic::run(&real, &names)?;
    Ok(differing == 0 && traffic)
}

/// How much was compared: a comparison of nothing must be seen.
#[derive(Debug, Default)]
struct Compared {
    lines: usize,
    refused: usize,
    listings: usize,
    bytes: usize,
}

/// What differs in one table.
fn compare(
    real: &Real,
    names: &dyn Names,
    table: &Table,
    compared: &mut Compared,
) -> Result<Option<String>> {
    let mut ipvs = MemoryIpvs::default();
    let mut both = |words: &[String], input: &str| -> Result<(Outcome, Outcome)> {
        let expected = real.run(words, input.as_bytes())?;
        let found = memory::run(&mut ipvs, names, words, input.as_bytes());
        Ok((expected, found))
    };
    let restore = words("ipvsadm -R");
    let (expected, found) = both(&restore, &(table.lines.join("\n") + "\n"))?;
    compared.lines += table.lines.len();
    compared.refused += expected.err.iter().filter(|byte| **byte == b'\n').count();
    if let Some(difference) = differs("", &expected, &found) {
        return Ok(Some(difference));
    }
    // The table as its own lines, and one process for all listings.
    let mut listings: Vec<String> = OTHERS.map(str::to_owned).into();
    for columns in COLUMNS {
        listings.push(format!("-L {columns}"));
        listings.push(format!("-L -n {columns}"));
    }
    for service in &table.services {
        let columns = COLUMNS[listings.len() % COLUMNS.len()];
        listings.push(format!("-L {service} -n {columns}"));
        listings.push(format!("-L {service} --nosort {columns}"));
    }
    let (expected, found) = both(&restore, &(listings.join("\n") + "\n"))?;
    compared.listings += listings.len();
    compared.bytes += expected.out.len();
    if differs("", &expected, &found).is_none() {
        return Ok(None);
    }
    // Which one was it?
    for listing in listings {
        let (expected, found) = both(&words(&format!("ipvsadm {listing}")), "")?;
        if let Some(difference) = differs(&listing, &expected, &found) {
            return Ok(Some(difference));
        }
    }
    Ok(differs("all listings", &expected, &found))
}

/// Where two outcomes differ.
pub(super) fn differs(listing: &str, expected: &Outcome, found: &Outcome) -> Option<String> {
    let text = |outcome: &Outcome| {
        let mut text = format!("$ {listing}\n");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{}{}{:?}",
            String::from_utf8_lossy(&outcome.out),
            String::from_utf8_lossy(&outcome.err),
            outcome.status
        );
        text
    };
    difference(&text(expected), &text(found))
}

/// Runs a listing with the real program.
pub(super) fn listed(real: &Real, listing: &str) -> Result<String> {
    let outcome = real.run(&words(&format!("ipvsadm {listing}")), b"")?;
    String::from_utf8(outcome.out).context("not text")
}
