//! The rates of all owners, in the order of their places: they are gone through every two seconds.

use super::Counters;
use super::accounts::{Owner, Place};
use super::rates::Estimate;

/// The rates that are kept. Those that a step does not go on with are over.
#[derive(Debug)]
pub(super) struct Estimates {
    /// From 2 on, so that nothing is of the step before the first one.
    step: u64,
    /// Of scopes, services and servers by their places, each with the step that it is of.
    kept: [Vec<(u64, Estimate)>; 3],
}

const fn place(owner: Owner) -> (usize, usize) {
    match owner.place() {
        Place::Scope(at) => (0, at as usize),
        Place::Service(at) => (1, at as usize),
        Place::Server(at) => (2, at as usize),
    }
}

impl Default for Estimates {
    fn default() -> Self {
        Self {
            step: 1,
            kept: Default::default(),
        }
    }
}

impl Estimates {
    /// Another step.
    pub(super) fn begin(&mut self) {
        self.step += 1;
    }

    /// An owner's rate that goes on in this step; one that was not in the last step begins with `new` counted.
    pub(super) fn goes_on(&mut self, owner: Owner, new: Counters) -> &mut Estimate {
        let (kind, at) = place(owner);
        let kept = &mut self.kept[kind];
        if kept.len() <= at {
            kept.resize(at + 1, (0, Estimate::new(Counters::default())));
        }
        let (step, estimate) = &mut kept[at];
        if *step + 1 != self.step {
            *estimate = Estimate::new(new);
        }
        *step = self.step;
        estimate
    }

    /// An owner's rate, if it was in the last step.
    pub(super) fn get(&self, owner: Owner) -> Option<&Estimate> {
        let (kind, at) = place(owner);
        let (step, estimate) = self.kept[kind].get(at)?;
        (*step == self.step).then_some(estimate)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, owner: Owner) -> Option<&mut Estimate> {
        let (kind, at) = place(owner);
        let (step, estimate) = self.kept[kind].get_mut(at)?;
        (*step == self.step).then_some(estimate)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_misses_a_step_begins_anew() {
        let counted = |connections| Counters {
            connections,
            ..Counters::default()
        };
        let two = Duration::from_secs(2);
        let (server, service) = (Owner::server(7), Owner::service(7));
        let mut estimates = Estimates::default();
        assert!(estimates.get(server).is_none());
        for total in [1000, 2000] {
            estimates.begin();
            estimates
                .goes_on(server, counted(0))
                .step(counted(total), two);
        }
        let rate = estimates.get(server).unwrap().rates().connections;
        assert_eq!(rate, 219);
        assert!(estimates.get(service).is_none());
        // Two steps without it.
        estimates.begin();
        assert!(estimates.get(server).is_none() && estimates.get_mut(server).is_none());
        estimates.begin();
        let again = estimates.goes_on(server, counted(5000));
        again.step(counted(5000), two);
        assert_eq!(again.rates().connections, 0);
    }
}
