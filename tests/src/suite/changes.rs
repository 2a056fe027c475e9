//! Changes while traffic flows: weights, servers, services, files, interfaces.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::setup::{ECHO, Setup, WEB, in_turn, same};
use super::{Case, Context, case, long_case};
use crate::client;
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::director::{Options, SERVICE, server_address};

pub(super) const CASES: &[Case] = &[
    case(
        "changes/turn",
        "a turn that starts over, or skips a server, when the list changes",
        turn,
    ),
    case(
        "changes/weight-0",
        "a server of weight 0 that gets new connections, or loses those that it has",
        weight_0,
    ),
    case(
        "changes/drain-under-load",
        "a request that is lost when servers come and go in good order",
        drain_under_load,
    ),
    case(
        "changes/remove-service",
        "a service that goes on after it was removed, or takes another with it",
        remove_service,
    ),
    case(
        "changes/mistakes",
        "a wrong command that changes something, or fails without saying why",
        mistakes,
    ),
    case(
        "changes/file",
        "a file that is applied in part, or not the same twice",
        file,
    ),
    case(
        "changes/bad-file",
        "a file with a mistake of which the rest is applied",
        bad_file,
    ),
    case(
        "changes/new-interface",
        "an interface that came after the daemon and is not served",
        new_interface,
    ),
    case(
        "changes/new-server-host",
        "a real server re-created with another MAC address that is not reached",
        new_server_host,
    ),
    long_case(
        "changes/apply-50-times",
        "a request lost while files are applied one after the other",
        apply_50_times,
    ),
];

fn turn(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 3)?;
    let web = |setup: &Setup, times| client::turns(&setup.net.client, at(WEB), times);
    in_turn(&web(&setup, 1)?, &["rs3"])?;
    let number = setup.net.add_server(&setup.lab)?;
    setup.bpvs(&format!(
        "server add tcp:{WEB} {}:8000",
        server_address(number)
    ))?;
    // The new one stands first in the list; the turn goes on behind the one that was chosen last.
    in_turn(&web(&setup, 5)?, &["rs2", "rs1", "rs4", "rs3", "rs2"])?;
    setup.bpvs(&format!("server remove tcp:{WEB} 10.0.1.11:8000"))?;
    in_turn(&web(&setup, 4)?, &["rs4", "rs3", "rs2", "rs4"])?;
    setup.bpvs(&format!("server edit tcp:{WEB} 10.0.1.13:8000 --weight 0"))?;
    in_turn(&web(&setup, 3)?, &["rs2", "rs4", "rs2"])
}

fn weight_0(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let long = Load::new(Kind::Long, at(ECHO))
        .clients(10)
        .endless(Duration::from_secs(20))
        .pause(Duration::from_millis(20));
    let long = long.start(&setup.net.client)?;
    long.wait_for(20)?;
    setup.bpvs(&format!("server edit tcp:{ECHO} 10.0.1.12:7000 --weight 0"))?;
    let new = Load::new(Kind::Long, at(ECHO))
        .clients(6)
        .count(60)
        .run(&setup.net.client)?;
    new.all_answered()?;
    same(
        "servers of new connections",
        &new.by_task.keys().map(String::as_str).collect::<Vec<_>>(),
        &vec!["rs1"],
    )?;
    long.wait_for(50)?;
    let long = long.stop()?;
    long.all_answered()?;
    same(
        "servers of the connections from before",
        &long.by_task.len(),
        &2,
    )?;
    setup.bpvs(&format!("server edit tcp:{ECHO} 10.0.1.12:7000 --weight 1"))?;
    let again = Load::new(Kind::Long, at(ECHO))
        .clients(6)
        .count(60)
        .run(&setup.net.client)?;
    again.all_answered()?;
    same("servers after weight 1 again", &again.by_task.len(), &2)
}

