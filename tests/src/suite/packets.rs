//! The packet cases on the programs in the kernel.

use anyhow::{Result, bail};

use super::{Case, Context, case};
use crate::packets::{
    self,
    kernel::Kernel,
    runner::run_all,
    world::{BACK, BACK_MAC, FRONT, FRONT_MAC},
};

pub(super) const CASES: &[Case] = &[case(
    "packets/kernel",
    "a packet that the programs handle otherwise than the same pipeline on the host",
    kernel,
)];

fn kernel(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let host = lab.host("packets")?;
    // The programs see by the interface's Ethernet address for whom a packet is.
    for (name, index, mac) in [("front", FRONT, FRONT_MAC), ("back", BACK, BACK_MAC)] {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        host.ip(&format!(
            "link add name {name} index {index} address {mac} type bridge"
        ))?;
    }
    let (total, summary) = host.run(|| {
        let cases = packets::all();
        (cases.len(), run_all(&mut Kernel::default(), &cases))
    })?;
    context.note(format!(
        "{} of {total} packet cases with {} packets, {} for the host's pipeline only",
        summary.passed,
        summary.packets,
        summary.refused.len()
    ));
    if !summary.failed.is_empty() {
        bail!("{summary}");
    }
    Ok(())
}
