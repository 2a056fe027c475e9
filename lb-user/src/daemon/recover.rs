//! Taking up what an earlier daemon left.

use tracing::{info, warn};

use super::engine::{Engine, StartError};
use super::find;

impl Engine {
    /// Opens the scopes that the journal knows and whose namespaces still live, removes the others, finishes a change
    /// that was cut short, and serves what is there.
    pub(super) fn recover(&mut self) -> Result<(), StartError> {
        for id in self.datapath.scopes()? {
            if !self.journal.scopes.contains_key(&id) {
                return Err(StartError::UnknownScope(id));
            }
        }
        let mut found = find::find(
            self.journal
                .scopes
                .iter()
                .map(|(id, scope)| (*id, &scope.netns)),
        );
        for (id, label) in self
            .journal
            .scopes
            .iter()
            .map(|(id, scope)| (*id, scope.netns.label.clone()))
            .collect::<Vec<_>>()
        {
            match found.remove(&id) {
                Some(netns) => {
                    self.take_up(id, netns)?;
                    info!(scope = %id, netns = %label, "taken up");
                }
                None => {
                    warn!(scope = %id, netns = %label, "the scope's namespace is gone");
                    self.close(id);
                }
            }
        }
        self.finish_change()?;
        for id in self.scopes.keys().copied().collect::<Vec<_>>() {
            self.serve(id);
        }
        Ok(())
    }
}
