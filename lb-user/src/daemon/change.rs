//! Carrying out a change: journal, operations, journal; and the way back when an operation fails.

use tracing::{error, info};

use super::engine::{Engine, StartError};
use super::journal::ScopeChange;
use super::{Failure, FailureKind, fault};
use crate::control::{Claims, Op, Patch, diff};
use crate::datapath::DatapathError;
use crate::model::{ScopeId, ServiceKey, Table};

/// What is to be done in one scope.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) scope: ScopeId,
    /// In the order in which they are done.
    pub(super) ops: Vec<Op>,
    /// The claims of the scope afterwards.
    pub(super) claims: Claims,
}

impl Engine {
    /// Makes a change of one or more scopes whole, or none of it.
    pub(super) fn change(&mut self, planned: Vec<Planned>) -> Result<(), Failure> {
        let mut changes = Vec::with_capacity(planned.len());
        let mut all = Vec::with_capacity(planned.len());
        for plan in planned {
            let (before, after) = Patch::around(&plan.ops, &self.scopes[&plan.scope].table)?;
            let differ = self.claims(plan.scope) != Some(&plan.claims);
            changes.push(ScopeChange {
                scope: plan.scope,
                before,
                after,
                claims: differ.then_some(plan.claims),
                released: Vec::new(),
            });
            all.push((plan.scope, plan.ops));
        }
        for (scope, ops) in &all {
            // Before anything is written: a namespace that cannot be watched cannot be served.
            self.watch(*scope, ops)?;
        }
        self.begin(changes)?;

        let mut done = 0;
        for (scope, ops) in &all {
            for op in ops {
                if let Err(error) = self.operate(*scope, op) {
                    return Err(self.undo(op, done, error));
                }
                done += 1;
                fault::reached(&format!("op:{done}"));
            }
        }
        fault::reached("ops-applied");
        self.settle(true);
        for (scope, _) in all {
            self.serve(scope);
        }
        Ok(())
    }

    /// Writes to the journal what is going to be done.
    pub(super) fn begin(&mut self, changes: Vec<ScopeChange>) -> Result<(), Failure> {
        self.journal.change = changes;
        if let Err(error) = self.store.save(&self.journal) {
            self.journal.change.clear();
            return Err(error.into());
        }
        fault::reached("journal-written");
        Ok(())
    }

    /// One operation, in the datapath and in the table beside it.
    pub(super) fn operate(&mut self, id: ScopeId, op: &Op) -> Result<(), DatapathError> {
        self.datapath.apply(id, op)?;
        let Some(scope) = self.scopes.get_mut(&id) else {
            return Err(DatapathError::NoSuchScope(id));
        };
        let turned = scope.reached.change(&scope.table, op);
        op.apply_to(&mut scope.table)?;
        for (address, is_reached) in turned {
            self.networks.server(id, address, is_reached);
        }
        match op {
            Op::AddService(service) => {
                self.born += 1;
                scope.births.insert(service.key, self.born);
            }
            Op::RemoveService(key) => drop(scope.births.remove(key)),
            _ => {}
        }
        Ok(())
    }

    /// Takes the change off the journal. When it was made, its claims and mark rules hold from now on.
    pub(super) fn settle(&mut self, made: bool) {
        for change in std::mem::take(&mut self.journal.change) {
            let Some(known) = self.journal.scopes.get_mut(&change.scope) else {
                continue;
            };
            if !made {
                continue;
            }
            let own = &mut known.own;
            let mut differs = false;
            let mut put = |differs_here: bool| differs |= differs_here;
            if let Some(claims) = change.claims {
                put(own.claims != claims);
                own.claims = claims;
            }
            if let Some(marks) = change.after.marks {
                put(own.marks != marks);
                own.marks = marks;
            }
            if let Some(settings) = change.after.settings {
                put(own.settings != settings);
                own.settings = settings;
            }
            change
                .released
                .iter()
                .for_each(|released| own.claims.release(released));
            let saved = if differs {
                self.store.save_scope(change.scope, own)
            } else if change.released.is_empty() {
                Ok(())
            } else {
                self.store
                    .save_released(change.scope, own, &change.released)
            };
            if let Err(error) = saved {
                error!("{error}");
            }
        }
        if let Err(error) = self.store.save(&self.journal) {
            // The change is made. A daemon that finds it in the journal finds nothing left to do for it.
            error!("{error}");
        }
    }

