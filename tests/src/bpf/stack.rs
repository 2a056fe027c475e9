//! How deep the stack of each program gets, read from the object.
//!
//! The verifier knows, but says so only in the log of a load that fails. So this does what it does: the frame of each
//! function is what it reaches below its frame pointer, rounded up to 16 bytes as for compiled programs; functions that
//! it calls, and those that it passes to a helper to be called, come on top.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// Frame pointer.
const R10: u8 = 10;
/// `BPF_CALL`, and what in its source register makes it a call within the object.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
/// `BPF_LD | BPF_IMM | BPF_DW`: two slots; with a relocation to code it is a function's address.
const LOAD_64: u8 = 0x18;
/// `BPF_ALU64 | BPF_MOV | BPF_X` and `BPF_ALU64 | BPF_ADD | BPF_K`.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;

/// A place in the object: section and offset.
type Place = (SectionIndex, u64);

#[derive(Default)]
struct Function {
    name: String,
    frame: u64,
    calls: Vec<Place>,
}

/// The deepest stack of each function that nothing in the object calls, in bytes, by name.
///
/// # Errors
/// The object is not what bpf-linker makes.
pub fn deepest(bytes: &[u8]) -> Result<BTreeMap<String, Stack>> {
    let object = object::File::parse(bytes)?;
    let functions = functions(&object)?;
    let mut depths = HashMap::new();
    functions
        .iter()
        .map(|(place, function)| {
            Ok((
                function.name.clone(),
                depth(&functions, place, &mut depths, 0)?,
            ))
        })
        .collect()
}

fn depth(
    functions: &HashMap<Place, Function>,
    place: &Place,
    depths: &mut HashMap<Place, Stack>,
    nested: u32,
) -> Result<Stack> {
    // The verifier allows eight frames.
    ensure!(nested <= 16, "calls go round in a circle");
    if let Some(stack) = depths.get(place) {
        return Ok(stack.clone());
    }
    let function = functions
        .get(place)
        .context("a call to where no function begins")?;
    let mut below = Stack::default();
    for callee in &function.calls {
        let stack = depth(functions, callee, depths, nested + 1)?;
        if stack.bytes > below.bytes {
            below = stack;
        }
    }
    let mut frames = vec![(function.name.clone(), function.frame)];
    frames.append(&mut below.frames);
    let stack = Stack {
        bytes: function.frame.max(1).next_multiple_of(16) + below.bytes,
        frames,
    };
    depths.insert(*place, stack.clone());
    Ok(stack)
}

/// The deepest stack that a function's calls can have.
#[derive(Clone, Default)]
pub struct Stack {
    /// All of it, each frame rounded as the kernel does.
    pub bytes: u64,
    /// The functions on it with the bytes of their frames, outermost first.
    pub frames: Vec<(String, u64)>,
}

fn functions(object: &object::File<'_>) -> Result<HashMap<Place, Function>> {
    let mut functions = HashMap::new();
    for symbol in object.symbols() {
        let Some(section) = symbol.section_index() else {
            continue;
        };
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let function = function(object, section, symbol.address(), symbol.size())
            .with_context(|| format!("{:?}", symbol.name()))?;
        let name = symbol.name()?.to_owned();
        functions.insert((section, symbol.address()), Function { name, ..function });
    }
    Ok(functions)
}

fn function(
    object: &object::File<'_>,
    index: SectionIndex,
    start: u64,
    size: u64,
) -> Result<Function> {
    let section = object.section_by_index(index)?;
    let code = section
        .data_range(start, size)?
        .context("a function beyond its section")?;
    let relocations: HashMap<u64, _> = section.relocations().collect();
    let target = |offset: u64, addend: i64, pc_relative: u64| -> Option<Place> {
        let Some(relocation) = relocations.get(&offset) else {
            return Some((index, pc_relative));
        };
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            return None;
        };
        let symbol = object.symbol_by_index(symbol).ok()?;
        let section = symbol.section_index()?;
        let is_code = object.section_by_index(section).ok()?.kind() == object::SectionKind::Text;
        is_code.then(|| (section, symbol.address().wrapping_add_signed(addend)))
    };
    let mut found = Function::default();
    let mut reach = |offset: i64| found.frame = found.frame.max(offset.min(0).unsigned_abs());
    let mut from_frame = [false; 16];
    let mut calls = Vec::new();
    let mut slot = 0;
    while slot + 8 <= code.len() {
        let word = &code[slot..slot + 8];
        let (opcode, destination, source) = (word[0], word[1] & 15, word[1] >> 4);
        let offset = i64::from(i16::from_le_bytes([word[2], word[3]]));
        let immediate = i64::from(i32::from_le_bytes([word[4], word[5], word[6], word[7]]));
        let here = start + slot as u64;
        match opcode & 7 {
            // Loads read from the source register, stores write to the destination register.
            1 if source == R10 => reach(offset),
            2 | 3 if destination == R10 => reach(offset),
            _ => {}
        }
        if opcode == MOVE {
            from_frame[usize::from(destination)] = source == R10;
        } else if opcode == ADD && from_frame[usize::from(destination)] {
            reach(immediate);
            from_frame[usize::from(destination)] = false;
        } else if opcode == CALL && source == PSEUDO_CALL {
            let next = here.wrapping_add_signed((immediate + 1) * 8);
            calls.extend(target(here, (immediate + 1) * 8, next));
        } else if opcode == LOAD_64 {
            if relocations.contains_key(&here) {
                calls.extend(target(here, immediate, 0));
            }
            slot += 8;
        }
        slot += 8;
    }
    found.calls = calls;
    Ok(found)
}
