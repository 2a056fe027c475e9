//! The runner on the host: the pipeline over bytes and ordinary memory.

use std::time::Duration;

use lb_common::{
    abi::{Be16, COUNTED, ConnKey, REPLY, Tick, V4, Word},
    conn::state,
    host::{Bytes, Early, Memory},
    pipeline,
    tables::Tables,
    verdict::{Action, Reason, Verdict},
};

use super::{
    case::{Case, Change, Flow, Input, Step},
    runner::{Counts, Runner, Seen, same},
    world::World,
};

/// Its name.
pub const NAME: &str = "host";
/// Its name with XDP before TC.
pub const EARLY_NAME: &str = "host (XDP, then TC)";
/// The scope that the cases take place in.
const SCOPE: u32 = 5;

/// The pipeline over [`Memory`].
#[derive(Default)]
pub struct Host {
    memory: Option<Memory<V4>>,
    /// Indices of the services and real servers, by their number in the case.
    services: Vec<u32>,
    servers: Vec<u32>,
    /// What arrives is XDP's first.
    early: bool,
    /// How many packets XDP has finished.
    finished: usize,
}

impl Host {
    /// With XDP before TC.
    pub fn early() -> Self {
        Self {
            early: true,
            ..Self::default()
        }
    }

    /// How many packets XDP has finished by itself.
    pub const fn finished(&self) -> usize {
        self.finished
    }

    fn memory(&mut self) -> Result<&mut Memory<V4>, String> {
        self.memory.as_mut().ok_or_else(|| "no tables".to_owned())
    }

    fn tables(&self) -> Result<&Memory<V4>, String> {
        self.memory.as_ref().ok_or_else(|| "no tables".to_owned())
    }
}

fn key(flow: &Flow) -> ConnKey<V4> {
    ConnKey {
        src: V4::new(flow.src),
        dst: V4::new(flow.dst),
        sport: Be16::new(flow.sport),
        dport: Be16::new(flow.dport),
        scope_protocol: SCOPE << 8 | u32::from(flow.protocol),
    }
}

impl Runner for Host {
    fn name(&self) -> &'static str {
        if self.early { EARLY_NAME } else { NAME }
    }

    fn refuses(&self, case: &Case) -> Option<&'static str> {
        let packet = |step: &Step| match step {
            Step::Packet(Input::Packet(packet), _) if self.early => not_in_xdp(packet),
            _ => None,
        };
        case.steps.iter().find_map(packet)
    }

    fn tells_redirects_apart(&self) -> bool {
        true
    }

    fn begin(&mut self, world: &World) -> Result<(), String> {
        let mut memory = Memory::new(SCOPE, world.capacity);
        (self.services, self.servers) = world.set_up(&mut memory)?;
        self.memory = Some(memory);
        Ok(())
    }

    fn packet(&mut self, packet: &Bytes) -> Result<Seen, String> {
        let early = self.early && !packet.arrival.egress;
        let memory = self.memory()?;
        let mut packet = packet.clone();
        let reasons = |memory: &Memory<V4>| -> Vec<[u64; 2]> {
            Reason::ALL
                .iter()
                .map(|reason| memory.reason(*reason))
                .collect()
        };
        let before = reasons(memory);
        let mut verdict = Verdict::hand_over();
        if early {
            let mut frame = Early(packet.clone());
            verdict = pipeline::run(&mut frame, memory);
            if verdict.action == Action::HandOver {
                same(&packet.data, &frame.0.data)
                    .map_err(|fault| format!("what XDP left to TC is not as it came: {fault}"))?;
                if before != reasons(memory) {
                    return Err("XDP counted what it left to TC".to_owned());
                }
            } else {
                packet = frame.0;
            }
        }
        let finished = verdict.action != Action::HandOver;
        if !finished {
            verdict = pipeline::run(&mut packet, memory);
        }
        let mut moved = Reason::ALL
            .iter()
            .zip(before.iter().zip(reasons(memory)))
            .filter(|(_, (before, after))| *before != after);
        let (Some((reason, (before, after))), None) = (moved.next(), moved.next()) else {
            return Err("not exactly one reason was counted".to_owned());
        };
        if *reason != verdict.reason || after[0] != before[0] + 1 {
            return Err(format!(
                "{} was counted for a verdict of {}",
                reason.name(),
                verdict.reason.name()
            ));
        }
        // Ethernet type and protocol.
        let is_icmp = packet.data.get(12..14) == Some(&[8, 0]) && packet.data.get(23) == Some(&1);
        if packet.partial && is_icmp {
            return Err("the hardware would change what an ICMP message carries".to_owned());
        }
        self.finished += usize::from(finished);
        Ok(Seen {
            action: verdict.action,
            ifindex: Some(verdict.ifindex),
            reason: verdict.reason,
            counted: after[1] - before[1],
            bytes: packet.data,
        })
    }

    fn wait(&mut self, seconds: u32) -> Result<(), String> {
        self.memory()?
            .advance(Duration::from_secs(u64::from(seconds)));
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), String> {
        let (services, servers) = (self.services.clone(), self.servers.clone());
        match change {
            Change::State(flow, state) => force(self.memory()?, &key(flow), *state),
            Change::ErrorBudget(errors) => {
                self.memory()?.set_error_budget(*errors);
                Ok(())
            }
            _ => {
                let added = apply(self.memory()?, &services, &servers, change)?;
                self.servers.extend(added);
                Ok(())
            }
        }
    }

    fn counts(&self) -> Result<Vec<Counts>, String> {
        let memory = self.tables()?;
        let counts = |index: &u32| {
            let server = memory.server(*index).ok_or("no such real server")?;
            let stats = memory.server_stats(*index);
            Ok(Counts {
                stats,
                active: server.active.load(),
                total: server.total.load(),
                templates: server.templates.load(),
            })
        };
        self.servers.iter().map(counts).collect()
    }

    fn connection(&self, flow: &Flow) -> Result<Option<(Word, u32)>, String> {
        let memory = self.tables()?;
        let Some(conn) = memory.entries().get(&key(flow)) else {
            return Ok(None);
        };
        let word = Word(conn.word.load());
        let left = word.deadline().since(memory.now()).max(0);
        Ok(Some((
            word,
            (Tick(left as u32).nanos() / 1_000_000_000) as u32,
        )))
    }

    fn entries(&self) -> Result<usize, String> {
        Ok(self.tables()?.entries().len())
    }

    fn audit(&self) -> Result<(), String> {
        self.tables()?.audit()
    }
}

