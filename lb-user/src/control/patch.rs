//! What a list of operations touches.

use std::collections::BTreeMap;

use super::Op;
use crate::model::{MarkRule, Service, ServiceKey, Settings, Table, TableError};

/// Some entries of a table, whole, as they are at one moment: of the services also that they are not there.
///
/// Two of them, taken before and after, are what the journal keeps of a change: enough to finish or to undo it from
/// whatever state it was left in, and only as large as the change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    /// Services, or that there is none by this key.
    pub services: BTreeMap<ServiceKey, Option<Service>>,
    /// The mark rules, if they are touched.
    pub marks: Option<Vec<MarkRule>>,
    /// The settings, if they are touched.
    pub settings: Option<Settings>,
}

impl Patch {
    /// The entries of `table` that `ops` touch.
    #[must_use]
    pub fn touched(ops: &[Op], table: &Table) -> Self {
        let mut patch = Self::default();
        for op in ops {
            let key = match op {
                Op::AddService(service) | Op::EditService(service) => service.key,
                Op::RemoveService(key) => *key,
                Op::AddServer { service, .. }
                | Op::EditServer { service, .. }
                | Op::RemoveServer { service, .. } => *service,
                Op::SetMarkRules(_) => {
                    patch.marks.get_or_insert_with(|| table.marks().to_vec());
                    continue;
                }
                Op::SetSettings(_) => {
                    patch
                        .settings
                        .get_or_insert_with(|| table.settings().clone());
                    continue;
                }
            };
            patch
                .services
                .entry(key)
                .or_insert_with(|| table.service(&key).cloned());
        }
        patch
    }

    /// What `ops` touch of `table`, before and after them. Only that is copied, so that the cost is that of the change
    /// and not of the table.
    ///
    /// # Errors
    /// An operation does not fit the table.
    pub fn around(ops: &[Op], table: &Table) -> Result<(Self, Self), TableError> {
        let before = Self::touched(ops, table);
        let mut part = before.applied_to(&Table::new())?;
        ops.iter().try_for_each(|op| op.apply_to(&mut part))?;
        let after = Self::touched(ops, &part);
        Ok((before, after))
    }

    /// The same entries as they are in `table`.
    #[must_use]
    pub fn as_of(&self, table: &Table) -> Self {
        let keys = self.services.keys();
        Self {
            services: keys
                .map(|key| (*key, table.service(key).cloned()))
                .collect(),
            marks: self.marks.as_ref().map(|_| table.marks().to_vec()),
            settings: self.settings.as_ref().map(|_| table.settings().clone()),
        }
    }

    /// `table` with these entries as they are here.
    ///
    /// # Errors
    /// The entries do not fit together; not possible for a patch that was taken from a table.
    pub fn applied_to(&self, table: &Table) -> Result<Table, TableError> {
        let mut table = table.clone();
        for (key, service) in &self.services {
            if table.service(key).is_some() {
                table.remove_service(key)?;
            }
            if let Some(service) = service {
                table.add_service(service.clone())?;
            }
        }
        if let Some(marks) = &self.marks {
            table.set_marks(marks.clone())?;
        }
        if let Some(settings) = &self.settings {
            table.set_settings(settings.clone())?;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::diff;
    use crate::control::testing::table_strategy;

    proptest! {
        /// The whole point: from any step of a change, both ends can be reached.
        #[test]
        fn both_ends_can_be_reached_from_every_step(old in table_strategy(), new in table_strategy()) {
            let ops = diff(&old, &new);
            let mut after = old.clone();
            ops.iter().for_each(|op| op.apply_to(&mut after).unwrap());
            let (undo, redo) = Patch::around(&ops, &old).unwrap();
            prop_assert_eq!(&redo, &Patch::touched(&ops, &after));
            let mut table = old.clone();
            for step in 0..=ops.len() {
                for (patch, end) in [(&undo, &old), (&redo, &after)] {
                    let target = patch.applied_to(&table).unwrap();
                    prop_assert_eq!(&target, end);
                    let mut walked = table.clone();
                    diff(&table, &target).iter().for_each(|op| op.apply_to(&mut walked).unwrap());
                    prop_assert_eq!(diff(&walked, end), vec![]);
                }
                if let Some(op) = ops.get(step) {
                    op.apply_to(&mut table).unwrap();
                }
            }
        }
    }
}
