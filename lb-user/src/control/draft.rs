//! What some commands, one after the other, would make of a table.

use super::{Command, Op, Patch};
use crate::model::{ServiceKey, Table, TableError};

/// A table with commands tried on it. Only what they touch is copied, so that trying costs what they cost and not what
/// the table holds.
#[derive(Debug)]
pub struct Draft<'t> {
    table: &'t Table,
    before: Patch,
    /// What was touched, as it would be.
    part: Table,
}

impl<'t> Draft<'t> {
    /// One of this table, with nothing tried yet.
    #[must_use]
    pub fn new(table: &'t Table) -> Self {
        Self {
            table,
            before: Patch::default(),
            part: Table::new(),
        }
    }

    /// The operations that do a command after those before it; nothing is tried of one that fails, or of which `judge`
    /// refuses an operation.
    ///
    /// # Errors
    /// It does not fit the table as those before it would leave it, or is refused.
    pub fn command<E: From<TableError>>(
        &mut self,
        command: &Command,
        judge: impl Fn(&Op) -> Result<(), E>,
    ) -> Result<Vec<Op>, E> {
        match command {
            Command::AddService(service) => self.touch(&service.key)?,
            Command::EditService { key, .. } | Command::RemoveService(key) => self.touch(key)?,
            Command::AddServer { service, .. }
            | Command::EditServer { service, .. }
            | Command::RemoveServer { service, .. } => self.touch(service)?,
            Command::AddMark(_) | Command::RemoveMark(_) => {
                if self.before.marks.is_none() {
                    self.before.marks = Some(self.table.marks().to_vec());
                    self.part.set_marks(self.table.marks().to_vec())?;
                }
            }
            Command::Flush => {
                let keys = self.table.services().map(|service| service.key);
                keys.collect::<Vec<_>>()
                    .iter()
                    .try_for_each(|key| self.touch(key))?;
            }
            Command::EditSettings(_) => {
                if self.before.settings.is_none() {
                    self.before.settings = Some(self.table.settings().clone());
                    self.part.set_settings(self.table.settings().clone())?;
                }
            }
        }
        let ops = command.ops(&self.part)?;
        ops.iter().try_for_each(judge)?;
        // Of several each removes another service, which cannot fail.
        ops.iter().try_for_each(|op| op.apply_to(&mut self.part))?;
        Ok(ops)
    }

    /// What the commands touch, before and after them.
    #[must_use]
    pub fn finish(self) -> (Patch, Patch) {
        let after = self.before.as_of(&self.part);
        (self.before, after)
    }

    fn touch(&mut self, key: &ServiceKey) -> Result<(), TableError> {
        if self.before.services.contains_key(key) {
            return Ok(());
        }
        let there = self.table.service(key).cloned();
        if let Some(service) = &there {
            self.part.add_service(service.clone())?;
        }
        self.before.services.insert(*key, there);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::{server, table};
    use crate::model::Service;

    fn any(_: &Op) -> Result<(), TableError> {
        Ok(())
    }

    #[test]
    fn commands_build_on_those_before_them_and_one_that_fails_leaves_nothing() {
        let there =
            table("tcp:10.0.0.1:80 rr 10.1.0.1:80/1; tcp:10.0.0.2:80 rr; tcp:10.0.0.3:80 rr");
        let key = |text: &str| text.parse::<ServiceKey>().unwrap();
        let [first, second, new] =
            ["tcp:10.0.0.1:80", "tcp:10.0.0.2:80", "tcp:10.0.0.9:80"].map(key);
        let add = |service, text| Command::AddServer {
            service,
            server: server(&service, text),
        };
        let commands = [
            Command::RemoveService(first),
            add(first, "10.1.0.5:80/1"),
            Command::AddService(Service::new(new, "wrr".parse().unwrap())),
            add(new, "10.1.0.7:80/1"),
            add(new, "10.1.0.7:80/2"),
            add(second, "10.1.0.8:80/1"),
        ];
        let mut draft = Draft::new(&there);
        let outcomes = commands
            .each_ref()
            .map(|command| draft.command(command, any));
        let refused: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
        assert_eq!(refused, [false, true, false, false, true, false]);

        let mut made = there.clone();
        for op in outcomes.iter().flatten().flatten() {
            op.apply_to(&mut made).unwrap();
        }
        let (before, after) = draft.finish();
        assert_eq!(after.applied_to(&there).unwrap(), made);
        assert_eq!(before.applied_to(&made).unwrap(), there);
        // The third service was never looked at.
        assert_eq!(before.services.len(), 3);
    }

    #[test]
    fn nothing_is_tried_of_what_is_refused() {
        let there = Table::new();
        let mut draft = Draft::new(&there);
        let key: ServiceKey = "tcp:10.0.0.9:80".parse().unwrap();
        let add = Command::AddService(Service::new(key, "rr".parse().unwrap()));
        let refused = |_: &Op| Err(TableError::NoSuchService(key));
        assert!(draft.command(&add, refused).is_err());
        let (before, after) = draft.finish();
        assert_eq!(
            (&before.services[&key], &after.services[&key]),
            (&None, &None)
        );
    }

    #[test]
    fn a_flush_removes_what_was_added_before_it_too() {
        let there = table("tcp:10.0.0.1:80 rr; mark 7");
        let mut draft = Draft::new(&there);
        let new = Service::new("tcp:10.0.0.9:80".parse().unwrap(), "rr".parse().unwrap());
        draft.command(&Command::AddService(new), any).unwrap();
        assert_eq!(draft.command(&Command::Flush, any).unwrap().len(), 2);
        let (_, after) = draft.finish();
        assert_eq!(after.applied_to(&there).unwrap(), table("mark 7"));
    }
}
