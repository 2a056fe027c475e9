//! What this machine's kernel has, and what it was built without.

use anyhow::Result;

use crate::host::Host;

/// Whether the kernel has interfaces of a kind, as `ip link add … type` calls it (`vlan`, `bond`):
/// built in, or in a module that it finds. Tried on `host`, where one may be left behind.
///
/// # Errors
///
/// When `ip` cannot be run.
pub fn interfaces(host: &Host, kind: &str) -> Result<bool> {
    // Most kinds want more than this says; what matters is whether the kernel knows what is missing.
    match host.ip(&format!("link add name probe type {kind}")) {
        Ok(_) => Ok(true),
        Err(error) => {
            let said = format!("{error:#}");
            let unknown = said.contains("Unknown device type");
            anyhow::ensure!(unknown || !said.contains("cannot start"), said);
            Ok(!unknown)
        }
    }
}
