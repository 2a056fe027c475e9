//! Every combination of TCP flags, in every state, from both sides, against a text copy of IPVS's tables.

use lb_common::{
    abi::SCOPE_SECURE_TCP,
    conn::state::{self, TIMEOUTS},
};

use crate::packets::{
    case::{Case, Change, Check, Flow},
    packet::{flag, tcp},
    world::{CLIENT, CLIENT_PORT, PORT, SERVER_PORT, SERVERS, World, answers, asks},
};

const TABLES: &str = include_str!("../../../../lb-common/tests/fixtures/tcp_states.txt");
const NAMES: [&str; 11] = [
    "NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA",
];

/// The state that the text gives for an event in a state.
fn expected(table: &str, flags: u8, from: usize) -> u8 {
    // RST before SYN before FIN before ACK; a segment with none of them closes.
    let events = [
        (flag::RST, "rst"),
        (flag::SYN, "syn"),
        (flag::FIN, "fin"),
        (flag::ACK, "ack"),
    ];
    let Some((_, event)) = events.iter().find(|(bit, _)| flags & bit != 0) else {
        return state::CLOSE;
    };
    TABLES
        .lines()
        .skip_while(|line| *line != table)
        .find(|line| line.starts_with(&format!("| {event} |")))
        .and_then(|row| row.split('|').nth(from + 2))
        .and_then(|cell| NAMES.iter().position(|name| *name == cell.trim()))
        .map_or(u8::MAX, |state| state as u8)
}

pub(super) fn cases() -> Vec<Case> {
    let tables = [
        ("INPUT", "the client", 0),
        ("OUTPUT", "the real server", 0),
        ("SECURE INPUT", "the client", SCOPE_SECURE_TCP),
        ("SECURE OUTPUT", "the real server", SCOPE_SECURE_TCP),
    ];
    tables
        .into_iter()
        .flat_map(|table| (0..NAMES.len()).map(move |from| every_flag(table, from)))
        .collect()
}

/// From a state of this table, by these packets, with this setting.
fn every_flag((table, who, setting): (&str, &str, u32), from: usize) -> Case {
    let flow = Flow::of(&asks(&CLIENT, tcp(CLIENT_PORT, PORT, 0)));
    let sentence = format!(
        "In {}{}, each of the 256 flag combinations from {who} leads where IPVS goes",
        state::NAMES[from],
        if setting == 0 { "" } else { " with secure_tcp" }
    );
    let mut case = Case::new(sentence, World::single())
        .opened(CLIENT_PORT, &SERVERS[0])
        .change(Change::Settings(setting));
    for flags in 0..=255 {
        let to = expected(table, flags, from);
        let active = u32::from(matches!(
            to,
            state::ESTABLISHED | state::SYN_SENT | state::SYN_RECV | state::SYNACK
        ));
        case = case.change(Change::State(flow, from as u8));
        case = if table.ends_with("INPUT") {
            case.asks(&asks(&CLIENT, tcp(CLIENT_PORT, PORT, flags)), &SERVERS[0])
        } else {
            case.answers(&answers(
                &SERVERS[0],
                CLIENT.ip,
                tcp(SERVER_PORT, CLIENT_PORT, flags),
            ))
        };
        // Data of an established connection is written down once a second only.
        let quiet = from == usize::from(state::ESTABLISHED) && to == state::ESTABLISHED;
        if !quiet {
            case = case.check(Check::State(flow, to, TIMEOUTS[usize::from(to)]));
        }
        case = case.check(Check::Counts(0, active, 1 - active));
    }
    case
}
