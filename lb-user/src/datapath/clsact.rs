//! Attaching by clsact filters, on kernels without TCX (before 6.6).
//!
//! A filter stays by itself, and nothing of it can be pinned: a folder in the place of the link's pin says that it is
//! there, another that the qdisc under it is ours. All of this happens in the namespace of the calling thread.

use std::io;
use std::path::Path;

use aya::programs::SchedClassifier;
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcHandle,
};
use nix::net::if_::if_indextoname;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle as Place, TcMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{DatapathError, ebpf, system};

/// Where our filters stand: the priority, first of all, and a handle that tells them from others of that priority.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0xb75);

/// Attaches a program. A filter of ours that is there already is replaced, so that no packet goes unseen.
pub(super) fn attach(
    program: &mut SchedClassifier,
    name: &str,
    kind: TcAttachType,
    marker: &Path,
    qdisc: &Path,
) -> Result<(), DatapathError> {
    let failed = || format!("attach to {name}");
    // It fails where there is one, ours or another's.
    if tc::qdisc_add_clsact(name).is_ok() {
        mark(qdisc)?;
    }
    if !replace(program, name, kind) {
        let options = TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            ..NlOptions::default()
        });
        let id = program
            .attach_with_options(name, kind, options)
            .map_err(ebpf(failed()))?;
        // Its end would be the filter's.
        std::mem::forget(program.take_link(id).map_err(ebpf(failed()))?);
    }
    mark(marker)
}

/// Puts a program behind the filter that an earlier daemon attached; `false` if it is not there any more.
pub(super) fn take_over(program: &mut SchedClassifier, ifindex: u32, kind: TcAttachType) -> bool {
    if_indextoname(ifindex).is_ok_and(|name| replace(program, &name.to_string_lossy(), kind))
}

fn replace(program: &mut SchedClassifier, name: &str, kind: TcAttachType) -> bool {
    let replaced = SchedClassifierLink::attached(name, kind, PRIORITY, HANDLE, None)
        .ok()
        .and_then(|there| program.attach_to_link(there).ok())
        .and_then(|id| program.take_link(id).ok());
    match replaced {
        Some(link) => {
            std::mem::forget(link);
            true
        }
        None => false,
    }
}

/// Takes our filter from an interface. Where the interface has gone, the filter has too.
pub(super) fn detach(ifindex: u32, kind: TcAttachType) {
    if let Ok(name) = if_indextoname(ifindex)
        && let Ok(link) =
            SchedClassifierLink::attached(&name.to_string_lossy(), kind, PRIORITY, HANDLE, None)
    {
        drop(link);
    }
}

/// Takes the qdisc from an interface, unless somebody has put filters there meanwhile.
///
/// # Errors
/// The system refuses.
pub(super) fn remove_qdisc(ifindex: u32) -> io::Result<()> {
    let Ok(index) = i32::try_from(ifindex) else {
        return Ok(());
    };
    let at = |minor| {
        let mut message = TcMessage::with_index(index);
        message.header.parent = Place {
            major: u16::MAX,
            minor,
        };
        message
    };
    for minor in [Place::MIN_INGRESS, Place::MIN_EGRESS] {
        let filters = RouteNetlinkMessage::GetTrafficFilter(at(minor));
        if ask(filters, NLM_F_DUMP)? > 0 {
            return Ok(());
        }
    }
    let mut qdisc = at(Place::CLSACT.minor);
    qdisc.header.handle = Place {
        major: u16::MAX,
        minor: 0,
    };
    ask(RouteNetlinkMessage::DelQueueDiscipline(qdisc), NLM_F_ACK).map(drop)
}

/// Asks the kernel, and counts what it answers with.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = 0;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let Ok(answer) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
                // Something is there that we do not understand, which is not nothing.
                return Ok(answers + 1);
            };
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(answers),
                _ => answers += 1,
            }
            let length = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
    }
}

/// Makes a folder that says something by being there.
fn mark(folder: &Path) -> Result<(), DatapathError> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(system(format!("make {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}
