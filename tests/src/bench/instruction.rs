//! The few instructions of BPF of which the benchmark's own programs are made.

use super::kernel::Hook;

// What instructions do, in 64 bits unless said otherwise.
/// Sets to the immediate.
pub const MOV_IMM: u8 = 0xb7;
/// Sets to a register.
pub const MOV: u8 = 0xbf;
/// Adds the immediate.
pub const ADD_IMM: u8 = 0x07;
/// Adds a register.
pub const ADD: u8 = 0x0f;
/// Multiplies by a register.
pub const MUL: u8 = 0x2f;
/// And with a register.
pub const AND: u8 = 0x5f;
/// And with the immediate.
pub const AND_IMM: u8 = 0x57;
/// Shifts right by the immediate.
pub const SHIFT_RIGHT: u8 = 0x77;
/// To the byte order of the network, as many bits as the immediate says.
pub const NETWORK: u8 = 0xdc;
/// Or with the immediate.
pub const OR_IMM: u8 = 0x47;
/// Sets to an immediate of 64 bits, in two words.
pub const LOAD_IMM: u8 = 0x18;
/// Loads a byte.
pub const LOAD_8: u8 = 0x71;
/// Loads 32 bits.
pub const LOAD_32: u8 = 0x61;
/// Loads 64 bits.
pub const LOAD_64: u8 = 0x79;
/// Stores the immediate.
pub const STORE_IMM_32: u8 = 0x62;
/// Stores 16 bits.
pub const STORE_16: u8 = 0x6b;
/// Stores 32 bits.
pub const STORE_32: u8 = 0x63;
/// Stores 64 bits.
pub const STORE_64: u8 = 0x7b;
/// Jumps if greater than a register.
pub const IF_GREATER: u8 = 0x2d;
/// Jumps if it is the immediate.
pub const IF_IS_IMM: u8 = 0x15;
/// Calls a helper.
pub const CALL: u8 = 0x85;
/// Returns.
pub const EXIT: u8 = 0x95;

/// `bpf_map_lookup_elem`.
pub const LOOK_UP: i32 = 1;
/// `bpf_tail_call`.
pub const TAIL_CALL: i32 = 12;
/// Loads 16 bits.
pub const LOAD_16: u8 = 0x69;
/// Jumps unless it is the immediate.
pub const IF_NOT_IMM: u8 = 0x55;
/// `bpf_redirect`.
pub const REDIRECT: i32 = 23;
/// `BPF_PSEUDO_MAP_FD`, where the source register is written.
pub const OF_MAP: u8 = 1;
/// The frame pointer.
pub const STACK: u8 = 10;

/// One instruction (of an immediate with 64 bits: its first half).
pub fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// Loads 64 bits, or a map.
pub fn load(code: &mut Vec<u64>, to: u8, from: u8, value: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are written")]
    let (low, high) = (value as u32, (value >> 32) as u32);
    code.push(op(LOAD_IMM, to, from, 0, low.cast_signed()));
    code.push(op(0, 0, 0, 0, high.cast_signed()));
}

/// Where the context has the ends of the packet.
pub const fn ends(hook: Hook) -> (i16, i16) {
    match hook {
        Hook::Xdp => (0, 4),
        Hook::Tc => (76, 80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_as_the_kernel_has_it() {
        // r1 = *(u64 *)(r0 + 8); r2 += -4; *(u32 *)(r10 - 4) = 0
        assert_eq!(op(LOAD_64, 1, 0, 8, 0), 0x0000_0000_0008_0179);
        assert_eq!(op(ADD_IMM, 2, 0, 0, -4), 0xffff_fffc_0000_0207);
        assert_eq!(op(STORE_IMM_32, STACK, 0, -4, 0), 0x0000_0000_fffc_0a62);
    }
}
