//! The runner in the kernel: the TC programs, run by `BPF_PROG_TEST_RUN`, over real maps.
//!
//! The tables are set up in [`Memory`] as for the host's runner and copied into the maps; what the programs have moved
//! there (cursors, counts) is fetched back before the daemon's part of a change. Time cannot be moved in the kernel: to
//! let it pass, everything that has a deadline is made that much older.

mod maps;
mod xdp;

use std::time::Duration;

use aya::{
    Ebpf,
    programs::{SchedClassifier, TestRun, TestRunOptions, xdp::XdpMode},
};
use lb_common::{
    abi::{ASSURED, Be16, COUNTED, ConnKey, REPLY, Tick, V4, Word},
    conn::{due, state},
    host::{Bytes, Capacity, Memory},
    tables::Tables as _,
    verdict::{Action, Reason},
};

use self::maps::Maps;
pub use self::xdp::Wires;
use super::{
    case::{Case, Change, Flow, Input, Step},
    runner::{Counts, Runner, Seen},
    world::World,
};
use crate::bpf;

/// Its name.
pub const NAME: &str = "kernel (TC)";
/// Its name with XDP before TC.
pub const EARLY_NAME: &str = "kernel (XDP, then TC)";
/// The least that the kernel runs a program on: Ethernet and an IPv4 header.
const SHORTEST: usize = 34;
/// What the programs return (`TC_ACT_…`).
const NEXT: u32 = u32::MAX;
const DROPPED: u32 = 2;
const REDIRECTED: u32 = 7;

/// The programs in the kernel. To be used in a namespace with the interfaces of
/// [`super::world`], by index and Ethernet address.
#[derive(Default)]
pub struct Kernel {
    loaded: Option<(Capacity, Ebpf)>,
    memory: Option<Memory<V4>>,
    services: Vec<u32>,
    servers: Vec<u32>,
    /// From a time that has passed by the clock in memory, which stands still while the case runs, to one by the
    /// programs' clock.
    shift: u32,
    /// How frames come to XDP, which then gets them before TC.
    wires: Option<Wires>,
    /// How many packets XDP has finished.
    finished: usize,
}

/// What one of the programs has done with a packet.
struct Finished {
    action: Action,
    bytes: Vec<u8>,
}

impl Kernel {
    /// With XDP before TC. The interfaces must be such that XDP can be attached to.
    pub fn early(wires: Wires) -> Self {
        Self {
            wires: Some(wires),
            ..Self::default()
        }
    }

    /// How many packets XDP has finished by itself.
    pub const fn finished(&self) -> usize {
        self.finished
    }

    fn parts(&mut self) -> Result<(&mut Ebpf, &mut Memory<V4>), String> {
        match (&mut self.loaded, &mut self.memory) {
            (Some((_, object)), Some(memory)) => Ok((object, memory)),
            _ => Err("no tables".to_owned()),
        }
    }

    fn view(&self) -> Result<(&Ebpf, &Memory<V4>), String> {
        match (&self.loaded, &self.memory) {
            (Some((_, object)), Some(memory)) => Ok((object, memory)),
            _ => Err("no tables".to_owned()),
        }
    }

    fn load(&mut self, capacity: Capacity) -> Result<(), String> {
        if self
            .loaded
            .as_ref()
            .is_some_and(|(there, _)| *there == capacity)
        {
            return Ok(());
        }
        // What is attached goes with it.
        self.loaded = None;
        let mut object = bpf::load(capacity).map_err(|error| format!("{error:#}"))?;
        for name in ["tc_ingress", "tc_egress"] {
            bpf::program(&mut object, name).map_err(|error| format!("{error:#}"))?;
        }
        if self.wires.is_some() {
            let program = bpf::xdp(&mut object).map_err(|error| format!("{error:#}"))?;
            // Without a program on it a frame cannot be said to have come by the interface.
            for interface in ["front", "back"] {
                program
                    .attach(interface, XdpMode::Driver)
                    .map_err(|error| format!("cannot attach to {interface}: {error:?}"))?;
            }
        }
        self.loaded = Some((capacity, object));
        Ok(())
    }
}

fn key(flow: &Flow) -> ConnKey<V4> {
    ConnKey {
        src: V4::new(flow.src),
        dst: V4::new(flow.dst),
        sport: Be16::new(flow.sport),
        dport: Be16::new(flow.dport),
        scope_protocol: bpf::SCOPE << 8 | u32::from(flow.protocol),
    }
}