fn drain_under_load(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 3)?;
    let short = Load::new(Kind::Short, at(WEB))
        .clients(4)
        .endless(Duration::from_secs(30))
        .start(&setup.net.client)?;
    let keep = Load::new(Kind::KeepAlive { requests: 100 }, at(WEB))
        .clients(4)
        .endless(Duration::from_secs(30));
    let keep = keep
        .pause(Duration::from_millis(2))
        .start(&setup.net.client)?;
    for _ in 0..2 {
        let number = setup.net.add_server(&setup.lab)?;
        setup.bpvs(&format!(
            "server add tcp:{WEB} {}:8000",
            server_address(number)
        ))?;
        short.wait_for(100)?;
    }
    for index in (2..5).rev() {
        let server = format!(
            "tcp:{WEB} {}:8000",
            server_address(u8::try_from(index + 1)?)
        );
        setup.bpvs(&format!("server edit {server} --weight 0"))?;
        // Connections that were under way when the weight changed get to the server's backlog
        // meanwhile.
        std::thread::sleep(patient(Duration::from_millis(50)));
        setup.net.tasks[index].drain(Duration::from_secs(5))?;
        setup.bpvs(&format!("server remove {server}"))?;
        short.wait_for(100)?;
    }
    short.stop()?.all_answered().context("short connections")?;
    keep.stop()?
        .all_answered()
        .context("keep-alive connections")
}

fn remove_service(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    setup.bpvs(&format!("service remove tcp:{WEB}"))?;
    let refused = client::connect_result(&setup.net.client, at(WEB))?;
    ensure!(refused.is_err(), "the removed service still answers");
    Load::new(Kind::Long, at(ECHO))
        .clients(2)
        .count(10)
        .run(&setup.net.client)?
        .all_answered()?;
    setup.bpvs(&format!("service add tcp:{WEB} --scheduler rr"))?;
    setup.bpvs(&format!("server add tcp:{WEB} 10.0.1.11:8000"))?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs1", "rs1"],
    )
}

fn mistakes(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let before = setup.bpvs("list --json")?;
    for (command, word) in [
        ("service add tcp:10.0.0.100:80", "there already"),
        ("service add tcp:10.0.0.100:99999", "99999"),
        ("service add tcp:10.0.0.300:80", "10.0.0.300"),
        (
            "service add tcp:10.0.0.100:81 --scheduler nonsense",
            "nonsense",
        ),
        ("service remove tcp:10.0.0.100:82", "10.0.0.100:82"),
        ("server add tcp:10.0.0.100:82 10.0.1.11:80", "10.0.0.100:82"),
        (
            "server add tcp:10.0.0.100:80 10.0.1.11:8000",
            "10.0.1.11:8000",
        ),
        ("server add tcp:10.0.0.100:80 224.0.0.1:80", "224.0.0.1"),
        (
            "server add tcp:10.0.0.100:80 10.0.1.13:80 --weight 2147483648",
            "2147483648",
        ),
        (
            "server remove tcp:10.0.0.100:80 10.0.1.99:80",
            "10.0.1.99:80",
        ),
        ("service add fwmark:0", "0"),
    ] {
        let error = setup
            .bpvs(command)
            .err()
            .with_context(|| format!("bpvs {command} succeeded"))?;
        ensure!(
            format!("{error:#}").contains(word),
            "bpvs {command}: the error does not mention {word}: {error:#}"
        );
    }
    same(
        "the table after mistakes",
        &stable(&setup.bpvs("list --json")?)?,
        &stable(&before)?,
    )?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )
}

/// The table without its counters, which move by themselves.
fn stable(list: &str) -> Result<serde_json::Value> {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.retain(|name, _| {
                    ![
                        "counters",
                        "active",
                        "inactive",
                        "connections",
                        "packets",
                        "bytes",
                    ]
                    .contains(&name.as_str())
                });
                fields.values_mut().for_each(strip);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(list).with_context(|| format!("not JSON: {list}"))?;
    strip(&mut value);
    Ok(value)
}

const FILE: &str = r#"
[[service]]
address = "tcp:10.0.0.100:80"
scheduler = "rr"

  [[service.server]]
  address = "10.0.1.11:8000"

  [[service.server]]
  address = "10.0.1.12:8000"
