//! What runs before the program that is timed: it writes the packet as it was, of the next one of so many flows, and calls the
//! other. Without it a program that changes packets would be timed on its own output.
//!
//! It is made of single instructions, here, so that `lab` needs no second object and no compiler for one, and that what is
//! subtracted as the floor can be read in full.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::bench::instruction::*;
use crate::bench::kernel::{self, Hook};

/// Bytes of every frame.
pub const FRAME: usize = 64;
/// Flows are numbers: the port has the lower bits, the address the others.
const PORT_BITS: u32 = 14;
/// The first port, and the first address, of a flow's client.
const FIRST_PORT: i32 = 2048;
const FIRST_ADDRESS: i32 = 0x0a40_0001;

/// The packet of a case.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// Its bytes.
    pub frame: [u8; FRAME],
    /// Where the client's address and port stand in it, which tell flows apart; `None` for one packet alone.
    pub client: Option<(i16, i16)>,
}

/// In which order flows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// One after the other: they lie in memory as they were opened, which a processor foresees.
    Turn,
    /// As a linear congruence has them: each once before any comes again.
    Random,
}

/// What stands in the array, and what the program moves on: `flow = first + (last = (last * a + c) & mask)`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct State {
    last: u64,
    a: u64,
    c: u64,
    mask: u64,
    first: u64,
}

/// The program before one that is timed.
#[derive(Debug)]
pub struct Restorer {
    hook: Hook,
    state: OwnedFd,
    program: OwnedFd,
    frame: [u8; FRAME],
    ifindex: u32,
    /// The array from which it calls: a program stays in it as long as somebody has it open.
    _called: OwnedFd,
}

impl Restorer {
    /// In front of `program`; packets come by this interface.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn new(
        hook: Hook,
        template: &Template,
        ifindex: u32,
        program: BorrowedFd<'_>,
    ) -> Result<Self> {
        let state = kernel::array(size_of::<State>())?;
        let called = kernel::program_array(program)?;
        let code = code(hook, template, state.as_raw_fd(), called.as_raw_fd());
        let restorer = Self {
            hook,
            program: kernel::load(hook, &code)?,
            state,
            frame: template.frame,
            ifindex,
            _called: called,
        };
        restorer.flows(0, 1, Order::Turn)?;
        Ok(restorer)
    }

    /// From now on packets are of these flows; their number is a power of two.
    ///
    /// # Errors
    ///
    /// Where the map cannot be written.
    pub fn flows(&self, first: u64, count: u64, order: Order) -> Result<()> {
        let (a, c) = match order {
            Order::Turn => (1, 1),
            // Of full period for every power of two: a is 1 modulo 4, c is odd.
            Order::Random => (6_364_136_223_846_793_005, 1_442_695_040_888_963_407),
        };
        let state = State {
            // The first packet is of the first flow.
            last: if order == Order::Turn { u64::MAX } else { 0 },
            a,
            c,
            mask: count - 1,
            first,
        };
        Ok(kernel::set(&self.state, &state)?)
    }

    /// Lets so many packets come; what the last one was answered.
    ///
    /// # Errors
    ///
    /// Where the kernel does not run it.
    pub fn run(&self, packets: u32) -> Result<u32> {
        kernel::run(
            self.hook,
            self.program.as_fd(),
            &self.frame,
            self.ifindex,
            packets,
        )
    }
}

/// A program that returns this at once.
///
/// # Errors
///
/// Where the kernel refuses it.
pub fn empty(hook: Hook, answer: i32) -> Result<OwnedFd> {
    kernel::load(hook, &[op(MOV_IMM, 0, 0, 0, answer), op(EXIT, 0, 0, 0, 0)])
}

/// A program that looks the packet's connection up in the table and returns this: what no balancer that knows connections can do
/// without.
///
/// # Errors
///
/// Where the kernel refuses it.
pub fn look_up(hook: Hook, table: &OwnedFd, scope: u32, answer: i32) -> Result<OwnedFd> {
    let (data, data_end) = ends(hook);
    let mut code = vec![
        op(LOAD_32, 7, 1, data, 0),
        op(LOAD_32, 8, 1, data_end, 0),
        op(MOV, 1, 7, 0, 0),
        op(ADD_IMM, 1, 0, 0, FRAME as i32),
        // To the end, over the rest.
        op(IF_GREATER, 1, 8, LOOK_UP_REST, 0),
    ];
    let rest = code.len();
    // The key as `ConnKey` has it: addresses, ports, scope and protocol.
    for (from, to) in [(26, -20), (30, -16), (34, -12)] {
        code.push(op(LOAD_32, 1, 7, from, 0));
        code.push(op(STORE_32, STACK, 1, to, 0));
    }
    code.extend([
        op(LOAD_8, 1, 7, 23, 0),
        op(OR_IMM, 1, 0, 0, i32::try_from(scope << 8)?),
        op(STORE_32, STACK, 1, -8, 0),
    ]);
    load(
        &mut code,
        1,
        OF_MAP,
        u64::from(table.as_raw_fd().cast_unsigned()),
    );
    code.extend([
        op(MOV, 2, STACK, 0, 0),
        op(ADD_IMM, 2, 0, 0, -20),
        op(CALL, 0, 0, 0, LOOK_UP),
        op(IF_IS_IMM, 0, 0, 3, 0),
        // Its first word is where its state is.
        op(LOAD_64, 1, 0, 0, 0),
        op(MOV_IMM, 0, 0, 0, answer),
        op(EXIT, 0, 0, 0, 0),
    ]);
    debug_assert_eq!(code.len() - rest, LOOK_UP_REST as usize);
    code.extend([op(MOV_IMM, 0, 0, 0, UNREACHED), op(EXIT, 0, 0, 0, 0)]);
    kernel::load(hook, &code)
}

