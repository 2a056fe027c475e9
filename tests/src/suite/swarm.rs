//! A real Docker Swarm of two engines; see [`crate::swarm`].

use anyhow::Result;

use super::{Case, Context, case, long_case};
use crate::swarm::{Scene, missing, play};

pub(super) const CASES: &[Case] = &[
    case(
        "swarm/addresses",
        "a service address or a published port of a real Swarm that does not answer, in turn, from everywhere",
        |context| scene(context, Scene::Addresses, 0),
    ),
    case(
        "swarm/churn",
        "ports, tasks, services and networks of a Swarm that come and go, and what dockerd takes away with them",
        |context| scene(context, Scene::Churn, 0),
    ),
    case(
        "swarm/update",
        "requests that fail while a Swarm's tasks are replaced or moved",
        |context| scene(context, Scene::Update, 1),
    ),
    long_case(
        "swarm/twenty-updates",
        "one request in many thousands that fails while a Swarm's tasks are replaced",
        |context| scene(context, Scene::Update, 20),
    ),
    case(
        "swarm/kill",
        "a task that is gone and still gets connections, or whose clients are left waiting",
        |context| scene(context, Scene::Kill, 0),
    ),
    case(
        "swarm/clients",
        "a task that does not see who asks, on the node that was asked or on another one; and who is then not answered",
        |context| scene(context, Scene::Clients, 0),
    ),
    case(
        "swarm/streams",
        "a connection that is idle or half closed and lost, or kept against its label; a host's own published port that is taken",
        |context| scene(context, Scene::Streams, 0),
    ),
    long_case(
        "swarm/idle",
        "a connection that is lost after a quarter of an hour without a word, as IPVS loses it",
        |context| scene(context, Scene::Idle, 0),
    ),
    long_case(
        "swarm/rest",
        "a daemon that keeps a processor busy where nothing happens",
        |context| scene(context, Scene::Rest, 0),
    ),
    case(
        "swarm/labels",
        "labels of a service that are not followed, or are wrong and not told",
        |context| scene(context, Scene::Labels, 0),
    ),
    case(
        "swarm/restart",
        "a Swarm that depends on the daemon's life; what is left of it when it was told to go",
        |context| scene(context, Scene::Restart, 0),
    ),
];

fn scene(context: &Context, scene: Scene, rounds: u32) -> Result<()> {
    if let Some(program) = missing() {
        context.skip(&format!(
            "there is no {program}; `cargo xtask setup` installs docker.io"
        ));
        return Ok(());
    }
    let said = play(&context.lab()?, &context.bpvs()?, scene, rounds)?;
    for line in said.lines().filter(|line| line.contains(" ok, ")) {
        context.note(line.trim().to_owned());
    }
    Ok(())
}
