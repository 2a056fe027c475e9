//! Ids for next hops that stay the same while the hop does.
//!
//! Connections in the datapath hold a hop's id. An id that were given to another hop too soon would send their packets
//! to the wrong place; one that changes needlessly costs them their shortcut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::network::{HopId, HopKind};

/// How long the id of a vanished hop rests before another hop may get it.
pub const ID_QUARANTINE: Duration = Duration::from_secs(60);

/// What makes a next hop the same one: all that a packet's way depends on, and not whether its neighbour is resolved
/// just now.
///
/// Its text form (`forward dev 3 via 10.0.0.1`, `local` …) is for keeping the ids over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopKey {
    /// What becomes of the packet.
    pub kind: HopKind,
    /// Index of the output interface; 0 unless the kind is [`HopKind::Forward`].
    pub oif: u32,
    /// The router, if there is one.
    pub gateway: Option<IpAddr>,
    /// The one on-link neighbour that the hop is for; None for a gateway or a whole subnet.
    pub neighbour: Option<IpAddr>,
    /// The preferred source that the route names.
    pub source: Option<Ipv4Addr>,
    /// The route's own MTU, in bytes.
    pub mtu: Option<u32>,
}

impl HopKey {
    /// The host itself.
    pub const LOCAL: Self = Self::end(HopKind::Local);
    /// Nowhere.
    pub const BLACKHOLE: Self = Self::end(HopKind::Blackhole);

    const fn end(kind: HopKind) -> Self {
        Self {
            kind,
            oif: 0,
            gateway: None,
            neighbour: None,
            source: None,
            mtu: None,
        }
    }
}

impl fmt::Display for HopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            HopKind::Local => return f.write_str("local"),
            HopKind::Blackhole => return f.write_str("blackhole"),
            HopKind::Forward => write!(f, "forward dev {}", self.oif)?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(neighbour) = self.neighbour {
            write!(f, " neighbour {neighbour}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

/// A text that is no hop key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not describe a next hop; right would be, say, \"forward dev 3 via 10.0.0.1\"")]
pub struct BadHopKey(String);

impl FromStr for HopKey {
    type Err = BadHopKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadHopKey(text.to_owned());
        let mut words = text.split(' ');
        match words.next() {
            Some("local") if text == "local" => return Ok(Self::LOCAL),
            Some("blackhole") if text == "blackhole" => return Ok(Self::BLACKHOLE),
            Some("forward") => {}
            _ => return Err(bad()),
        }
        let mut key = Self::end(HopKind::Forward);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(bad)?;
            match word {
                "dev" => key.oif = value.parse().map_err(|_| bad())?,
                "via" => key.gateway = Some(value.parse().map_err(|_| bad())?),
                "neighbour" => key.neighbour = Some(value.parse().map_err(|_| bad())?),
                "src" => key.source = Some(value.parse().map_err(|_| bad())?),
                "mtu" => key.mtu = Some(value.parse().map_err(|_| bad())?),
                _ => return Err(bad()),
            }
        }
        if key.oif == 0 {
            return Err(bad());
        }
        Ok(key)
    }
}

/// The ids of one scope.
#[derive(Clone, Debug, Default)]
pub struct HopTable {
    hops: BTreeMap<HopKey, Entry>,
    /// Ids below `unused` that are free.
    free: BTreeSet<HopId>,
    /// All ids from here on are free; 0 in a new table, where id 1 comes first all the same.
    unused: u32,
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: HopId,
    round: u64,
    /// Since when no refresh has named it.
    gone: Option<Instant>,
}

