//! Which interfaces of a scope have XDP: as the settings say, and as far as drivers can.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use tracing::{info, warn};

use super::engine::Engine;
use crate::api::wire;
use crate::model::{ScopeId, Xdp};
use crate::net::{Interface, Medium};

/// An interface that is to have XDP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Early {
    /// Its name; empty for what an earlier daemon attached and this one has not looked at yet.
    name: String,
    /// Why it has none.
    refused: Option<String>,
    /// What is to be known where it has.
    note: Option<&'static str>,
}

impl Early {
    const fn is_there(&self) -> bool {
        self.refused.is_none()
    }
}

/// Whether an interface is to have XDP. Never by itself the end of a container's veth.
fn wanted(choice: &Xdp, interface: &Interface) -> bool {
    match choice {
        Xdp::Off => false,
        Xdp::Auto => interface.attach && interface.medium == Medium::Wire,
        Xdp::Named(_) => choice.names(&interface.name),
    }
}

impl Engine {
    /// Brings XDP in line with the settings and the interfaces. After [`Engine::attach`](super::engine::Engine): what XDP
    /// leaves must find the other programs.
    pub(super) fn attach_early(&mut self, id: ScopeId) {
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        let Some(network) = scope.network.clone() else {
            return;
        };
        let choice = scope.table.settings().xdp.clone();
        let mut now: BTreeMap<u32, Early> = BTreeMap::new();
        for interface in &network.interfaces {
            if !wanted(&choice, interface) {
                continue;
            }
            let known = scope.early.get(&interface.ifindex);
            let is_known = known.is_some_and(|known| {
                known.name == interface.name && (known.is_there() || choice == Xdp::Auto)
            });
            if let (Some(known), true) = (known, is_known) {
                now.insert(interface.ifindex, known.clone());
                continue;
            }
            let was = known.cloned().unwrap_or_default();
            let mut early = Early {
                name: interface.name.clone(),
                ..Early::default()
            };
            if !scope.attached.contains_key(&interface.ifindex) {
                early.refused = Some(format!(
                    "the programs do not attach to it: {}",
                    interface.attach_reason
                ));
            } else {
                match self.datapath.attach_xdp(id, scope.netns.as_fd(), interface) {
                    Ok(note) => early.note = note,
                    Err(error) => early.refused = Some(error.to_string()),
                }
            }
            match (&early.refused, early.note) {
                (None, None) => info!(scope = %id, interface = %early.name, "attached to XDP"),
                (None, Some(note)) => {
                    warn!(scope = %id, interface = %early.name, "attached to XDP; {note}");
                }
                (Some(reason), _) if was != early => {
                    warn!(scope = %id, interface = %early.name, "no XDP: {reason}");
                }
                (Some(_), _) => {}
            }
            now.insert(interface.ifindex, early);
        }
        let before = std::mem::replace(&mut scope.early, now);
        let gone = before.iter().filter(|(ifindex, early)| {
            early.is_there() && scope.early.get(ifindex).is_none_or(|now| !now.is_there())
        });
        for (ifindex, early) in gone {
            match self.datapath.detach_xdp(id, *ifindex) {
                Ok(()) => info!(scope = %id, interface = %early.name, "detached from XDP"),
                Err(error) => {
                    warn!(scope = %id, interface = %early.name, "cannot detach from XDP: {error}");
                }
            }
        }
        // What was asked for by name and is not there is tried again, like all that does not work.
        let refused = |early: &Early| {
            let reason = early.refused.as_ref()?;
            Some(format!("XDP on {}: {reason}", early.name))
        };
        let mut problems: Vec<String> = match &choice {
            Xdp::Named(names) => names
                .iter()
                .filter(|name| network.interfaces.iter().all(|there| there.name != **name))
                .map(|name| format!("XDP on {name}: there is no such interface"))
                .collect(),
            Xdp::Off | Xdp::Auto => Vec::new(),
        };
        if choice != Xdp::Auto {
            problems.extend(scope.early.values().filter_map(refused));
        }
        scope
            .problems
            .retain(|problem| !problem.starts_with("XDP on "));
        scope.problems.append(&mut problems);
    }

    /// Takes XDP from an interface from which the other programs are taken, or from all.
    pub(super) fn detach_early(&mut self, id: ScopeId, only: Option<u32>) {
        let Some(scope) = self.scopes.get_mut(&id) else {
            return;
        };
        let (taken, kept) = std::mem::take(&mut scope.early)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(ifindex, _)| only.is_none_or(|it| it == *ifindex));
        scope.early = kept;
        for (ifindex, early) in taken {
            if let Err(error) = self.datapath.detach_xdp(id, ifindex) {
                warn!(scope = %id, interface = %early.name, "cannot detach from XDP: {error}");
            }
        }
    }
}

/// How packets that arrive on the interfaces of a scope are handled.
pub(super) fn paths(
    attached: &BTreeMap<u32, String>,
    early: &BTreeMap<u32, Early>,
) -> Vec<wire::InterfacePath> {
    let path = |(ifindex, name): (&u32, &String)| {
        let early = early.get(ifindex);
        let by_xdp = early.is_some_and(Early::is_there);
        wire::InterfacePath {
            interface: name.clone(),
            path: if by_xdp { "xdp" } else { "tc" }.to_owned(),
            note: early.and_then(|early| {
                early
                    .refused
                    .clone()
                    .or_else(|| early.note.map(str::to_owned))
            }),
        }
    };
    attached.iter().map(path).collect()
}
