//! Runs a scenario once for every order in which its processors can take turns, up to a number of preemptions.

use std::{rc::Rc, time::Duration};

use corosensei::{Coroutine, CoroutineResult, stack::DefaultStack};
use lb_common::{
    abi::{SweepItem, V4},
    conn::sweep::sweep,
    host::{Bytes, Memory},
    pipeline,
    verdict::{Reason, Verdict},
};

use crate::{
    packets::{CLIENT, CLIENT_PORT},
    processor::{Processor, World},
};

/// What a processor does.
#[derive(Clone)]
pub(crate) enum Task {
    /// It handles a packet.
    Packet(Bytes),
    /// It sweeps a connection.
    Sweep(SweepItem<V4>),
    /// Time passes, seen by all.
    Wait(Duration),
}

/// What came of a processor's packets.
pub(crate) type Outcomes = Vec<Verdict>;

/// A race.
pub(crate) struct Scenario {
    /// What meets.
    pub(crate) name: &'static str,
    /// The tables before it.
    pub(crate) memory: fn() -> Memory<V4>,
    /// What each processor does.
    pub(crate) tasks: Vec<Vec<Task>>,
    /// What must hold afterwards, besides the audit of the tables.
    pub(crate) check: fn(&Memory<V4>, &[Outcomes]) -> Result<(), String>,
}

/// One decision: which processor went on, out of which.
#[derive(Clone)]
struct Decision {
    chosen: usize,
    /// Those not tried yet.
    untried: Vec<usize>,
}

type Thread = Coroutine<(), (), Outcomes, DefaultStack>;

/// Explores; gives the number of orders that were run.
///
/// # Errors
/// What went wrong in the first bad order, and that order.
pub(crate) fn explore(scenario: &Scenario, preemptions: usize) -> Result<usize, String> {
    let mut stacks: Vec<DefaultStack> = Vec::new();
    let mut decisions: Vec<Decision> = Vec::new();
    let mut runs = 0;
    loop {
        runs += 1;
        run(scenario, preemptions, &mut decisions, &mut stacks).map_err(|fault| {
            let order: String = decisions
                .iter()
                .map(|decision| decision.chosen.to_string())
                .collect();
            format!(
                "{}: {fault}\n  in the order {order}, found after {runs} orders",
                scenario.name
            )
        })?;
        // The last decision that can still be made in another way.
        loop {
            let Some(last) = decisions.last_mut() else {
                return Ok(runs);
            };
            if let Some(next) = last.untried.pop() {
                last.chosen = next;
                break;
            }
            decisions.pop();
        }
    }
}

/// A packet that is sent on is sent on by its own connection: the client and its port are still in it. Towards the real
/// server another port may stand for the client's, if another processor held that one for a moment; never another
/// client's.
fn followed(before: &[u8], after: &[u8], verdict: &Verdict) -> Result<(), String> {
    let port = |bytes: &[u8], at: usize| u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1]);
    let kept = match verdict.reason {
        Reason::Forwarded => {
            let (was, is) = (port(before, 34), port(after, 34));
            before[26..30] == CLIENT
                && after[26..30] == CLIENT
                && (was == is || !(CLIENT_PORT..CLIENT_PORT + 8).contains(&is))
        }
        Reason::Replied => {
            before[30..34] == CLIENT
                && after[30..34] == CLIENT
                && port(before, 36) == port(after, 36)
        }
        _ => true,
    };
    if kept {
        Ok(())
    } else {
        Err(format!(
            "sent on as {} of another connection",
            verdict.reason.name()
        ))
    }
}

fn thread(number: usize, world: &Rc<World>, tasks: &[Task], stack: DefaultStack) -> Thread {
    let (world, tasks) = (Rc::clone(world), tasks.to_vec());
    Coroutine::with_stack(stack, move |yielder, ()| {
        let processor = Processor::new(number, &world, yielder);
        let mut outcomes = Outcomes::new();
        for task in tasks {
            match task {
                Task::Packet(mut packet) => {
                    let before = packet.data.clone();
                    let verdict = pipeline::run(&mut packet, &processor);
                    if let Err(fault) = followed(&before, &packet.data, &verdict) {
                        world.broken(format!("{number}: {fault}"));
                    }
                    outcomes.push(verdict);
                }
                Task::Sweep(item) => {
                    sweep(&processor, &item);
                }
                Task::Wait(span) => {
                    yielder.suspend(());
                    world.memory.advance(span);
                }
            }
        }
        outcomes
    })
}

/// One order: the decisions that are given, and from there on always the processor that is running.
fn run(
    scenario: &Scenario,
    preemptions: usize,
    decisions: &mut Vec<Decision>,
    stacks: &mut Vec<DefaultStack>,
) -> Result<(), String> {
    let world = Rc::new(World::new((scenario.memory)()));
    let mut threads: Vec<Option<Thread>> = scenario
        .tasks
        .iter()
        .enumerate()
        .map(|(number, tasks)| {
            let stack = stacks
                .pop()
                .unwrap_or_else(|| DefaultStack::new(1 << 18).expect("a stack"));
            Some(thread(number, &world, tasks, stack))
        })
        .collect();
    let mut outcomes: Vec<Outcomes> = vec![Outcomes::new(); threads.len()];
    let mut running: Option<usize> = None;
    let mut left = preemptions;
    let mut step = 0;
    loop {
        let ready: Vec<usize> = (0..threads.len())
            .filter(|number| threads[*number].is_some())
            .collect();
        if ready.is_empty() {
            break;
        }
        let current = running.filter(|number| ready.contains(number));
        if step == decisions.len() {
            let chosen = current.unwrap_or(ready[0]);
            // To leave a processor that could go on is a preemption; to begin or to follow one that has ended is not.
            let may_leave = current.is_none() || left > 0;
            let untried = ready
                .into_iter()
                .filter(|other| may_leave && *other != chosen)
                .collect();
            decisions.push(Decision { chosen, untried });
        }
        let chosen = decisions[step].chosen;
        if current.is_some_and(|current| current != chosen) {
            left -= 1;
        }
        step += 1;
        running = Some(chosen);
        let thread = threads[chosen].as_mut().expect("a processor that is ready");
        if let CoroutineResult::Return(outcome) = thread.resume(()) {
            outcomes[chosen] = outcome;
            stacks.extend(threads[chosen].take().map(Coroutine::into_stack));
        }
    }
    if let Some(fault) = world.fault() {
        return Err(fault);
    }
    world.memory.audit()?;
    (scenario.check)(&world.memory, &outcomes)
}