impl HopTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table of an earlier process, from what [`HopTable::ids`] gave there. Ids of hops that are not there any more
    /// rest from the first refresh on. Of two hops with one id, or an id of 0, the first alone counts.
    #[must_use]
    pub fn restore(ids: impl IntoIterator<Item = (HopKey, HopId)>) -> Self {
        let mut table = Self::new();
        let mut taken = BTreeSet::new();
        for (key, id) in ids {
            if id != HopId::NONE && !table.hops.contains_key(&key) && taken.insert(id) {
                let entry = Entry {
                    id,
                    round: 0,
                    gone: None,
                };
                table.hops.insert(key, entry);
            }
        }
        table.unused = taken.last().map_or(0, |id| id.0.saturating_add(1));
        table.free = (1..table.unused)
            .map(HopId)
            .filter(|id| !taken.contains(id))
            .collect();
        table
    }

    /// Every hop that has an id, resting ones too.
    pub fn ids(&self) -> impl Iterator<Item = (HopKey, HopId)> + '_ {
        self.hops.iter().map(|(key, entry)| (*key, entry.id))
    }

    /// Starts a refresh: hops that are not named by [`HopTable::id`] until [`HopTable::finish`] have vanished.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// The hop's id: the one that it has, or had of late, else the smallest free one.
    pub(super) fn id(&mut self, key: HopKey) -> HopId {
        let round = self.round;
        if let Some(entry) = self.hops.get_mut(&key) {
            entry.round = round;
            entry.gone = None;
            return entry.id;
        }
        let id = self.free.pop_first().unwrap_or_else(|| {
            let id = self.unused.max(1);
            self.unused = id.saturating_add(1);
            HopId(id)
        });
        let entry = Entry {
            id,
            round,
            gone: None,
        };
        self.hops.insert(key, entry);
        id
    }

    /// Ends a refresh: what was not named rests, what has rested long enough is forgotten.
    pub(super) fn finish(&mut self, now: Instant) {
        let round = self.round;
        let free = &mut self.free;
        self.hops.retain(|_, entry| {
            if entry.round == round {
                return true;
            }
            let since = *entry.gone.get_or_insert(now);
            let rests = now.saturating_duration_since(since) < ID_QUARANTINE;
            if !rests {
                free.insert(entry.id);
            }
            rests
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(last: u8) -> HopKey {
        HopKey {
            oif: 2,
            gateway: Some(IpAddr::from([10, 0, 0, last])),
            ..HopKey::end(HopKind::Forward)
        }
    }

    fn refresh(table: &mut HopTable, now: Instant, keys: &[HopKey]) -> Vec<u32> {
        table.begin();
        let ids = keys.iter().map(|key| table.id(*key).0).collect();
        table.finish(now);
        ids
    }

    #[test]
    fn an_id_stays_and_is_not_reused_before_it_has_rested() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = HopTable::new();
        assert_eq!(refresh(&mut table, at(0), &[via(1), via(2)]), [1, 2]);
        assert_eq!(refresh(&mut table, at(1), &[via(2)]), [2]);
        // 1 rests: a new hop gets another one, and the old one back within the minute gets its own.
        assert_eq!(refresh(&mut table, at(2), &[via(2), via(3)]), [2, 3]);
        assert_eq!(refresh(&mut table, at(3), &[via(1), via(2)]), [1, 2]);
        // 3 vanished at 3 s and is free at 63 s, not before.
        assert_eq!(
            refresh(&mut table, at(62), &[via(1), via(2), via(4)]),
            [1, 2, 4]
        );
        assert_eq!(refresh(&mut table, at(63), &[via(1), via(2)]), [1, 2]);
        assert_eq!(refresh(&mut table, at(64), &[via(1), via(5)]), [1, 3]);
    }

    #[test]
    fn a_restored_table_goes_on_with_its_ids() {
        let now = Instant::now();
        let mut table = HopTable::restore([
            (via(1), HopId(4)),
            (via(2), HopId(2)),
            (via(3), HopId(2)),
            (via(5), HopId(0)),
        ]);
        assert_eq!(refresh(&mut table, now, &[via(1)]), [4]);
        assert_eq!(
            refresh(&mut table, now, &[via(1), via(6), via(7), via(8)]),
            [4, 1, 3, 5]
        );
        let ids: Vec<_> = table.ids().map(|(_, id)| id.0).collect();
        assert!(ids.contains(&2), "still resting: {ids:?}");
    }

    #[test]
    fn a_key_reads_back_from_its_text() {
        let full = HopKey {
            source: Some([10, 0, 0, 9].into()),
            mtu: Some(1400),
            neighbour: Some(IpAddr::from([10, 0, 0, 7])),
            ..via(1)
        };
        for key in [HopKey::LOCAL, HopKey::BLACKHOLE, via(1), full] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert_eq!(
            full.to_string(),
            "forward dev 2 via 10.0.0.1 neighbour 10.0.0.7 src 10.0.0.9 mtu 1400"
        );
        for bad in [
            "",
            "local dev 2",
            "forward",
            "forward dev",
            "forward dev x",
            "forward on 3",
        ] {
            assert!(bad.parse::<HopKey>().is_err(), "{bad}");
        }
    }
}
