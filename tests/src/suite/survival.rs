//! The daemon's end, wanted or not, and what is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::MapData;

use super::setup::{ECHO, Setup, WEB, in_turn, same};
use super::{Case, Context, case, long_case};
use crate::client;
use crate::host::Host;
use crate::load::{Kind, Load, Running};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::{Director, Options};

pub(super) const CASES: &[Case] = &[
    case(
        "survival/kill-under-load",
        "connections or turns that are lost with the daemon",
        kill_under_load,
    ),
    case(
        "survival/kill-in-apply",
        "half a change that is left when the daemon dies in the middle of it",
        kill_in_apply,
    ),
    case(
        "survival/stop",
        "a daemon that takes its datapath along when it is asked to stop",
        stop,
    ),
    case(
        "survival/table-after-restart",
        "a table that is not the same after a restart",
        table_after_restart,
    ),
    case(
        "survival/down",
        "programs, pins or settings that are left behind by bpvs down",
        down,
    ),
    case(
        "survival/down-without-daemon",
        "bpvs down that needs the daemon to be alive",
        down_without_daemon,
    ),
    case(
        "survival/down-while-ending",
        "bpvs down that gives up because a daemon is about to end",
        down_while_ending,
    ),
    case(
        "survival/changed-while-dead",
        "a server re-created while the daemon is dead that is never reached again",
        changed_while_dead,
    ),
    case(
        "survival/two-daemons",
        "a second daemon in the same folder that breaks the first",
        two_daemons,
    ),
    case(
        "survival/first-start-cut-short",
        "maps of two sizes, where the very first start was killed and the next one is told of other sizes",
        first_start_cut_short,
    ),
    long_case(
        "survival/kill-20-times",
        "the one restart in many that loses something",
        kill_20_times,
    ),
];

/// Short, keep-alive and long connections at once, until they are stopped.
struct Everything(Vec<Running>);

impl Everything {
    fn start(client: &Host, at_most: Duration) -> Result<Self> {
        let short = Load::new(Kind::Short, at(WEB))
            .clients(3)
            .endless(at_most)
            .pause(Duration::from_millis(1));
        let keep = Load::new(Kind::KeepAlive { requests: 200 }, at(WEB))
            .clients(3)
            .endless(at_most)
            .pause(Duration::from_millis(2));
        let long = Load::new(Kind::Long, at(ECHO))
            .clients(20)
            .endless(at_most)
            .pause(Duration::from_millis(100));
        Ok(Self(
            [short, keep, long]
                .into_iter()
                .map(|load| load.start(client))
                .collect::<Result<_>>()?,
        ))
    }

    fn wait_for(&self, more: u64) -> Result<()> {
        self.0.iter().try_for_each(|load| load.wait_for(more))
    }

    fn all_answered(self) -> Result<()> {
        for (load, what) in self.0.into_iter().zip(["short", "keep-alive", "long"]) {
            load.stop()?
                .all_answered()
                .with_context(|| format!("{what} connections"))?;
        }
        Ok(())
    }
}

fn kill_times(context: &Context, times: u32) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let load = Everything::start(&setup.net.client, Duration::from_secs(120))?;
    load.wait_for(50)?;
    for _ in 0..times {
        setup.daemon.kill()?;
        load.wait_for(50)?;
        setup.daemon.run()?;
        load.wait_for(50)?;
        // It is the same table, and it can be changed.
        setup.bpvs(&format!("server edit tcp:{WEB} 10.0.1.11:8000 --weight 2"))?;
    }
    load.all_answered()
}

/// What the change of [`kill_in_apply`] is made of: some services stay, some go, some come, and
/// mark rules change.
fn file(generation: u32) -> String {
    let mut text = format!("[[mark]]\nmark = {generation}\nprotocol = \"tcp\"\nports = \"9100\"\n");
    for service in [1000, 2000 + generation, 3000 + generation] {
        text +=
            &format!("[[service]]\naddress = \"tcp:10.0.0.100:{service}\"\nscheduler = \"wrr\"\n");
        for server in [11, 12] {
            let weight = 1 + (generation + server) % 5;
            text += &format!(
                "  [[service.server]]\n  address = \"10.0.1.{server}:8000\"\n  weight = {weight}\n"
            );
        }
    }
    text
}

