//! States of a connection and the events that change them: IPVS's tables (net/netfilter/ipvs/ip_vs_proto_tcp.c), where
//! the direction decides which table serves.

/// A state, by its number in IPVS; UDP's one state follows TCP's.
pub type State = u8;

/// Just made.
pub const NONE: State = 0;
/// Both sides have been seen.
pub const ESTABLISHED: State = 1;
/// The real server opens.
pub const SYN_SENT: State = 2;
/// The client opens.
pub const SYN_RECV: State = 3;
/// The real server has closed (masquerade), or the client has (direct routing, tunnel).
pub const FIN_WAIT: State = 4;
/// Both have closed.
pub const TIME_WAIT: State = 5;
/// Reset.
pub const CLOSE: State = 6;
/// The client has closed.
pub const CLOSE_WAIT: State = 7;
/// Kept for IPVS's numbering.
pub const LAST_ACK: State = 8;
/// Waiting for a data connection (FTP).
pub const LISTEN: State = 9;
/// A SYN has been answered by us (secure_tcp).
pub const SYNACK: State = 10;
/// UDP.
pub const UDP: State = 11;

/// IPVS's names, by number.
pub const NAMES: [&str; 12] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
];

/// Default timeouts in seconds, by state (ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
pub const TIMEOUTS: [u32; 12] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300];

/// Which packets of a connection are seen, and from whom this one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client, and replies are seen too (masquerade).
    Input,
    /// From the real server.
    Output,
    /// From the client; replies go past the director (direct routing, tunnel).
    InputOnly,
}

/// What a TCP segment says; of several flags the first in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Reset.
    Rst,
    /// Open.
    Syn,
    /// Close.
    Fin,
    /// Data or acknowledgement.
    Ack,
    /// None of these flags: not a segment that TCP sends.
    Nothing,
}

/// The TCP flag bits in their byte.
pub mod flags {
    /// The sender has no more data.
    pub const FIN: u8 = 1;
    /// Open.
    pub const SYN: u8 = 2;
    /// Abort.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

impl Event {
    /// The event of a segment with these flags (RST before SYN before FIN before ACK).
    #[inline(always)]
    pub const fn of(bits: u8) -> Self {
        if bits & flags::RST != 0 {
            Self::Rst
        } else if bits & flags::SYN != 0 {
            Self::Syn
        } else if bits & flags::FIN != 0 {
            Self::Fin
        } else if bits & flags::ACK != 0 {
            Self::Ack
        } else {
            Self::Nothing
        }
    }
}

/// The next state of each of the eleven TCP states, four bits each: one row of a table in one word.
const fn row(next: [State; 11]) -> u64 {
    let mut word = 0;
    let mut i = 0;
    while i < next.len() {
        word |= (next[i] as u64) << (4 * i);
        i += 1;
    }
    word
}

const NO: State = NONE;
const ES: State = ESTABLISHED;
const SS: State = SYN_SENT;
const SR: State = SYN_RECV;
const FW: State = FIN_WAIT;
const TW: State = TIME_WAIT;
const CL: State = CLOSE;
const CW: State = CLOSE_WAIT;
const LA: State = LAST_ACK;
const LI: State = LISTEN;

// Columns:                               NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
const INPUT_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
const INPUT_FIN: u64 = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]);
const INPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
const INPUT_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]);
const OUTPUT_SYN: u64 = row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]);
const OUTPUT_FIN: u64 = row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]);
const OUTPUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]);
const OUTPUT_RST: u64 = row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]);
const INPUT_ONLY_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
const INPUT_ONLY_FIN: u64 = row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]);
const INPUT_ONLY_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
const INPUT_ONLY_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);

const _: State = NO;

/// The state of a TCP connection after `event`.
#[inline(always)]
pub const fn next(direction: Direction, event: Event, state: State) -> State {
    let row = match (direction, event) {
        (_, Event::Nothing) => return CLOSE,
        (Direction::Input, Event::Syn) => INPUT_SYN,
        (Direction::Input, Event::Fin) => INPUT_FIN,
        (Direction::Input, Event::Ack) => INPUT_ACK,
        (Direction::Input, Event::Rst) => INPUT_RST,
        (Direction::Output, Event::Syn) => OUTPUT_SYN,
        (Direction::Output, Event::Fin) => OUTPUT_FIN,
        (Direction::Output, Event::Ack) => OUTPUT_ACK,
        (Direction::Output, Event::Rst) => OUTPUT_RST,
        (Direction::InputOnly, Event::Syn) => INPUT_ONLY_SYN,
        (Direction::InputOnly, Event::Fin) => INPUT_ONLY_FIN,
        (Direction::InputOnly, Event::Ack) => INPUT_ONLY_ACK,
        (Direction::InputOnly, Event::Rst) => INPUT_ONLY_RST,
    };
    (row >> ((state as u32 & 15) * 4) & 15) as State
}

/// Whether IPVS counts a connection in this state as active. UDP never is.
#[inline(always)]
pub const fn active(state: State) -> bool {
    matches!(state, ESTABLISHED | SYN_SENT | SYN_RECV | SYNACK)
}
