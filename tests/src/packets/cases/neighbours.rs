//! Real servers, and clients, that are reached by a neighbour whatever the routes say; and the MSS on such ways.

use lb_common::{abi::CLAMP_MSS, verdict::Reason};

use crate::packets::{
    case::{Case, Change, Expected},
    packet::{Body, Frame, flag, tcp},
    world::{
        BACK, BACK_MAC, CLIENT, CLIENT_PORT, FRONT, PORT, SERVER_PORT, SERVERS, SERVICE, Service,
        Station, TCP, World, answers, asks, to_client, to_server,
    },
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        to_the_server(),
        back(),
        without_a_lease(),
        clamped(),
        clamped_answer(),
        not_clamped(),
        not_asked_for(),
    ]
}

const SYN_ACK: u8 = flag::SYN | flag::ACK;

fn world() -> World {
    World::empty().service(Service::usual(TCP).with(&[(SERVERS[0], SERVER_PORT, 1)]))
}

fn syn() -> Frame {
    asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::SYN))
}

/// The neighbour's Ethernet address, the real server's IP address.
fn by(neighbour: &Station) -> Station {
    Station {
        mac: neighbour.mac,
        ..SERVERS[0]
    }
}

fn to_the_server() -> Case {
    let data = asks(&CLIENT, tcp(CLIENT_PORT, PORT, flag::ACK));
    Case::new(
        "A real server with a neighbour of its own is reached by that one, now and when the way is looked up again",
        world(),
    )
    .change(Change::Neighbours(0, SERVERS[1].ip, [0; 4]))
    .asks(&syn(), &by(&SERVERS[1]))
    .wait(2)
    .asks(&data, &by(&SERVERS[1]))
    .change(Change::Neighbours(0, SERVERS[2].ip, [0; 4]))
    .wait(2)
    .asks(&data, &by(&SERVERS[2]))
}

/// What leaves by a neighbour when the real server answers.
fn answered_by(sent: &Frame, neighbour: &Station) -> Expected {
    let frame = sent.with(|frame| {
        (frame.to, frame.from) = (neighbour.mac, BACK_MAC);
        frame.ip.src = SERVICE;
        frame.ip.ttl -= 1;
        *frame.ports().0 = PORT;
    });
    Expected::transmit(BACK, Reason::Replied, &frame)
}

fn back() -> Case {
    let answer = |flags| answers(&SERVERS[0], CLIENT.ip, tcp(SERVER_PORT, CLIENT_PORT, flags));
    Case::new(
        "Replies go by the neighbour that is given for them, and the client's address stays though both are on one link",
        world(),
    )
    .change(Change::Neighbours(0, [0; 4], SERVERS[1].ip))
    .asks(&syn(), &SERVERS[0])
    .packet(&answer(SYN_ACK), answered_by(&answer(SYN_ACK), &SERVERS[1]))
    .wait(2)
    .packet(&answer(flag::ACK), answered_by(&answer(flag::ACK), &SERVERS[1]))
}

fn without_a_lease() -> Case {
    let known = world().hop(SERVERS[1].hop, |hop| hop.lease = 0);
    Case::new(
        "A neighbour whose lease is over is not left to the kernel, which would ask for the real server",
        known,
    )
    .change(Change::Neighbours(0, SERVERS[1].ip, [0; 4]))
    .asks(&syn(), &by(&SERVERS[1]))
}

/// With an MSS, and what else a common stack says.
fn with_mss(frame: &Frame, mss: u16) -> Frame {
    frame.with(|frame| {
        if let Body::Tcp(tcp) = &mut frame.ip.body {
            let [high, low] = mss.to_be_bytes();
            tcp.options = vec![2, 4, high, low, 4, 2, 1, 1];
        }
    })
}

/// A network to the real server that carries 1450 bytes.
fn clamping() -> Case {
    let world = world().hop(SERVERS[0].hop, |hop| hop.mtu = 1450);
    Case::new("", world).change(Change::Options(0, CLAMP_MSS))
}

fn called(case: Case, sentence: &str) -> Case {
    Case {
        sentence: sentence.into(),
        ..case
    }
}

fn forwarded(frame: &Frame) -> Expected {
    Expected::transmit(BACK, Reason::Forwarded, &to_server(frame, &SERVERS[0]))
}

fn clamped() -> Case {
    called(
        clamping(),
        "The MSS in a client's SYN is lowered to what fits on the way to the real server",
    )
    .packet(&with_mss(&syn(), 1460), forwarded(&with_mss(&syn(), 1410)))
    .packet(&with_mss(&syn(), 1460), forwarded(&with_mss(&syn(), 1410)))
}

fn clamped_answer() -> Case {
    let answer = |flags, mss| {
        let frame = answers(&SERVERS[0], CLIENT.ip, tcp(SERVER_PORT, CLIENT_PORT, flags));
        with_mss(&frame, mss)
    };
    called(
        clamping(),
        "So is the MSS in the real server's answer, for the client's segments have the same way; in no other segment",
    )
    .asks(&syn(), &SERVERS[0])
    .packet(
        &answer(SYN_ACK, 1460),
        Expected::transmit(
            FRONT,
            Reason::Replied,
            &to_client(&answer(SYN_ACK, 1410), &CLIENT),
        ),
    )
    .answers(&answer(flag::ACK, 1460))
}

fn not_clamped() -> Case {
    let late = syn().with(|frame| {
        if let Body::Tcp(tcp) = &mut frame.ip.body {
            tcp.options = vec![1, 1, 1, 1, 2, 4, 5, 180];
        }
    });
    called(
        clamping(),
        "An MSS that fits stays, and so does one that is not the first option, and a SYN without any",
    )
    .packet(&with_mss(&syn(), 1410), forwarded(&with_mss(&syn(), 1410)))
    .packet(&late, forwarded(&late))
    .packet(&syn(), forwarded(&syn()))
}

fn not_asked_for() -> Case {
    let world = world().hop(SERVERS[0].hop, |hop| hop.mtu = 1450);
    let syn = with_mss(&syn(), 1460);
    Case::new(
        "The MSS is left alone where the service does not ask for it",
        world,
    )
    .packet(&syn, forwarded(&syn))
}