"#;

fn file(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    setup.daemon.apply(&setup.net.director, "one.toml", FILE)?;
    // The last in the file is the newest.
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 3)?,
        &["rs2", "rs1", "rs2"],
    )?;
    let before = stable(&setup.bpvs("list --json")?)?;
    setup.daemon.apply(&setup.net.director, "one.toml", FILE)?;
    same(
        "the table after the same file again",
        &stable(&setup.bpvs("list --json")?)?,
        &before,
    )?;
    in_turn(&client::turns(&setup.net.client, at(WEB), 1)?, &["rs1"])?;
    let less = FILE
        .replace("10.0.1.12:8000", "10.0.1.12:7999")
        .replace("7999\"", "7999\"\n  weight = 0");
    setup.daemon.apply(&setup.net.director, "two.toml", &less)?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs1", "rs1"],
    )
}

fn bad_file(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    let good_then = |rest: &str| format!("{FILE}\n{rest}\n");
    for (text, word) in [
        (
            good_then("[[service]]\naddress = \"tcp:10.0.0.100:81\"\ncolour = \"blue\""),
            "colour",
        ),
        (
            good_then("[[service]]\naddress = \"tcp:10.0.0.1oo:81\""),
            "10.0.0.1oo",
        ),
        (
            good_then("[[service]]\naddress = \"tcp:10.0.0.100:80\""),
            "10.0.0.100:80",
        ),
        (FILE.replace("10.0.1.12:8000", "10.0.1.12:80000"), "80000"),
    ] {
        let error = setup
            .daemon
            .apply(&setup.net.director, "bad.toml", &text)
            .err();
        let error = format!(
            "{:#}",
            error.with_context(|| format!("a file with a bad {word} was applied"))?
        );
        ensure!(
            error.contains(word) && error.contains("bad.toml"),
            "the error does not say where or what: {error}"
        );
        let refused = client::connect_result(&setup.net.client, at(WEB))?;
        ensure!(
            refused.is_err(),
            "a part of a file with a mistake ({word}) was applied"
        );
    }
    Ok(())
}

fn new_interface(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let other = setup.net.add_client(&setup.lab)?;
    // The daemon hears of it from the kernel; half a second is plenty for that.
    std::thread::sleep(Duration::from_millis(500));
    let took = client::turns(&other, at(WEB), 2)
        .with_context(|| format!("{SERVICE} by the new interface"))?;
    in_turn(&took, &["rs2", "rs1"])
}

fn new_server_host(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 2)?;
    in_turn(
        &client::turns(&setup.net.client, at(WEB), 2)?,
        &["rs2", "rs1"],
    )?;
    for round in 1..=2 {
        setup.net.recreate_server(&setup.lab, 1)?;
        let got = client::turns(&setup.net.client, at(WEB), 2);
        in_turn(
            &got.with_context(|| format!("re-created {round} times"))?,
            &["rs2", "rs1"],
        )?;
    }
    Ok(())
}

fn apply_50_times(context: &Context) -> Result<()> {
    let setup = Setup::new(context, &Options::default())?;
    setup.daemon.apply(&setup.net.director, "0.toml", FILE)?;
    let short = Load::new(Kind::Short, at(WEB))
        .clients(4)
        .endless(Duration::from_secs(60))
        .start(&setup.net.client)?;
    for round in 1..=50 {
        let weight = |server: u32| 1 + (round * server) % 7;
        let text = FILE
            .replace("11:8000\"", &format!("11:8000\"\n  weight = {}", weight(1)))
            .replace("12:8000\"", &format!("12:8000\"\n  weight = {}", weight(2)))
            .replace("\"rr\"", if round % 2 == 0 { "\"rr\"" } else { "\"wrr\"" });
        setup
            .daemon
            .apply(&setup.net.director, &format!("{round}.toml"), &text)?;
        short.wait_for(20)?;
    }
    short.stop()?.all_answered()
}