fn kill_in_apply(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let director = &setup.net.director;
    let table = || servers_and_services(&setup.bpvs("list --json")?);
    setup.daemon.apply(director, "1.toml", &file(1))?;
    let load = Everything::start(&setup.net.client, Duration::from_secs(120))?;
    load.wait_for(20)?;
    let (mut old, mut killed, mut undone) = (table()?, 0, 0);
    let steps = ["journal-written", "ops-applied"].map(str::to_owned);
    let steps = steps
        .into_iter()
        .chain((1..=40).map(|number| format!("op:{number}")));
    for (step, generation) in steps.zip(2..) {
        setup.daemon.stop()?;
        setup.daemon.run_with(&[("BPVS_FAULT", &step)])?;
        let said = setup.daemon.apply(director, "next.toml", &file(generation));
        if said.is_ok() {
            // It did not get to this step: a build without faults, or a change of fewer operations.
            break;
        }
        ensure!(
            setup.daemon.ended(patient(Duration::from_secs(2)))?,
            "{step}: an error, but no death: {said:?}"
        );
        killed += 1;
        load.wait_for(20)?;
        setup
            .daemon
            .run()
            .with_context(|| format!("after a death at {step}"))?;
        let found = table()?;
        undone += u32::from(found == old);
        let kept = found == old;
        setup
            .daemon
            .apply(director, "next.toml", &file(generation))?;
        let new = table()?;
        ensure!(
            kept || found == new,
            "{step}: half a change: {found:?}, neither {old:?} nor {new:?}"
        );
        ensure!(new != old, "{step}: the change changed nothing");
        old = new;
    }
    load.all_answered()?;
    if killed == 0 {
        context.skip("this bpvs has no faults to set (they are in debug builds, and in those with the feature faults)");
    }
    context.note(format!(
        "died at {killed} steps; {undone} changes undone, {} finished at the restart",
        killed - undone
    ));
    Ok(())
}

fn kill_under_load(context: &Context) -> Result<()> {
    kill_times(context, 2)
}

fn kill_20_times(context: &Context) -> Result<()> {
    kill_times(context, 20)
}

fn stop(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let load = Everything::start(&setup.net.client, Duration::from_secs(30))?;
    load.wait_for(20)?;
    setup.daemon.stop()?;
    load.wait_for(50)?;
    let error = setup
        .bpvs("list")
        .err()
        .context("bpvs list succeeded without a daemon")?;
    ensure!(
        format!("{error:#}").contains("bpvs run"),
        "the error does not say how to start the daemon: {error:#}"
    );
    setup.daemon.run()?;
    load.wait_for(50)?;
    load.all_answered()
}

fn table_after_restart(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    setup.daemon.script(
        &setup.net.director,
        "mark add --mark 256 --destination 10.0.0.100/32 --protocol tcp --ports 8080
         service add fwmark:256 --scheduler wrr --source-nat
         server add fwmark:256 10.0.1.11:8000 --weight 3",
    )?;
    in_turn(&client::turns(&setup.net.client, at(WEB), 1)?, &["rs3"])?;
    let before = (
        setup.bpvs("mark list --json")?,
        servers_and_services(&setup.bpvs("list --json")?)?,
    );
    setup.daemon.kill()?;
    setup.daemon.run()?;
    let after = (
        setup.bpvs("mark list --json")?,
        servers_and_services(&setup.bpvs("list --json")?)?,
    );
    same("the table", &after, &before)?;
    // The turn goes on where it was.
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )
}

