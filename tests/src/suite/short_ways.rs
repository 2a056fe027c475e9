//! Servers on the director's host: by the bridge, by its port, or at once into their namespaces.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::setup::{ECHO, Setup, UDP, WEB, same};
use super::{Case, Context, case};
use crate::client;
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::tap::Tap;
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "short-ways/as-set",
        "packets that go another way to a server on this host than `shortcut` says, or do not arrive",
        as_set,
    ),
    case(
        "short-ways/made-anew",
        "packets that go on to the port of a server that is behind another one now",
        made_anew,
    ),
];

/// For each value of the setting: whether questions are seen to leave by the bridge, and by its port.
const WAYS: [(u32, [bool; 2]); 4] = [
    (1, [false, true]),
    (0, [true, true]),
    (2, [false, false]),
    (1, [false, true]),
];

fn as_set(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    same(
        "the default",
        &setup.bpvs("settings get shortcut")?.trim(),
        &"1",
    )?;
    for (value, seen) in WAYS {
        setup.bpvs(&format!("settings set shortcut={value}"))?;
        takes(&setup, seen)?;
        // Connections, and segments as large as they get.
        Load::new(Kind::Long, at(ECHO))
            .clients(4)
            .count(40)
            .run(&setup.net.client)?
            .all_answered()?;
        client::download(&setup.net.client, at(WEB), 8 << 20)?;
    }
    Ok(())
}

/// Asks until questions take this way: the bridge has to have heard of the server, and the daemon of that.
fn takes(setup: &Setup, expected: [bool; 2]) -> Result<()> {
    let deadline = Instant::now() + patient(Duration::from_secs(5));
    loop {
        let taps = [
            Tap::open(&setup.net.director, "br0")?,
            Tap::open(&setup.net.director, "rs1")?,
        ];
        same(
            "who answers",
            &client::who_udp(&setup.net.client, at(UDP))?.as_str(),
            &"rs1",
        )?;
        let mut seen = [false; 2];
        for (seen, tap) in seen.iter_mut().zip(&taps) {
            let (frames, _) = tap.passed()?;
            *seen = frames
                .iter()
                .any(|frame| frame.leaves && frame.bytes.get(23) == Some(&17));
        }
        if seen == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("seen to leave by bridge and port: {seen:?}, not {expected:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn made_anew(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 1)?;
    for (value, seen) in [(1, [false, true]), (2, [false, false])] {
        setup.bpvs(&format!("settings set shortcut={value}"))?;
        takes(&setup, seen)?;
        setup.net.recreate_server(&setup.lab, 1)?;
        let deadline = Instant::now() + patient(Duration::from_secs(5));
        while client::who_udp(&setup.net.client, at(UDP)).is_err() {
            if Instant::now() > deadline {
                bail!("shortcut={value}: the server that was made anew is not reached");
            }
        }
        takes(&setup, seen)?;
    }
    Ok(())
}
