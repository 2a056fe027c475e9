//! Other networks than a plain director: one leg, and two nodes of a Swarm.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::setup::{in_turn, same};
use super::{Case, Context, case};
use crate::client;
use crate::daemon::Daemon;
use crate::icmp::ping;
use crate::load::{Kind, Load};
use crate::slow::patient;
use crate::topology::at;
use crate::topology::one_arm::{self, OneArm};
use crate::topology::two_nodes::{INGRESS_GATEWAY, SERVICE, TwoNodes};

pub(super) const CASES: &[Case] = &[
    case(
        "one-arm/source-nat",
        "source NAT that is missing, or takes a wrong address or a port in use",
        source_nat,
    ),
    case(
        "one-arm/source-nat-address",
        "a given source address that is not used",
        source_nat_address,
    ),
    case(
        "one-arm/two-directors",
        "a standby director that answers for, or serves, an address that another one owns",
        two_directors,
    ),
    case(
        "two-nodes/service-address",
        "the overlay network: neighbours by fixed entries, an address nobody owns",
        service_address,
    ),
    case(
        "two-nodes/published-port",
        "the ingress mesh: two balancers in turn, mark rules, another port at the task",
        published_port,
    ),
    case(
        "two-nodes/large",
        "large packets over the overlay network's smaller MTU",
        large,
    ),
];

fn source_nat(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = OneArm::build(&lab, 2)?;
    let daemon = context.daemon(&lab, &net.director)?;
    let service = SocketAddrV4::new(one_arm::SERVICE, 80);
    daemon.script(
        &net.director,
        "service add tcp:10.0.1.100:80 --scheduler rr --source-nat
         server add tcp:10.0.1.100:80 10.0.1.11:8000
         server add tcp:10.0.1.100:80 10.0.1.12:8000
         service add udp:10.0.1.100:9 --scheduler rr --source-nat
         server add udp:10.0.1.100:9 10.0.1.11:9000",
    )?;
    in_turn(
        &client::turns(&net.client, service, 4)?,
        &["rs2", "rs1", "rs2", "rs1"],
    )?;
    let seen = client::get(&net.client, service, "/client")?;
    ensure!(
        seen.contains(&format!("you are {}:", one_arm::DIRECTOR)),
        "the server sees another client than the director: {seen}"
    );
    client::who_udp(&net.client, at("10.0.1.100:9"))?;
    Load::new(Kind::Short, service)
        .clients(8)
        .count(800)
        .run(&net.client)?
        .all_answered()?;
    client::download(&net.client, service, 16 << 20)?;
    client::upload(&net.client, service, 16 << 20)
}

fn source_nat_address(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = OneArm::build(&lab, 1)?;
    net.director.ip("address add 10.0.1.5/24 dev eth0")?;
    let daemon = context.daemon(&lab, &net.director)?;
    daemon.script(
        &net.director,
        "service add tcp:10.0.1.100:80 --scheduler rr --source-nat=10.0.1.5
         server add tcp:10.0.1.100:80 10.0.1.11:8000",
    )?;
    let seen = client::get(
        &net.client,
        SocketAddrV4::new(one_arm::SERVICE, 80),
        "/client",
    )?;
    ensure!(
        seen.contains("you are 10.0.1.5:"),
        "the server sees another client than 10.0.1.5: {seen}"
    );
    Ok(())
}

fn two_directors(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let net = OneArm::build(&lab, 2)?;
    let second = net.add_director(&lab)?;
    let service = SocketAddrV4::new(one_arm::SERVICE, 80);
    let mut daemons = Vec::new();
    for director in [&net.director, &second] {
        let daemon = context.daemon(&lab, director)?;
        daemon.script(
            director,
            "service add tcp:10.0.1.100:80 --scheduler rr --source-nat
             server add tcp:10.0.1.100:80 10.0.1.11:8000
             server add tcp:10.0.1.100:80 10.0.1.12:8000",
        )?;
        daemons.push(daemon);
    }
    let served_by = |address: std::net::Ipv4Addr| -> Result<()> {
        for _ in 0..4 {
            let seen = client::get(&net.client, service, "/client")?;
            ensure!(
                seen.contains(&format!("you are {address}:")),
                "not served by {address}: {seen}"
            );
        }
        Ok(())
    };
    served_by(one_arm::DIRECTOR)?;
    // The address moves, as keepalived moves it: off here, on there, and the neighbours are told.
    for (owner, other, address) in [
        (&second, &net.director, one_arm::SECOND),
        (&net.director, &second, one_arm::DIRECTOR),
    ] {
        other.ip("address del 10.0.1.100/32 dev lo")?;
        owner.ip("address add 10.0.1.100/32 dev lo")?;
        net.client.ip("neigh flush dev eth0")?;
        served_by(address)?;
    }
    Ok(())
}

