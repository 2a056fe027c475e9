//! VLANs: services on them, and tagged frames of which the interface below has to keep its hands
//! off.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::setup::{OF_ITSELF, Reasons, SERVICES, Setup, UDP, WEB, added, in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::icmp::ping;
use crate::load::{Kind, Load};
use crate::packets::packet::{Body, Frame, Ip, flag, icmp, tcp, udp};
use crate::slow::patient;
use crate::task::{Ports, Task};
use crate::topology::at;
use crate::topology::director::{CLIENT, DIRECTOR, DIRECTOR_INSIDE, Front, Options, SERVICE};
use crate::wire::{Wire, mac};

pub(super) const CASES: &[Case] = &[
    case(
        "vlan/service-interface",
        "a service on a VLAN that is not served, or answered without the tag",
        |context| served(context, Front::Vlan, false),
    ),
    case(
        "vlan/over-bridge",
        "services and servers on VLANs over bridges that are not reached",
        |context| served(context, Front::VlanOverBridge, true),
    ),
    case(
        "vlan/under-bridge",
        "a service on a bridge whose port is a VLAN that is not served",
        |context| served(context, Front::BridgeOverVlan, true),
    ),
    case(
        "vlan/tagged-frames",
        "a tagged frame that the interface below its VLAN serves, answers or changes",
        tagged_frames,
    ),
    case(
        "vlan/priority",
        "a frame of no VLAN, tagged for its priority, that is not served, or keeps the tag",
        priority,
    ),
];

fn served(context: &Context, front: Front, back_vlan: bool) -> Result<()> {
    if !context.has_interfaces("vlan")? {
        return Ok(());
    }
    let setup = Setup::new(
        context,
        &Options {
            front,
            back_vlan,
            own: None,
            ..Options::default()
        },
    )?;
    setup.services("--answer")?;
    let client = &setup.net.client;
    in_turn(
        &client::turns(client, at(WEB), 4)?,
        &["rs2", "rs1", "rs2", "rs1"],
    )?;
    let took = ping(client, SERVICE, client::patience())?;
    ensure!(took.is_some(), "the service address does not answer a ping");
    let seen = client::get(client, at(WEB), "/client")?;
    ensure!(
        seen.contains(&format!("you are {CLIENT}:")),
        "the server does not see the client's address: {seen}"
    );
    same("UDP", &client::who_udp(client, at(UDP))?.as_str(), &"rs2")?;
    client::download(client, at(WEB), 8 << 20)?;
    client::upload(client, at(WEB), 8 << 20)?;
    Load::new(Kind::Short, at(WEB))
        .clients(4)
        .count(200)
        .run(client)?
        .all_answered()?;
    // A real server on the director: its replies are rewritten where they leave, on the VLAN.
    let _own = Task::start(
        &setup.lab,
        &setup.net.director,
        "director",
        &Ports::default(),
    )?;
    for (service, port) in SERVICES {
        setup.bpvs(&format!("server add {service} {DIRECTOR_INSIDE}:{port}"))?;
    }
    let mut turns = client::turns(client, at(WEB), 3)?;
    turns.sort();
    in_turn(&turns, &["director", "rs1", "rs2"])
}

/// Tags in front of a packet: ethertype and tag.
type Tags = &'static [(u16, u16)];

/// 802.1Q, with a priority, 802.1ad, and one in the other.
const TAGS: [Tags; 4] = [
    &[(0x8100, 7)],
    &[(0x8100, 0xa007)],
    &[(0x88a8, 7)],
    &[(0x88a8, 7), (0x8100, 5)],
];

/// How often each frame is sent.
const TIMES: u64 = 20;
/// The client's port in the frames.
const PORT: u16 = 5555;

fn tagged_frames(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            own: None,
            ..Options::default()
        },
    )?;
    setup.services("--answer")?;
    let sent = Sent::new(&setup)?;
    let wire = Wire::sender(&setup.net.client, "eth0")?;
    let behind = Wire::after_ingress(&setup.net.director, "eth0")?;
    let bodies = [
        udp(PORT, 9),
        tcp(PORT, 80, flag::SYN),
        icmp(8, 0, [0, 7, 0, 1], b"is anybody there?".to_vec()),
    ];
    for tags in TAGS {
        for body in &bodies {
            let plain = sent.frame(&[], body.clone()).bytes();
            let frame = sent.frame(tags, body.clone()).bytes();
            let what = format!("protocol {} with tags {tags:x?}", body.protocol());
            left_alone(&setup, &wire, &frame).context(what.clone())?;
            // Of two tags the host still sees the second one, and no IPv4 packet.
            if let [_] = tags {
                for _ in 0..TIMES {
                    let seen = behind.next(client::patience(), |seen| seen.others)?;
                    let seen = seen.with_context(|| format!("{what}: it does not arrive"))?;
                    ensure!(seen.bytes == plain, "{what}: it arrives as {seen:x?}");
                }
            }
        }
        left_alone(&setup, &wire, &sent.question(tags)).context("an ARP request")?;
    }
    same("connections", &setup.bpvs("conns --json")?.trim(), &"[]")?;
    // Without a tag it would have been served.
    let asked = sent.frame(&[], udp(PORT, 9));
    let answer = sent.answer(&setup, &wire, &asked, UDP)?;
    ensure!(answer.starts_with("I'm rs2 "), "the answer: {answer}");
    Ok(())
}

