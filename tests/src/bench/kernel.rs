//! The system call `bpf(2)` for what aya has no words for: programs made of single instructions, and runs of them that are
//! repeated.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Commands of bpf(2).
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const ENABLE_STATS: libc::c_long = 32;

/// Types of maps.
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;

/// What a program is run by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// `BPF_PROG_TYPE_XDP`.
    Xdp,
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Tc,
}

impl Hook {
    const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::Tc => 3,
        }
    }

    /// As aya loads those of the object: a tail call wants it to be the same.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::Tc => 0,
        }
    }

    /// The context of a packet of so many bytes that came by this interface: `struct xdp_md`, `struct __sk_buff`.
    fn context(self, ifindex: u32, length: usize) -> Vec<u8> {
        let put = |context: &mut [u8], offset: usize, value: u32| {
            context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        match self {
            Self::Xdp => {
                let mut context = vec![0; 24];
                put(&mut context, 4, length as u32);
                put(&mut context, 12, ifindex);
                context
            }
            Self::Tc => {
                let mut context = vec![0; 192];
                put(&mut context, 40, ifindex);
                context
            }
        }
    }
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a part of `union bpf_attr` for this command, whose pointers are to what outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn opened(fd: libc::c_long) -> Result<OwnedFd> {
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// `union bpf_attr` for a pinned object.
#[repr(C)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// A pinned map.
///
/// # Errors
///
/// Where there is none.
pub fn pinned(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = Pinned {
        path: name.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(OBJ_GET, &mut attribute).with_context(|| format!("no {}", path.display()))?;
    opened(fd)
}

/// `union bpf_attr` for a new map.
#[repr(C)]
struct NewMap {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

fn map(kind: u32, value: u32) -> Result<OwnedFd> {
    let mut attribute = NewMap {
        kind,
        key: 4,
        value,
        entries: 1,
    };
    opened(bpf(MAP_CREATE, &mut attribute).context("cannot make a map")?)
}

/// An array of one value of so many bytes.
pub fn array(bytes: usize) -> Result<OwnedFd> {
    map(ARRAY, u32::try_from(bytes)?)
}

/// An array of one program, to be called.
pub fn program_array(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let array = map(PROG_ARRAY, 4)?;
    set(&array, &number(program)).context("this program cannot be called by another")?;
    Ok(array)
}

/// `union bpf_attr` for a value of a map.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the one value of an array, which must be as large as this one.
pub fn set<T: Copy>(array: &OwnedFd, value: &T) -> io::Result<()> {
    let key = 0_u32;
    let mut attribute = Element {
        map: array.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE, &mut attribute).map(drop)
}

/// `union bpf_attr` for a new program.
#[repr(C)]
#[derive(Default)]
struct NewProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// Loads a program.
///
/// # Errors
///
/// The verifier's words where it refuses.
pub fn load(hook: Hook, instructions: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0_u8; 64 << 10];
    let mut attribute = NewProgram {
        kind: hook.program_type(),
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: u32::try_from(log.len())?,
        log: log.as_mut_ptr() as u64,
        attach_type: hook.attach_type(),
        ..NewProgram::default()
    };
    match bpf(PROG_LOAD, &mut attribute) {
        Ok(fd) => opened(fd),
        Err(error) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            bail!(
                "the verifier refuses the harness: {error}\n{}",
                String::from_utf8_lossy(&log[..end])
            )
        }
    }
}

/// `union bpf_attr` for a new link to an interface.
#[repr(C)]
struct NewLink {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Puts an XDP program on an interface of the calling thread's namespace, in driver mode, for as long as the link is open.
///
/// # Errors
///
/// Where the driver has no XDP.
pub fn attach_xdp(program: &OwnedFd, ifindex: u32) -> Result<OwnedFd> {
    let mut attribute = NewLink {
        program: number(program.as_fd()),
        ifindex,
        attach_type: Hook::Xdp.attach_type(),
        // `XDP_FLAGS_DRV_MODE`.
        flags: 1 << 2,
    };
    opened(bpf(LINK_CREATE, &mut attribute).context("no XDP on the interface")?)
}

/// `union bpf_attr` for a run.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

/// Runs a program so often on what it leaves of this frame; what it returned last.
///
/// # Errors
///
/// Where the kernel does not run it.
pub fn run(
    hook: Hook,
    program: BorrowedFd<'_>,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
) -> Result<u32> {
    let context = hook.context(ifindex, frame.len());
    let mut attribute = Run {
        program: number(program),
        data_size_in: u32::try_from(frame.len())?,
        data_in: frame.as_ptr() as u64,
        repeat,
        context_size_in: u32::try_from(context.len())?,
        context_in: context.as_ptr() as u64,
        ..Run::default()
    };
    bpf(PROG_TEST_RUN, &mut attribute).context("the kernel does not run a program")?;
    Ok(attribute.returned)
}

/// While it is open the kernel counts the time of every program, which costs each run of each some 20 ns.
#[derive(Debug)]
pub struct Statistics(#[expect(dead_code, reason = "it is what keeps them on")] OwnedFd);

impl Statistics {
    /// Switches them on.
    ///
    /// # Errors
    ///
    /// On kernels before 5.8.
    pub fn on() -> Result<Self> {
        // `BPF_STATS_RUN_TIME`.
        let fd = bpf(ENABLE_STATS, &mut 0_u32).context("the kernel counts no run times")?;
        Ok(Self(opened(fd)?))
    }
}
