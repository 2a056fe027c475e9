//! XDP on interfaces that are named: the ends of cables here, whose other ends are made to be like a wire.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::setup::{Setup, UDP, WEB, in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::icmp::ping;
use crate::load::{Kind, Load};
use crate::offload::{like_a_wire, merges};
use crate::slow::patient;
use crate::tap::Tap;
use crate::topology::at;
use crate::topology::director::{CLIENT, Front, Options, SERVICE};

pub(super) const CASES: &[Case] = &[
    case(
        "xdp/served",
        "a service that is not served, wrongly, or not by XDP alone, where XDP is on",
        |context| on_veths(context, |context| served(context, Front::Cable, false)),
    ),
    case(
        "xdp/vlan",
        "the same between VLANs of the interfaces that XDP is on",
        |context| on_veths(context, |context| served(context, Front::Vlan, true)),
    ),
    case(
        "xdp/direct",
        "direct routing that XDP does not do",
        |context| on_veths(context, direct),
    ),
    case(
        "xdp/left-to-tc",
        "packets that XDP cannot send on and that TC does not get, such as to a bridge",
        |context| on_veths(context, left_to_tc),
    ),
    case(
        "xdp/target-gone",
        "packets that XDP goes on to send to an interface that takes none any more",
        |context| on_veths(context, target_gone),
    ),
    case(
        "xdp/kill-under-load",
        "connections that are lost with the daemon where XDP is on",
        |context| on_veths(context, kill_under_load),
    ),
    case(
        "xdp/interfaces",
        "XDP that is on where it was not asked for, stays where it is not wanted, or is missing on an interface that came later; or a status that is wrong about it",
        |context| on_veths(context, interfaces),
    ),
];

/// Runs a case; on a kernel that does not tell whether the other end of a veth takes what XDP sends, XDP must be refused
/// there instead, and the service go on without it.
fn on_veths(context: &Context, run: impl FnOnce(&Context) -> Result<()>) -> Result<()> {
    let name = nix::sys::utsname::uname()?;
    let release = name.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 3) {
        return run(context);
    }
    context.note("before Linux 6.3, where XDP on a veth is refused".to_owned());
    let setup = Setup::usual(context, 2)?;
    setup.bpvs("settings set xdp=eth0")?;
    let status = setup.bpvs("status")?;
    ensure!(
        status.contains("XDP on eth0: it is a veth, and this kernel (before 6.3)"),
        "{status}"
    );
    same("interfaces with XDP", &by_xdp(&setup)?, &Vec::new())?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )
}

/// XDP on the ends of all cables at the director.
const EVERYWHERE: &str = "settings set xdp=eth0,rs1,rs2";

fn options() -> Options {
    Options {
        cables: true,
        own: None,
        ..Options::default()
    }
}

/// A network of cables that are like wires.
fn wired(context: &Context, options: &Options) -> Result<Setup> {
    let setup = Setup::new(context, options)?;
    for host in std::iter::once(&setup.net.client).chain(&setup.net.servers) {
        like_a_wire(host, "eth0")?;
    }
    for cable in ["eth0", "rs1", "rs2"] {
        // By TC, packets to a VLAN would get their tags only beyond the cable.
        like_a_wire(&setup.net.director, cable)?;
    }
    Ok(setup)
}

