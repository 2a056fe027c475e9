//! The few system calls that aya does not offer: batched reads, mapped arrays, and the type of a file system.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::abi::Shared;

/// `BPF_MAP_LOOKUP_BATCH`.
const LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `BPF_OBJ_GET`.
const OBJ_GET: libc::c_long = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO: libc::c_long = 15;

/// The part of `union bpf_attr` for information about an object.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, with the part for TCX.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

/// The interface of a pinned TCX or XDP link; `None` if it has gone.
pub(super) fn link_interface(pin: &Path) -> Option<u32> {
    let link = open_pin(pin).ok()?;
    let mut info = LinkInfo::default();
    let mut attr = InfoAttr {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the pointers are to values of the sizes that are said, which live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            GET_INFO,
            std::ptr::from_mut(&mut attr),
            size_of::<InfoAttr>(),
        )
    };
    (result == 0 && info.ifindex != 0).then_some(info.ifindex)
}

/// `ETHTOOL_GDRVINFO`.
const DRIVER: u32 = 0x3;
/// `ETHTOOL_GFLAGS`.
const FLAGS: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`.
const TAKES_TAGS_OFF: u32 = 1 << 8;

/// The driver of an interface, of the socket's namespace.
pub(super) fn driver(socket: BorrowedFd<'_>, interface: &str) -> io::Result<String> {
    // `struct ethtool_drvinfo`: the command, the driver's name in 32 bytes, and what is not asked for.
    let mut info = [0_u32; 49];
    info[0] = DRIVER;
    ethtool(socket, interface, &mut info)?;
    let name: Vec<u8> = info[1..9]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Whether an interface takes the tags of VLANs off what it receives.
pub(super) fn takes_tags_off(socket: BorrowedFd<'_>, interface: &str) -> io::Result<bool> {
    let mut value = [FLAGS, 0];
    ethtool(socket, interface, &mut value)?;
    Ok(value[1] & TAKES_TAGS_OFF != 0)
}

/// Asks an interface; the first word is the command, which says how many there are.
fn ethtool(socket: BorrowedFd<'_>, interface: &str, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: all zero is a value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the request and the words that it points to live as long as the call, and are as many as the command says.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `BPF_LINK_UPDATE`.
const LINK_UPDATE: libc::c_long = 29;

/// Puts a program behind a pinned link.
pub(super) fn update_link(pin: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open_pin(pin)?;
    let attr = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: the attribute is read only, and lives until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_UPDATE,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The root of the cgroups of version 2: by a mount of our own that has no place, for on some hosts they are not mounted.
pub(super) fn cgroup_root() -> io::Result<OwnedFd> {
    /// `FSCONFIG_CMD_CREATE`.
    const CREATE: libc::c_ulong = 6;
    let opened = |fd: libc::c_long| -> io::Result<OwnedFd> {
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just opened it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the name ends in zero; the call takes nothing else.
    let context = opened(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 0) })?;
    let (none, no_value) = (std::ptr::null::<libc::c_char>(), 0);
    // SAFETY: this command takes neither key nor value.
    let made = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CREATE,
            none,
            none,
            no_value,
        )
    };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers.
    opened(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) })
}

/// Opens a pinned object.
fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(pin.as_os_str().as_encoded_bytes())?;
    let attr = [path.as_ptr() as u64, 0, 0];
    // SAFETY: the attribute's first word is a pointer to a path that ends in zero and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, attr.as_ptr(), size_of_val(&attr)) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A walk over a hash map in batches: entries that are added or deleted meanwhile may or may not be seen, all others are
/// seen once.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct BatchCursor {
    /// The kernel's place: a bucket. `None` at the beginning.
    place: Option<u32>,
}

impl BatchCursor {
    /// Reads the next entries, at most `most`, as raw keys and values. `false` at the end; the cursor then stands at the
    /// beginning again.
    pub(super) fn next(
        &mut self,
        map: BorrowedFd<'_>,
        key_size: usize,
        value_size: usize,
        most: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<bool> {
        let mut most = most;
        loop {
            let mut keys = vec![0_u8; key_size * most as usize];
            let mut values = vec![0_u8; value_size * most as usize];
            let before = self.place.unwrap_or(0);
            let mut after = 0_u32;
            let mut attr = BatchAttr {
                in_batch: self.place.map_or(0, |_| std::ptr::from_ref(&before) as u64),
                out_batch: std::ptr::from_mut(&mut after) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: most,
                map_fd: map.as_raw_fd() as u32,
                ..BatchAttr::default()
            };
            // SAFETY: the pointers are to buffers of `count` keys and values, which live until the call returns.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    LOOKUP_BATCH,
                    std::ptr::from_mut(&mut attr),
                    size_of::<BatchAttr>(),
                )
            };
            let error = (result != 0).then(io::Error::last_os_error);
            let end = match error {
                None => false,
                // What was read before the end counts.
                Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // One bucket holds more than fits.
                Some(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    most = most.saturating_mul(2);
                    continue;
                }
                Some(error) => return Err(error),
            };
            let count = attr.count as usize;
            for (key, value) in keys
                .chunks(key_size)
                .zip(values.chunks(value_size))
                .take(count)
            {
                visit(key, value);
            }
            self.place = if end { None } else { Some(after) };
            return Ok(!end);
        }
    }
}

/// A value of the ABI from the bytes of a map's key or value.
pub(super) fn from_bytes<T>(bytes: &[u8]) -> T {
    assert!(
        bytes.len() >= size_of::<T>(),
        "a map's element is smaller than its type"
    );
    // SAFETY: there are enough bytes, and every bit pattern of the ABI's types is valid.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// An array map in this process's memory: changes are seen by the programs at once, and theirs here.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    memory: NonNull<libc::c_void>,
    length: usize,
    entries: u32,
    _of: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel anyway; all fields of the elements are `Shared`.
unsafe impl<T: Sync> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps an array of `entries` elements, made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let element = size_of::<T>().next_multiple_of(8);
        assert_eq!(
            element,
            size_of::<T>(),
            "the kernel pads elements to eight bytes"
        );
        let length = element * entries as usize;
        // SAFETY: a new mapping of a file, at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(memory) {
            Some(memory) if memory.as_ptr() != libc::MAP_FAILED => Ok(Self {
                memory,
                length,
                entries,
                _of: PhantomData,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How many elements there are.
    pub(super) const fn len(&self) -> u32 {
        self.entries
    }

    /// An element; those beyond the end are the first, which is never used.
    pub(super) fn at(&self, index: u32) -> &T {
        let index = if index < self.entries { index } else { 0 };
        // SAFETY: the index is within the mapping, elements are aligned to eight bytes as the mapping is, and every bit
        // pattern is valid.
        unsafe { self.memory.cast::<T>().add(index as usize).as_ref() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.memory.as_ptr(), self.length) };
    }
}

/// The word as an atomic: for what the programs change by atomic operations too.
pub(super) fn atomic64(word: &Shared<u64>) -> &AtomicU64 {
    // SAFETY: valid, aligned, and everybody who writes it at the same time does so atomically.
    unsafe { AtomicU64::from_ptr(word.as_ptr()) }
}

/// Changes a word from what it is to what `change` makes of it; `None` leaves it.
pub(super) fn update64(word: &Shared<u64>, change: impl FnMut(u64) -> Option<u64>) {
    // An unchanged word is no failure.
    let _ = atomic64(word).fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
}

/// Now, in the ticks of the datapath's clock.
pub(super) fn now() -> lb_common::abi::Tick {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value of the type that the call fills in; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    lb_common::abi::Tick::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Waits until every program has ended that was running when this was called. `false`: this system cannot say.
///
/// `MEMBARRIER_CMD_GLOBAL` is a grace period of RCU (kernel/sched/membarrier.c), and programs run within one. With one
/// processor it waits for nothing, and a program of the socket hook may have been interrupted.
pub(super) fn wait_for_programs() -> bool {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: a call of numbers alone.
    if unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) } < 2 {
        return false;
    }
    // SAFETY: a call of numbers alone.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) == 0 }
}

/// Gives memory that is free back to the system: reading an object takes tens of megabytes for a moment, and the allocator
/// would keep them for as long as the daemon lives.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call touches only what the allocator has free, under its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether a path lies on a BPF file system.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    /// `BPF_FS_MAGIC`.
    const MAGIC: i64 = 0xcafe_4a11;
    Ok(nix::sys::statfs::statfs(path)?.filesystem_type().0 as i64 == MAGIC)
}
