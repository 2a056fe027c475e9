//! Settings, and what services and servers are told besides an address: what is set is read, and stays.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::setup::{ECHO, SERVICES, Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::CLIENT;

pub(super) const CASES: &[Case] = &[
    case(
        "settings/round-trip",
        "a setting that is not kept: by another command, by another scope, by a restart or a kill",
        round_trip,
    ),
    case(
        "settings/refused",
        "a sysctl that is taken and does nothing",
        refused,
    ),
    case(
        "settings/attributes-survive",
        "persistence, thresholds or flags that a killed daemon loses, or that a half-made change leaves mixed",
        attributes_survive,
    ),
    case(
        "settings/drop-packet",
        "drop_packet that drops nothing, or more than one new connection of so many, or established ones",
        drop_packet,
    ),
    case(
        "settings/strangers-are-told",
        "nat_icmp_send that is lost with a daemon, or not there in a scope that begins with it",
        strangers_are_told,
    ),
    case(
        "settings/service-comes-back",
        "connections that break for good when their service is removed and added again, as IPVS's do not",
        service_comes_back,
    ),
];

/// The values of all settings that can be set, a line each.
fn values(setup: &Setup) -> Result<Vec<String>> {
    let all: Vec<Value> = serde_json::from_str(&setup.bpvs("settings --json")?)?;
    ensure!(all.len() > 20, "only {} settings", all.len());
    let line = |setting: &Value| {
        Some(format!(
            "{}={}",
            setting["name"].as_str()?,
            setting["value"].as_str()?
        ))
    };
    all.iter()
        .filter(|setting| setting["fixed"].is_null())
        .map(|setting| line(setting).context("a setting without a name or a value"))
        .collect()
}

/// None of them is at its default.
const OTHERS: &str = "conn_reuse_mode=3 expire_nodest_conn=1 expire_quiescent_template=1 sloppy_tcp=1 cache_bypass=1 \
                      drop_entry=1 drop_packet=1 secure_tcp=1 lblc_expiration=60 lblcr_expiration=90 am_droprate=7 amemthresh=1 run_estimation=0 nat_icmp_send=1 schedule_icmp=1 reopen_removed=0 \
                      xdp=eth9 socket_hook=0 \
                      timeouts.tcp=1h timeouts.tcp-fin=30s timeouts.udp=10s";

fn round_trip(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    let before = values(&setup)?;
    setup.bpvs(&format!("settings set {OTHERS}"))?;
    let set = values(&setup)?;
    for (default, now) in before.iter().zip(&set) {
        ensure!(
            default != now,
            "{now} is what it was: the case does not see it change"
        );
    }
    for assignment in OTHERS.split_whitespace() {
        ensure!(
            set.iter().any(|value| value == assignment),
            "{assignment} in {set:?}"
        );
    }
    // Another scope has its own.
    let elsewhere = setup
        .daemon
        .bpvs(&setup.net.client, "settings get conn_reuse_mode")?;
    same("conn_reuse_mode of another scope", &elsewhere.trim(), &"1")?;

    setup.daemon.stop()?;
    setup.daemon.run()?;
    same("settings after a restart", &values(&setup)?, &set)?;
    setup.daemon.kill()?;
    setup.daemon.run()?;
    same("settings after a kill", &values(&setup)?, &set)?;

    // A file's settings are all of them: what it does not name is at its default.
    let director = &setup.net.director;
    setup.daemon.apply(
        director,
        "settings.toml",
        "[settings]\nsloppy_tcp = 1\ntimeouts = { udp = \"10s\" }\n",
    )?;
    let from_file = values(&setup)?;
    for (default, now) in before.iter().zip(&from_file) {
        let named = ["sloppy_tcp=1", "timeouts.udp=10s"].contains(&now.as_str());
        ensure!(
            named != (default == now),
            "{now} where {default} is the default"
        );
    }
    setup.daemon.kill()?;
    setup.daemon.run()?;
    same(
        "settings of a file after a kill",
        &values(&setup)?,
        &from_file,
    )?;
    setup.daemon.apply(director, "settings.toml", "")?;
    same("settings without the file", &values(&setup)?, &before)
}