/// By which path packets are handled that arrive on each interface: (interface, path, note).
fn paths(setup: &Setup) -> Result<Vec<(String, String, String)>> {
    let status: Value = serde_json::from_str(&setup.bpvs("status --json")?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let paths = status["scopes"][0]["paths"]
        .as_array()
        .context("no paths")?;
    Ok(paths
        .iter()
        .map(|path| {
            (
                text(&path["interface"]),
                text(&path["path"]),
                text(&path["note"]),
            )
        })
        .collect())
}

/// Those that XDP is on.
fn by_xdp(setup: &Setup) -> Result<Vec<String>> {
    let paths = paths(setup)?.into_iter();
    Ok(paths
        .filter(|(_, path, _)| path == "xdp")
        .map(|(interface, ..)| interface)
        .collect())
}

/// Opens connections until the neighbours are known, after which XDP needs nobody.
fn warm_up(setup: &Setup) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < patient(Duration::from_secs(10)) {
        let (taps, _) = watched(setup, 2)?;
        if taps == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("packets of the service are still seen by the director's kernel")
}

/// Asks so often, and gives how many packets of TCP or UDP the director's kernel has seen on its cables meanwhile, and who
/// has answered.
fn watched(setup: &Setup, times: usize) -> Result<(usize, Vec<String>)> {
    let taps = ["eth0", "rs1", "rs2"]
        .into_iter()
        .map(|cable| Tap::open(&setup.net.director, cable))
        .collect::<Result<Vec<_>>>()?;
    let turns = client::turns(&setup.net.client, at(WEB), times)?;
    client::who_udp(&setup.net.client, at(UDP))?;
    let mut seen = 0;
    for tap in taps {
        let (frames, _) = tap.passed()?;
        // With a tag or without.
        let of_service = |frame: &crate::tap::Frame| {
            let bytes = &frame.bytes;
            let l3 = if bytes.get(12..14) == Some(&[0x81, 0]) {
                18
            } else {
                14
            };
            bytes.get(l3 - 2..l3) == Some(&[8, 0]) && matches!(bytes.get(l3 + 9), Some(6 | 17))
        };
        seen += frames.iter().filter(|frame| of_service(frame)).count();
    }
    Ok((seen, turns))
}

fn served(context: &Context, front: Front, back_vlan: bool) -> Result<()> {
    if back_vlan && !context.has_interfaces("vlan")? {
        return Ok(());
    }
    let setup = wired(
        context,
        &Options {
            front,
            back_vlan,
            ..options()
        },
    )?;
    setup.services("--answer")?;
    setup.bpvs(EVERYWHERE)?;
    same(
        "interfaces with XDP",
        &by_xdp(&setup)?.as_slice(),
        &["eth0", "rs1", "rs2"].map(str::to_owned).as_slice(),
    )?;
    let client = &setup.net.client;
    warm_up(&setup)?;
    let (seen, turns) = watched(&setup, 4)?;
    ensure!(seen == 0, "the director's kernel has seen {seen} packets");
    ensure!(
        turns[0] != turns[1] && turns[..2] == turns[2..],
        "not in turn: {turns:?}"
    );
    let took = ping(client, SERVICE, client::patience())?;
    ensure!(took.is_some(), "the service address does not answer a ping");
    let told = client::get(client, at(WEB), "/client")?;
    ensure!(
        told.contains(&format!("you are {CLIENT}:")),
        "the server does not see the client's address: {told}"
    );
    client::download(client, at(WEB), 8 << 20)?;
    client::upload(client, at(WEB), 8 << 20)?;
    Load::new(Kind::Short, at(WEB))
        .clients(4)
        .count(200)
        .run(client)?
        .all_answered()?;
    let reasons = setup.reasons()?;
    for reason in ["forwarded", "replied", "ping-answered"] {
        ensure!(
            reasons.contains_key(reason),
            "nothing was {reason}: {reasons:?}"
        );
    }
    for reason in ["rewrite-failed", "busy", "no-route"] {
        ensure!(!reasons.contains_key(reason), "{reason}: {reasons:?}");
    }
    Ok(())
}

fn direct(context: &Context) -> Result<()> {
    let setup = wired(context, &options())?;
    for server in &setup.net.servers {
        server.ip(&format!("address add {SERVICE}/32 dev lo"))?;
        server.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    }
    // The answers go by the director, which forwards them as any router would.
    setup.net.director.sysctl("net.ipv4.ip_forward", "1")?;
    setup
        .net
        .director
        .sysctl("net.ipv4.conf.all.rp_filter", "0")?;
    setup.bpvs(&format!("service add udp:{SERVICE}:9000 --answer"))?;
    setup.bpvs(&format!(
        "server add udp:{SERVICE}:9000 10.0.1.11 --method direct"
    ))?;
    setup.bpvs(EVERYWHERE)?;
    let to = at(&format!("{SERVICE}:9000"));
    let deadline = Instant::now() + patient(Duration::from_secs(10));
    loop {
        let tap = Tap::open(&setup.net.director, "eth0")?;
        // A driver loses what is under way when XDP is attached.
        match client::who_udp(&setup.net.client, to) {
            Err(_) if Instant::now() < deadline => continue,
            who => same("who answers", &who?.as_str(), &"rs1")?,
        }
        let (frames, _) = tap.passed()?;
        let questions = frames.iter().filter(|frame| {
            !frame.leaves
                && frame
                    .packet()
                    .is_some_and(|_| frame.bytes.get(23) == Some(&17))
        });
        match questions.count() {
            0 => return Ok(()),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            seen => bail!("the director's kernel goes on to see questions: {seen}"),
        }
    }
}

fn left_to_tc(context: &Context) -> Result<()> {
    let setup = Setup::new(
        context,
        &Options {
            own: None,
            ..Options::default()
        },
    )?;
    like_a_wire(&setup.net.client, "eth0")?;
    setup.services("--answer")?;
    setup.bpvs("settings set xdp=eth0")?;
    same(
        "interfaces with XDP",
        &by_xdp(&setup)?,
        &vec!["eth0".to_owned()],
    )?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 4)?,
        &["rs2", "rs1", "rs2", "rs1"],
    )?;
    client::upload(&setup.net.client, at(WEB), 8 << 20)?;
    client::download(&setup.net.client, at(WEB), 8 << 20)?;
    // Nobody there: what tells of that is TC's.
    for server in ["10.0.1.11", "10.0.1.12"] {
        setup.bpvs(&format!("server edit tcp:{WEB} {server}:8000 --weight 0"))?;
    }
    let refused = client::connect_result(&setup.net.client, at(WEB))?;
    ensure!(
        refused.is_err(),
        "a service without servers takes connections"
    );
    let reasons = setup.reasons()?;
    ensure!(reasons.contains_key("no-server"), "{reasons:?}");
    Ok(())
}

