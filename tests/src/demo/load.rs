//! The two scenes under load: scaling without a lost request, and a task that is killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::cluster::{Cluster, PUBLISHED, WEB_PORT};
use super::transcript::Transcript;
use super::{AT_MOST, IntoSocket as _};
use crate::load::{Kind, Load, Running};
use crate::topology::two_nodes::SERVICE;

/// From three tasks to five and down to two, under short and keep-alive connections at once.
pub(super) fn scale(out: &Transcript, cluster: &mut Cluster) -> Result<()> {
    out.heading("From 3 tasks to 5 and down to 2, under load");
    let web = (SERVICE, WEB_PORT).into_socket();
    let published = (cluster.nodes.nodes[1].address, PUBLISHED).into_socket();
    let (inside, outside) = (&cluster.nodes.nodes[0].client, &cluster.nodes.outside);
    let short = Load::new(Kind::Short, web)
        .clients(4)
        .endless(AT_MOST)
        .pause(Duration::from_millis(2));
    let keep = Load::new(Kind::KeepAlive { requests: 60 }, web)
        .clients(8)
        .endless(AT_MOST)
        .pause(Duration::from_millis(4));
    let from_outside = Load {
        to: published,
        ..short.clone()
    };
    let loads: [(&str, Running); 3] = [
        (
            "client, a connection for each request",
            short.start(inside)?,
        ),
        ("client, 60 requests a connection", keep.start(inside)?),
        (
            "outside, through node2's published port",
            from_outside.start(outside)?,
        ),
    ];
    // Long enough for every client to have begun a new connection since the change before.
    let all_go_on = || loads.iter().try_for_each(|(_, load)| load.wait_for(500));
    all_go_on()?;
    out.remark("4 + 8 clients on the service address, 4 outside on the published port");
    let added = cluster.nodes.add_tasks(&[1, 0])?;
    for name in added.iter().map(|number| format!("web.{number}")) {
        if let Some(place) = cluster.places(cluster.find(&name)?).first() {
            out.prompt(
                "node1",
                format_args!("bpvs server add {} {}", place.service, place.server),
            );
        }
        cluster.add(&name)?;
        out.remark(&format!(
            "{name} is there; so in the other services and on node2"
        ));
        all_go_on()?;
    }
    for name in ["web.5", "web.4", "web.2"] {
        if let Some(place) = cluster.places(cluster.find(name)?).first() {
            out.prompt(
                "node1",
                format_args!(
                    "bpvs server edit {} {} --weight 0",
                    place.service, place.server
                ),
            );
        }
        cluster.quiesce(name)?;
        // Connections that were under way when the weight changed get to the task's backlog
        // meanwhile.
        std::thread::sleep(Duration::from_millis(100));
        let finished = cluster
            .nodes
            .task(name)?
            .task
            .drain(Duration::from_secs(10))?;
        cluster.remove(name)?;
        cluster.nodes.remove_task(name)?;
        out.remark(&format!("{name} finished its last connection {:.0} ms after it was told to end, and was removed", finished.as_secs_f64() * 1000.0));
        all_go_on()?;
    }
    let mut failed = 0;
    for (what, load) in loads {
        let report = load.stop()?;
        failed += report.failures();
        out.result(report.failures() == 0, &format!("{what}: {report}"));
    }
    ensure!(failed == 0, "{failed} requests failed while scaling");
    Ok(())
}

/// A task is killed: what was being answered by it fails, everything else goes on.
pub(super) fn kill(out: &Transcript, cluster: &mut Cluster) -> Result<()> {
    out.heading("A task is killed");
    let web = (SERVICE, WEB_PORT).into_socket();
    let load = Load {
        retry_refused: true,
        ..Load::new(Kind::KeepAlive { requests: 0 }, web)
    };
    // Each client waits for an answer half of the time, so about half of the connections have a
    // request in flight at any moment.
    let load = load
        .path("/slow?ms=50")
        .clients(24)
        .pause(Duration::from_millis(50))
        .endless(AT_MOST);
    let load = load.start(&cluster.nodes.nodes[0].client)?;
    load.wait_for(60)?;
    let victim = "web.3";
    out.remark("24 clients with a connection each, half of the time waiting for an answer");
    out.prompt("node1", format_args!("kill -9 {victim}"));
    cluster.nodes.task(victim)?.task.kill()?;
    let dead = Instant::now();
    cluster.remove(victim)?;
    let removed = dead.elapsed();
    load.wait_for(60)?;
    let report = load.stop()?;
    let held = report.lost.get(victim).copied().unwrap_or(0);
    let others: u64 = report
        .lost
        .iter()
        .filter(|(task, _)| *task != victim)
        .map(|(_, count)| count)
        .sum();
    out.remark(&format!(
        "taken out of all services {:.0} ms later",
        removed.as_secs_f64() * 1000.0
    ));
    let good = report.failures() <= held && held > 0 && others == 0;
    out.result(
        good,
        &format!(
            "connections that it held: {held}; requests in flight on them, which failed: {}",
            report.failures()
        ),
    );
    out.result(good, &format!("all requests: {report}"));
    ensure!(held > 0, "the killed task held no connection");
    ensure!(
        others == 0,
        "connections to other tasks were lost: {:?}",
        report.lost
    );
    ensure!(
        report.failures() <= held,
        "more requests failed than the killed task had connections: {report}"
    );
    cluster
        .nodes
        .remove_task(victim)
        .context("taking the killed task's container away")
}
