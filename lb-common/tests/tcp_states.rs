//! The state machine against a text copy of IPVS's tables: for every table, state and combination of TCP flags.

use lb_common::conn::state::{self, Direction, Event};

const TABLES: &str = include_str!("fixtures/tcp_states.txt");
const NAMES: [&str; 11] = [
    "NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA",
];

fn expected(table: &str, event: &str, column: usize) -> u8 {
    let row = TABLES
        .lines()
        .skip_while(|line| *line != table)
        .find(|line| line.starts_with(&format!("| {event} |")))
        .expect("row");
    let cell = row.split('|').nth(column + 2).expect("column").trim();
    NAMES
        .iter()
        .position(|name| *name == cell)
        .expect("state name") as u8
}

#[test]
fn every_flag_combination_in_every_state() {
    for (table, secured, direction) in [
        ("INPUT", false, Direction::Input),
        ("OUTPUT", false, Direction::Output),
        ("INPUT-ONLY", false, Direction::InputOnly),
        ("SECURE INPUT", true, Direction::Input),
        ("SECURE OUTPUT", true, Direction::Output),
        ("SECURE INPUT-ONLY", true, Direction::InputOnly),
    ] {
        for flags in 0..=255_u8 {
            // RST before SYN before FIN before ACK; a segment with none of them closes.
            let event = [(4, "rst"), (2, "syn"), (1, "fin"), (16, "ack")]
                .iter()
                .find(|(bit, _)| flags & bit != 0);
            for (from, name) in NAMES.iter().enumerate() {
                let want = event.map_or(state::CLOSE, |(_, event)| expected(table, event, from));
                let got = state::next(secured, direction, Event::of(flags), from as u8);
                assert_eq!(got, want, "{table}, flags {flags:#04x}, from {name}");
            }
        }
    }
}
