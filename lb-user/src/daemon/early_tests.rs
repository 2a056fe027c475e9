//! XDP through the engine: on the interfaces that the setting says, and told in the status.

use super::testing::{TempDir, network, start};
use super::*;
use crate::api::wire;
use crate::control::Command;
use crate::datapath::fake::FakeDatapath;
use crate::model::{ScopeId, Service, SettingsEdit};
use crate::net::{Medium, NetNs, Network};

const NOWHERE: [u32; 0] = [];
const NONE: [&str; 0] = [];

fn command(engine: &mut Engine, command: Command) {
    let netns = NetNs::current().unwrap();
    engine.handle(Request::Command { netns, command }).unwrap();
}

fn serve(engine: &mut Engine) {
    let key = "tcp:10.0.0.1:80".parse().unwrap();
    let service = Service::new(key, "rr".parse().unwrap());
    command(engine, Command::AddService(service));
}

fn set(engine: &mut Engine, xdp: &str) {
    let mut edit = SettingsEdit::default();
    edit.assign("xdp", xdp).unwrap();
    command(engine, Command::EditSettings(edit));
}

fn by_xdp(datapath: &FakeDatapath) -> Vec<u32> {
    let state = datapath.state();
    state.scopes[&ScopeId::MIN]
        .attached_xdp
        .iter()
        .copied()
        .collect()
}

fn status(engine: &mut Engine) -> wire::ScopeStatus {
    let Ok(Reply::Status(mut status)) = engine.handle(Request::Status) else {
        panic!()
    };
    status.scopes.remove(0)
}

/// eth0 and eth1 are wires, veth0 is none, and slave0 belongs to another interface.
fn various() -> Network {
    let interfaces = [
        (2, "eth0", true),
        (3, "slave0", false),
        (4, "eth1", true),
        (5, "veth0", true),
    ];
    let mut network = Network::clone(&network(&interfaces));
    network.interfaces[3].medium = Medium::Veth;
    network
}

#[test]
fn xdp_is_where_the_setting_says() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    serve(&mut engine);
    engine.network(ScopeId::MIN, various().into(), Vec::new());
    assert_eq!(by_xdp(&datapath), NOWHERE);
    for (choice, wanted) in [
        ("auto", &[2, 4][..]),
        ("eth1,veth0", &[4, 5]),
        ("slave0", &[]),
        ("eth0", &[2]),
    ] {
        set(&mut engine, choice);
        assert_eq!(by_xdp(&datapath), wanted, "{choice}");
    }
    let paths = status(&mut engine).paths;
    let paths: Vec<_> = paths
        .iter()
        .map(|path| (&*path.interface, &*path.path))
        .collect();
    assert_eq!(paths, [("eth0", "xdp"), ("eth1", "tc"), ("veth0", "tc")]);

    // An earlier daemon's stays, and goes when it is not wanted any more.
    drop(engine);
    datapath.restart();
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    assert_eq!(by_xdp(&datapath), [2]);
    set(&mut engine, "off");
    assert_eq!(by_xdp(&datapath), NOWHERE);
}

#[test]
fn xdp_comes_and_goes_with_interfaces_and_services() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    serve(&mut engine);
    set(&mut engine, "eth0,eth1");
    assert_eq!(
        status(&mut engine).problems,
        ["XDP on eth1: there is no such interface"]
    );
    engine.network(ScopeId::MIN, various().into(), Vec::new());
    assert_eq!(by_xdp(&datapath), [2, 4]);
    assert_eq!(status(&mut engine).problems, NONE);
    // It becomes a port of a bridge: the programs go, and XDP first.
    let mut network = various();
    network.interfaces[0].attach = false;
    network.interfaces[0].attach_reason = "port of a bridge";
    engine.network(ScopeId::MIN, network.into(), Vec::new());
    assert_eq!(by_xdp(&datapath), [4]);
    assert_eq!(
        status(&mut engine).problems,
        ["XDP on eth0: the programs do not attach to it: port of a bridge"]
    );
    command(&mut engine, Command::Flush);
    assert_eq!(by_xdp(&datapath), NOWHERE);
}

#[test]
fn a_driver_without_xdp_is_told_of() {
    let (dir, datapath) = (TempDir::new(), FakeDatapath::new());
    let mut engine = start(datapath.clone(), dir.path()).unwrap();
    serve(&mut engine);
    engine.network(ScopeId::MIN, various().into(), Vec::new());
    let without = |ifindexes: &[u32]| {
        let mut state = datapath.state();
        let scope = state.scopes.get_mut(&ScopeId::MIN).unwrap();
        scope.without_xdp = ifindexes.iter().copied().collect();
    };
    without(&[4]);
    // What was not asked for by name does without.
    set(&mut engine, "auto");
    let said = status(&mut engine);
    assert_eq!(said.problems, NONE);
    assert_eq!(said.paths[1].note.as_deref(), Some("its driver has no XDP"));
    set(&mut engine, "eth1");
    assert_eq!(
        status(&mut engine).problems,
        ["XDP on eth1: its driver has no XDP"]
    );
    // It is tried again.
    without(&[]);
    engine.network(ScopeId::MIN, various().into(), Vec::new());
    assert_eq!(by_xdp(&datapath), [4]);
    assert_eq!(status(&mut engine).problems, NONE);
}
