//! What a command line asks for.

use super::ipvs::Change;
use super::view::{ServiceId, SyncDaemon, SyncRole, Timeouts};

/// A command, understood and found legal, with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `-A`, `-E`, `-D`, `-a`, `-e` and `-d`.
    Change(Change),
    /// `-C`.
    Clear,
    /// `-L` of services.
    List {
        /// One service, or all.
        service: Option<ServiceId>,
        /// How.
        format: Format,
    },
    /// `-L -c`.
    ListConnections(Format),
    /// `-L --timeout`.
    ListTimeouts,
    /// `-L --daemon`.
    ListDaemons,
    /// `-Z`, of one service or of all.
    Zero(Option<ServiceId>),
    /// `--set`.
    Set(Timeouts),
    /// `--start-daemon`.
    StartDaemon(SyncDaemon),
    /// `--stop-daemon`.
    StopDaemon(SyncRole),
    /// `-R`.
    Restore,
    /// `-S`.
    Save(Format),
}

/// What a listing shows, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// Addresses and ports as numbers (`-n`).
    pub numeric: bool,
    /// Large numbers to the last digit (`--exact`).
    pub exact: bool,
    /// In the kernel's order (`--nosort`).
    pub unsorted: bool,
    /// `--stats`.
    pub stats: bool,
    /// `--rate`.
    pub rate: bool,
    /// `--thresholds`.
    pub thresholds: bool,
    /// `--persistent-conn`.
    pub persistent_conn: bool,
    /// `--tun-info`.
    pub tunnels: bool,
}
