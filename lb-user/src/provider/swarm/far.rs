//! Which ends of the network of published ports are other nodes' sandboxes, where the engine does not say it.
//!
//! 20.10 lists them among the plain containers of the network's services. Newer engines (26 and 28 were seen) do not. But each
//! node's kernel has been told of every end on other nodes, or no packet would get there; and those that are no task's are the
//! sandboxes, for nothing else can be on that network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::seen::{Balancer, Network};

/// The other nodes' sandboxes, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct Far(BTreeMap<Ipv4Addr, Ipv4Addr>);

impl Far {
    /// The sandboxes of all nodes, this one's too: none that the engine has not made yet. `ends` are those on other nodes, each
    /// with its node.
    ///
    /// The kernel hears of a task before the engine lists it, and forgets it after. A node with several ends that are no
    /// task's has the sandbox that it had before, or none yet.
    pub(super) fn balancers(
        &mut self,
        network: &Network,
        ends: &BTreeMap<Ipv4Addr, Ipv4Addr>,
    ) -> Vec<Balancer> {
        let tasks = || network.services.iter().flat_map(|service| &service.tasks);
        let known: BTreeSet<Ipv4Addr> = tasks().map(|task| task.address).collect();
        let mut left: BTreeMap<Ipv4Addr, Vec<Ipv4Addr>> = BTreeMap::new();
        for (end, node) in ends {
            let inside = network.subnet.is_some_and(|subnet| subnet.contains(end));
            if inside && !known.contains(end) {
                left.entry(*node).or_default().push(*end);
            }
        }
        self.0
            .retain(|node, sandbox| left.get(node).is_some_and(|ends| ends.contains(sandbox)));
        for (node, ends) in left {
            if let [only] = ends.as_slice() {
                self.0.insert(node, *only);
            }
        }
        let mut here = tasks().filter(|task| network.here.values().any(|own| *own == task.address));
        // Without a task here it does not matter which node this is.
        let node = here.find_map(|task| task.node);
        let own = network.balancer.map(|address| Balancer {
            address,
            node: node.unwrap_or(Ipv4Addr::UNSPECIFIED),
        });
        let others = self.0.iter().map(|(node, address)| Balancer {
            address: *address,
            node: *node,
        });
        let mut all: Vec<Balancer> = own.into_iter().chain(others).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::tests::{INGRESS_28, read};
    use super::*;

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn node(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, last)
    }

    fn balancer(end: u8, of: u8) -> Balancer {
        Balancer {
            address: at(end),
            node: node(of),
        }
    }

    #[test]
    fn what_is_no_tasks_is_a_sandbox() {
        let network = read(INGRESS_28);
        let elsewhere = Ipv4Addr::new(10, 0, 1, 6);
        let ends = [(at(6), node(1)), (at(2), node(1)), (elsewhere, node(1))].into();
        let all = Far::default().balancers(&network, &ends);
        assert_eq!(all, [balancer(2, 1), balancer(3, 2)]);
    }

    #[test]
    fn a_task_that_is_not_yet_listed_is_no_sandbox() {
        let network = read(INGRESS_28);
        let mut far = Far::default();
        let both = [(at(2), node(1)), (at(9), node(1))].into();
        assert_eq!(far.balancers(&network, &both), [balancer(3, 2)], "either");
        let one = [(at(2), node(1))].into();
        assert_eq!(far.balancers(&network, &one).len(), 2);
        let all = far.balancers(&network, &both);
        assert_eq!(all, [balancer(2, 1), balancer(3, 2)], "as before");
        // The node has left and come again.
        assert_eq!(far.balancers(&network, &BTreeMap::new()).len(), 1);
        assert_eq!(far.balancers(&network, &both).len(), 1);
    }

    #[test]
    fn without_a_task_here_nobody_is_here() {
        let mut network = read(INGRESS_28);
        network.services[0]
            .tasks
            .retain(|task| task.node == Some(node(1)));
        let all = Far::default().balancers(&network, &BTreeMap::new());
        let own = Balancer {
            address: at(3),
            node: Ipv4Addr::UNSPECIFIED,
        };
        assert_eq!(all, [own]);
    }
}
