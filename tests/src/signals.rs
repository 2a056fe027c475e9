//! SIGINT and SIGTERM: the same clean-up as at a normal end, then out.
//!
//! The signals are blocked in every thread and taken by one thread of their own, so the clean-up is
//! ordinary code and not a signal handler.

use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::state;

/// The labs to take away when a signal comes. Held locked while that is done, so nobody makes a new
/// one meanwhile.
static LABS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn handled() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGHUP);
    set
}

/// Starts the thread that waits for signals. To be called first of all: threads that exist already
/// would still get them.
pub fn install() -> Result<()> {
    handled().thread_block().context("cannot block signals")?;
    thread::Builder::new().name("signals".into()).spawn(|| {
        let Ok(signal) = handled().wait() else { return };
        let labs = LABS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        eprintln!("\n{signal}: cleaning up");
        for lab in labs.iter() {
            if let Err(error) = state::remove(lab) {
                eprintln!("{lab}: {error:#}");
            }
        }
        // Still under the lock: the main thread cannot make another lab between this and the end.
        std::process::exit(128 + signal as i32);
    })?;
    Ok(())
}

/// Lets a child process have its signals; to be called between fork and exec.
pub fn unblock_in_child() -> std::io::Result<()> {
    handled().thread_unblock().map_err(std::io::Error::from)
}

/// From now on a signal takes this lab away. Runs `create` under the same lock as the clean-up.
pub fn register<T>(lab: &str, create: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut labs = LABS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    labs.push(lab.to_owned());
    create()
}

/// Runs `change` so that a clean-up comes before it or after it, never in the middle.
pub fn guarded<T>(change: impl FnOnce() -> T) -> T {
    let _labs = LABS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    change()
}

/// A signal no longer takes this lab away.
pub fn forget(lab: &str) {
    LABS.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .retain(|name| name != lab);
}
