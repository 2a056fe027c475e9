//! XDP before TC: each packet that arrives is given to the XDP program, and to TC what that leaves.

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::{host::Bytes, verdict::Action};

use super::{Finished, Maps, bpf};
use crate::packets::runner::same;

/// What the program returns.
const ABORTED: u32 = 0;
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

/// How frames come in, and how they leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wires {
    /// The VLAN that frames come in with; 0 for none.
    pub arriving: u16,
    /// The VLAN that all hops are on; 0 for none.
    pub leaving: u16,
}

/// The length of both Ethernet addresses, and of a tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// Gives a packet to the program. `None`: it is TC's, and nothing in it has changed.
pub(super) fn run(
    object: &mut aya::Ebpf,
    packet: &Bytes,
    wires: Wires,
) -> Result<Option<Finished>, String> {
    let before = Maps::of(object)?.reasons()?;
    let frame = tagged(&packet.data, wires.arriving);
    let program: &Xdp = object
        .program(bpf::XDP)
        .ok_or("no XDP program")?
        .try_into()
        .map_err(|error| format!("{error}"))?;
    let mut out = vec![0; frame.len() + 256];
    let context = context(packet.arrival.ifindex, frame.len());
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
        .map_err(|error| format!("the kernel does not run the XDP program: {error:?}"))?;
    out.truncate(result.data_size_out as usize);
    let action = match result.return_value {
        PASS => {
            same(&frame, &out)
                .map_err(|fault| format!("what XDP left to TC is not as it came: {fault}"))?;
            if before != Maps::of(object)?.reasons()? {
                return Err("XDP counted what it left to TC".to_owned());
            }
            return Ok(None);
        }
        DROP => Action::Drop,
        TX | REDIRECT => Action::Transmit,
        ABORTED => return Err("the XDP program aborted".to_owned()),
        other => return Err(format!("the XDP program returned {other}")),
    };
    if action == Action::Transmit {
        out = untagged(&frame, &out, result.return_value, wires)?;
    }
    Ok(Some(Finished { action, bytes: out }))
}

/// `struct xdp_md`: where the frame ends, and by which interface it came.
fn context(ifindex: u32, length: usize) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&(length as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// The frame with the tag of this VLAN, of a priority that must not get lost where a frame is left alone.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if vlan != 0 {
        let [high, low] = (vlan | 5 << 13).to_be_bytes();
        frame.splice(ADDRESSES..ADDRESSES, [0x81, 0, high, low]);
    }
    frame
}

/// The frame without the tag that it must have: of its way out or, sent back as an answer, of the VLAN that it came from.
fn untagged(came: &[u8], frame: &[u8], returned: u32, wires: Wires) -> Result<Vec<u8>, String> {
    let answers = came.get(6..12) == frame.get(..6);
    if returned == TX
        && answers
        && let Ok(frame) = untagged_as(frame, wires.arriving)
    {
        return Ok(frame);
    }
    untagged_as(frame, wires.leaving)
}

fn untagged_as(frame: &[u8], vlan: u16) -> Result<Vec<u8>, String> {
    let mut frame = frame.to_vec();
    let tag = frame.get(ADDRESSES..ADDRESSES + TAG).map(<[u8]>::to_vec);
    let is_tagged = tag.as_ref().is_some_and(|tag| tag[..2] == [0x81, 0]);
    if vlan == 0 {
        return if is_tagged {
            Err(format!("a tag that it must not have: {tag:02x?}"))
        } else {
            Ok(frame)
        };
    }
    let number = tag.map_or(0, |tag| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff);
    if !is_tagged || number != vlan {
        return Err(format!("not the tag of VLAN {vlan}"));
    }
    frame.drain(ADDRESSES..ADDRESSES + TAG);
    Ok(frame)
}
