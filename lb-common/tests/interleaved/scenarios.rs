//! The races.

use std::time::Duration;

use lb_common::{
    abi::{SWEEP_ASSURED, SWEEP_HALF_OPEN, SweepItem, V4},
    conn::state,
    host::{Bytes, Memory},
    verdict::Reason,
};

use crate::{
    explore::{Outcomes, Scenario, Task},
    packets::{
        ACK, CLIENT_PORT, RST, SMALL, SYN, TCP, UDP, USUAL, from_client, from_server, key,
        reply_key, run, tables, word,
    },
};

const A: u16 = CLIENT_PORT;
const B: u16 = CLIENT_PORT + 1;
const C: u16 = CLIENT_PORT + 2;

fn packet(packet: Bytes) -> Vec<Task> {
    vec![Task::Packet(packet)]
}

/// Every race.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "two packets of the client on one expired connection",
            memory: expired,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, A, SYN)),
            ],
            check: one_new_connection,
        },
        Scenario {
            name: "two datagrams on one expired connection",
            memory: expired_udp,
            tasks: vec![
                packet(from_client(UDP, A, 0)),
                packet(from_client(UDP, A, 0)),
            ],
            check: one_udp_connection,
        },
        Scenario {
            name: "an expired connection found from both sides",
            memory: expired,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: client_served,
        },
        Scenario {
            name: "an expired connection found from both sides, by data",
            memory: expired,
            tasks: vec![
                packet(from_client(TCP, A, ACK)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: nothing_left,
        },
        Scenario {
            name: "an expired connection found by two answers",
            memory: expired,
            tasks: vec![
                packet(from_server(0, TCP, A, ACK)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: nothing_left,
        },
        Scenario {
            name: "the sweep and a packet of the client on an expired connection",
            memory: expired,
            tasks: vec![vec![sweep_forward()], packet(from_client(TCP, A, SYN))],
            check: client_served,
        },
        Scenario {
            name: "the sweep of the reply entry and a packet of the client on an expired connection",
            memory: expired,
            tasks: vec![vec![sweep_reply()], packet(from_client(TCP, A, SYN))],
            check: client_served,
        },
        Scenario {
            name: "two sweeps of an expired connection",
            memory: expired,
            tasks: vec![vec![sweep_forward()], vec![sweep_reply()]],
            check: nothing_left,
        },
        Scenario {
            name: "a forced sweep and packets of both sides on a live connection",
            memory: established,
            tasks: vec![
                vec![Task::Sweep(SweepItem::forced(key(TCP, A), 0))],
                packet(from_client(TCP, A, ACK)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: anything,
        },
        Scenario {
            name: "the sweep looks at a slot whose connection is being closed",
            memory: deferred,
            tasks: vec![vec![look(SWEEP_ASSURED)], packet(from_client(TCP, A, RST))],
            check: still_there,
        },
        Scenario {
            name: "the sweep looks at a slot whose connection is being answered",
            memory: half_open,
            tasks: vec![
                vec![look(SWEEP_HALF_OPEN)],
                packet(from_server(0, TCP, A, SYN | ACK)),
            ],
            check: still_there,
        },
        Scenario {
            name: "a connection gets a slot of its own while it is being closed",
            memory: answered,
            tasks: vec![
                packet(from_client(TCP, A, ACK)),
                packet(from_server(0, TCP, A, RST)),
            ],
            check: all_followed,
        },
        Scenario {
            name: "the client's and the real server's packets on a live connection",
            memory: established,
            tasks: vec![
                packet(from_client(TCP, A, RST)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: all_followed,
        },
        Scenario {
            name: "the ring comes round to a connection that is being answered",
            memory: half_open_full,
            tasks: vec![
                packet(from_client(TCP, C, SYN)),
                packet(from_server(0, TCP, A, SYN | ACK)),
            ],
            check: first_followed,
        },
        Scenario {
            name: "the ring comes round to a connection whose client sends again",
            memory: half_open_full,
            tasks: vec![
                packet(from_client(TCP, C, SYN)),
                packet(from_client(TCP, A, SYN)),
            ],
            check: first_followed,
        },
        Scenario {
            name: "two new connections when the ring is full",
            memory: half_open_full,
            tasks: vec![
                packet(from_client(TCP, C, SYN)),
                packet(from_client(TCP, C + 1, SYN)),
            ],
            check: all_followed,
        },
        Scenario {
            name: "two connections are answered at once and one slot is left",
            memory: half_open_full,
            tasks: vec![
                packet(from_server(0, TCP, A, SYN | ACK)),
                packet(from_server(0, TCP, B, SYN | ACK)),
            ],
            check: all_followed,
        },
        Scenario {
            name: "two SYNs of one connection",
            memory: empty,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, A, SYN)),
            ],
            check: one_connection,
        },
        Scenario {
            name: "two SYNs of one connection, and a third connection",
            memory: empty,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                vec![
                    Task::Packet(from_client(TCP, A, SYN)),
                    Task::Packet(from_client(TCP, B, SYN)),
                ],
            ],
            check: two_connections,
        },
        Scenario {
            name: "two new connections take two turns",
            memory: empty,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, B, SYN)),
            ],
            check: two_turns,
        },
        Scenario {
            name: "a connection is made while its real server already sends",
            memory: empty_single,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_server(0, TCP, A, SYN | ACK)),
            ],
            check: client_served,
        },
        Scenario {
            name: "a port is used again while the old connection's answers come",
            memory: time_wait,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_server(0, TCP, A, ACK)),
            ],
            check: client_served,
        },
        Scenario {
            name: "a port is used again on two processors",
            memory: time_wait,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, A, SYN)),
            ],
            check: one_new_connection,
        },
        Scenario {
            name: "an entry is recycled for another connection under a reader",
            memory: expired,
            tasks: vec![
                packet(from_client(TCP, A, ACK)),
                vec![
                    Task::Packet(from_client(TCP, A, ACK)),
                    Task::Packet(from_client(TCP, B, SYN)),
                ],
            ],
            check: b_alone,
        },
        Scenario {
            name: "a connection is reset, expires and is made again under a reader",
            memory: time_wait,
            tasks: vec![
                packet(from_server(0, TCP, A, ACK)),
                vec![
                    Task::Packet(from_client(TCP, A, SYN)),
                    Task::Packet(from_client(TCP, B, SYN)),
                ],
            ],
            check: anything,
        },
        Scenario {
            name: "a connection is taken apart and made again under an answer",
            memory: expired,
            tasks: vec![
                packet(from_server(0, TCP, A, ACK)),
                vec![
                    Task::Packet(from_client(TCP, A, SYN)),
                    Task::Packet(from_client(TCP, A, SYN)),
                ],
            ],
            check: client_served,
        },
        Scenario {
            name: "two SYNs on a connection whose real server was removed",
            memory: removed,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, A, SYN)),
            ],
            check: one_new_connection,
        },
        Scenario {
            name: "a half-open connection expires under its answer",
            memory: half_open,
            tasks: vec![
                packet(from_server(0, TCP, A, SYN | ACK)),
                vec![
                    Task::Wait(Duration::from_secs(61)),
                    Task::Packet(from_client(TCP, A, SYN)),
                ],
            ],
            check: client_served,
        },
        Scenario {
            name: "the table is full while two connections are made",
            memory: nearly_full,
            tasks: vec![
                packet(from_client(TCP, A, SYN)),
                packet(from_client(TCP, B, SYN)),
            ],
            check: anything,
        },
    ]
}