/// Why XDP never sees such a packet. What this host sends is TC's in any case.
pub(super) fn not_in_xdp(packet: &Bytes) -> Option<&'static str> {
    if packet.arrival.egress {
        None
    } else if packet.arrival.mark != 0 {
        Some("a packet has no mark before there is a socket buffer")
    } else if packet.arrival.tagged {
        Some("a tag is among the bytes before there is a socket buffer")
    } else if packet.partial || packet.segment_size != 0 {
        Some("no packet from a wire has a partial checksum or is a GSO packet")
    } else {
        None
    }
}

/// Makes the daemon's changes of services and real servers, which are known by their indices in these lists. Gives the
/// index of a real server that is new.
///
/// # Errors
/// There is no room, or no such service or real server.
pub fn apply(
    memory: &mut Memory<V4>,
    services: &[u32],
    servers: &[u32],
    change: &Change,
) -> Result<Option<u32>, String> {
    let service = |number: usize| {
        services
            .get(number)
            .copied()
            .ok_or_else(|| format!("no service {number}"))
    };
    let server = |number: usize| {
        servers
            .get(number)
            .copied()
            .ok_or_else(|| format!("no real server {number}"))
    };
    match change {
        Change::AddServer(number, spec) => {
            let added = memory.add_server(service(*number)?, spec);
            return added
                .map(Some)
                .ok_or_else(|| "no room for a real server".to_owned());
        }
        Change::Weight(number, weight) => memory.set_weight(server(*number)?, *weight),
        Change::RemoveServer(number) => memory.remove_server(server(*number)?),
        Change::Scheduler(number, scheduler) => {
            if !memory.set_scheduler(service(*number)?, *scheduler) {
                return Err("no room for a table".to_owned());
            }
        }
        Change::RemoveService(number) => memory.remove_service(service(*number)?),
        Change::Method(number, method) => memory.set_method(server(*number)?, *method),
        Change::Thresholds(number, upper, lower) => {
            memory.set_thresholds(server(*number)?, *upper, *lower);
        }
        Change::Persistent(number, seconds, netmask) => {
            memory.set_persistent(service(*number)?, *seconds, V4::new(*netmask));
        }
        Change::Options(number, options) => memory.set_options(service(*number)?, *options),
        Change::Neighbours(number, via, return_via) => {
            memory.set_neighbours(server(*number)?, V4::new(*via), V4::new(*return_via));
        }
        Change::Settings(flags) => memory.set_flag(*flags, true),
        Change::DropRate(rate) => memory.set_drop_rate(*rate),
        Change::Expiration(seconds) => memory.set_expiration(*seconds),
        Change::State(..) | Change::ErrorBudget(_) => {
            return Err("not a change of services".to_owned());
        }
    }
    Ok(None)
}

/// Puts a connection into a state, in both entries and in the counts.
fn force(memory: &Memory<V4>, key: &ConnKey<V4>, state: u8) -> Result<(), String> {
    let conn = memory.entries().get(key).ok_or("no such connection")?;
    let reply_key = conn.to().reversed().key(key.scope_protocol);
    let reply = memory.entries().get(&reply_key).ok_or("no reply entry")?;
    let old = Word(conn.word.load());
    let counted = if state::active(state) { COUNTED } else { 0 };
    let word = Word::new(
        old.deadline(),
        old.generation(),
        state,
        old.flags() & !COUNTED | counted,
    );
    conn.word.store(word.0);
    reply.word.store(word.with(REPLY).0);
    let server = memory
        .server(conn.server.load())
        .ok_or("no such real server")?;
    let change = u32::from(word.has(COUNTED)).wrapping_sub(u32::from(old.has(COUNTED)));
    memory.add(&server.active, change);
    Ok(())
}
