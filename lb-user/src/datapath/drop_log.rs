//! What the programs say of packets that they drop, if they were loaded to say it.

use aya::programs::SchedClassifier;
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};

use super::{DatapathError, ebpf};

/// Bytes of the ring through which a program talks, where it does; else as little as there can be.
const RING: u32 = 1 << 17;
const SILENT: u32 = 4096;

/// The level up to which the programs talk, and the bytes that this takes: constants of a program.
pub(super) const fn level(log_drops: bool) -> (u8, u32) {
    if log_drops {
        (Level::Debug as u8, RING)
    } else {
        (0, SILENT)
    }
}

/// The daemon's log, for records of a program.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::info!(target: "bpvs::packets", "{}", record.args());
    }

    fn flush(&self) {}
}

/// What one program says.
pub(super) struct DropLog(EbpfLogger<ToTracing>);

impl DropLog {
    /// Listens to a loaded program.
    pub(super) fn of(program: &SchedClassifier) -> Result<Self, DatapathError> {
        let info = program.info().map_err(ebpf("look at a program"))?;
        EbpfLogger::init_from_id_with_logger(info.id(), ToTracing)
            .map(Self)
            .map_err(ebpf("listen to a program"))
    }

    /// Writes what it has said since the last time into the log.
    pub(super) fn drain(&mut self) {
        self.0.flush();
    }
}