/// Every address that a listing mentions, in its order.
fn servers_and_services(list: &str) -> Result<Vec<String>> {
    fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                fields
                    .iter()
                    .for_each(|(name, value)| match value.as_str() {
                        Some(text) => found.push(format!("{name}={text}")),
                        None if name == "weight" => found.push(format!("weight={value}")),
                        None => collect(value, found),
                    })
            }
            serde_json::Value::Array(values) => {
                values.iter().for_each(|value| collect(value, found))
            }
            _ => {}
        }
    }
    let value = serde_json::from_str(list).with_context(|| format!("not JSON: {list}"))?;
    let mut found = Vec::new();
    collect(&value, &mut found);
    ensure!(
        found.len() > 4,
        "a listing with next to nothing in it: {list}"
    );
    Ok(found)
}

/// What bpvs could have changed on a host, a line each.
fn traces(host: &Host) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut note =
        |what: &str, text: &str| all.extend(text.lines().map(|line| format!("{what}: {line}")));
    for command in [
        "link",
        "address",
        "route show table all",
        "neigh show nud permanent",
        "rule",
    ] {
        note(command, &host.ip(command)?);
    }
    for interface in ["eth0", "br0", "lo", "rs1"] {
        note("TCX", &host.run(|| attached::programs(interface))??);
        for direction in ["ingress", "egress"] {
            // Without the qdisc that bpvs may add there is nothing to show, and tc says so with an
            // error.
            let filters = host
                .output("tc", &["filter", "show", "dev", interface, direction])
                .unwrap_or_default();
            note(&format!("tc {interface} {direction}"), &filters);
        }
    }
    note("tc qdisc", &host.output("tc", &["qdisc", "show"])?);
    for sysctl in [
        "ip_forward",
        "conf/all/rp_filter",
        "conf/all/accept_local",
        "conf/all/route_localnet",
    ] {
        note(
            sysctl,
            &host.run(|| fs::read_to_string(format!("/proc/sys/net/ipv4/{sysctl}")))??,
        );
    }
    Ok(all)
}

fn down_after(context: &Context, kill_first: bool) -> Result<()> {
    let lab = context.lab()?;
    let net = Director::build(&lab, &Options::default())?;
    let before = traces(&net.director)?;
    let daemon = context.daemon(&lab, &net.director)?;
    let idle: Vec<_> = traces(&net.director)?
        .difference(&before)
        .cloned()
        .collect();
    same("attached before the first service", &idle, &Vec::new())?;
    let setup = Setup { lab, net, daemon };
    setup.services("")?;
    client::who(&setup.net.client, at(WEB))?;
    ensure!(
        traces(&setup.net.director)? != before,
        "services are served and no trace of it is found: this case sees nothing"
    );
    if kill_first {
        setup.daemon.kill()?;
    }
    setup.bpvs("down")?;
    let after = traces(&setup.net.director)?;
    let left: Vec<_> = after.symmetric_difference(&before).cloned().collect();
    same("what is not as it was before", &left, &Vec::new())?;
    same("pins", &setup.daemon.pins()?, &Vec::new())?;
    ensure!(
        client::connect_result(&setup.net.client, at(WEB))?.is_err(),
        "the service still answers"
    );
    Ok(())
}

fn down(context: &Context) -> Result<()> {
    down_after(context, false)
}

fn down_without_daemon(context: &Context) -> Result<()> {
    down_after(context, true)
}

fn down_while_ending(context: &Context) -> Result<()> {
    for _ in 0..2 {
        let setup = Setup::usual(context, 1)?;
        let process = setup.daemon.process().context("no daemon")?;
        process.signal(nix::sys::signal::Signal::SIGTERM);
        setup.bpvs("down")?;
        ensure!(
            setup.daemon.ended(patient(Duration::from_secs(5)))?,
            "the daemon still runs"
        );
        same("pins", &setup.daemon.pins()?, &Vec::new())?;
    }
    Ok(())
}

fn changed_while_dead(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 2)?;
    client::turns(&setup.net.client, at(WEB), 2)?;
    setup.daemon.kill()?;
    setup.net.recreate_server(&setup.lab, 1)?;
    // What the daemon knew about the server's link no longer holds; the kernel's own knowledge has
    // to do.
    // First the daemon's lease on the old Ethernet address has to run out.
    let deadline = Instant::now() + patient(Duration::from_secs(15));
    while let Err(error) = client::turns(&setup.net.client, at(WEB), 4) {
        ensure!(Instant::now() < deadline, "without the daemon: {error:#}");
    }
    let other = setup.net.add_client(&setup.lab)?;
    setup.daemon.run()?;
    client::turns(&setup.net.client, at(WEB), 4)?;
    client::turns(&other, at(WEB), 2)
        .context("by an interface that came while the daemon was dead")
        .map(drop)
}