fn sweep_forward() -> Task {
    Task::Sweep(SweepItem::expired(key(TCP, A)))
}

fn sweep_reply() -> Task {
    Task::Sweep(SweepItem::expired(reply_key(0, TCP, A)))
}

/// Of the first slot.
fn look(what: u32) -> Task {
    Task::Sweep(SweepItem::numbered(what, 0))
}

fn still_there(memory: &Memory<V4>, _outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 2)
}

fn empty() -> Memory<V4> {
    tables(3, USUAL)
}

fn empty_single() -> Memory<V4> {
    tables(1, USUAL)
}

fn established() -> Memory<V4> {
    let memory = tables(1, USUAL);
    run(
        &memory,
        &[
            from_client(TCP, A, SYN),
            from_server(0, TCP, A, SYN | ACK),
            from_client(TCP, A, ACK),
        ],
    );
    // A write is due for the next packet of each side.
    memory.advance(Duration::from_secs(5));
    memory
}

fn removed() -> Memory<V4> {
    let mut memory = tables(2, USUAL);
    run(
        &memory,
        &[
            from_client(TCP, A, SYN),
            from_server(1, TCP, A, SYN | ACK),
            from_client(TCP, A, ACK),
        ],
    );
    // The newest has the second index.
    memory.remove_server(2);
    memory
}

/// Established, and its deadline deferred since its slot was taken; by that slot's word it is time to look.
fn deferred() -> Memory<V4> {
    let memory = established();
    memory.advance(Duration::from_secs(600));
    run(&memory, &[from_client(TCP, A, ACK)]);
    memory.advance(Duration::from_secs(600));
    memory
}

