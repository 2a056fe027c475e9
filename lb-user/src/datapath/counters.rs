//! Counters in the maps: one value for each CPU, summed here.

use std::ops::AddAssign;

use aya::maps::PerCpuValues;
use aya::util::nr_cpus;
use lb_common::abi::ServerStats;
use lb_common::verdict::Reason;

use super::maps::{Maps, Plain};
use super::{Counters, DatapathError, ebpf_map, system};
use crate::model::ScopeId;

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.in_packets += other.in_packets;
        self.out_packets += other.out_packets;
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
    }
}

/// What a server has counted.
pub(super) fn of_server(maps: &Maps, index: u32) -> Result<Counters, DatapathError> {
    let values = maps
        .server_stats
        .get(&index, 0)
        .map_err(ebpf_map("read the counters of a server"))?;
    let mut sum = Counters::default();
    for Plain(stats) in values.iter() {
        sum += Counters {
            connections: stats.conns,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
        };
    }
    Ok(sum)
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
