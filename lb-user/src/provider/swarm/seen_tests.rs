use super::*;

/// As Docker 20.10 writes it (a worker's user network), made shorter.
pub(in crate::provider::swarm) const USER: &str = r#"{"Name":"ov","Id":"i8ayxpy7p29bz15h4lzn3wnfo","Scope":"swarm","Driver":"overlay","Attachable":true,"Ingress":false,
 "Created":"2026-11-20T12:38:25.367248711Z","EnableIPv6":false,"Internal":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,
 "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.1.0/24","Gateway":"10.0.1.1"}]},
 "Containers":{
  "176a3f6f":{"Name":"web.1.5euftxp7bu2u7d2h45fe3ag0a","EndpointID":"1d6fae02","MacAddress":"02:42:0a:00:01:03","IPv4Address":"10.0.1.3/24","IPv6Address":""},
  "lb-ov":{"Name":"ov-endpoint","EndpointID":"fd9644a1","MacAddress":"02:42:0a:00:01:06","IPv4Address":"10.0.1.6/24","IPv6Address":""}},
 "Options":{"com.docker.network.driver.overlay.vxlanid_list":"4097"},
 "Labels":{},
 "Peers":[{"Name":"a58a990ce7be","IP":"192.168.77.1"},{"Name":"d41740592635","IP":"192.168.77.2"}],
 "Services":{
  "":{"VIP":"<nil>","Ports":[],"LocalLBIndex":0,"Tasks":[{"Name":"probe","EndpointID":"58f2492e","EndpointIP":"10.0.1.8","Info":{"Host IP":"192.168.77.2"}}]},
  "web":{"VIP":"10.0.1.2","Ports":[],"LocalLBIndex":256,"Tasks":[
    {"Name":"web.2.brsjk0h4evingxrypvkt11oy0","EndpointID":"ee289e89","EndpointIP":"10.0.1.4","Info":{"Host IP":"192.168.77.1"}},
    {"Name":"web.1.5euftxp7bu2u7d2h45fe3ag0a","EndpointID":"1d6fae02","EndpointIP":"10.0.1.3","Info":{"Host IP":"192.168.77.2"}}]}}}"#;

/// The ingress network of the same node.
pub(in crate::provider::swarm) const INGRESS: &str = r#"{"Name":"ingress","Id":"u4md9ww1kxh9n0f10bey1d56p","Scope":"swarm","Driver":"overlay","Ingress":true,
 "Containers":{"ingress-sbox":{"Name":"ingress-endpoint","EndpointID":"c83f","MacAddress":"02:42:0a:00:00:03","IPv4Address":"10.0.0.3/24","IPv6Address":""},
  "176a3f6f":{"Name":"web.1.5euftxp7bu2u7d2h45fe3ag0a","EndpointID":"0f32","MacAddress":"02:42:0a:00:00:05","IPv4Address":"10.0.0.5/24","IPv6Address":""}},
 "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}]},
 "Options":{"com.docker.network.driver.overlay.vxlanid_list":"4096"},"Labels":{},
 "Services":{
  "":{"VIP":"<nil>","Ports":[],"LocalLBIndex":0,"Tasks":[{"Name":"ingress-endpoint","EndpointID":"60cd","EndpointIP":"10.0.0.3","Info":{"Host IP":"192.168.77.2"}},
    {"Name":"ingress-endpoint","EndpointID":"8088","EndpointIP":"10.0.0.2","Info":{"Host IP":"192.168.77.1"}},
    {"Name":"other","EndpointID":"8089","EndpointIP":"10.0.0.9","Info":{"Host IP":"192.168.77.1"}}]},
  "web":{"VIP":"10.0.0.4","Ports":["Target: 80, Publish: 8081","Target: 80, Publish: 8080"],"LocalLBIndex":257,"Tasks":[
    {"Name":"web.1.5euftxp7bu2u7d2h45fe3ag0a","EndpointID":"0f32","EndpointIP":"10.0.0.5","Info":{"Host IP":"192.168.77.2"}},
    {"Name":"web.2.brsjk0h4evingxrypvkt11oy0","EndpointID":"1060","EndpointIP":"10.0.0.6","Info":{"Host IP":"192.168.77.1"}}]}}}"#;

