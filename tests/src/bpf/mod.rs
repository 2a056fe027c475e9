//! The programs by themselves: loaded into the kernel with maps of their own, attached to nothing.

pub mod stack;
pub mod stats;

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramInfo, SchedClassifier, Xdp},
};
use lb_common::{abi::WIRE_SETS, host::Capacity, verdict::Reason};

/// The scope that such programs serve.
pub const SCOPE: u32 = 1;
/// Entries of each of the arrays of services, real servers and hops.
pub const OBJECTS: u32 = 64;

/// The programs with their names in the object.
pub const PROGRAMS: [&str; 12] = [
    "tc_ingress",
    "tc_egress",
    "sweep",
    XDP,
    "connect4",
    "sendmsg4",
    "recvmsg4",
    "getpeername4",
    "connect6",
    "recvmsg6",
    "getpeername6",
    "sock_release",
];
/// The one of them that is XDP's.
pub const XDP: &str = "xdp_ingress";

/// Loads the object with small maps that nobody else sees.
///
/// # Errors
/// The kernel refuses: not root, or too old.
pub fn load(capacity: Capacity) -> Result<Ebpf> {
    load_from(lb_user::datapath::object(), capacity)
}

/// As [`load`], of another object.
///
/// # Errors
/// As [`load`].
pub fn load_from(bytes: &[u8], capacity: Capacity) -> Result<Ebpf> {
    let entries = u32::try_from(capacity.entries)?;
    let mut loader = EbpfLoader::new();
    for (map, entries) in [
        ("SCOPES", SCOPE + 1),
        ("SERVICE_KEYS", 64),
        ("SERVICES", OBJECTS),
        ("SERVERS", OBJECTS),
        ("SERVER_STATS", OBJECTS),
        ("MARKS", 1024),
        ("ANSWERS", 64),
        ("REALS", 64),
        ("ROUTES", 1024),
        ("HOPS", OBJECTS),
        ("INTERFACES", 64),
        ("WIRES", WIRE_SETS),
        ("CONNS", entries),
        ("RING", capacity.half_open + capacity.assured),
        ("DUE", capacity.half_open + capacity.assured),
        ("TICKETS", 3),
        ("DRAWN", SCOPE + 1),
        ("BUCKETS", u32::try_from(capacity.buckets)?),
        ("LOCALITIES", 64),
        ("TEMPLATES", capacity.templates),
        ("TEMPLATE_KEYS", capacity.templates),
        ("FRAGMENTS", 1024),
        ("REASONS", (SCOPE + 1) * Reason::ALL.len() as u32),
        ("SWEEP", 64),
        ("NAMESPACES", SCOPE + 1),
        ("SOCKETS", 64),
        ("SOCKET_SCRATCH", 256),
    ] {
        loader.map_max_entries(map, entries);
    }
    loader
        .override_global("SCOPE", &SCOPE, true)
        .override_global("HALF_OPEN_SLOTS", &capacity.half_open, true)
        .override_global("ASSURED_SLOTS", &capacity.assured, true)
        .override_global("TEMPLATE_SLOTS", &capacity.templates, true)
        .override_global("AYA_LOG_LEVEL", &0_u8, true);
    loader.load(bytes).context("cannot load the programs' maps")
}

/// One of the TC programs, passed by the verifier.
///
/// # Errors
/// There is no such program, or the verifier refuses it: its log is in the error.
pub fn program<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut SchedClassifier> {
    let program: &mut SchedClassifier = named(object, name)?.try_into()?;
    program.load().with_context(|| refused(name))?;
    Ok(program)
}

/// The XDP program, passed by the verifier.
///
/// # Errors
/// As [`program`].
pub fn xdp(object: &mut Ebpf) -> Result<&mut Xdp> {
    let program: &mut Xdp = named(object, XDP)?.try_into()?;
    program.load().with_context(|| refused(XDP))?;
    Ok(program)
}

fn named<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut Program> {
    object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))
}

fn refused(name: &str) -> String {
    format!("the verifier refuses {name}")
}

/// What the kernel says of one of the programs, of whatever type, once the verifier has passed it.
///
/// # Errors
/// As [`program`].
pub fn verified(object: &mut Ebpf, name: &str) -> Result<ProgramInfo> {
    let program = named(object, name)?;
    let loaded = match &mut *program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        other => anyhow::bail!("{name} is of an unexpected type: {other:?}"),
    };
    loaded.with_context(|| refused(name))?;
    Ok(program.info()?)
}
