//! Local sockets and what ends: their server, the daemon, themselves.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::setup::{Setup, UDP, WEB, in_turn, same};
use super::socket::{ask, connect, counts, counts_become, open_udp, request};
use super::{Case, Context, case, long_case};
use crate::client;
use crate::slow::patient;
use crate::topology::at;

pub(super) const CASES: &[Case] = &[
    case(
        "socket/removed",
        "a connection that is cut when its server is removed, or datagrams that still go there",
        removed,
    ),
    case(
        "socket/refused",
        "a socket that waits in vain where a service has no server",
        refused,
    ),
    case(
        "socket/survival",
        "a hook that goes with the daemon, or stays after bpvs down",
        survival,
    ),
    long_case(
        "socket/gone",
        "connections that count for ever because nothing tells of their socket's end",
        gone,
    ),
];

fn removed(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let (director, to) = (&setup.net.director, at(UDP));
    let web = format!("tcp:{WEB}");
    let stream = connect(director, at(WEB))?;
    let socket = open_udp(director)?;
    same("the first server", &ask(&socket, to)?, &"rs2".to_owned())?;
    setup.bpvs(&format!("server remove {web} 10.0.1.12:8000"))?;
    setup.bpvs(&format!("server remove udp:{UDP} 10.0.1.12:9000"))?;
    // A connection lives on; datagrams go to a server that is there.
    same(
        "who answers on the connection",
        &request(stream)?,
        &"rs2".to_owned(),
    )?;
    for _ in 0..3 {
        same("the server", &ask(&socket, to)?, &"rs1".to_owned())?;
    }
    in_turn(&client::turns(director, at(WEB), 2)?, &["rs1", "rs1"])?;
    counts_become(&setup.daemon, director, &web, (0, 0))?;

    // With expire_nodest_conn it is cut, and the socket is told.
    setup.bpvs("settings set expire_nodest_conn=1")?;
    let stream = connect(director, at(WEB))?;
    setup.bpvs(&format!("server remove {web} 10.0.1.11:8000"))?;
    stream.set_read_timeout(Some(client::patience()))?;
    let read = io::Read::read(&mut &stream, &mut [0; 10]);
    let kind = read.map_err(|error| error.kind());
    same(
        "reading from a cut connection",
        &kind,
        &Err(io::ErrorKind::ConnectionAborted),
    )
}

fn refused(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 1)?;
    let director = &setup.net.director;
    setup.bpvs(&format!("server edit tcp:{WEB} 10.0.1.11:8000 --weight 0"))?;
    setup.bpvs(&format!("server edit udp:{UDP} 10.0.1.11:9000 --weight 0"))?;
    let result = client::connect_result(director, at(WEB))?.map_err(|error| error.kind());
    same(
        "without a server",
        &result,
        &Err(io::ErrorKind::ConnectionRefused),
    )?;
    let sent = open_udp(director)?
        .send_to(b"hello", at(UDP))
        .map_err(|error| error.kind());
    same("a datagram", &sent, &Err(io::ErrorKind::ConnectionRefused))?;
    same(
        "refusals counted",
        &setup.reasons()?.get("no-server"),
        &Some(&2),
    )
}

fn survival(context: &Context) -> Result<()> {
    let setup = Setup::usual(context, 2)?;
    let (director, web) = (&setup.net.director, format!("tcp:{WEB}"));
    let status = setup.bpvs("status")?;
    ensure!(status.contains("socket hook: attached\n"), "{status}");
    let held = [connect(director, at(WEB))?, connect(director, at(WEB))?];
    setup.daemon.kill()?;
    in_turn(
        &client::turns(director, at(WEB), 3)?,
        &["rs2", "rs1", "rs2"],
    )?;
    let [first, second] = held;
    drop(first);
    setup.daemon.run()?;
    counts_become(&setup.daemon, director, &web, (1, 0))?;
    same("the peer", &second.peer_addr()?, &SocketAddr::V4(at(WEB)))?;
    in_turn(&client::turns(director, at(WEB), 2)?, &["rs1", "rs2"])?;
    setup.daemon.stop()?;
    client::who(director, at(WEB))?;
    setup.daemon.run()?;
    drop(second);
    counts_become(&setup.daemon, director, &web, (0, 0))?;
    setup.bpvs("down")?;
    ensure!(
        client::connect_result(director, at(WEB))?.is_err(),
        "sockets are still led after bpvs down"
    );
    same("what is still pinned", &setup.daemon.pins()?, &Vec::new())
}

fn gone(context: &Context) -> Result<()> {
    let mut setup = Setup::usual(context, 2)?;
    let director = setup.net.director.clone();
    let web = format!("tcp:{WEB}");
    let to_second = connect(&director, at(WEB))?;
    let _to_first = connect(&director, at(WEB))?;
    // Its host answers by a reset once nobody has the connection there.
    setup.net.tasks[1].kill()?;
    let start = Instant::now();
    while io::Write::write(&mut &to_second, b"GET").is_ok() {
        ensure!(
            start.elapsed() < client::patience(),
            "the connection is not reset"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    counts_become(&setup.daemon, &director, &web, (2, 0))?;
    let start = Instant::now();
    while counts(&setup.daemon, &director, &web)? == (2, 0) {
        ensure!(
            start.elapsed() < patient(Duration::from_secs(70)),
            "a socket that is gone still counts"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    context.note(format!("noticed after {} s", start.elapsed().as_secs()));
    std::thread::sleep(Duration::from_secs(40));
    counts_become(&setup.daemon, &director, &web, (1, 0))
}