    /// Undoes the operations before the one that failed, and says what happened.
    pub(super) fn undo(&mut self, failed: &Op, done: usize, error: DatapathError) -> Failure {
        fault::reached("undo");
        let alone = self.journal.change.len() == 1 && done == 0;
        let failure = Failure::from(error);
        match self.lead_back() {
            Ok(()) => {
                self.settle(false);
                let what = if alone {
                    failure.message
                } else {
                    format!("cannot {failed}: {}; nothing was changed", failure.message)
                };
                Failure {
                    message: what,
                    ..failure
                }
            }
            // The change stays in the journal: the next start tries once more to finish or undo it.
            Err(second) => Failure::new(
                FailureKind::System,
                format!(
                    "cannot {failed}: {}; and what was done before cannot be undone: {second}",
                    failure.message
                ),
            )
            .hint("the table is now as `bpvs list` shows it"),
        }
    }

    /// Brings every scope of the change back to what it was.
    fn lead_back(&mut self) -> Result<(), DatapathError> {
        let changes = self.journal.change.clone();
        changes
            .iter()
            .try_for_each(|change| self.lead_to(change.scope, &change.before))
    }

    /// Brings a scope from what the datapath has to what `patch` makes of that.
    pub(super) fn lead_to(&mut self, id: ScopeId, patch: &Patch) -> Result<(), DatapathError> {
        // What it does not touch is as it was, and is not looked at.
        let keys: Vec<ServiceKey> = patch.services.keys().copied().collect();
        let there = self.datapath.part(id, &keys)?;
        let mut ops = diff(&there, &patch.applied_to(&there)?);
        // After a restart the datapath cannot tell which rules and settings it has, for it was told those from before the
        // change: they are set even if none seem to differ.
        let sets_settings = ops.iter().any(|op| matches!(op, Op::SetSettings(_)));
        if let (Some(settings), false) = (&patch.settings, sets_settings) {
            ops.insert(0, Op::SetSettings(settings.clone()));
        }
        let sets_marks = ops.iter().any(|op| matches!(op, Op::SetMarkRules(_)));
        if let (Some(marks), false) = (&patch.marks, sets_marks) {
            let removal = |op: &Op| matches!(op, Op::RemoveServer { .. } | Op::RemoveService(_));
            let place = ops.iter().position(removal).unwrap_or(ops.len());
            ops.insert(place, Op::SetMarkRules(marks.clone()));
        }
        self.believe(id, &keys, &there)?;
        ops.iter().try_for_each(|op| self.operate(id, op))
    }

    /// Puts what the datapath has of these services into the table beside it.
    fn believe(
        &mut self,
        id: ScopeId,
        keys: &[ServiceKey],
        there: &Table,
    ) -> Result<(), DatapathError> {
        let Some(scope) = self.scopes.get_mut(&id) else {
            return Err(DatapathError::NoSuchScope(id));
        };
        let known = keys.iter().filter(|key| scope.table.service(key).is_some());
        let gone = known.map(|key| Op::RemoveService(*key));
        let come = there.services().cloned().map(Op::AddService);
        let settings = [
            Op::SetMarkRules(there.marks().to_vec()),
            Op::SetSettings(there.settings().clone()),
        ];
        let ops: Vec<Op> = gone.chain(come).chain(settings).collect();
        for op in &ops {
            let turned = scope.reached.change(&scope.table, op);
            op.apply_to(&mut scope.table)?;
            for (address, is_reached) in turned {
                self.networks.server(id, address, is_reached);
            }
        }
        Ok(())
    }

    /// Finishes a change that the journal says was begun; or undoes it, where it cannot be finished.
    pub(super) fn finish_change(&mut self) -> Result<(), StartError> {
        if self.journal.change.is_empty() {
            return Ok(());
        }
        // Scopes whose namespaces are gone meanwhile have nothing to finish.
        self.journal
            .change
            .retain(|change| self.scopes.contains_key(&change.scope));
        let changes = self.journal.change.clone();
        let finished = changes
            .iter()
            .try_for_each(|change| self.lead_to(change.scope, &change.after));
        match finished {
            Ok(()) => {
                info!("a change that was cut short is finished");
                self.settle(true);
            }
            Err(first) => match self.lead_back() {
                Ok(()) => {
                    info!(
                        "a change that was cut short is undone, since it cannot be finished: {first}"
                    );
                    self.settle(false);
                }
                Err(error) => return Err(StartError::Unfinished(error.to_string())),
            },
        }
        Ok(())
    }
}
