//! Checksums: wrong ones stay wrong by the same amount, missing ones stay missing, unfinished ones unfinished.

use lb_common::{host::Bytes, verdict::Reason};

use crate::packets::{
    case::{Case, Expected},
    packet::{Body, Frame, Sum, flag, tcp, udp},
    world::{
        BACK, CLIENT, CLIENT_PORT, FRONT, PORT, SERVER_PORT, SERVERS, Station, World, answers,
        asks, to_client, to_server,
    },
};

pub(super) fn cases() -> Vec<Case> {
    let offs = [1, 0x00ff, 0x1234, 0x8000, 0xfffe];
    let mut cases = vec![none(), sums_to_zero(), partial()];
    cases.extend(offs.map(wrong));
    cases.extend([1, 7, 1400].map(odd));
    cases
}

fn set(frame: Frame, sum: Sum) -> Frame {
    frame.with(|frame| match &mut frame.ip.body {
        Body::Tcp(tcp) => tcp.sum = sum,
        Body::Udp(udp) => udp.sum = sum,
        Body::Icmp(icmp) => icmp.sum = sum,
        Body::Raw(..) => {}
    })
}

fn wrong(off: u16) -> Case {
    let off = Sum::Off(off);
    let header = |frame: &Frame| frame.with(|frame| frame.ip.sum = off);
    let question = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let answer = answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT));
    let syn = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN));
    let syn_ack = answers(
        &SERVERS[0],
        CLIENT.ip,
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
    );
    Case::new(
        format!("A checksum that is wrong stays wrong by the same amount ({off:?})"),
        World::single(),
    )
    .asks(&set(syn, off), &SERVERS[0])
    .answers(&set(syn_ack, off))
    .asks(&set(question.clone(), off), &SERVERS[0])
    .answers(&set(answer.clone(), off))
    .asks(&header(&question), &SERVERS[0])
    .answers(&header(&answer))
}

fn none() -> Case {
    Case::new("A UDP checksum of zero stays zero", World::single())
        .asks(
            &set(asks(&CLIENT, udp(CLIENT_PORT, PORT)), Sum::Zero),
            &SERVERS[0],
        )
        .answers(&set(
            answers(&SERVERS[0], CLIENT.ip, udp(SERVER_PORT, CLIENT_PORT)),
            Sum::Zero,
        ))
}

/// The builder writes ffff where the right sum is zero; so must the update.
fn sums_to_zero() -> Case {
    let sent = asks(&CLIENT, udp(CLIENT_PORT, PORT));
    let chosen = (0..=u16::MAX)
        .map(|word| sent.with(|frame| frame.udp().data = word.to_be_bytes().to_vec()))
        .find(|frame| {
            let out = to_server(frame, &SERVERS[0]).bytes();
            out[14 + 20 + 6..14 + 20 + 8] == [0xff, 0xff]
        })
        .unwrap_or(sent);
    Case::new(
        "A UDP checksum that comes out as zero is sent as ffff, for zero says that there is none",
        World::single(),
    )
    .asks(&chosen, &SERVERS[0])
}

fn partial() -> Case {
    let packet = |frame: &Frame, interface| Bytes {
        partial: true,
        ..Bytes::received(frame.bytes(), interface)
    };
    let case = Case::new(
        "A checksum that the sender left to the hardware is moved for the addresses only",
        World::single(),
    )
    .host_only("a partial checksum cannot be given to BPF_PROG_TEST_RUN");
    let exchange = |case: Case, question: Body, answer: Body, server: &Station| {
        let sent = set(asks(&CLIENT, question), Sum::Partial);
        let back = set(answers(server, CLIENT.ip, answer), Sum::Partial);
        let forwarded = Expected::transmit(BACK, Reason::Forwarded, &to_server(&sent, server));
        let replied = Expected::transmit(FRONT, Reason::Replied, &to_client(&back, &CLIENT));
        case.packet(packet(&sent, FRONT), forwarded)
            .packet(packet(&back, BACK), replied)
    };
    let case = exchange(
        case,
        tcp(CLIENT_PORT, PORT, flag::SYN),
        tcp(SERVER_PORT, CLIENT_PORT, flag::SYN | flag::ACK),
        &SERVERS[0],
    );
    exchange(
        case,
        udp(CLIENT_PORT, PORT),
        udp(SERVER_PORT, CLIENT_PORT),
        &SERVERS[0],
    )
}

fn odd(length: usize) -> Case {
    let data = |frame: Frame| {
        frame.with(|frame| frame.udp().data = (0..length).map(|at| at as u8).collect())
    };
    Case::new(
        format!("A payload of {length} bytes keeps a right checksum"),
        World::single(),
    )
    .asks(&data(asks(&CLIENT, udp(CLIENT_PORT, PORT))), &SERVERS[0])
    .answers(&data(answers(
        &SERVERS[0],
        CLIENT.ip,
        udp(SERVER_PORT, CLIENT_PORT),
    )))
}
