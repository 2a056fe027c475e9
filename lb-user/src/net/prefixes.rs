//! A table of IPv4 prefixes, looked up by the longest.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Values by prefix. A lookup costs one hash for each prefix length in use.
#[derive(Debug)]
pub(super) struct Prefixes<V> {
    values: HashMap<Ipv4Net, V>,
    /// Bit n: a prefix of n bits has been put in.
    lengths: u64,
}

impl<V> Prefixes<V> {
    pub(super) fn new() -> Self {
        Self {
            values: HashMap::new(),
            lengths: 0,
        }
    }

    /// Puts in a value, unless the prefix has one. `prefix` has no host bits.
    pub(super) fn insert_if_absent(&mut self, prefix: Ipv4Net, value: V) {
        self.lengths |= 1 << prefix.prefix_len();
        self.values.entry(prefix).or_insert(value);
    }

    /// The longest prefix that contains the address.
    pub(super) fn lookup(&self, address: Ipv4Addr) -> Option<(Ipv4Net, &V)> {
        self.longest(address, 32)
    }

    /// Whether some prefix contains all of `prefix`.
    pub(super) fn covers(&self, prefix: Ipv4Net) -> bool {
        self.longest(prefix.network(), prefix.prefix_len())
            .is_some()
    }

    fn longest(&self, address: Ipv4Addr, most: u8) -> Option<(Ipv4Net, &V)> {
        (0..=most)
            .rev()
            .filter(|length| self.lengths & (1 << length) != 0)
            .find_map(|length| {
                let prefix = Ipv4Net::new(address, length).ok()?.trunc();
                self.values.get(&prefix).map(|value| (prefix, value))
            })
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Ipv4Net, V)> {
        self.values.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_is_found() {
        let mut prefixes = Prefixes::new();
        for (prefix, value) in [("0.0.0.0/0", 0), ("10.0.0.0/8", 8), ("10.1.2.3/32", 32)] {
            prefixes.insert_if_absent(net(prefix), value);
        }
        prefixes.insert_if_absent(net("10.0.0.0/8"), 99);
        let find = |address: [u8; 4]| prefixes.lookup(address.into()).map(|(_, value)| *value);
        assert_eq!(find([10, 1, 2, 3]), Some(32));
        assert_eq!(find([10, 1, 2, 4]), Some(8));
        assert_eq!(find([11, 0, 0, 1]), Some(0));
    }

    #[test]
    fn a_prefix_is_covered_by_itself_and_by_shorter_ones_only() {
        let mut prefixes = Prefixes::new();
        prefixes.insert_if_absent(net("127.0.0.0/8"), ());
        assert!(prefixes.covers(net("127.0.0.0/8")));
        assert!(prefixes.covers(net("127.5.0.0/16")));
        assert!(!prefixes.covers(net("126.0.0.0/7")));
        assert!(prefixes.lookup([126, 0, 0, 1].into()).is_none());
    }
}