fn first_start_cut_short(context: &Context) -> Result<()> {
    let options = Options {
        servers: 2,
        ..Options::default()
    };
    let setup = Setup::new(context, &options)?;
    let daemon = &setup.daemon;
    daemon.kill()?;
    // As if it had come no further.
    let folder = daemon.bpf_folder();
    let is_map = |pin: &&String| MapData::from_pin(folder.join(pin)).is_ok();
    let pins = daemon.pins()?;
    let maps: Vec<&String> = pins.iter().filter(is_map).collect();
    let named = |name: &str| -> Result<std::path::PathBuf> {
        let pin = maps.iter().find(|pin| pin.ends_with(&format!("/{name}")));
        Ok(folder.join(pin.with_context(|| format!("no pin of {name}"))?))
    };
    let kept = ["DUE", "SERVERS", "TEMPLATES"];
    for pin in &maps {
        if !kept.iter().any(|name| pin.ends_with(&format!("/{name}"))) {
            fs::remove_file(folder.join(pin))?;
        }
    }
    daemon.run_as(&[], &["--connections", "3000", "--servers", "300"])?;
    setup.services("")?;
    let size =
        |name: &str| -> Result<u32> { Ok(MapData::from_pin(named(name)?)?.info()?.max_entries()) };
    same("slots and their words", &size("DUE")?, &size("RING")?)?;
    same("entries", &size("CONNS")?, &(2 * size("RING")?))?;
    same("servers", &size("SERVERS")?, &size("SERVER_STATS")?)?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 4)?,
        &["rs2", "rs1", "rs2", "rs1"],
    )
}

fn two_daemons(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let mut second = setup
        .daemon
        .command(&setup.net.director, &["run", "--bpffs"]);
    second
        .arg(setup.daemon.bpf_folder().join("bpvs"))
        .stderr(std::process::Stdio::null());
    let (mut second, process) = setup.lab.start(&mut second)?;
    let deadline = Instant::now() + patient(Duration::from_secs(5));
    let status = loop {
        match second.try_wait()? {
            None if Instant::now() > deadline => {
                process.kill();
                bail!("a second daemon runs in the same folder");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
            Some(status) => break status,
        }
    };
    ensure!(
        !status.success(),
        "a second daemon in the same folder ended with success"
    );
    setup.bpvs("list")?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )
}

/// Programs attached by TCX, which iproute2 before 6.6 does not show.
mod attached {
    use std::ffi::CString;

    use anyhow::{Context as _, Result};

    /// Number of BPF_PROG_QUERY.
    const PROG_QUERY: libc::c_long = 16;
    /// Attach types BPF_TCX_INGRESS and BPF_TCX_EGRESS.
    const TCX: [u32; 2] = [46, 47];

    /// The start of `union bpf_attr` for a query.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        padding: [u32; 9],
    }

    /// A line for each direction of the interface: how many programs. Nothing where the kernel has
    /// no TCX.
    pub(super) fn programs(interface: &str) -> Result<String> {
        let name = CString::new(interface)?;
        // SAFETY: the name ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(std::io::Error::last_os_error())
                .with_context(|| format!("no interface {interface}"));
        }
        let mut text = String::new();
        for attach_type in TCX {
            let mut query = Query {
                target_ifindex: index,
                attach_type,
                ..Query::default()
            };
            // SAFETY: the structure is a valid start of `union bpf_attr`, and its size is given.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    PROG_QUERY,
                    &raw mut query,
                    size_of::<Query>(),
                )
            };
            if result == 0 && query.count > 0 {
                text += &format!("{interface}: {} programs at {attach_type}\n", query.count);
            }
        }
        Ok(text)
    }
}
