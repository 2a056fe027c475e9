//! Applying what a file or a provider declares in each scope, against what it claims there.

use tracing::info;

use super::change::Planned;
use super::engine::Engine;
use super::journal::KnownNetNs;
use super::request::ApplyScope;
use super::{Failure, FailureKind};
use crate::api::wire;
use crate::control::{Claims, Declared, Op, Origin, changes, diff, support};
use crate::model::{ScopeId, Table};
use crate::net::NetNs;

/// What a file makes of one scope.
struct Target {
    name: Option<String>,
    /// None for a scope that is not there yet.
    id: Option<ScopeId>,
    netns: Option<NetNs>,
    declared: Declared,
}

impl Engine {
    /// Applies a file whole, or not at all. The first scope is the one in which it is applied.
    pub(super) fn apply(
        &mut self,
        scopes: Vec<ApplyScope>,
        dry_run: bool,
    ) -> Result<Vec<wire::ScopeChanges>, Failure> {
        let Some(first) = scopes.first() else {
            return Ok(Vec::new());
        };
        let origin = KnownNetNs::of(&first.netns).origin();
        let report = self.declare(scopes, &origin, dry_run)?;
        if !dry_run && !report.is_empty() {
            info!("a file was applied");
        }
        Ok(report)
    }

    /// Makes everything so as a provider says, or nothing.
    pub(super) fn provide(
        &mut self,
        provider: &str,
        scopes: Vec<ApplyScope>,
    ) -> Result<(), Failure> {
        let origin = Origin(format!("provider {provider}"));
        for scope in self.declare(scopes, &origin, false)? {
            let netns = scope.netns.as_deref().unwrap_or("the node");
            for change in scope.changes {
                info!("{provider}: in {netns}: {change}");
            }
        }
        Ok(())
    }

    fn declare(
        &mut self,
        scopes: Vec<ApplyScope>,
        origin: &Origin,
        dry_run: bool,
    ) -> Result<Vec<wire::ScopeChanges>, Failure> {
        let targets = self.targets(scopes, origin)?;
        // Judged before anything is made.
        let mut report = Vec::new();
        for target in &targets {
            let (ops, _, lines) = self.plan(target.id, origin, target.declared.clone())?;
            ops.iter().try_for_each(support::op)?;
            if !lines.is_empty() {
                report.push(wire::ScopeChanges {
                    netns: target.name.clone(),
                    changes: lines,
                });
            }
        }
        if dry_run {
            return Ok(report);
        }
        let mut opened = Vec::new();
        let outcome = self.carry_out(targets, origin, &mut opened);
        if outcome.is_err() {
            opened.into_iter().for_each(|id| self.close(id));
        }
        outcome.map(|()| report)
    }

    fn carry_out(
        &mut self,
        targets: Vec<Target>,
        origin: &Origin,
        opened: &mut Vec<ScopeId>,
    ) -> Result<(), Failure> {
        let mut planned = Vec::new();
        for target in targets {
            let id = match (target.id, target.netns) {
                (Some(id), _) => id,
                (None, Some(netns)) if !target.declared.is_empty() => {
                    let id = self.open(netns)?;
                    opened.push(id);
                    id
                }
                (None, _) => continue,
            };
            let (ops, claims, _) = self.plan(Some(id), origin, target.declared)?;
            if !ops.is_empty() || Some(&claims) != self.claims(id) {
                planned.push(Planned {
                    scope: id,
                    ops,
                    claims,
                });
            }
        }
        if !planned.is_empty() {
            self.change(planned)?;
        }
        Ok(())
    }

    /// The scopes that the file names, and those that it no longer names and still claims something in.
    fn targets(&self, scopes: Vec<ApplyScope>, origin: &Origin) -> Result<Vec<Target>, Failure> {
        let mut targets: Vec<Target> = Vec::new();
        for ApplyScope {
            name,
            netns,
            declared,
        } in scopes
        {
            if targets
                .iter()
                .any(|there| there.netns.as_ref() == Some(&netns))
            {
                let name = name.unwrap_or_default();
                return Err(Failure::new(
                    FailureKind::Invalid,
                    format!("the scope {name} is the same namespace as another one of this file"),
                )
                .hint("put all of its services in one place"));
            }
            targets.push(Target {
                name,
                id: self.find(&netns),
                netns: Some(netns),
                declared,
            });
        }
        for (id, known) in &self.journal.scopes {
            let named = targets.iter().any(|target| target.id == Some(*id));
            let claimed = known.own.claims.files().contains_key(origin);
            if !named && claimed && self.scopes.contains_key(id) {
                let (name, declared) = (Some(known.netns.label.clone()), Declared::default());
                targets.push(Target {
                    name,
                    id: Some(*id),
                    netns: None,
                    declared,
                });
            }
        }
        Ok(targets)
    }

    /// What a file makes of a scope, or of a new one.
    fn plan(
        &self,
        id: Option<ScopeId>,
        origin: &Origin,
        declared: Declared,
    ) -> Result<(Vec<Op>, Claims, Vec<String>), Failure> {
        let empty = Table::new();
        let there = id.map_or(&empty, |id| &self.scopes[&id].table);
        let none = Claims::default();
        let claims = id.and_then(|id| self.claims(id)).unwrap_or(&none);
        let (wanted, claims) = claims.declare(origin, declared, there)?;
        Ok((diff(there, &wanted), claims, changes(there, &wanted)))
    }
}
