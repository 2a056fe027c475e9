//! The programs of the socket hook. The kernel does not run them by itself (`BPF_PROG_TEST_RUN` is not there for programs of
//! `cgroup_sock_addr` and `cgroup_sock`): sockets connect, and the kernel counts how long the programs take.

use std::net::{SocketAddrV4, UdpSocket};

use anyhow::{Context as _, Result, ensure};

use super::packets::PORT;
use super::report::Report;
use super::stand::Stand;
use crate::bench::kernel::Statistics;
use crate::bench::spent::Spent;
use crate::host::Host;
use crate::topology::director::SERVICE;

/// Sockets of one look.
const SOCKETS: u64 = 3000;

/// Times what runs when a socket connects and is closed.
///
/// # Errors
///
/// Where sockets are not led to the real server.
pub fn measure(stand: &Stand, rounds: u32, report: &mut Report) -> Result<()> {
    let pins = [stand.pin("connect4_prog")?, stand.pin("sock_release_prog")?];
    let _on = Statistics::on()?;
    let service = SocketAddrV4::new(SERVICE, PORT);
    let other = SocketAddrV4::new(SERVICE, PORT + 1);
    for round in 0..=rounds {
        for (host, target, [connect, release]) in [
            (
                &stand.net.director,
                service,
                ["connect, to a service", "close, led to a service"],
            ),
            (
                &stand.net.director,
                other,
                ["connect, no service", "close, no service"],
            ),
            (
                &stand.net.client,
                other,
                ["connect, a host without bpvs", "close, a host without bpvs"],
            ),
        ] {
            let before = [Spent::of(&pins[0])?, Spent::of(&pins[1])?];
            sockets(host, target)?;
            for ((pin, before), name) in pins.iter().zip(before).zip([connect, release]) {
                let spent = Spent::of(pin)?.since(before);
                ensure!(
                    spent.runs >= SOCKETS,
                    "{name}: the program ran {} times for {SOCKETS} sockets",
                    spent.runs
                );
                if round > 0 {
                    report.add_socket(name, spent.each());
                }
            }
        }
    }
    Ok(())
}

fn sockets(host: &Host, target: SocketAddrV4) -> Result<()> {
    host.run(|| {
        crate::bench::workloads::pin(0);
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket
                .connect(target)
                .with_context(|| format!("cannot connect to {target}"))?;
        }
        Ok(())
    })?
}
