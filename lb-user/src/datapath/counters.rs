//! Counters in the maps: one value for each CPU, summed here.

use std::os::fd::AsFd;

use aya::maps::PerCpuValues;
use aya::util::nr_cpus;
use lb_common::abi::ServerStats;
use lb_common::verdict::Reason;

use super::maps::{Maps, Plain};
use super::sys::{self, BatchCursor};
use super::{Counters, DatapathError, ebpf_map, system};
use crate::model::ScopeId;

impl Counters {
    /// In the order of its fields.
    pub(super) const fn to_array(self) -> [u64; 5] {
        [
            self.connections,
            self.in_packets,
            self.out_packets,
            self.in_bytes,
            self.out_bytes,
        ]
    }

    /// Back from [`Counters::to_array`].
    pub(super) const fn from_array(array: [u64; 5]) -> Self {
        let [connections, in_packets, out_packets, in_bytes, out_bytes] = array;
        Self {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }

    /// Both together, going round at 2^64.
    pub(super) fn plus(self, other: Self) -> Self {
        let (a, b) = (self.to_array(), other.to_array());
        Self::from_array(std::array::from_fn(|place| a[place].wrapping_add(b[place])))
    }

    /// This without the other, likewise.
    pub(super) fn less(self, other: Self) -> Self {
        let (a, b) = (self.to_array(), other.to_array());
        Self::from_array(std::array::from_fn(|place| a[place].wrapping_sub(b[place])))
    }
}

impl From<ServerStats> for Counters {
    fn from(stats: ServerStats) -> Self {
        Self {
            connections: stats.conns,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
        }
    }
}

/// What some servers have counted together.
pub(super) fn sum(
    maps: &Maps,
    servers: impl Iterator<Item = u32>,
) -> Result<Counters, DatapathError> {
    servers
        .into_iter()
        .try_fold(Counters::default(), |sum, index| {
            Ok(sum.plus(of_server(maps, index)?))
        })
}

/// Servers read in one system call.
const BATCH: u32 = 512;
/// How many places it pays to read in a row, rather than one alone.
const DENSE: usize = 16;

/// What servers have counted, by their places.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<Counters>);

impl Counts {
    /// What the server at this place has counted.
    pub(super) fn of(&self, index: u32) -> Counters {
        let counters = self.0.get(index as usize);
        counters.copied().unwrap_or_default()
    }
}

/// What each of these servers has counted: in a few long reads where they lie close together, which costs a tenth of
/// reading each by itself.
pub(super) fn of_servers(maps: &Maps, servers: &[u32]) -> Result<Counts, DatapathError> {
    let last = servers.iter().copied().max().unwrap_or(0) as usize;
    let mut counts = Counts(vec![Counters::default(); last + 1]);
    if servers.len() * DENSE < last {
        for &index in servers {
            counts.0[index as usize] = of_server(maps, index)?;
        }
        return Ok(counts);
    }
    let cpus = nr_cpus().map_err(|(_, error)| system("count the processors".into())(error))?;
    let size = size_of::<ServerStats>();
    let mut cursor = BatchCursor::default();
    let mut read = 0;
    let map = maps.server_stats_data.fd();
    while read <= last {
        let mut visit = |key: &[u8], values: &[u8]| {
            let index = sys::from_bytes::<u32>(key) as usize;
            // Others lie between them: nobody asks for those.
            if let Some(counted) = counts.0.get_mut(index) {
                *counted = values.chunks(size).fold(Counters::default(), |sum, value| {
                    sum.plus(sys::from_bytes::<ServerStats>(value).into())
                });
            }
            read = index + 1;
        };
        let more = cursor
            .next(
                map.as_fd(),
                size_of::<u32>(),
                size * cpus,
                BATCH,
                &mut visit,
            )
            .map_err(system("read the counters".into()))?;
        if !more {
            break;
        }
    }
    Ok(counts)
}

/// What a server has counted.
pub(super) fn of_server(maps: &Maps, index: u32) -> Result<Counters, DatapathError> {
    let values = maps
        .server_stats
        .get(&index, 0)
        .map_err(ebpf_map("read the counters of a server"))?;
    let each = values.iter().map(|Plain(stats)| Counters::from(*stats));
    Ok(each.fold(Counters::default(), Counters::plus))
}

/// Lets a server begin at zero.
pub(super) fn clear_server(maps: &mut Maps, index: u32) -> Result<(), DatapathError> {
    let zero = zeros(Plain(ServerStats::default()))?;
    maps.server_stats
        .set(index, zero, 0)
        .map_err(ebpf_map("clear the counters of a server"))
}

/// Packets and bytes that left for this reason.
pub(super) fn of_reason(
    maps: &Maps,
    scope: ScopeId,
    reason: Reason,
) -> Result<[u64; 2], DatapathError> {
    let values = maps
        .reasons
        .get(&index(scope, reason), 0)
        .map_err(ebpf_map("read the reasons"))?;
    Ok(values
        .iter()
        .fold([0; 2], |[packets, bytes], Plain([more, size])| {
            [packets + more, bytes + size]
        }))
}

/// Packets and connections of a scope that servers may have counted.
pub(super) fn served(maps: &Maps, scope: ScopeId) -> Result<u64, DatapathError> {
    let reasons = Reason::ALL.iter().filter(|reason| !reason.passes());
    reasons.into_iter().try_fold(0_u64, |sum, &reason| {
        let [packets, _] = of_reason(maps, scope, reason)?;
        Ok(sum.wrapping_add(packets))
    })
}

/// Lets a scope's reasons begin at zero.
pub(super) fn clear_reasons(maps: &mut Maps, scope: ScopeId) -> Result<(), DatapathError> {
    for &reason in Reason::ALL {
        let zero = zeros(Plain([0; 2]))?;
        maps.reasons
            .set(index(scope, reason), zero, 0)
            .map_err(ebpf_map("clear the reasons"))?;
    }
    Ok(())
}

fn index(scope: ScopeId, reason: Reason) -> u32 {
    scope.get() * Reason::ALL.len() as u32 + reason as u32
}

fn zeros<T: aya::Pod>(zero: T) -> Result<PerCpuValues<T>, DatapathError> {
    let cpus = nr_cpus().map_err(|(_, error)| system("count the processors".into())(error))?;
    PerCpuValues::try_from(vec![zero; cpus]).map_err(system("make room for counters".into()))
}
