//! States of a connection and the events that change them: IPVS's tables (net/netfilter/ipvs/ip_vs_proto_tcp.c), where
//! the direction decides which table serves.

use crate::abi::{EXPIRATION, LBLC_EXPIRATION, LBLCR_EXPIRATION, Tick};

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
/// The real server has answered the client's SYN (`secure_tcp`).
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

/// A scope's timeouts in ticks, unless they are set.
#[must_use]
pub const fn usual_timeouts() -> [u32; 16] {
    let mut timeouts = [0; 16];
    let mut state = 0;
    while state < TIMEOUTS.len() {
        timeouts[state] = Tick::from_secs(TIMEOUTS[state]).0;
        state += 1;
    }
    timeouts[LBLC_EXPIRATION] = Tick::from_secs(EXPIRATION).0;
    timeouts[LBLCR_EXPIRATION] = Tick::from_secs(EXPIRATION).0;
    timeouts
}

/// Which packets of a connection are seen, and from whom this one is.
#[repr(u8)]
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
#[repr(u8)]
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
        EVENTS[(bits & 31) as usize]
    }
}

/// The event of each combination of the flags FIN, SYN, RST, PSH and ACK. A table and no branches: each branch would
/// double the paths that the verifier follows.
static EVENTS: [Event; 32] = {
    let mut events = [Event::Nothing; 32];
    let mut bits = 0;
    while bits < events.len() {
        let combination = bits as u8;
        events[bits] = if combination & flags::RST != 0 {
            Event::Rst
        } else if combination & flags::SYN != 0 {
            Event::Syn
        } else if combination & flags::FIN != 0 {
            Event::Fin
        } else if combination & flags::ACK != 0 {
            Event::Ack
        } else {
            Event::Nothing
        };
        bits += 1;
    }
    events
};

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

const ES: State = ESTABLISHED;
const SS: State = SYN_SENT;
const SR: State = SYN_RECV;
const FW: State = FIN_WAIT;
const TW: State = TIME_WAIT;
const CL: State = CLOSE;
const CW: State = CLOSE_WAIT;
const LA: State = LAST_ACK;
const LI: State = LISTEN;
const SA: State = SYNACK;

/// Rows by direction (eight to each) and event, in the order of the enums; columns are the current states. After them, at
/// [`SECURE`], once more those of `secure_tcp`. As many rows
/// as a byte has values: a mask would be optimised away by a compiler that knows better than the verifier.
static ROWS: [u64; 256] = {
    //                         NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    let close = row([CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL]);
    let mut rows = [close; 256];
    rows[index(Direction::Input, Event::Rst)] = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]);
    rows[index(Direction::Input, Event::Syn)] = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
    rows[index(Direction::Input, Event::Fin)] = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]);
    rows[index(Direction::Input, Event::Ack)] = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
    rows[index(Direction::Output, Event::Rst)] = row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]);
    rows[index(Direction::Output, Event::Syn)] = row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]);
    rows[index(Direction::Output, Event::Fin)] = row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]);
    rows[index(Direction::Output, Event::Ack)] = row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]);
    rows[index(Direction::InputOnly, Event::Rst)] =
        row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);
    rows[index(Direction::InputOnly, Event::Syn)] =
        row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
    rows[index(Direction::InputOnly, Event::Fin)] =
        row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]);
    rows[index(Direction::InputOnly, Event::Ack)] =
        row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
    // Only what the real server says establishes a connection: a flood's own acknowledgements do not.
    let mut usual = 0;
    while usual < SECURE as usize {
        rows[SECURE as usize + usual] = rows[usual];
        usual += 1;
    }
    rows[secure(Direction::Input, Event::Rst)] = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);
    rows[secure(Direction::Input, Event::Syn)] = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA]);
    rows[secure(Direction::Input, Event::Fin)] = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA]);
    rows[secure(Direction::Input, Event::Ack)] = row([ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA]);
    rows[secure(Direction::Output, Event::Syn)] = row([SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA]);
    rows[secure(Direction::InputOnly, Event::Syn)] =
        row([SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA]);
    rows
};

/// Added to what was seen: the rows of `secure_tcp`.
pub const SECURE: u8 = 32;

const fn secure(direction: Direction, event: Event) -> usize {
    SECURE as usize + index(direction, event)
}

const fn index(direction: Direction, event: Event) -> usize {
    direction as usize * 8 + event as usize
}

/// The state of a TCP connection after `event`; `secured` by `secure_tcp` or not.
#[inline(always)]
pub const fn next(secured: bool, direction: Direction, event: Event, state: State) -> State {
    after(
        index(direction, event) as u8 + secured as u8 * SECURE,
        state,
    )
}

/// As [`next`], with the event in the lower three bits, the direction above them, and maybe [`SECURE`].
#[inline(always)]
pub const fn after(seen: u8, state: State) -> State {
    (ROWS[seen as usize] >> ((state as u32 & 15) * 4) & 15) as State
}

/// Whether IPVS counts a connection in this state as active. UDP never is.
#[inline(always)]
pub const fn active(state: State) -> bool {
    const ACTIVE: u32 = 1 << ESTABLISHED | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK;
    ACTIVE >> (state & 31) & 1 != 0
}

/// Whether a TCP connection in this state has yet to be established.
#[inline(always)]
pub const fn opening(state: State) -> bool {
    const OPENING: u32 = 1 << NONE | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK;
    OPENING >> (state & 31) & 1 != 0
}
