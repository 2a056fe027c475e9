//! Services that local sockets reach at the loopback addresses: a second key each, by protocol and port.

use std::collections::HashMap;

use lb_common::abi::{KIND_LOOPBACK, ServiceKey, V4};

use super::maps::{Maps, Plain};
use super::services::ignore_missing;
use super::{DatapathError, ebpf_map};
use crate::model::ScopeId;

/// The keys, each with the index of its service.
pub(super) type Keys = HashMap<ServiceKey<V4>, u32>;

/// Those of a scope that are in the maps.
pub(super) fn read(maps: &Maps, scope: ScopeId) -> Result<Keys, DatapathError> {
    let mut keys = Keys::new();
    for entry in maps.service_keys.iter() {
        let (Plain(key), Plain(at)) = entry.map_err(ebpf_map("read the services"))?;
        if key.kind == KIND_LOOPBACK && key.scope == scope.get() {
            keys.insert(key, at);
        }
    }
    Ok(keys)
}

/// Has services reached by these keys, and by no others.
pub(super) fn write(maps: &mut Maps, there: &mut Keys, wanted: Keys) -> Result<(), DatapathError> {
    let gone: Vec<ServiceKey<V4>> = there
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .copied()
        .collect();
    for key in gone {
        write_one(maps, there, key, None)?;
    }
    for (key, at) in wanted {
        write_one(maps, there, key, Some(at))?;
    }
    Ok(())
}

/// Has the service at this place reached by a key, or none.
pub(super) fn write_one(
    maps: &mut Maps,
    there: &mut Keys,
    key: ServiceKey<V4>,
    at: Option<u32>,
) -> Result<(), DatapathError> {
    match at {
        Some(at) if there.get(&key) != Some(&at) => {
            maps.service_keys
                .insert(Plain(key), Plain(at), 0)
                .map_err(ebpf_map("put a service at 127.0.0.1"))?;
            there.insert(key, at);
        }
        None if there.contains_key(&key) => {
            ignore_missing(maps.service_keys.remove(&Plain(key)))
                .map_err(ebpf_map("remove a service from 127.0.0.1"))?;
            there.remove(&key);
        }
        _ => {}
    }
    Ok(())
}
