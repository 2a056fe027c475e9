//! Words of packet memory. All direct access of the programs is here.
//!
//! Each access reads the packet's bounds afresh through inline assembly: the compiler would otherwise prove one access
//! by an earlier one's check, which the verifier does not follow across variable offsets.

use core::arch::asm;

use lb_common::{
    abi::{Be16, Be32},
    family::ipv4,
    packet::Fields,
};

/// The furthest offset that is ever looked at: the verifier needs a bound.
const REACH: u32 = 1023;

/// Something whose bytes lie between two addresses, which it reads afresh each time.
pub trait Bounds {
    /// The address of the first byte, and the one behind the last.
    fn bounds(&self) -> (u64, u64);
}

/// Reads `data` and `data_end`, which lie at these offsets of the context at this address.
macro_rules! bounds {
    ($context:expr, $data:literal, $end:literal) => {{
        let (data, end): (u64, u64);
        let context = $context;
        // SAFETY: both fields lie at these offsets of the context.
        unsafe {
            core::arch::asm!(concat!("{0} = *(u32 *)({1} + ", $data, ")"), out(reg) data, in(reg) context, options(nostack));
            core::arch::asm!(concat!("{0} = *(u32 *)({1} + ", $end, ")"), out(reg) end, in(reg) context, options(nostack));
        }
        (data, end)
    }};
}
pub(crate) use bounds;

macro_rules! load {
    ($size:literal, $pointer:expr) => {{
        let value: u64;
        // SAFETY: the pointer was checked against the packet's end just before.
        unsafe { asm!(concat!("{0} = *(", $size, " *)({1} + 0)"), out(reg) value, in(reg) $pointer, options(nostack, readonly)) };
        value
    }};
}

/// The same with an offset, and left out where nobody looks at the value.
macro_rules! load_at {
    ($size:literal, $offset:literal, $pointer:expr) => {{
        let value: u64;
        // SAFETY: the pointer was checked against the packet's end just before, for all that is read behind it.
        unsafe { asm!(concat!("{0} = *(", $size, " *)({1} + ", $offset, ")"), out(reg) value, in(reg) $pointer, options(pure, nostack, readonly)) };
        value
    }};
}

macro_rules! store {
    ($size:literal, $pointer:expr, $value:expr) => {
        store_at!($size, "0", $pointer, $value)
    };
}

macro_rules! store_at {
    ($size:literal, $offset:literal, $pointer:expr, $value:expr) => {
        // SAFETY: the pointer was checked against the packet's end just before, for all that is written behind it.
        unsafe { asm!(concat!("*(", $size, " *)({0} + ", $offset, ") = {1}"), in(reg) $pointer, in(reg) u64::from($value), options(nostack)) }
    };
}

/// A pointer to `size` bytes at `at`, if the packet has them.
#[inline(always)]
fn pointer(packet: &impl Bounds, at: u32, size: u64) -> Option<u64> {
    if at > REACH {
        return None;
    }
    let (data, end) = packet.bounds();
    let pointer = data + u64::from(at);
    if pointer + size > end {
        None
    } else {
        Some(pointer)
    }
}

/// One of several words behind one look at the bounds.
macro_rules! each_word {
    ($index:expr, $access:ident, $pointer:expr $(, $value:expr)?) => {
        match $index {
            0 => $access!("u32", "0", $pointer $(, $value)?),
            1 => $access!("u32", "4", $pointer $(, $value)?),
            2 => $access!("u32", "8", $pointer $(, $value)?),
            3 => $access!("u32", "12", $pointer $(, $value)?),
            _ => $access!("u32", "16", $pointer $(, $value)?),
        }
    };
}

/// Reads up to five words of 32 bits by one look at the bounds.
#[inline(always)]
pub fn words<const N: usize>(packet: &impl Bounds, at: u32) -> Option<[Be32; N]> {
    const { assert!(N <= 5) };
    let pointer = pointer(packet, at, 4 * N as u64)?;
    let mut words = [Be32::ZERO; N];
    let mut index = 0;
    while index < N {
        words[index] = Be32::from_raw(each_word!(index, load_at, pointer) as u32);
        index += 1;
    }
    Some(words)
}

/// Reads an IPv4 header likewise.
#[inline(always)]
pub fn ipv4(packet: &impl Bounds, at: u32) -> Option<Fields> {
    let pointer = pointer(packet, at, u64::from(ipv4::LENGTH))?;
    Some(Fields {
        version: load_at!("u8", "0", pointer) as u8,
        total: Be16::from_raw(load_at!("u16", "2", pointer) as u16),
        id: Be16::from_raw(load_at!("u16", "4", pointer) as u16),
        fragment: Be16::from_raw(load_at!("u16", "6", pointer) as u16),
        ttl: load_at!("u8", "8", pointer) as u8,
        protocol: load_at!("u8", "9", pointer) as u8,
        source: Be32::from_raw(load_at!("u32", "12", pointer) as u32),
        destination: Be32::from_raw(load_at!("u32", "16", pointer) as u32),
    })
}

/// Writes up to five words of 32 bits likewise.
#[inline(always)]
pub fn set_words<const N: usize>(packet: &impl Bounds, at: u32, words: [Be32; N]) -> Option<()> {
    const { assert!(N <= 5) };
    let pointer = pointer(packet, at, 4 * N as u64)?;
    let mut index = 0;
    while index < N {
        each_word!(index, store_at, pointer, words[index].raw());
        index += 1;
    }
    Some(())
}

/// Reads a byte.
#[inline(always)]
pub fn u8(packet: &impl Bounds, at: u32) -> Option<u8> {
    pointer(packet, at, 1).map(|pointer| load!("u8", pointer) as u8)
}

/// Reads a word of 16 bits.
#[inline(always)]
pub fn u16(packet: &impl Bounds, at: u32) -> Option<Be16> {
    pointer(packet, at, 2).map(|pointer| Be16::from_raw(load!("u16", pointer) as u16))
}

/// Reads a word of 32 bits.
#[inline(always)]
pub fn u32(packet: &impl Bounds, at: u32) -> Option<Be32> {
    pointer(packet, at, 4).map(|pointer| Be32::from_raw(load!("u32", pointer) as u32))
}

/// Writes a byte.
#[inline(always)]
pub fn set_u8(packet: &impl Bounds, at: u32, value: u8) -> Option<()> {
    pointer(packet, at, 1).map(|pointer| store!("u8", pointer, value))
}

/// Writes a word of 16 bits.
#[inline(always)]
pub fn set_u16(packet: &impl Bounds, at: u32, value: Be16) -> Option<()> {
    pointer(packet, at, 2).map(|pointer| store!("u16", pointer, value.raw()))
}

/// Writes a word of 32 bits.
#[inline(always)]
pub fn set_u32(packet: &impl Bounds, at: u32, value: Be32) -> Option<()> {
    pointer(packet, at, 4).map(|pointer| store!("u32", pointer, value.raw()))
}
