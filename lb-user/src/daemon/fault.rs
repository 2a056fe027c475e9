//! A test hook: the daemon dies at a named step of a change, as if killed there.
//!
//! `BPVS_FAULT` names the step: `journal-written` (the intent is on disk, nothing is done), `op:N` (N operations of the
//! change are done), `ops-applied` (all are, the journal still holds the intent), `scope-recorded` (a new scope is in
//! the journal, not yet in the datapath), `scope-opened`, `undo` (an operation failed, nothing is undone yet).
//! Only in debug builds and with the feature `faults`.

/// Dies if this is the step that `BPVS_FAULT` names.
#[cfg(any(debug_assertions, feature = "faults"))]
pub(super) fn reached(step: &str) {
    if std::env::var("BPVS_FAULT").is_ok_and(|wanted| wanted == step) {
        std::process::abort();
    }
}

/// Does nothing in this build.
#[cfg(not(any(debug_assertions, feature = "faults")))]
pub(super) fn reached(_step: &str) {}
