//! What `-h` and `-v` print.

use std::fmt::Write as _;

use super::options::{OPTIONS, Opt, Part, Row};

/// What `-v` prints: the ipvsadm whose commands and output these are. Scripts look for the numbers in it.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// The ways to call it, each behind the program's name.
const USAGE: [&str; 13] = [
    "-A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [--pe persistence_engine] [-b sched-flags]",
    "-D virtual-service",
    "-C",
    "-R",
    "-S [-n]",
    "-a|e virtual-service -r server-address [options]",
    "-d virtual-service -r server-address",
    "-L|l [virtual-service] [options]",
    "-Z [virtual-service]",
    "--set tcp tcpfin udp",
    "--start-daemon {master|backup} [daemon-options]",
    "--stop-daemon {master|backup}",
    "-h",
];

/// The column in which the texts of options begin, behind the indentation.
const TEXTS: usize = 36;

/// What `-h` prints.
pub(super) fn help(program: &str) -> String {
    let mut text = format!("{VERSION}Usage:\n");
    for usage in USAGE {
        line(&mut text, &format!("  {program} {usage}"));
    }
    line(
        &mut text,
        "\nCommands:\nEither long or short options are allowed.",
    );
    part(&mut text, Part::Commands, 28);
    line(&mut text, "\nvirtual-service:");
    part(&mut text, Part::VirtualService, TEXTS);
    line(&mut text, "\nOptions:");
    part(&mut text, Part::Options, TEXTS);
    line(&mut text, "Daemon Options:");
    part(&mut text, Part::DaemonOptions, TEXTS);
    text
}

fn part(text: &mut String, part: Part, column: usize) {
    for row in OPTIONS.iter().filter(|row| row.part == part) {
        let mut lines = row.text.split('\n');
        let first = lines.next().filter(|first| !first.is_empty());
        if let Some(first) = first {
            line(text, &format!("  {:column$}{first}", names(row)));
        }
        for further in lines {
            line(text, &format!("  {:column$}{further}", ""));
        }
    }
}

/// The names of an option as its part of the help writes them.
fn names(row: &Row) -> String {
    let long = format!("--{}", row.long.unwrap_or_default());
    let short = row.short.map(|short| format!("-{short}"));
    let value = row.placeholder;
    match (row.part, short) {
        (Part::Commands, Some(short)) if row.option == Opt::List => {
            format!("{long:<18}{short}|-l")
        }
        (Part::Commands, Some(short)) => format!("{long:<18}{short}"),
        (Part::Commands | Part::DaemonOptions, None) if !value.is_empty() => {
            format!("{long} {value}")
        }
        (Part::VirtualService, Some(short)) => {
            format!("{:<17} {value}", format!("{long}|{short}"))
        }
        (Part::VirtualService, None) => format!("{long:<17} {value}"),
        (Part::Options, Some(short)) if row.option != Opt::Exact => {
            format!("{long:<15}{short} {value}")
        }
        (Part::Options, _) if !value.is_empty() => format!("{long:<16}{value}"),
        _ => long,
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