fn answered() -> Memory<V4> {
    let memory = tables(1, USUAL);
    run(
        &memory,
        &[from_client(TCP, A, SYN), from_server(0, TCP, A, SYN | ACK)],
    );
    memory
}

fn half_open() -> Memory<V4> {
    let memory = tables(1, USUAL);
    run(&memory, &[from_client(TCP, A, SYN)]);
    memory
}

fn expired() -> Memory<V4> {
    let memory = established();
    memory.advance(Duration::from_secs(1000));
    memory
}

fn expired_udp() -> Memory<V4> {
    let memory = tables(1, USUAL);
    run(
        &memory,
        &[from_client(UDP, A, 0), from_server(0, UDP, A, 0)],
    );
    memory.advance(Duration::from_secs(1000));
    memory
}

fn time_wait() -> Memory<V4> {
    let memory = established();
    run(
        &memory,
        &[
            from_client(TCP, A, 1 | ACK),
            from_server(0, TCP, A, 1 | ACK),
        ],
    );
    assert_eq!(
        word(&memory, TCP, A).map(|word| word.state()),
        Some(state::TIME_WAIT)
    );
    memory
}

fn half_open_full() -> Memory<V4> {
    let memory = tables(1, SMALL);
    run(
        &memory,
        &[from_client(TCP, A, SYN), from_client(TCP, B, SYN)],
    );
    memory
}

fn nearly_full() -> Memory<V4> {
    tables(
        1,
        lb_common::host::Capacity {
            entries: 3,
            ..USUAL
        },
    )
}

fn anything(_memory: &Memory<V4>, _outcomes: &[Outcomes]) -> Result<(), String> {
    Ok(())
}

fn entries(memory: &Memory<V4>, wanted: usize) -> Result<(), String> {
    let found = memory.entries().len();
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found} entries, not {wanted}"))
    }
}

fn reasons(outcomes: &[Outcomes]) -> Vec<Reason> {
    outcomes
        .iter()
        .flatten()
        .map(|verdict| verdict.reason)
        .collect()
}

/// Everyone's packets were sent on.
fn all_followed(_memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    let reasons = reasons(outcomes);
    if reasons
        .iter()
        .all(|reason| matches!(reason, Reason::Forwarded | Reason::Replied))
    {
        Ok(())
    } else {
        Err(format!("{reasons:?}"))
    }
}

fn first_followed(_memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    all_followed(_memory, &outcomes[..1])
}

/// There is one connection, and somebody's packet was sent on by it.
fn one_new_connection(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 2)?;
    let reasons = reasons(outcomes);
    if !reasons
        .iter()
        .all(|reason| matches!(reason, Reason::Forwarded | Reason::Busy))
        || !reasons.contains(&Reason::Forwarded)
    {
        return Err(format!("{reasons:?}"));
    }
    Ok(())
}

fn one_udp_connection(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    one_new_connection(memory, outcomes)
}

/// No packet is lost when nothing had to be taken apart first.
fn one_connection(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 2)?;
    all_followed(memory, outcomes)
}

fn two_connections(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 4)?;
    all_followed(memory, outcomes)
}

/// The two newest real servers have one each.
fn two_turns(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    all_followed(memory, outcomes)?;
    entries(memory, 4)?;
    let made: Vec<u64> = (1..=3)
        .map(|server| memory.server_stats(server).conns)
        .collect();
    if made == [0, 1, 1] {
        Ok(())
    } else {
        Err(format!("connections by real server {made:?}"))
    }
}

/// The client has a connection, unless its packet met another processor and has to be sent again.
fn client_served(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    if reasons(outcomes).contains(&Reason::Busy) {
        Ok(())
    } else {
        entries(memory, 2)
    }
}

fn nothing_left(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 0)?;
    let reasons = reasons(outcomes);
    if reasons
        .iter()
        .any(|reason| matches!(reason, Reason::Forwarded | Reason::Replied))
    {
        return Err(format!("{reasons:?}"));
    }
    Ok(())
}

/// Nothing of connection A was sent on, and B is whole.
fn b_alone(memory: &Memory<V4>, outcomes: &[Outcomes]) -> Result<(), String> {
    entries(memory, 2)?;
    let reasons = reasons(&outcomes[..1]);
    if reasons.contains(&Reason::Forwarded) {
        return Err(format!(
            "a packet of nobody's connection was sent on: {reasons:?}"
        ));
    }
    Ok(())
}
