//! The kernel's packet generator (`pktgen`): datagrams of one flow, sent from within the kernel one after the other.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::directors::{mac, run};
use super::opponents::Opponent;
use super::workloads::DATAGRAMS;
use crate::host::{finish, tool};
use crate::topology::director::CLIENT;

/// Its files, as the calling thread's namespace has them.
const FOLDER: &str = "/proc/thread-self/net/pktgen";
/// Bytes of a frame without its checksum: the smallest.
const FRAME: u32 = 60;
/// The port that they come from.
const FROM: u16 = 2000;

/// Loads it, and says why it cannot be had where it cannot.
///
/// # Errors
///
/// Where the kernel does not have it.
pub fn load() -> Result<()> {
    finish(tool("modprobe").arg("pktgen").stdin(Stdio::null()))
        .map(drop)
        .context("this kernel has no packet generator (pktgen)")
}

/// Has the real server throw away what comes, before its stack looks for a socket.
///
/// # Errors
///
/// Without iptables.
pub fn discard(opponent: &Opponent) -> Result<()> {
    run(
        &opponent.net.servers[0],
        "iptables",
        &format!("-t raw -A PREROUTING -p udp --dport {DATAGRAMS} -j DROP"),
    )
}

/// Sends so many datagrams from the client; nanoseconds of the clock for each.
///
/// # Errors
///
/// Where not all of them reach the real server.
pub fn send(opponent: &Opponent, count: u32) -> Result<f64> {
    let (net, target) = (&opponent.net, opponent.way.target());
    let gateway = mac(&net.director, "eth0")?;
    let arrived = || received(opponent);
    let before = arrived()?;
    let took = net.client.run(|| generate(target, &gateway, count))??;
    let came = arrived()? - before;
    // Hosts say other things, too.
    ensure!(
        (u64::from(count)..u64::from(count) + 20).contains(&came),
        "of {count} packets {came} reached the real server"
    );
    Ok(took)
}

fn generate(target: Ipv4Addr, gateway: &str, count: u32) -> Result<f64> {
    let tell = |file: &str, line: &str| {
        fs::write(format!("{FOLDER}/{file}"), format!("{line}\n"))
            .with_context(|| format!("the packet generator refuses `{line}`"))
    };
    tell("kpktgend_0", "rem_device_all")?;
    tell("kpktgend_0", "add_device eth0")?;
    for line in [
        format!("count {count}"),
        format!("pkt_size {FRAME}"),
        "clone_skb 0".to_owned(),
        "delay 0".to_owned(),
        format!("dst {target}"),
        format!("dst_mac {gateway}"),
        format!("src_min {CLIENT}"),
        format!("src_max {CLIENT}"),
        format!("udp_src_min {FROM}"),
        format!("udp_src_max {FROM}"),
        format!("udp_dst_min {DATAGRAMS}"),
        format!("udp_dst_max {DATAGRAMS}"),
    ] {
        tell("eth0", &line)?;
    }
    // Comes back when all are sent.
    tell("pgctrl", "start")?;
    let said = fs::read_to_string(format!("{FOLDER}/eth0"))?;
    took(&said, count).with_context(|| format!("the packet generator says: {said}"))
}

/// Nanoseconds a packet, out of `Result: OK: 8500(c8400+d100) usec, 1000 (60byte,0frags)`.
fn took(said: &str, count: u32) -> Option<f64> {
    let (_, result) = said.split_once("Result: OK: ")?;
    let (microseconds, rest) = result.split_once('(')?;
    let (_, sent) = rest.split_once("usec, ")?;
    let sent = sent.split_whitespace().next()?;
    let microseconds: f64 = microseconds.parse().ok()?;
    (sent.parse() == Ok(count)).then(|| microseconds * 1000.0 / f64::from(count))
}

fn received(opponent: &Opponent) -> Result<u64> {
    let said =
        opponent.net.servers[0].run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    said.lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"))
        .and_then(|numbers| numbers.split_whitespace().nth(1)?.parse().ok())
        .context("no count of received packets")
}

#[cfg(test)]
mod tests {
    use super::took;

    #[test]
    fn the_time_of_a_packet_is_out_of_the_generators_words() {
        let said = "Params: count 1000\nCurrent:\n     pkts-sofar: 1000\n\
            Result: OK: 8500(c8400+d100) usec, 1000 (60byte,0frags)\n  117647pps\n";
        assert_eq!(took(said, 1000), Some(8500.0));
        assert_eq!(took(said, 2000), None, "not all were sent");
        assert_eq!(took("Result: Idle\n", 1000), None);
    }
}