fn target_gone(context: &Context) -> Result<()> {
    let setup = wired(context, &options())?;
    setup.services("--answer")?;
    setup.bpvs("settings set xdp=eth0")?;
    let load = Load::new(Kind::Short, at(WEB))
        .clients(2)
        .endless(patient(Duration::from_secs(60)))
        .pause(Duration::from_millis(5))
        .start(&setup.net.client)?;
    load.wait_for(50)?;
    for server in &setup.net.servers {
        merges(server, "eth0", false)?;
    }
    // TCP sends again what is lost until that is noticed, within a second or two.
    std::thread::sleep(patient(Duration::from_secs(3)));
    load.wait_for(50)?;
    load.stop()?.all_answered()
}

fn kill_under_load(context: &Context) -> Result<()> {
    let setup = wired(context, &options())?;
    setup.services("--answer")?;
    setup.bpvs(EVERYWHERE)?;
    let at_most = patient(Duration::from_secs(120));
    let loads = [
        Load::new(Kind::Short, at(WEB))
            .clients(3)
            .pause(Duration::from_millis(1)),
        Load::new(Kind::KeepAlive { requests: 200 }, at(WEB))
            .clients(3)
            .pause(Duration::from_millis(2)),
    ]
    .map(|load| load.endless(at_most).start(&setup.net.client));
    let loads = loads.into_iter().collect::<Result<Vec<_>>>()?;
    let wait = || loads.iter().try_for_each(|load| load.wait_for(50));
    wait()?;
    for _ in 0..2 {
        setup.daemon.kill()?;
        // Longer than Ethernet addresses are trusted without a daemon: XDP leaves all to TC then.
        wait()?;
        std::thread::sleep(Duration::from_secs(5));
        wait()?;
        setup.daemon.run()?;
        wait()?;
        same("interfaces with XDP", &by_xdp(&setup)?.len(), &3)?;
    }
    loads
        .into_iter()
        .try_for_each(|load| load.stop()?.all_answered())?;
    warm_up(&setup)
}

fn interfaces(context: &Context) -> Result<()> {
    let setup = wired(context, &options())?;
    let director = &setup.net.director;
    setup.services("--answer")?;
    // Nothing is a wire here.
    for choice in ["off", "auto"] {
        setup.bpvs(&format!("settings set xdp={choice}"))?;
        same(choice, &by_xdp(&setup)?, &Vec::new())?;
    }
    director.ip("link add br9 type bridge")?;
    director.ip("link set br9 up")?;
    setup.bpvs("settings set xdp=eth0,br9,eth7")?;
    let status = || setup.bpvs("status");
    let said = |what: &str| -> Result<()> {
        let start = Instant::now();
        loop {
            let text = status()?;
            if text.contains(what) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < patient(Duration::from_secs(5)),
                "no \"{what}\" in:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    said("eth0 (XDP)")?;
    said("eth0: XDP: it is a veth")?;
    said("XDP on br9: its driver, bridge, has no XDP")?;
    said("XDP on eth7: there is no such interface")?;
    let programs = |interface: &str| -> Result<bool> {
        Ok(director
            .ip(&format!("-details link show {interface}"))?
            .contains("prog/xdp"))
    };
    ensure!(
        programs("eth0")? && !programs("rs1")?,
        "XDP is not where it should be"
    );
    // One that appears later.
    director.ip("link add eth7 type veth peer name eth8")?;
    said("eth7 (XDP)")?;
    ensure!(programs("eth7")?, "the new interface has no XDP");
    director.ip("link delete eth7")?;
    said("XDP on eth7: there is no such interface")?;
    setup.bpvs("settings set xdp=rs1")?;
    same(
        "interfaces with XDP",
        &by_xdp(&setup)?,
        &vec!["rs1".to_owned()],
    )?;
    ensure!(
        !programs("eth0")? && programs("rs1")?,
        "XDP is not where it should be"
    );
    // From a file, as a list.
    let file = "[settings]\nxdp = [\"rs1\", \"rs2\"]\n";
    setup.daemon.apply(director, "xdp.toml", file)?;
    same("interfaces with XDP", &by_xdp(&setup)?.len(), &2)?;
    setup.bpvs("down")?;
    ensure!(
        !programs("rs1")? && !programs("rs2")?,
        "bpvs down leaves XDP behind"
    );
    Ok(())
}