fn refused(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    let before = values(&setup)?;
    for (assignment, says) in [
        ("conntrack=1", "connection tracking"),
        ("sync_version=0", "not synchronised"),
        ("drop_entry=4", "from 0 to 3"),
        ("no_such_thing=1", "bpvs settings"),
    ] {
        let error = setup
            .bpvs(&format!("settings set sloppy_tcp=1 {assignment}"))
            .err()
            .with_context(|| format!("{assignment} was taken"))?;
        ensure!(
            format!("{error:#}").contains(says),
            "{assignment}: {error:#}"
        );
    }
    setup.bpvs("settings set conntrack=0 snat_reroute=1")?;
    same("settings after what was refused", &values(&setup)?, &before)
}

/// The table of the director without counts, as JSON.
fn table(setup: &Setup) -> Result<Value> {
    fn without_counts(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["counters", "rates", "active", "inactive", "order"] {
                    fields.remove(name);
                }
                if fields.contains_key("weight") {
                    fields.remove("persistent");
                }
                fields.values_mut().for_each(without_counts);
            }
            Value::Array(values) => values.iter_mut().for_each(without_counts),
            _ => {}
        }
    }
    let mut listing = serde_json::from_str(&setup.bpvs("list --json")?)?;
    without_counts(&mut listing);
    Ok(listing)
}

fn attributes_survive(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let director = &setup.net.director;
    setup.daemon.script(
        director,
        "service edit tcp:10.0.0.100:80 --persistent=90s --netmask 255.255.255.0 --scheduler-flags flag-1,flag-3 --reset
         server edit tcp:10.0.0.100:80 10.0.1.11:8000 --upper-threshold 100 --lower-threshold 40 --weight 70000
         server edit tcp:10.0.0.100:80 10.0.1.12:8000 --upper-threshold 10
         service edit udp:10.0.0.100:9 --one-packet --udp-timeout 20s
         service add tcp:10.0.0.101:0 --persistent
         server add tcp:10.0.0.101:0 10.0.1.11 --method direct
         service add udp:10.0.0.101:53 --loopback
         service add fwmark:9 --persistent=1h --one-packet --socket=false
         server add fwmark:9 10.0.1.12 --method direct --upper-threshold 5",
    )?;
    let before = table(&setup)?;
    let shown = setup.bpvs("list")?;
    for text in [
        "TCP  10.0.0.100:80 rr (flag-1,flag-3, reset) persistent 1m30s mask 255.255.255.0",
        "TCP  10.0.0.101:0 rr persistent 6m",
        "-> 10.0.1.11:0                  Route",
        "UDP  10.0.0.101:53 rr (loopback)",
        "FWM  9 rr (socket=false) persistent 1h ops",
    ] {
        ensure!(shown.contains(text), "`{text}` is not in\n{shown}");
    }
    setup.daemon.kill()?;
    setup.daemon.run()?;
    same("the table after a kill", &table(&setup)?, &before)?;

    // A daemon that dies in the middle of an edit leaves it made or not made.
    let edit = "service edit tcp:10.0.0.100:80 --persistent=30s --netmask 255.255.0.0 --scheduler-flags none --reset=false";
    let mut deaths = 0;
    for step in ["journal-written", "op:1", "ops-applied"] {
        let old = table(&setup)?;
        setup.daemon.stop()?;
        setup.daemon.run_with(&[("BPVS_FAULT", step)])?;
        let said = setup.bpvs(edit);
        if said.is_ok() {
            context.note("no faults in this build: only plain kills were tried".into());
            return Ok(());
        }
        ensure!(
            setup.daemon.ended(Duration::from_secs(2))?,
            "{step}: an error, but no death: {said:?}"
        );
        deaths += 1;
        setup.daemon.run()?;
        let found = table(&setup)?;
        setup.bpvs(edit)?;
        let new = table(&setup)?;
        ensure!(new != old, "{step}: the edit changed nothing");
        ensure!(
            found == old || found == new,
            "{step}: half an edit: {found}"
        );
        setup.bpvs("service edit tcp:10.0.0.100:80 --persistent=90s --netmask 24 --scheduler-flags flag-1,flag-3 --reset")?;
        same(
            "the table after the edit was taken back",
            &table(&setup)?,
            &old,
        )?;
    }
    context.note(format!("died at {deaths} steps of an edit"));
    Ok(())
}

