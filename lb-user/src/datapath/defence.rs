//! The defence against a lack of memory: `drop_packet`, `drop_entry` and `secure_tcp` (`update_defense_level`).

use std::io;

use crate::model::{Setting, Settings};

/// Whether these settings ask how much memory is free.
pub(super) fn asks(settings: &Settings) -> bool {
    [Setting::DropPacket, Setting::DropEntry, Setting::SecureTcp]
        .into_iter()
        .any(|setting| matches!(settings.get(setting), 1 | 2))
}

/// What the datapath is told of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Defence {
    /// One of so many new connections is dropped; 0: none.
    pub(super) drop_rate: u32,
    /// TCP's states are those of `secure_tcp`.
    pub(super) secure_tcp: bool,
}

impl Defence {
    /// With so many pages free.
    pub(super) fn new(settings: &Settings, free: Option<u64>) -> Self {
        Self {
            drop_rate: drop_rate(settings, free),
            secure_tcp: takes_place(settings, Setting::SecureTcp, free),
        }
    }
}

/// One of so many new connections is dropped, with so many pages free; 0: none. Without knowing how many are free there
/// is no lack.
fn drop_rate(settings: &Settings, free: Option<u64>) -> u32 {
    match (settings.get(Setting::DropPacket), lack(settings, free)) {
        (0, _) | (1 | 2, None) => 0,
        (1 | 2, Some(missing)) => {
            // At least one page is missing, and none more than there should be.
            u32::try_from(u64::from(settings.get(Setting::Amemthresh)) / missing)
                .unwrap_or(u32::MAX)
        }
        (_, _) => settings.get(Setting::AmDroprate),
    }
}

/// Whether connections that are not established are given up early.
pub(super) fn drops_entries(settings: &Settings, free: Option<u64>) -> bool {
    takes_place(settings, Setting::DropEntry, free)
}

/// Whether a defence with these four modes takes place.
fn takes_place(settings: &Settings, setting: Setting, free: Option<u64>) -> bool {
    match settings.get(setting) {
        0 => false,
        1 | 2 => lack(settings, free).is_some(),
        _ => true,
    }
}

/// How many pages are missing.
fn lack(settings: &Settings, free: Option<u64>) -> Option<u64> {
    let wanted = u64::from(settings.get(Setting::Amemthresh));
    wanted.checked_sub(free?).filter(|missing| *missing > 0)
}

/// Pages that are free, or hold buffers: what IPVS goes by.
pub(super) fn free_pages() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
    let size = u64::try_from(size).unwrap_or(4096).max(1024);
    Ok(kibibytes(&text) * 1024 / size)
}

fn kibibytes(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let number = rest.split_whitespace().next()?.parse::<u64>().ok()?;
            matches!(name, "MemFree" | "Buffers").then_some(number)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(packet: u32, entry: u32) -> Settings {
        let mut settings = Settings::default();
        settings.set(Setting::DropPacket, packet).unwrap();
        settings.set(Setting::DropEntry, entry).unwrap();
        settings
    }

    #[test]
    fn the_rate_of_each_mode() {
        // mode, free pages, rate: of 1024 wanted
        for (mode, free, rate) in [
            (0, Some(0), 0),
            (1, Some(1024), 0),
            (1, Some(1023), 1024),
            (2, Some(1024 - 100), 10),
            (1, Some(512), 2),
            (2, Some(0), 1),
            (1, None, 0),
            (3, Some(1_000_000), 10),
            (3, None, 10),
        ] {
            assert_eq!(drop_rate(&settings(mode, 0), free), rate, "{mode} {free:?}");
        }
        let mut other = settings(3, 0);
        other.set(Setting::AmDroprate, 3).unwrap();
        assert_eq!(drop_rate(&other, None), 3);
        other.set(Setting::DropPacket, 1).unwrap();
        other.set(Setting::Amemthresh, 0).unwrap();
        assert_eq!(drop_rate(&other, Some(0)), 0);
    }

    #[test]
    fn entries_go_when_memory_is_short_or_always() {
        for (mode, free, goes) in [
            (0, Some(0), false),
            (1, Some(1024), false),
            (1, Some(1), true),
            (2, Some(1), true),
            (3, Some(1_000_000), true),
        ] {
            assert_eq!(
                drops_entries(&settings(0, mode), free),
                goes,
                "{mode} {free:?}"
            );
        }
        let mut secure = settings(0, 0);
        for (mode, free, taken) in [
            (0, 0, false),
            (1, 1, true),
            (2, 1024, false),
            (3, 9999, true),
        ] {
            secure.set(Setting::SecureTcp, mode).unwrap();
            assert_eq!(
                Defence::new(&secure, Some(free)).secure_tcp,
                taken,
                "{mode} {free}"
            );
            assert_eq!(asks(&secure), matches!(mode, 1 | 2));
        }
        assert!(asks(&settings(1, 0)) && asks(&settings(0, 2)));
        assert!(!asks(&settings(3, 3)) && !asks(&settings(0, 0)));
    }

    #[test]
    fn free_memory_is_what_is_free_and_what_are_buffers() {
        let text = "MemTotal:  8000 kB\nMemFree:  1200 kB\nMemAvailable: 6000 kB\nBuffers: 300 kB\nCached: 9 kB\n";
        assert_eq!(kibibytes(text), 1500);
        assert!(free_pages().unwrap() > 0);
    }
}