/// Instructions of [`look_up`] behind the look at the packet's length.
const LOOK_UP_REST: i16 = 18;

fn code(hook: Hook, template: &Template, state: i32, called: i32) -> Vec<u64> {
    let (data, data_end) = ends(hook);
    let mut code = vec![
        op(MOV, 6, 1, 0, 0),
        op(LOAD_32, 7, 6, data, 0),
        op(LOAD_32, 8, 6, data_end, 0),
        op(MOV, 1, 7, 0, 0),
        op(ADD_IMM, 1, 0, 0, FRAME as i32),
    ];
    // Those that lead to the end, which is not known yet.
    let mut to_end = vec![code.len()];
    code.push(op(IF_GREATER, 1, 8, 0, 0));
    for (place, bytes) in template.frame.chunks_exact(8).enumerate() {
        let word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        load(&mut code, 1, 0, word);
        code.push(op(STORE_64, 7, 1, 8 * place as i16, 0));
    }
    code.push(op(STORE_IMM_32, STACK, 0, -4, 0));
    load(&mut code, 1, OF_MAP, u64::from(state.cast_unsigned()));
    code.extend([
        op(MOV, 2, STACK, 0, 0),
        op(ADD_IMM, 2, 0, 0, -4),
        op(CALL, 0, 0, 0, LOOK_UP),
    ]);
    to_end.push(code.len());
    code.push(op(IF_IS_IMM, 0, 0, 0, 0));
    let field = |offset: usize| offset as i16;
    code.extend([
        op(LOAD_64, 1, 0, field(std::mem::offset_of!(State, last)), 0),
        op(LOAD_64, 2, 0, field(std::mem::offset_of!(State, a)), 0),
        op(MUL, 1, 2, 0, 0),
        op(LOAD_64, 2, 0, field(std::mem::offset_of!(State, c)), 0),
        op(ADD, 1, 2, 0, 0),
        op(LOAD_64, 2, 0, field(std::mem::offset_of!(State, mask)), 0),
        op(AND, 1, 2, 0, 0),
        op(STORE_64, 0, 1, field(std::mem::offset_of!(State, last)), 0),
        op(LOAD_64, 2, 0, field(std::mem::offset_of!(State, first)), 0),
        op(ADD, 1, 2, 0, 0),
    ]);
    if let Some((address, port)) = template.client {
        code.extend([
            op(MOV, 2, 1, 0, 0),
            op(SHIFT_RIGHT, 2, 0, 0, PORT_BITS as i32),
            op(ADD_IMM, 2, 0, 0, FIRST_ADDRESS),
            op(NETWORK, 2, 0, 0, 32),
            op(STORE_32, 7, 2, address, 0),
            op(AND_IMM, 1, 0, 0, (1 << PORT_BITS) - 1),
            op(ADD_IMM, 1, 0, 0, FIRST_PORT),
            op(NETWORK, 1, 0, 0, 16),
            op(STORE_16, 7, 1, port, 0),
        ]);
    }
    code.push(op(MOV, 1, 6, 0, 0));
    load(&mut code, 2, OF_MAP, u64::from(called.cast_unsigned()));
    code.extend([op(MOV_IMM, 3, 0, 0, 0), op(CALL, 0, 0, 0, TAIL_CALL)]);
    let end = code.len();
    code.extend([op(MOV_IMM, 0, 0, 0, UNREACHED), op(EXIT, 0, 0, 0, 0)]);
    for place in to_end {
        code[place] |= u64::from((end - place - 1) as u16) << 16;
    }
    code
}

/// What is returned where the other program was not called: no answer of XDP or TC.
const UNREACHED: i32 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_the_end() {
        let template = Template {
            frame: [7; FRAME],
            client: Some((26, 34)),
        };
        for hook in [Hook::Xdp, Hook::Tc] {
            let code = code(hook, &template, 3, 4);
            let end = code.len() - 2;
            let jumps: Vec<usize> = (0..code.len())
                .filter(|place| [IF_GREATER, IF_IS_IMM].contains(&(code[*place] as u8)))
                .filter(|place| *place == 0 || code[place - 1] as u8 != LOAD_IMM)
                .map(|place| place + 1 + (code[place] >> 16) as u16 as usize)
                .collect();
            assert_eq!(jumps, [end, end]);
            assert_eq!(code[end], op(MOV_IMM, 0, 0, 0, UNREACHED));
        }
    }
}