impl Runner for Kernel {
    fn name(&self) -> &'static str {
        if self.wires.is_some() {
            EARLY_NAME
        } else {
            NAME
        }
    }

    fn refuses(&self, case: &Case) -> Option<&'static str> {
        if case.host_only.is_some() {
            return case.host_only;
        }
        case.steps.iter().find_map(|step| match step {
            Step::Packet(Input::Packet(packet), _) if self.wires.is_some() => {
                cannot_carry(packet).or_else(|| super::host::not_in_xdp(packet))
            }
            Step::Packet(Input::Packet(packet), _) => cannot_carry(packet),
            Step::Change(Change::ErrorBudget(_)) => {
                Some("the budget of ICMP errors grows with real time")
            }
            _ => None,
        })
    }

    fn tells_redirects_apart(&self) -> bool {
        false
    }

    fn begin(&mut self, world: &World) -> Result<(), String> {
        self.load(world.capacity)?;
        let mut memory = Memory::new(
            bpf::SCOPE,
            Capacity {
                objects: bpf::OBJECTS as usize,
                ..world.capacity
            },
        );
        (self.services, self.servers) = world.set_up(&mut memory)?;
        self.shift = maps::now().0.wrapping_sub(memory.now().0);
        self.memory = Some(memory);
        let (shift, wires) = (self.shift, self.wires);
        let (object, memory) = self.parts()?;
        let mut maps = Maps::of(object)?;
        maps.clear()?;
        maps.write(memory, shift)?;
        wires.map_or(Ok(()), |wires| maps.write_wires(memory, wires))
    }

    fn packet(&mut self, packet: &Bytes) -> Result<Seen, String> {
        if let Some(why) = cannot_carry(packet) {
            return Err(format!(
                "{why}: the case must say that it is the host's only"
            ));
        }
        let wires = self.wires.filter(|_| !packet.arrival.egress);
        let (object, _) = self.parts()?;
        let before = Maps::of(object)?.reasons()?;
        let by_xdp = wires.map_or(Ok(None), |wires| xdp::run(object, packet, wires))?;
        let is_by_xdp = by_xdp.is_some();
        let Finished { action, bytes } = match by_xdp {
            Some(finished) => finished,
            None => by_tc(object, packet)?,
        };
        let after = Maps::of(object)?.reasons()?;
        let mut moved = Reason::ALL
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after);
        let (Some((reason, (before, after))), None) = (moved.next(), moved.next()) else {
            return Err("not exactly one reason was counted".to_owned());
        };
        if after[0] != before[0] + 1 {
            return Err(format!(
                "{} was counted {} times",
                reason.name(),
                after[0] - before[0]
            ));
        }
        let counted = after[1] - before[1];
        self.finished += usize::from(is_by_xdp);
        Ok(Seen {
            action,
            ifindex: None,
            reason: *reason,
            counted,
            bytes,
        })
    }

    fn wait(&mut self, seconds: u32) -> Result<(), String> {
        let ticks = Tick::from_secs(seconds).0;
        self.shift = self.shift.wrapping_sub(ticks);
        let (object, memory) = self.parts()?;
        memory.advance(Duration::from_secs(u64::from(seconds)));
        Maps::of(object)?.age(ticks)
    }

    fn change(&mut self, change: &Change) -> Result<(), String> {
        if let Change::State(flow, state) = change {
            let (object, _) = self.parts()?;
            return force(&mut Maps::of(object)?, &key(flow), *state);
        }
        let (services, servers) = (self.services.clone(), self.servers.clone());
        let (shift, wires) = (self.shift, self.wires);
        let (object, memory) = self.parts()?;
        let mut maps = Maps::of(object)?;
        maps.fetch(memory)?;
        let added = super::host::apply(memory, &services, &servers, change)?;
        maps.write(memory, shift)?;
        wires.map_or(Ok(()), |wires| maps.write_wires(memory, wires))?;
        self.servers.extend(added);
        Ok(())
    }

    fn counts(&self) -> Result<Vec<Counts>, String> {
        let (object, _) = self.view()?;
        let maps = maps::View::of(object)?;
        self.servers
            .iter()
            .map(|index| maps.counts(*index))
            .collect()
    }

    fn connection(&self, flow: &Flow) -> Result<Option<(Word, u32)>, String> {
        let (object, _) = self.view()?;
        let Some(entry) = maps::View::of(object)?.entry(&key(flow))? else {
            return Ok(None);
        };
        let word = Word(entry.word);
        let left = word.deadline().since(maps::now()).max(0);
        Ok(Some((
            word,
            (Tick(left as u32).nanos() / 1_000_000_000) as u32,
        )))
    }

    fn entries(&self) -> Result<usize, String> {
        let (object, _) = self.view()?;
        Ok(maps::View::of(object)?.entries()?.len())
    }

    fn audit(&self) -> Result<(), String> {
        let (object, _) = self.view()?;
        let capacity = self.loaded.as_ref().map(|(capacity, _)| *capacity);
        let capacity = capacity.ok_or("nothing is loaded")?;
        let maps = maps::View::of(object)?;
        let (entries, slots) = (maps.entries()?, maps.slots()?);
        let mut held = std::collections::HashMap::<u32, (u32, u32)>::new();
        for (key, entry) in &entries {
            let (word, other_key) = (
                Word(entry.word),
                entry.to().reversed().key(key.scope_protocol),
            );
            let other = entries
                .get(&other_key)
                .ok_or_else(|| format!("half a connection: {key:?}"))?;
            let other = Word(other.word);
            if other.generation() != word.generation() || other.has(REPLY) == word.has(REPLY) {
                return Err(format!("two halves that do not belong together: {key:?}"));
            }
            if !word.has(REPLY) {
                let (ring, first) = if word.has(ASSURED) {
                    (capacity.assured, capacity.half_open)
                } else {
                    (capacity.half_open, 0)
                };
                let (due, named) = slots[(first + entry.ticket % ring) as usize];
                if named == *key && !due::in_time(due, word.deadline()) {
                    return Err(format!("the sweep looks too late at {key:?}: {due:#x}"));
                }
                let (active, total) = held.entry(entry.server).or_default();
                *total += 1;
                *active += u32::from(word.has(COUNTED));
            }
        }
        for index in 1..bpf::OBJECTS {
            let counts = maps.counts(index)?;
            let (active, total) = held.get(&index).copied().unwrap_or_default();
            if (counts.active, counts.total) != (active, total) {
                return Err(format!(
                    "real server {index} counts {}/{}, has {active}/{total}",
                    counts.active, counts.total
                ));
            }
        }
        Ok(())
    }
}