fn drop_packet(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let fresh = |count: u64| {
        let load = Load::new(Kind::Udp { fresh: true }, at(UDP))
            .clients(8)
            .count(count);
        Load {
            timeout: Duration::from_millis(300),
            ..load
        }
        .run(&setup.net.client)
    };
    fresh(100)?.all_answered()?;
    setup.bpvs("settings set drop_packet=3 am_droprate=4")?;
    // Of new connections one in four; IPVS counts them down, so that it is that to one or two on each processor.
    let report = fresh(400)?;
    let dropped: u64 = report.failed.values().sum();
    ensure!(
        (90..=110).contains(&dropped),
        "of 400 new connections {dropped} were dropped, not 100"
    );
    // Those that are there lose nothing.
    let known = Load::new(Kind::KeepAlive { requests: 0 }, at(WEB))
        .clients(1)
        .count(200)
        .run(&setup.net.client)?;
    ensure!(
        known.failed.is_empty(),
        "requests on a connection that was there: {known:?}"
    );
    // And a daemon that dies changes nothing of it.
    setup.daemon.kill()?;
    let report = fresh(100)?;
    let dropped: u64 = report.failed.values().sum();
    ensure!(
        (20..=30).contains(&dropped),
        "without the daemon {dropped} of 100 were dropped, not 25"
    );
    setup.daemon.run()?;
    setup.bpvs("settings set drop_packet=1 amemthresh=0")?;
    fresh(100)?.all_answered()
}

/// Whether a real server's datagram that belongs to no connection is answered by an ICMP error.
fn is_told(setup: &Setup) -> Result<bool> {
    // The client has a socket there: it would not refuse.
    let client = setup.net.client.run(|| UdpSocket::bind((CLIENT, 5000)))??;
    let told = setup.net.servers[0].run(|| {
        let stranger = UdpSocket::bind("10.0.1.11:9999")?;
        stranger.set_read_timeout(Some(patient(Duration::from_millis(300))))?;
        stranger.connect(client.local_addr()?)?;
        stranger.send(b"of no connection")?;
        Ok::<_, std::io::Error>(stranger.recv(&mut [0; 16]))
    })??;
    Ok(told.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}

fn strangers_are_told(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    setup.bpvs("server add udp:10.0.0.100:9 10.0.1.11:9999")?;
    ensure!(!is_told(&setup)?, "told, and nobody has asked for it");
    setup.bpvs("settings set nat_icmp_send=1")?;
    ensure!(is_told(&setup)?, "not told");
    setup.daemon.kill()?;
    ensure!(is_told(&setup)?, "not told without the daemon");
    setup.daemon.run()?;
    ensure!(is_told(&setup)?, "not told by the next daemon");
    setup.bpvs("down")?;
    ensure!(
        setup.daemon.ended(patient(Duration::from_secs(5)))?,
        "the daemon still runs"
    );
    ensure!(!is_told(&setup)?, "told by nobody");
    setup.daemon.run()?;
    let file = "[settings]\nnat_icmp_send = 1\n[[service]]\naddress = \"udp:10.0.0.100:9\"\n  [[service.server]]\n  \
                address = \"10.0.1.11:9999\"\n";
    setup
        .daemon
        .apply(&setup.net.director, "strangers.toml", file)?;
    ensure!(is_told(&setup)?, "not told in a scope that began with it");
    setup.bpvs("server remove udp:10.0.0.100:9 10.0.1.11:9999")?;
    ensure!(
        !is_told(&setup)?,
        "told though it is no real server any more"
    );
    Ok(())
}

fn service_comes_back(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    let long = Load::new(Kind::Long, at(ECHO))
        .clients(20)
        .endless(Duration::from_secs(60))
        .pause(Duration::from_millis(400));
    let long = Load {
        // What it sends meanwhile is lost and sent again.
        timeout: patient(Duration::from_secs(10)),
        ..long
    };
    let long = long.start(&setup.net.client)?;
    long.wait_for(60)?;
    let (echo, port) = SERVICES[1];
    let mut file = format!("[[service]]\naddress = \"{echo}\"\n");
    for server in 1..=3 {
        file += &format!("  [[service.server]]\n  address = \"10.0.1.1{server}:{port}\"\n");
    }
    let start = Instant::now();
    setup.bpvs(&format!("service remove {echo}"))?;
    setup
        .daemon
        .apply(&setup.net.director, "restored.toml", &file)?;
    let took = start.elapsed();
    long.wait_for(100)?;
    let listing: Value = serde_json::from_str(&setup.bpvs("list --json")?)?;
    let services = listing["services"].as_array().into_iter().flatten();
    let servers = services.flat_map(|service| service["servers"].as_array().into_iter().flatten());
    let active: u64 = servers.filter_map(|server| server["active"].as_u64()).sum();
    same("connections that count as active", &active, &20)?;
    context.note(format!("away for {} ms", took.as_millis()));
    long.stop()?.all_answered()
}
