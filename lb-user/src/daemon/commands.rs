//! Commands. Each is carried out by itself, as if it were alone; what is written to the journal for it, it shares with
//! those that came with it.

use super::Failure;
use super::engine::Engine;
use super::fault;
use super::journal::ScopeChange;
use crate::control::{Command, Draft, Op, Patch, Released, support};
use crate::datapath::DatapathError;
use crate::model::{ScopeId, Table};
use crate::net::NetNs;

/// How many commands are written to the journal at once, at most: a daemon that dies leaves no more to be finished.
const GROUP: usize = 512;

/// What has become of a command.
type Outcome = Result<(), Failure>;

impl Engine {
    /// Carries out one command after the other; one that fails changes nothing, and those after it are carried out all the
    /// same.
    pub(super) fn commands(&mut self, netns: &NetNs, commands: &[Command]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut size = GROUP;
        while let Some(rest) = commands
            .get(outcomes.len()..)
            .filter(|rest| !rest.is_empty())
        {
            let group = &rest[..rest.len().min(size)];
            match self.group(netns, group) {
                Ok(some) => {
                    // Where one fails the next may fail as well, and what was planned for others is lost with each.
                    let failed = some.last().is_some_and(Result::is_err);
                    size = if failed || some.len() < group.len() {
                        1
                    } else {
                        (2 * size).min(GROUP)
                    };
                    outcomes.extend(some);
                }
                // Nothing of the group was done: alone, each gets the answer that is its own.
                Err(failure) if group.len() == 1 => outcomes.push(Err(failure)),
                Err(_) => {
                    let alone = self.group(netns, &rest[..1]);
                    outcomes.extend(alone.unwrap_or_else(|failure| vec![Err(failure)]));
                }
            }
        }
        outcomes
    }

    /// Carries out the first of some commands, and gives what has become of them: of one at least.
    ///
    /// # Errors
    /// Nothing was done.
    fn group(&mut self, netns: &NetNs, commands: &[Command]) -> Result<Vec<Outcome>, Failure> {
        let there = self.find(netns);
        let empty = Table::new();
        let table = there.map_or(&empty, |id| &self.scopes[&id].table);
        let mut draft = Draft::new(table);
        let mut plans: Vec<Result<Vec<Op>, Failure>> = Vec::with_capacity(commands.len());
        for command in commands {
            // It touches everything, so that it is the last of its group.
            let is_last = matches!(command, Command::Flush);
            let judge = |op: &Op| support::op(op).map_err(Failure::from);
            plans.push(draft.command(command, judge));
            if is_last {
                break;
            }
        }
        let idle = |plan: &Result<Vec<Op>, Failure>| plan.as_ref().map_or(true, Vec::is_empty);
        if plans.iter().all(idle) {
            return Ok(plans.into_iter().map(|plan| plan.map(drop)).collect());
        }
        let (before, after) = draft.finish();

        let id = self.open(netns.try_clone()?)?;
        let outcome = self.carry_out_group(id, plans, before, after);
        let made = |outcomes: &Vec<Outcome>| outcomes.iter().any(Result::is_ok);
        if there.is_none() && !outcome.as_ref().is_ok_and(made) {
            self.close(id);
        }
        outcome
    }

    fn carry_out_group(
        &mut self,
        id: ScopeId,
        plans: Vec<Result<Vec<Op>, Failure>>,
        before: Patch,
        after: Patch,
    ) -> Result<Vec<Outcome>, Failure> {
        for ops in plans.iter().flatten() {
            self.watch(id, ops)?;
        }
        let released = self.released(id, plans.iter().flatten().flatten());
        self.begin(vec![ScopeChange {
            scope: id,
            before,
            after,
            claims: None,
            released,
        }])?;
        let mut outcomes = Vec::with_capacity(plans.len());
        let mut made: Vec<Op> = Vec::new();
        for plan in plans {
            let ops = match plan {
                Ok(ops) => ops,
                Err(failure) => {
                    outcomes.push(Err(failure));
                    continue;
                }
            };
            let whole = made.len();
            for op in ops {
                if let Err(error) = self.operate(id, &op) {
                    let failure = if made.is_empty() {
                        self.undo(&op, 0, error)
                    } else {
                        self.undo_last(id, &made[..whole], &op, error)
                    };
                    outcomes.push(Err(failure));
                    self.serve(id);
                    // Those after it are for the next group: the journal is as if they had not come yet.
                    return Ok(outcomes);
                }
                made.push(op);
                fault::reached(&format!("op:{}", made.len()));
            }
            outcomes.push(Ok(()));
        }
        fault::reached("ops-applied");
        self.settle(true);
        self.serve(id);
        Ok(outcomes)
    }

    /// Undoes what a command has left that failed at `failed`, and keeps those before it, which made `made`.
    fn undo_last(
        &mut self,
        id: ScopeId,
        made: &[Op],
        failed: &Op,
        error: DatapathError,
    ) -> Failure {
        let undone = self.journal.change.first().and_then(|change| {
            let mut table = change.before.applied_to(&Table::new()).ok()?;
            made.iter()
                .try_for_each(|op| op.apply_to(&mut table))
                .ok()?;
            Some((change.before.clone(), change.before.as_of(&table)))
        });
        let Some((before, after)) = undone else {
            return self.undo(failed, made.len(), error);
        };
        let released = self.released(id, made.iter());
        let change = ScopeChange {
            scope: id,
            before,
            after: after.clone(),
            claims: None,
            released,
        };
        // On disk first: from here on, what a later daemon finishes is this.
        if let Err(failure) = self.begin(vec![change]) {
            return failure;
        }
        let failure = Failure::from(error);
        match self.lead_to(id, &after) {
            Ok(()) => {
                self.settle(true);
                failure
            }
            Err(second) => Failure {
                message: format!(
                    "cannot {failed}: {}; and what was done of it cannot be undone: {second}",
                    failure.message
                ),
                ..failure
            },
        }
    }

    /// What these operations take out of the claims of a scope.
    fn released<'o>(&self, id: ScopeId, ops: impl Iterator<Item = &'o Op>) -> Vec<Released> {
        let Some(claims) = self.claims(id) else {
            return Vec::new();
        };
        ops.filter_map(|op| claims.commanded(op)).collect()
    }
}
