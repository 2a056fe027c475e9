//! What the Swarm provider tells about itself.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The Swarm as this node's dockerd knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Swarm {
    /// dockerd's socket.
    pub docker: String,
    /// Whether the node is a manager that answers.
    pub manager: bool,
    /// The overlay networks that the node knows.
    pub networks: Vec<SwarmNetwork>,
    /// What does not work at present.
    pub problems: Vec<String>,
}

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmNetwork {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The sandbox in which it is served; none while no container on this node is on the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The sandbox's address, which tasks see as their client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The services that have an address on it.
    pub services: Vec<SwarmService>,
}

/// A service on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmService {
    /// Its name.
    pub name: String,
    /// Its service address on the network.
    pub address: Ipv4Addr,
    /// Its published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<u16>,
    /// Its tasks.
    pub tasks: Vec<SwarmTask>,
}

/// A task of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmTask {
    /// Its name.
    pub name: String,
    /// Its address on the network.
    pub address: Ipv4Addr,
    /// The address of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ipv4Addr>,
    /// Whether it is about to go, and gets no new connections.
    pub leaving: bool,
}
