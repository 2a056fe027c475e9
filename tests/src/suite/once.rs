//! Each packet is counted once, whatever stack of interfaces it comes through.
//!
//! Packets for a service leave at the first program that they meet. Those that pass go on to the
//! next interface: it is they that a second program on their way would count again. So there are
//! as many of both here.

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::setup::{OF_ITSELF, Reasons, Setup, UDP, added, same};
use super::{Case, Context, case};
use crate::client;
use crate::host::Host;
use crate::task::{Ports, Task};
use crate::topology::at;
use crate::topology::director::{Front, Options};

pub(super) const CASES: &[Case] = &[
    case(
        "counters/once-cable",
        "a packet that is counted twice, or not at all, on a plain interface",
        |context| once(context, Front::Cable, false),
    ),
    case(
        "counters/once-bridge",
        "a packet that is counted on a bridge's port and on the bridge",
        |context| once(context, Front::Bridge, false),
    ),
    case(
        "counters/once-bond",
        "a packet that is counted on a bond's port and on the bond",
        |context| once(context, Front::Bond, false),
    ),
    case(
        "counters/once-vxlan",
        "a packet that is counted on a VXLAN interface and on its bridge, or whose outer packet is taken for it",
        |context| once(context, Front::BridgeOverVxlan, false),
    ),
    case(
        "counters/once-vlan",
        "a packet that is counted on a VLAN and, as more than a tagged frame, on the interface below",
        |context| once(context, Front::Vlan, true),
    ),
    case(
        "counters/once-vlan-over-bridge",
        "a packet that is counted on a VLAN and on the bridge or the port below",
        |context| once(context, Front::VlanOverBridge, true),
    ),
    case(
        "counters/once-bridge-over-vlan",
        "a packet that is counted on a VLAN and on its bridge",
        |context| once(context, Front::BridgeOverVlan, false),
    ),
];

/// How many datagrams go to the service, and how many to the director itself.
const TURNS: u64 = 40;
/// The director's own server of datagrams, which no service has.
const OWN: &str = "10.0.0.1:90";

fn once(context: &Context, front: Front, back_vlan: bool) -> Result<()> {
    if (front.is_tagged() || back_vlan) && !context.has_interfaces("vlan")?
        || front == Front::Bond && !context.has_interfaces("bond")?
    {
        return Ok(());
    }
    let setup = Setup::new(
        context,
        &Options {
            front,
            back_vlan,
            servers: 1,
            ..Options::default()
        },
    )?;
    setup.services("")?;
    for host in [
        &setup.net.client,
        &setup.net.director,
        &setup.net.servers[0],
    ] {
        // Less that hosts say of themselves. A kernel without IPv6 has no such setting.
        let _ = host.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    }
    let ports = Ports {
        http: vec![],
        udp: vec![90],
        echo: vec![],
    };
    let _own = Task::start(&setup.lab, &setup.net.director, "director", &ports)?;
    let expected = expected(front, back_vlan);
    // Connection and neighbours are there before it counts.
    let sockets = [
        Asker::new(&setup.net.client, UDP)?,
        Asker::new(&setup.net.client, OWN)?,
    ];
    sockets.iter().try_for_each(|asker| asker.ask(1))?;
    for _ in 0..20 {
        let before = (setup.reasons()?, datagrams(&setup)?);
        sockets.iter().try_for_each(|asker| asker.ask(TURNS))?;
        let after = (setup.reasons()?, datagrams(&setup)?);
        let got = added(&before.0, &after.0);
        if got.contains_key(OF_ITSELF) {
            // A host has said something of itself meanwhile, and on a VLAN that is a tagged frame
            // too: another time.
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        same("packets by the way in which they left", &got, &expected)?;
        return same(
            "datagrams of the service, in and out",
            &(after.1.0 - before.1.0, after.1.1 - before.1.1),
            &(TURNS, TURNS),
        );
    }
    bail!("in 20 times there was always one \"{OF_ITSELF}\" among the packets");
}

/// What [`TURNS`] datagrams each to the service and to the director, all answered, are counted as.
fn expected(front: Front, back_vlan: bool) -> Reasons {
    // The director's own: a question in, an answer out.
    let mut no_service = 2 * TURNS;
    if front == Front::BridgeOverVxlan {
        // The outer packets are packets too: of each question and each answer one, which is the
        // director's own.
        no_service += 4 * TURNS;
    }
    // What comes in with a tag, and what the director itself sends. What was redirected is not seen
    // again on its way out.
    let mut tagged = 0;
    if front.is_tagged() {
        tagged += 3 * TURNS;
    }
    if back_vlan {
        tagged += TURNS;
    }
    let all = [
        ("forwarded", TURNS),
        ("replied", TURNS),
        ("no-service", no_service),
        ("tagged", tagged),
    ];
    let mut expected: BTreeMap<_, _> = all.map(|(name, count)| (name.to_owned(), count)).into();
    expected.retain(|_, count| *count > 0);
    expected
}

/// The counts of the datagram service: packets in and out.
fn datagrams(setup: &Setup) -> Result<(u64, u64)> {
    let listing: Value = serde_json::from_str(&setup.bpvs("list --json")?)?;
    let mut services = listing["services"].as_array().into_iter().flatten();
    let service = services
        .find(|service| service["address"] == format!("udp:{UDP}"))
        .with_context(|| format!("no udp:{UDP} in {listing}"))?;
    let count = |name: &str| {
        service["counters"][name]
            .as_u64()
            .with_context(|| format!("no {name} in {service}"))
    };
    Ok((count("in_packets")?, count("out_packets")?))
}

/// A client of one UDP port.
struct Asker(UdpSocket);

impl Asker {
    fn new(host: &Host, to: &str) -> Result<Self> {
        let to: SocketAddrV4 = at(to);
        let socket = host.run(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            Ok(socket)
        })??;
        socket.set_read_timeout(Some(client::patience()))?;
        Ok(Self(socket))
    }

    /// Asks so often, one after the other; each is sent once and answered once.
    fn ask(&self, turns: u64) -> Result<()> {
        for turn in 0..turns {
            let question = format!("turn {turn}");
            self.0.send(question.as_bytes())?;
            let mut answer = [0; 100];
            let length = self.0.recv(&mut answer).context("no answer")?;
            let answer = String::from_utf8_lossy(&answer[..length]);
            ensure!(answer.ends_with(&question), "{question}: {answer}");
        }
        Ok(())
    }
}
