//! The packet cases on the programs in the kernel.

use anyhow::{Result, bail, ensure};

use super::{Case, Context, case};
use crate::host::Host;
use crate::packets::{
    self,
    kernel::{Kernel, Wires},
    runner::run_all,
    world::{BACK, BACK_MAC, FRONT, FRONT_MAC},
};

pub(super) const CASES: &[Case] = &[
    case(
        "packets/kernel",
        "a packet that the programs handle otherwise than the same pipeline on the host",
        kernel,
    ),
    case(
        "packets/xdp",
        "a packet that XDP handles otherwise than TC, changes or counts though TC is to handle it, or that both handle",
        |context| early(context, Wires::default()),
    ),
    case(
        "packets/xdp-vlan",
        "the same with frames that come in with the tag of a VLAN, and leave with that of another",
        |context| {
            early(
                context,
                Wires {
                    arriving: 7,
                    leaving: 4094,
                },
            )
        },
    ),
];

fn kernel(context: &Context) -> Result<()> {
    let lab = context.lab()?;
    let host = lab.host("packets")?;
    // The programs see by the interface's Ethernet address for whom a packet is.
    for (name, index, mac) in INTERFACES {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        host.ip(&format!(
            "link add name {name} index {index} address {mac} type bridge"
        ))?;
    }
    judge(context, &host, Kernel::default).map(drop)
}

fn early(context: &Context, wires: Wires) -> Result<()> {
    let lab = context.lab()?;
    let host = lab.host("packets")?;
    for (name, index, mac) in INTERFACES {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        host.ip(&format!(
            "link add name {name} index {index} address {mac} type veth peer name {name}-far"
        ))?;
        host.ip(&format!("link set {name} up"))?;
        host.ip(&format!("link set {name}-far up"))?;
    }
    let (finished, packets) = judge(context, &host, || Kernel::early(wires))?;
    context.note(format!("{finished} of these packets were finished by XDP"));
    // Most are about packets that go on; a program that left all to TC would pass every case.
    ensure!(
        finished > packets / 2,
        "XDP finished no more than {finished} packets of {packets}"
    );
    Ok(())
}

/// The interfaces of the cases' world.
const INTERFACES: [(&str, u32, [u8; 6]); 2] =
    [("front", FRONT, FRONT_MAC), ("back", BACK, BACK_MAC)];

/// Runs all cases; gives how many packets XDP has finished, and how many there were.
fn judge(
    context: &Context,
    host: &Host,
    runner: impl FnOnce() -> Kernel + Send,
) -> Result<(usize, usize)> {
    let (total, summary, finished) = host.run(|| {
        let cases = packets::all();
        let mut runner = runner();
        let summary = run_all(&mut runner, &cases);
        (cases.len(), summary, runner.finished())
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
    Ok((finished, summary.packets))
}
