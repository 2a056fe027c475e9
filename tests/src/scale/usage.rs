//! What a process uses: processor time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::process::Process;

/// Processor time of a process so far, in its own code and in the kernel's.
pub fn cpu(process: Process) -> Result<Duration> {
    // Of all threads, also of those that have ended.
    let clock = clock_getcpuclockid(Pid::from_raw(process.pid))
        .with_context(|| format!("process {} has no clock", process.pid))?;
    Ok(clock_gettime(clock)?.into())
}

/// Memory that a process has by itself, in MiB: of maps and of its program it shares the pages with the kernel.
pub fn own_memory(process: Process) -> Result<f64> {
    let path = format!("/proc/{}/status", process.pid);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = field(&text, "RssAnon:").with_context(|| format!("{path} has no RssAnon"))?;
    Ok(kib as f64 / 1024.0)
}

/// A map that a process has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// `BPF_MAP_TYPE_…`
    pub kind: u64,
    /// How many entries there is room for.
    pub entries: u64,
    /// Bytes that the kernel accounts for it.
    pub memory: u64,
}

/// The maps that a process has open.
pub fn maps(process: Process) -> Result<Vec<Map>> {
    let folder = format!("/proc/{}/fdinfo", process.pid);
    let mut maps = Vec::new();
    for file in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        maps.extend(map(&text));
    }
    Ok(maps)
}

fn map(text: &str) -> Option<Map> {
    Some(Map {
        kind: field(text, "map_type:")?,
        entries: field(text, "max_entries:")?,
        memory: field(text, "memlock:")?,
    })
}

/// The number behind a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let text = "pos:\t0\nmap_type:\t1\nkey_size:\t16\nvalue_size:\t88\nmax_entries:\t655360\n\
                    map_flags:\t0x1\nmemlock:\t16777600\n";
        let read = map(text).unwrap();
        assert_eq!(
            (read.kind, read.entries, read.memory),
            (1, 655_360, 16_777_600)
        );
        assert_eq!(map("pos:\t0\n"), None);
        let before = cpu(Process::own()).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {}
        assert!(cpu(Process::own()).unwrap() > before);
        assert!(own_memory(Process::own()).unwrap() > 0.1);
    }
}
