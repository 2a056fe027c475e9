//! Connections that are idle or half closed, and ports that a node publishes by itself.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::checks::{PORT, TCP};
use super::cluster::Cluster;
use crate::client;
use crate::demo::Transcript;
use crate::host::Host;
use crate::socket::set_option;

/// A port that each node has for its own task.
const OWN: u16 = 9090;

pub(super) fn play(out: &Transcript, cluster: &Cluster) -> Result<()> {
    let manager = &cluster.nodes[0];
    let service = SocketAddrV4::new(cluster.address("web")?, PORT);
    let published = SocketAddrV4::new(cluster.nodes[0].address, TCP);
    let ways = [(&cluster.probes[0], service), (&cluster.outside, published)];

    out.heading("Half closed: the client has said all, and waits for what is not yet known");
    for (from, to) in ways {
        let said = half_closed(from, to)?;
        out.result(true, &format!("{} -> {to}: {said}", from.name()));
    }

    out.heading("Idle for 8 s, remembered for 4 s by label: who says nothing is reset, who is kept alive is not");
    manager.docker("service update --quiet --detach --label-add bpvs.timeout=4 web")?;
    let daemon = &cluster.daemons[0];
    let sandbox = cluster.sandbox(0)?;
    cluster.until("4 s are remembered on n1", || {
        Ok(daemon.bpvs(&sandbox, "list")?.contains("tcp-timeout=4s"))
    })?;
    for (from, to) in ways {
        let silent = idle_for(from, to, Duration::from_secs(8), None)?;
        ensure!(
            silent
                .as_ref()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "{to} remembers for longer than its label says, or is silent: {silent:?}"
        );
        out.result(true, &format!("{} -> {to}: {silent:?}", from.name()));
        let alive = idle_for(from, to, Duration::from_secs(8), Some(2))?;
        ensure!(alive.is_ok(), "{to} does not hear keep-alives: {alive:?}");
        out.result(
            true,
            &format!("{} -> {to}, kept alive: {alive:?}", from.name()),
        );
    }
    manager.docker("service update --quiet --detach --label-rm bpvs.timeout web")?;
    cluster.until("2 h 15 m are remembered again", || {
        Ok(!daemon.bpvs(&sandbox, "list")?.contains("tcp-timeout=4s"))
    })?;
    for (from, to) in ways {
        let silent = idle_for(from, to, Duration::from_secs(8), None)?;
        ensure!(silent.is_ok(), "{to} forgets: {silent:?}");
    }

    out.heading("A port that a node publishes for its own task is that task's alone");
    let publish = format!(
        "service update --quiet --detach --publish-add mode=host,target=80,published={OWN} web"
    );
    out.prompt("n1", format_args!("docker {publish}"));
    manager.docker(&publish)?;
    sleep(Duration::from_secs(1));
    cluster.updated("web")?;
    cluster.running("web", 2)?;
    cluster.followed("web", 2)?;
    let mut names = Vec::new();
    for node in &cluster.nodes {
        let to = SocketAddrV4::new(node.address, OWN);
        let turns = client::turns(&cluster.outside, to, 4)?;
        ensure!(
            turns.iter().all(|name| *name == turns[0]),
            "{to} is answered by {turns:?}"
        );
        let seen = client::get(&cluster.outside, to, "/client")?;
        ensure!(seen.contains("you are 192.168.77.254:"), "{seen}");
        out.result(true, &format!("{to}: {seen}"));
        names.push(turns[0].clone());
    }
    ensure!(
        names[0] != names[1],
        "both nodes' own port is answered by {}",
        names[0]
    );
    for daemon in &cluster.daemons {
        let list = daemon.bpvs(daemon.host(), "list")?;
        ensure!(
            !list.contains(&OWN.to_string()),
            "bpvs has taken it:\n{list}"
        );
    }
    super::scenes::all_good(out, &super::checks::all(cluster, cluster.address("web")?))
}

/// Sixteen minutes without a word.
pub(super) fn idle(out: &Transcript, cluster: &Cluster) -> Result<()> {
    const LONG: Duration = Duration::from_secs(16 * 60);
    out.heading("Idle for 16 minutes");
    let service = SocketAddrV4::new(cluster.address("web")?, PORT);
    let published = SocketAddrV4::new(cluster.nodes[0].address, TCP);
    let (probe, outside) = (&cluster.probes[0], &cluster.outside);
    let answers = std::thread::scope(|scope| {
        let inner = scope.spawn(|| idle_for(probe, service, LONG, None));
        let outer = idle_for(outside, published, LONG, None);
        let inner = inner.join().map_err(|_| anyhow::anyhow!("a panic"))?;
        anyhow::Ok([inner?, outer?])
    })?;
    for answer in answers {
        out.result(answer.is_ok(), &format!("{answer:?}"));
        answer.context("the connection is lost")?;
    }
    Ok(())
}

fn half_closed(from: &Host, to: SocketAddrV4) -> Result<String> {
    let ask = || -> Result<String> {
        let mut stream = connect(to)?;
        write!(stream, "POST /until-the-end?ms=4000 HTTP/1.1\r\n\r\nfour")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim();
        ensure!(body.ends_with(", 4 bytes until the end"), "{answer}");
        Ok(body.to_owned())
    };
    from.run(ask)?
}

/// Asks, says nothing for so long, with the kernel's keep-alives in every so many seconds at most, and asks again.
fn idle_for(
    from: &Host,
    to: SocketAddrV4,
    pause: Duration,
    keep_alive: Option<i32>,
) -> Result<std::io::Result<String>> {
    let ask = || -> Result<std::io::Result<String>> {
        let mut stream = connect(to)?;
        if let Some(seconds) = keep_alive {
            for (level, option, value) in [
                (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
                (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds),
                (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds),
            ] {
                set_option(&stream, level, option, value)?;
            }
        }
        request(&mut stream)?;
        sleep(pause);
        Ok(request(&mut stream))
    };
    from.run(ask)?
}

fn connect(to: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(to), client::patience())
        .with_context(|| format!("cannot connect to {to}"))?;
    // The half-closed ones are answered after 4 s.
    stream.set_read_timeout(Some(3 * client::patience()))?;
    Ok(stream)
}

/// One request on a connection that stays.
fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\n") || !answer.windows(4).any(|end| end == b"I'm ") {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().last().unwrap_or_default().to_owned())
}
