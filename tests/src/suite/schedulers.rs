//! The schedulers by their names, through the commands and the daemon: their tables made, kept and given back.

use anyhow::{Context as _, Result, ensure};

use super::setup::{Setup, WEB, same};
use super::{Case, Context, case};
use crate::client;
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "schedulers/all",
        "a scheduler that is refused, is not kept, or finds no real server",
        all,
    ),
    case(
        "schedulers/tables",
        "a hash table that does not follow its service's servers, or is lost with the daemon",
        tables,
    ),
];

/// Those that find a real server.
const ALL: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

fn all(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    for scheduler in ALL {
        setup.bpvs(&format!("service edit tcp:{WEB} --scheduler {scheduler}"))?;
        client::turns(&setup.net.client, at(WEB), 4).context(scheduler)?;
        let list = setup.bpvs("list")?;
        ensure!(
            list.contains(&format!("{WEB} {scheduler}")),
            "{scheduler} is not in the list:\n{list}"
        );
    }
    setup.bpvs(&format!("service edit tcp:{WEB} --scheduler none"))?;
    let refused = client::connect_result(&setup.net.client, at(WEB))?;
    ensure!(refused.is_err(), "a connection without a scheduler");
    Ok(())
}

/// The one real server that all of some connections reach.
fn only(setup: &Setup) -> Result<String> {
    let turns = client::turns(&setup.net.client, at(WEB), 6)?;
    let first = turns.first().context("no answer")?;
    ensure!(
        turns.iter().all(|server| server == first),
        "one client, several servers: {turns:?}"
    );
    Ok(first.clone())
}

fn tables(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 3)?;
    for scheduler in ["sh", "mh", "dh"] {
        setup.bpvs(&format!("service edit tcp:{WEB} --scheduler {scheduler}"))?;
        let before = only(&setup)?;
        let number = before.trim_start_matches("rs");
        let server = format!("tcp:{WEB} 10.0.1.1{number}:8000");
        setup.daemon.kill()?;
        same("the server without a daemon", &only(&setup)?, &before)?;
        setup.daemon.run()?;
        same("the server after a restart", &only(&setup)?, &before)?;

        setup.bpvs(&format!("server edit {server} --weight 0"))?;
        let refused = client::connect_result(&setup.net.client, at(WEB))?;
        ensure!(refused.is_err(), "{scheduler}: a connection to weight 0");
        setup.bpvs(&format!("server edit {server} --weight 1"))?;
        same("the server with weight 1 again", &only(&setup)?, &before)?;

        setup.bpvs(&format!("server remove {server}"))?;
        let other = only(&setup)?;
        ensure!(
            other != before,
            "{scheduler}: a connection to a removed server"
        );
        setup.bpvs(&format!("server add {server}"))?;
        only(&setup)?;
    }
    // Tables that were given back: there is room for 32 of mh.
    for _ in 0..3 {
        for scheduler in ["mh", "rr", "sh"] {
            setup.bpvs(&format!("service edit tcp:{WEB} --scheduler {scheduler}"))?;
        }
    }
    only(&setup).map(drop)
}