/// Two nodes with three tasks, each node with a daemon and all services: the service address
/// inside, port 8080 published.
fn swarm(context: &Context) -> Result<(TwoNodes, Vec<Daemon>)> {
    let lab = context.lab()?;
    let mut nodes = TwoNodes::build(&lab)?;
    nodes.add_tasks(&[0, 1, 0])?;
    let mut daemons = Vec::new();
    for node in &nodes.nodes {
        let daemon = context.daemon(&lab, &node.host)?;
        let published = format!("{}:8080", node.address);
        daemon.script(
            &node.host,
            &format!(
                "service add tcp:{published} --scheduler rr
                 server add tcp:{published} {INGRESS_GATEWAY}:8080"
            ),
        )?;
        let mut ingress = "mark add --mark 256 --protocol tcp --ports 8080
                           service add fwmark:256 --scheduler rr --source-nat"
            .to_owned();
        let mut balancer = format!(
            "service add tcp:{SERVICE}:80 --scheduler rr --source-nat --answer
             service add udp:{SERVICE}:9 --scheduler rr --source-nat --answer"
        );
        for placed in &nodes.tasks {
            write!(ingress, "\nserver add fwmark:256 {}:8000", placed.ingress)?;
            write!(
                balancer,
                "\nserver add tcp:{SERVICE}:80 {0}:8000\nserver add udp:{SERVICE}:9 {0}:9000",
                placed.user
            )?;
        }
        daemon.script(&node.ingress, &ingress)?;
        daemon.script(&node.balancer, &balancer)?;
        daemons.push(daemon);
    }
    Ok((nodes, daemons))
}

fn service_address(context: &Context) -> Result<()> {
    let (nodes, _daemons) = swarm(context)?;
    for node in &nodes.nodes {
        let service = SocketAddrV4::new(SERVICE, 80);
        in_turn(
            &client::turns(&node.client, service, 4)?,
            &["web.3", "web.2", "web.1", "web.3"],
        )?;
        same(
            "UDP",
            &client::who_udp(&node.client, SocketAddrV4::new(SERVICE, 9))?.as_str(),
            &"web.3",
        )?;
        let seen = client::get(&node.client, service, "/client")?;
        ensure!(
            seen.contains(&format!("you are {}:", node.balancer_address)),
            "the task sees another client: {seen}"
        );
        ensure!(
            ping(&node.client, SERVICE, client::patience())?.is_some(),
            "{SERVICE} does not answer a ping"
        );
    }
    Ok(())
}

fn published_port(context: &Context) -> Result<()> {
    let (nodes, _daemons) = swarm(context)?;
    for node in &nodes.nodes {
        let published = SocketAddrV4::new(node.address, 8080);
        in_turn(
            &client::turns(&nodes.outside, published, 4)?,
            &["web.3", "web.2", "web.1", "web.3"],
        )?;
        let seen = client::get(&nodes.outside, published, "/client")?;
        ensure!(
            seen.contains(&format!("you are {}:", node.ingress_address)),
            "the task sees another client: {seen}"
        );
        Load::new(Kind::Short, published)
            .clients(4)
            .count(300)
            .run(&nodes.outside)?
            .all_answered()?;
    }
    Ok(())
}

fn large(context: &Context) -> Result<()> {
    let (nodes, _daemons) = swarm(context)?;
    for node in &nodes.nodes {
        for _ in 0..3 {
            client::download(&node.client, SocketAddrV4::new(SERVICE, 80), 8 << 20)?;
            client::upload(&node.client, SocketAddrV4::new(SERVICE, 80), 8 << 20)?;
            // The outside host's MTU is 1500 and the tasks' 1450: somebody has to tell it.
            client::upload(
                &nodes.outside,
                SocketAddrV4::new(node.address, 8080),
                8 << 20,
            )?;
            client::download(
                &nodes.outside,
                SocketAddrV4::new(node.address, 8080),
                8 << 20,
            )?;
        }
        let keep = Load::new(
            Kind::KeepAlive { requests: 0 },
            SocketAddrV4::new(SERVICE, 80),
        )
        .path("/bytes?n=100000");
        keep.clients(4)
            .count(200)
            .time(patient(Duration::from_secs(20)))
            .run(&node.client)?
            .all_answered()?;
    }
    Ok(())
}
