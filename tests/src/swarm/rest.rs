//! What a Swarm at rest costs each node: processor time of dockerd without bpvs, and of both with it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::cluster::{Cluster, IMAGE, NETWORK};
use super::{Inside, scenes};
use crate::demo::Transcript;

/// Services beside the one that there is, each with a task and a published port.
const SERVICES: u16 = 19;
/// Their first published port.
const FIRST: u16 = 10_000;
/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// Until what was done has been seen to, and bpvs no longer takes it for news.
const SETTLE: Duration = Duration::from_secs(35);
/// What the daemon may need, as a share of a processor.
const GOAL: f64 = 0.005;

pub(super) fn play(out: &Transcript, cluster: &mut Cluster, options: &Inside) -> Result<()> {
    for number in 0..SERVICES {
        cluster.nodes[0].docker(&format!(
            "service create --quiet --detach --no-resolve-image --network {NETWORK} \
             --publish {}:80 --name s{number} {IMAGE}",
            FIRST + number
        ))?;
    }
    for number in 0..SERVICES {
        cluster.running(&format!("s{number}"), 1)?;
    }
    out.heading(&format!("{} services at rest", SERVICES + 1));
    std::thread::sleep(SETTLE / 3);
    let without = look(cluster)?;
    scenes::start(out, cluster, &options.bpvs)?;
    for number in 0..SERVICES {
        cluster.followed(&format!("s{number}"), 1)?;
    }
    std::thread::sleep(SETTLE);
    let with = look(cluster)?;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut most: f64 = 0.0;
    for (index, node) in cluster.nodes.iter().enumerate() {
        let (before, after) = (&without[index], &with[index]);
        let bpvs = after.bpvs.context("no daemon was looked at")?;
        most = most.max(bpvs);
        out.answer(&format!(
            "{}: ok, dockerd {} of a processor without bpvs, {} with it; bpvs {}",
            node.host.name(),
            percent(before.docker),
            percent(after.docker),
            percent(bpvs),
        ));
    }
    out.result(
        most < GOAL,
        &format!("ok, {} of bpvs at most", percent(most)),
    );
    ensure!(
        most < GOAL,
        "bpvs needs {} of a processor at rest; {} is the goal",
        percent(most),
        percent(GOAL)
    );
    Ok(())
}

/// Shares of a processor.
struct Shares {
    docker: f64,
    bpvs: Option<f64>,
}

fn look(cluster: &Cluster) -> Result<Vec<Shares>> {
    let times = || -> Result<Vec<(Duration, Option<Duration>)>> {
        let nodes = cluster.nodes.iter().enumerate();
        nodes
            .map(|(index, node)| {
                let daemon = cluster.daemons.get(index);
                let daemon = daemon.map(|daemon| daemon.process().context("bpvs does not run"));
                let bpvs = daemon.transpose()?.map(|process| process.cpu_time());
                Ok((node.process()?.cpu_time()?, bpvs.transpose()?))
            })
            .collect()
    };
    let (begin, before) = (Instant::now(), times()?);
    std::thread::sleep(LOOK);
    let (took, after) = (begin.elapsed(), times()?);
    let share =
        |before: Duration, after: Duration| (after - before).as_secs_f64() / took.as_secs_f64();
    let all = before.into_iter().zip(after);
    Ok(all
        .map(|((docker, bpvs), (docker_after, bpvs_after))| Shares {
            docker: share(docker, docker_after),
            bpvs: bpvs
                .zip(bpvs_after)
                .map(|(before, after)| share(before, after)),
        })
        .collect())
}