/// The node's bridge.
const BRIDGE: &str = r#"{"Name":"docker_gwbridge","Id":"6335","Scope":"local","Driver":"bridge",
 "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"}]},"Containers":{
  "176a3f6f":{"Name":"gateway_70227bcc0725","IPv4Address":"172.18.0.4/16","IPv6Address":""},
  "ingress-sbox":{"Name":"gateway_ingress-sbox","IPv4Address":"172.18.0.2/16","IPv6Address":""}}}"#;

/// As the published schema of API 1.53 has it: nothing here was taken from a running engine. It has fields that 20.10 has not, and
/// empty values where that has null.
const NEWER: &str = r#"{"Name":"ov","Id":"i8ayxpy7p29bz15h4lzn3wnfo","Created":"2026-11-20T12:38:25.367248711Z","Scope":"swarm","Driver":"overlay",
 "EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.0.1.0/24","IPRange":"","Gateway":"10.0.1.1"}]},
 "Internal":false,"Attachable":true,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,
 "Options":{"com.docker.network.driver.overlay.vxlanid_list":"4097"},"Labels":{"bpvs.scheduler":"lc"},"Peers":null,
 "Containers":{"lb-ov":{"Name":"ov-endpoint","EndpointID":"fd96","MacAddress":"02:42:0a:00:01:06","IPv4Address":"10.0.1.6/24","IPv6Address":""}},
 "Status":{"IPAM":{"Subnets":{"10.0.1.0/24":{"IPsInUse":6,"DynamicIPsAvailable":250}}}},
 "Services":{"web":{"VIP":"10.0.1.2","Ports":null,"LocalLBIndex":256,"Tasks":[
    {"Name":"web.1.5euftxp7bu2u7d2h45fe3ag0a","EndpointID":"1d6f","EndpointIP":"10.0.1.3","Info":{"Host IP":"192.168.77.2"}}]},
  "dns":{"VIP":"","Ports":[],"LocalLBIndex":0,"Tasks":[]}}}"#;

/// Likewise, the network of published ports.
const NEWER_INGRESS: &str = r#"{"Name":"ingress","Id":"u4md9ww1kxh9n0f10bey1d56p","Created":"2026-11-20T12:38:25.367248711Z","Scope":"swarm","Driver":"overlay",
 "EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.0.0/24","IPRange":"","Gateway":"10.0.0.1","AuxiliaryAddresses":{}}]},
 "Internal":false,"Attachable":false,"Ingress":true,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{},"Labels":{},
 "Peers":[{"Name":"a58a990ce7be","IP":"192.168.77.1"}],
 "Containers":{"ingress-sbox":{"Name":"ingress-endpoint","EndpointID":"c83f","MacAddress":"02:42:0a:00:00:03","IPv4Address":"10.0.0.3/24","IPv6Address":""}},
 "Status":{"IPAM":{"Subnets":{"10.0.0.0/24":{"IPsInUse":5,"DynamicIPsAvailable":251}}}},
 "Services":{"":{"VIP":"","Ports":null,"LocalLBIndex":0,"Tasks":[
    {"Name":"ingress-endpoint","EndpointID":"60cd","EndpointIP":"10.0.0.3","Info":null},
    {"Name":"ingress-endpoint","EndpointID":"60ce","EndpointIP":"10.0.0.2","Info":{"Host IP":"192.168.77.1"}}]},
  "web":{"VIP":"10.0.0.4","Ports":["Target: 80, Publish: 8080"],"LocalLBIndex":257,"Tasks":null}}}"#;

/// As Docker 28.5.2 writes them, on a worker: whole.
const USER_28: &str = include_str!("samples/28.5/network.json");
pub(in crate::provider::swarm) const INGRESS_28: &str = include_str!("samples/28.5/ingress.json");
const BRIDGE_28: &str = include_str!("samples/28.5/bridge.json");

pub(in crate::provider::swarm) fn read_bridge() -> Bridge {
    bridge(serde_json::from_str(BRIDGE).unwrap())
}

