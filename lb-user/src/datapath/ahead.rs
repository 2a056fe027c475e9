//! The programs of the next scope, loaded ahead: the verifier takes most of the time that a new scope needs.

use std::thread::JoinHandle;

use super::maps::Rings;
use super::pins::Pins;
use super::{Options, programs, sys};
use crate::model::ScopeId;

/// Who loads them.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    thread: Option<JoinHandle<()>>,
    /// They are to be loaded once nothing else is asked for: whoever has just opened a scope has its answer first.
    pub(super) wanted: bool,
}

impl Ahead {
    /// Begins. Should it fail, it fails again when the scope is wanted, and is told then.
    pub(super) fn begin(&mut self, pins: &Pins, options: &Options, rings: Rings) {
        self.finish();
        self.wanted = false;
        let taken = pins.scope_ids().unwrap_or_default();
        let free = (ScopeId::MIN.get()..=ScopeId::MAX.get())
            .find(|id| taken.iter().all(|there| there.get() != *id));
        let Some(Ok(scope)) = free.map(ScopeId::new) else {
            return;
        };
        let (pins, options) = (pins.clone(), options.clone());
        let load = move || {
            drop(programs::prepare(&pins, &options, scope, rings));
            sys::give_memory_back();
        };
        self.thread = std::thread::Builder::new()
            .name("bpvs-ahead".into())
            .spawn(load)
            .ok();
    }

    /// Waits until they are loaded.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there is a scope that loads its programs itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // It must not pin anything after `remove_all`.
        self.finish();
    }
}