fn priority(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            own: None,
            ..Options::default()
        },
    )?;
    setup.services("--answer")?;
    let ports = Ports {
        http: vec![],
        udp: vec![90],
        echo: vec![],
    };
    let _own = Task::start(&setup.lab, &setup.net.director, "director", &ports)?;
    let sent = Sent::new(&setup)?;
    let wire = Wire::sender(&setup.net.client, "eth0")?;
    let at_server = Wire::before_ingress(&setup.net.servers[1], "eth0")?;
    const VLAN_0: Tags = &[(0x8100, 0xa000)];
    let asked = sent.frame(VLAN_0, udp(PORT, 9));
    let answer = sent.answer(&setup, &wire, &asked, UDP)?;
    ensure!(answer.starts_with("I'm rs2 "), "the answer: {answer}");
    let question = b"a question, odd";
    let seen = at_server.next(client::patience(), |seen| seen.bytes.ends_with(question))?;
    let seen = seen.context("the server has not seen the question")?;
    same("the tag at the server", &seen.tag, &None)?;
    // What no service has is the host's, as it would be without bpvs.
    let mut asked = sent.frame(VLAN_0, udp(PORT, 90));
    asked.ip.dst = DIRECTOR.octets();
    let answer = sent.answer(&setup, &wire, &asked, &format!("{DIRECTOR}:90"))?;
    ensure!(answer.starts_with("I'm director "), "the answer: {answer}");
    let before = setup.reasons()?;
    wire.send(&sent.question(VLAN_0))?;
    let deadline = Instant::now() + patient(Duration::from_secs(2));
    while !added(&before, &setup.reasons()?).contains_key("arp-answered") {
        ensure!(Instant::now() < deadline, "no answer to an ARP request");
    }
    Ok(())
}

/// Sends a frame [`TIMES`] times: each is counted as tagged, and as nothing else.
fn left_alone(setup: &Setup, wire: &Wire, frame: &[u8]) -> Result<()> {
    let before = setup.reasons()?;
    for _ in 0..TIMES {
        wire.send(frame)?;
    }
    let deadline = Instant::now() + patient(Duration::from_secs(2));
    let expected = Reasons::from([("tagged".to_owned(), TIMES)]);
    loop {
        let mut got = added(&before, &setup.reasons()?);
        got.remove(OF_ITSELF);
        let arrived = got.values().sum::<u64>() >= TIMES;
        if arrived || Instant::now() > deadline {
            return same("packets by the way in which they left", &got, &expected);
        }
    }
}

/// Frames from the client to the director's interface.
struct Sent {
    from: [u8; 6],
    to: [u8; 6],
}

impl Sent {
    fn new(setup: &Setup) -> Result<Self> {
        Ok(Self {
            from: mac(&setup.net.client, "eth0")?,
            to: mac(&setup.net.director, "eth0")?,
        })
    }

    /// An IPv4 packet to the service address.
    fn frame(&self, tags: Tags, body: Body) -> Frame {
        Frame {
            to: self.to,
            from: self.from,
            tags: tags.to_vec(),
            ip: Ip::new(CLIENT.octets(), SERVICE.octets(), body),
            padding: 0,
        }
    }

    /// Sends a datagram of the client's [`PORT`], and returns the answer that comes from there.
    fn answer(&self, setup: &Setup, wire: &Wire, asked: &Frame, to: &str) -> Result<String> {
        let socket = setup.net.client.run(|| UdpSocket::bind((CLIENT, PORT)))??;
        socket.set_read_timeout(Some(client::patience()))?;
        wire.send(&asked.bytes())?;
        let mut answer = [0; 100];
        let (length, from) = socket.recv_from(&mut answer).context("no answer")?;
        same("who answers", &from, &at(to).into())?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// The client's question who has the service address.
    fn question(&self, tags: Tags) -> Vec<u8> {
        let mut bytes = [[0xff; 6], self.from].concat();
        for (ethertype, tag) in tags {
            bytes.extend(ethertype.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        // ARP for IPv4 on Ethernet, a request.
        bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        bytes.extend(self.from);
        bytes.extend(CLIENT.octets());
        bytes.extend([0; 6]);
        bytes.extend(SERVICE.octets());
        bytes
    }
}