/// Gives a packet to the TC program of its direction.
fn by_tc(object: &mut Ebpf, packet: &Bytes) -> Result<Finished, String> {
    let name = if packet.arrival.egress {
        "tc_egress"
    } else {
        "tc_ingress"
    };
    let program: &SchedClassifier = object
        .program(name)
        .ok_or("no such program")?
        .try_into()
        .map_err(|error| format!("{error}"))?;
    let mut out = vec![0; packet.data.len() + 256];
    let context = context(packet);
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&packet.data),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
        .map_err(|error| format!("the kernel does not run it: {error:?}"))?;
    out.truncate(result.data_size_out as usize);
    let action = match result.return_value {
        NEXT => Action::Pass,
        DROPPED => Action::Drop,
        REDIRECTED => Action::Transmit,
        other => return Err(format!("the program returned {other}")),
    };
    Ok(Finished { action, bytes: out })
}

/// Why a packet cannot be given to a program by `BPF_PROG_TEST_RUN`.
fn cannot_carry(packet: &Bytes) -> Option<&'static str> {
    let on_host = super::world::mac_of(packet.arrival.ifindex);
    let to_host = on_host.is_some_and(|mac| packet.data.get(..6) == Some(&mac[..]));
    if packet.data.len() < SHORTEST {
        Some("test_run refuses frames under 34 bytes")
    } else if packet.arrival.tagged {
        Some("test_run has no VLAN tag outside of the bytes")
    } else if packet.partial || packet.segment_size != 0 {
        Some("test_run has no partial checksums and GSO packets of a kind")
    } else if !packet.arrival.egress && to_host != packet.arrival.to_host {
        Some("the kernel tells by the Ethernet address for whom a packet is")
    } else {
        None
    }
}

/// `struct __sk_buff`, with what may be set in it: mark and interface.
fn context(packet: &Bytes) -> [u8; 192] {
    let mut context = [0; 192];
    context[8..12].copy_from_slice(&packet.arrival.mark.to_ne_bytes());
    context[40..44].copy_from_slice(&packet.arrival.ifindex.to_ne_bytes());
    context
}

/// Puts a connection into a state, in both entries and in the counts.
fn force(maps: &mut Maps<'_>, key: &ConnKey<V4>, state: u8) -> Result<(), String> {
    let mut forward = maps.entry(key)?.ok_or("no such connection")?;
    let reply_key = forward.to().reversed().key(key.scope_protocol);
    let mut reply = maps.entry(&reply_key)?.ok_or("no reply entry")?;
    let old = Word(forward.word);
    let counted = if state::active(state) { COUNTED } else { 0 };
    let word = Word::new(
        old.deadline(),
        old.generation(),
        state,
        old.flags() & !COUNTED | counted,
    );
    forward.word = word.0;
    reply.word = Word::new(
        old.deadline(),
        old.generation(),
        state,
        word.flags() | REPLY,
    )
    .0;
    maps.set_entry(key, &forward)?;
    maps.set_entry(&reply_key, &reply)?;
    if word.has(COUNTED) != old.has(COUNTED) {
        maps.change_active(forward.server, word.has(COUNTED))?;
    }
    Ok(())
}
