//! The table by which XDP finds whose a frame is.

use std::collections::HashMap;

use lb_common::abi::{Mac, WIRE_SETS, Wire, WireKey, WireSet};

struct Table(Vec<WireSet>);

impl Table {
    fn new() -> Self {
        Self((0..WIRE_SETS).map(|_| WireSet::default()).collect())
    }

    fn set(&self, key: &WireKey) -> &WireSet {
        &self.0[key.set() as usize]
    }

    fn find(&self, key: &WireKey) -> Option<Wire> {
        self.set(key).find(key)
    }
}

fn key(scope: u32, ifindex: u32, vlan: u32) -> WireKey {
    WireKey {
        scope,
        ifindex,
        vlan,
    }
}

fn wire(ifindex: u32) -> Wire {
    let [a, b, c, d] = ifindex.to_be_bytes();
    Wire {
        ifindex,
        mac: Mac::new([2, 0xfe, a, b, c, d]),
        flags: (ifindex % 2) as u16,
    }
}

#[test]
fn what_is_put_in_is_found_by_its_own_key_alone() {
    let table = Table::new();
    let put = key(3, 2, 0);
    assert!(table.set(&put).put(&put, wire(7)));
    assert_eq!(table.find(&put), Some(wire(7)));
    for other in [key(4, 2, 0), key(3, 3, 0), key(3, 2, 1)] {
        // In its place, were it looked for there.
        assert_eq!(table.set(&put).find(&other), None, "{other:?}");
        assert_eq!(table.find(&other), None, "{other:?}");
    }
}

#[test]
fn one_key_has_one_place() {
    let table = Table::new();
    let key = key(1, 2, 30);
    for ifindex in 10..20 {
        assert!(table.set(&key).put(&key, wire(ifindex)));
        assert_eq!(table.find(&key), Some(wire(ifindex)));
    }
    assert_eq!(table.set(&key).iter().count(), 1);
    table.set(&key).remove(&key);
    assert_eq!(table.find(&key), None);
    assert_eq!(table.set(&key).iter().count(), 0);
}

#[test]
fn a_full_set_says_so_and_keeps_what_it_has() {
    let table = Table::new();
    let first = key(1, 2, 0);
    let alike: Vec<_> = (0..u32::MAX)
        .map(|ifindex| key(1, ifindex, 0))
        .filter(|key| key.ifindex != 0 && key.set() == first.set())
        .take(5)
        .collect();
    for key in &alike[..4] {
        assert!(table.set(key).put(key, wire(key.ifindex)));
    }
    assert!(!table.set(&first).put(&alike[4], wire(9)));
    for key in &alike[..4] {
        assert_eq!(table.find(key), Some(wire(key.ifindex)));
    }
    // The place of one that has gone serves the next.
    table.set(&first).remove(&alike[1]);
    assert!(table.set(&first).put(&alike[4], wire(9)));
    assert_eq!(table.find(&alike[4]), Some(wire(9)));
    assert_eq!(table.find(&alike[1]), None);
}

/// The sets are filled evenly by what there is on a node.
#[test]
fn what_nodes_have_finds_room() {
    let vlans = (0..4095).map(|vlan| key(1, 2, vlan));
    let scopes = (1..=255).flat_map(|scope| (2..10).map(move |ifindex| key(scope, ifindex, 0)));
    let interfaces = (1..2000).map(|ifindex| key(1, ifindex, 0));
    let sorts: [Box<dyn Iterator<Item = WireKey>>; 3] =
        [Box::new(vlans), Box::new(scopes), Box::new(interfaces)];
    for keys in sorts {
        let table = Table::new();
        let keys: HashMap<_, _> = (1..).zip(keys).map(|(n, key)| (key, wire(n))).collect();
        for (key, wire) in &keys {
            assert!(table.set(key).put(key, *wire), "{key:?}");
        }
        for (key, wire) in &keys {
            assert_eq!(table.find(key), Some(*wire), "{key:?}");
        }
        let listed: HashMap<_, _> = table.0.iter().flat_map(WireSet::iter).collect();
        assert_eq!(listed, keys);
    }
}