pub(in crate::provider::swarm) fn read(text: &str) -> Network {
    network(serde_json::from_str(text).unwrap()).unwrap()
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

#[test]
fn a_user_network() {
    let network = read(USER);
    assert_eq!(network.balancer, Some(address(6)));
    assert!(!network.ingress);
    let [web] = network.services.as_slice() else {
        panic!("plain containers are no service: {:?}", network.services)
    };
    assert_eq!((web.name.as_str(), web.address), ("web", address(2)));
    assert_eq!(
        web.tasks[0],
        Task {
            address: address(3),
            name: "web.1.5euftxp7bu2u7d2h45fe3ag0a".into(),
            node: Some(Ipv4Addr::new(192, 168, 77, 2)),
        }
    );
    assert_eq!(web.tasks[0].id(), "5euftxp7bu2u7d2h45fe3ag0a");
    assert_eq!(web.tasks[1].address, address(4));
}

#[test]
fn published_ports_and_the_way_to_their_sandbox() {
    let network = read(INGRESS);
    assert!(network.ingress);
    assert_eq!(network.balancer, Some(Ipv4Addr::new(10, 0, 0, 3)));
    assert_eq!(network.subnet, Some("10.0.0.0/24".parse().unwrap()));
    let balancers = [(2, 1), (3, 2)].map(|(own, node)| Balancer {
        address: Ipv4Addr::new(10, 0, 0, own),
        node: Ipv4Addr::new(192, 168, 77, node),
    });
    assert_eq!(network.balancers, balancers);
    let ports = [8080, 8081].map(|port| Published { port, target: 80 });
    assert_eq!(network.services[0].published, ports);
    let own = BTreeMap::from([("176a3f6f".to_owned(), Ipv4Addr::new(10, 0, 0, 5))]);
    assert_eq!(network.here, own, "its sandbox is none of them");
    let ends = [2, 1, 4].map(|last| Ipv4Addr::new(172, 18, 0, last));
    let expected = Bridge {
        gateway: Some(ends[0]),
        node: Some(ends[1]),
        containers: [("176a3f6f".to_owned(), ends[2])].into(),
    };
    assert_eq!(read_bridge(), expected);
    assert_eq!(port("Target: 80, Publish: 0"), None);
    assert_eq!(port("Target: 80"), None);
}

#[test]
fn a_real_newer_engine() {
    let user = read(USER_28);
    assert_eq!(user.balancer, Some(address(5)));
    let [web] = user.services.as_slice() else {
        panic!("plain containers are no service: {:?}", user.services)
    };
    assert_eq!((web.name.as_str(), web.address), ("web", address(2)));
    let nodes: Vec<_> = web
        .tasks
        .iter()
        .map(|task| (task.address, task.node))
        .collect();
    let node = |last| Some(Ipv4Addr::new(192, 168, 77, last));
    assert_eq!(nodes, [(address(3), node(2)), (address(4), node(1))]);
    let ingress = read(INGRESS_28);
    assert_eq!(ingress.balancer, Some(Ipv4Addr::new(10, 0, 0, 3)));
    assert_eq!(ingress.balancers, [], "it does not say which they are");
    assert_eq!(ingress.services[0].published.len(), 2);
    let bridge = bridge(serde_json::from_str(BRIDGE_28).unwrap());
    assert_eq!(bridge.gateway, Some(Ipv4Addr::new(172, 18, 0, 2)));
    assert_eq!(bridge.node, Some(Ipv4Addr::new(172, 18, 0, 1)));
    // By which the same container is found on both.
    let [(id, end)] = Vec::from_iter(&ingress.here)[..] else {
        panic!("one task: {:?}", ingress.here)
    };
    assert_eq!(*end, Ipv4Addr::new(10, 0, 0, 5));
    assert!(bridge.containers.contains_key(id), "{id} in {bridge:?}");
}

#[test]
fn a_newer_engine() {
    let network = read(NEWER);
    assert_eq!(network.labels["bpvs.scheduler"], "lc");
    assert_eq!(network.services.len(), 1, "one resolves to its tasks");
}

#[test]
fn a_newer_engines_published_ports() {
    let network = read(NEWER_INGRESS);
    assert_eq!(network.subnet, Some("10.0.0.0/24".parse().unwrap()));
    assert_eq!(network.balancer, Some(Ipv4Addr::new(10, 0, 0, 3)));
    let there = Balancer {
        address: Ipv4Addr::new(10, 0, 0, 2),
        node: Ipv4Addr::new(192, 168, 77, 1),
    };
    assert_eq!(network.balancers, [there], "of one the node is not told");
    let web = &network.services[0];
    assert_eq!(
        web.published,
        [Published {
            port: 8080,
            target: 80
        }]
    );
    assert!(web.tasks.is_empty());
}

#[test]
fn other_networks_are_not_ours() {
    assert_eq!(network(serde_json::from_str(BRIDGE).unwrap()), None);
    let local = USER.replace("\"swarm\"", "\"local\"");
    assert_eq!(network(serde_json::from_str(&local).unwrap()), None);
}
