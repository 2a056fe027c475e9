//! Carries commands out, and writes what they have to say.

use std::io::{BufRead, Write};

use super::command::Command;
use super::failure::{Failure, NOT_THERE};
use super::help;
use super::ipvs::{Change, Ipvs, IpvsError};
use super::lines::Lines;
use super::listing;
use super::messages::Asked;
use super::names::Names;
use super::parse::parse;
use super::save;

/// ipvsadm with all that it touches.
pub struct Front<'a> {
    /// What it was called as; messages say it.
    pub program: &'a str,
    /// Whom it asks for names.
    pub names: &'a dyn Names,
    /// What commands act on.
    pub ipvs: &'a mut dyn Ipvs,
    /// What `--restore` reads.
    pub input: &'a mut dyn BufRead,
    /// Where listings go.
    pub out: &'a mut dyn Write,
    /// Where complaints go.
    pub err: &'a mut dyn Write,
}

impl Front<'_> {
    /// Carries out a command line, given without the program's name; the exit status.
    pub fn run(&mut self, words: &[String]) -> u8 {
        let outcome = if words.is_empty() {
            self.list_all()
        } else {
            self.command(words)
        };
        let status = match outcome {
            Ok(status) => status,
            Err(failure) => {
                self.complain(&failure);
                failure.status
            }
        };
        match self.out.flush() {
            Ok(()) => status,
            Err(error) => {
                let failure = Failure::from(error);
                self.complain(&failure);
                failure.status
            }
        }
    }

    /// Removes all services, then carries out what the input says, without lines that begin with `#`.
    pub fn restore_anew(&mut self) -> u8 {
        if let Err(error) = self.ipvs.flush() {
            let failure = Failure::refused(Asked::Other, &error);
            self.complain(&failure);
            if matches!(error, IpvsError::Unreachable(_)) {
                return failure.status;
            }
        }
        let status = self.restore(|line| !line.starts_with('#'));
        let status = status.unwrap_or_else(|failure| {
            self.complain(&failure);
            failure.status
        });
        match self.out.flush() {
            Ok(()) => status,
            Err(_) => 1,
        }
    }

    fn complain(&mut self, failure: &Failure) {
        if !failure.text.is_empty() {
            // Without stderr there is nobody to tell.
            let _ = writeln!(self.err, "{}", failure.text);
        }
    }

    fn list_all(&mut self) -> Result<u8, Failure> {
        let command = Command::List {
            service: None,
            format: Default::default(),
        };
        self.execute(&command).map(|()| 0)
    }

    /// The command line of the program; the exit status.
    fn command(&mut self, words: &[String]) -> Result<u8, Failure> {
        match parse(self.program, words, self.names)? {
            Command::Restore => self.restore(|_| true),
            command => self.execute(&command).map(|()| 0),
        }
    }

    /// Carries out a line after the other. The status is the last one's, unless something was refused for bpvs's own
    /// reasons: that must not look as if all had been done.
    fn restore(&mut self, counts: impl Fn(&str) -> bool) -> Result<u8, Failure> {
        let mut lines = Lines::default();
        let mut standing = Standing::default();
        // Changes are asked for together, as many as stand one behind the other in what was read.
        let mut changes = Vec::new();
        loop {
            let some = lines
                .next(self.input)
                .map_err(|error| Failure::fatal(format!("cannot read: {error}")))?;
            if some.is_empty() {
                return Ok(standing.status());
            }
            for line in some {
                let words: Vec<String> = line
                    .split([' ', '\t', '\n', '\r'])
                    .filter(|word| !word.is_empty() && *word != "ipvsadm")
                    .map(str::to_owned)
                    .collect();
                if words.is_empty() || !counts(&line) {
                    continue;
                }
                match parse(self.program, &words, self.names) {
                    Ok(Command::Change(change)) => changes.push(change),
                    other => {
                        self.restore_changes(&mut changes, &mut standing)?;
                        let outcome = match other {
                            Ok(Command::Restore) => Err(Failure::no_command(self.program)),
                            Ok(command) => self.execute(&command),
                            Err(failure) => Err(failure),
                        };
                        self.stand(outcome, &mut standing)?;
                    }
                }
            }
            self.restore_changes(&mut changes, &mut standing)?;
        }
    }

    /// Makes the changes of some lines, and says of each what is to be said.
    fn restore_changes(
        &mut self,
        changes: &mut Vec<Change>,
        standing: &mut Standing,
    ) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let outcomes = self.ipvs.change(changes);
        for (change, outcome) in changes.drain(..).zip(outcomes) {
            self.stand(judged(&change, outcome), standing)?;
        }
        Ok(())
    }

    /// A line was carried out, or not.
    ///
    /// # Errors
    /// The program is to end with it.
    fn stand(
        &mut self,
        outcome: Result<(), Failure>,
        standing: &mut Standing,
    ) -> Result<(), Failure> {
        match outcome {
            Err(failure) if failure.ends => return Err(failure),
            Err(failure) => {
                self.complain(&failure);
                standing.last = failure.status;
                if failure.status == NOT_THERE || failure.status == 1 {
                    standing.refused = Some(failure.status);
                }
            }
            Ok(()) => standing.last = 0,
        }
        Ok(())
    }

    fn execute(&mut self, command: &Command) -> Result<(), Failure> {
        let refused = |asked| move |error: IpvsError| Failure::refused(asked, &error);
        let ipvs = &mut *self.ipvs;
        match command {
            // They end the program, also in the middle of --restore.
            Command::Help => {
                self.out.write_all(help::help(self.program).as_bytes())?;
                return Err(Failure::silent(0));
            }
            Command::Version => {
                self.out.write_all(help::VERSION.as_bytes())?;
                return Err(Failure::silent(0));
            }
            Command::Change(change) => {
                let outcome = ipvs.change(std::slice::from_ref(change)).pop();
                judged(change, outcome.unwrap_or(Ok(())))?;
            }
            Command::Clear => ipvs.flush().map_err(refused(Asked::Other))?,
            Command::Zero(service) => {
                ipvs.zero(service.as_ref())
                    .map_err(refused(Asked::Service))?;
            }
            Command::Set(timeouts) => {
                ipvs.set_timeouts(timeouts).map_err(refused(Asked::Other))?;
            }
            Command::StartDaemon(daemon) => ipvs
                .start_daemon(daemon)
                .map_err(refused(Asked::StartDaemon))?,
            Command::StopDaemon(role) => {
                ipvs.stop_daemon(*role)
                    .map_err(refused(Asked::StopDaemon))?;
            }
            Command::List { .. }
            | Command::ListConnections(_)
            | Command::ListTimeouts
            | Command::ListDaemons
            | Command::Save(_) => {
                let text = self
                    .list(command)
                    .map_err(|error| Failure::unlisted(&error))?;
                self.out.write_all(text.as_bytes())?;
            }
            // Told apart by whoever calls this.
            Command::Restore => {}
        }
        Ok(())
    }

    /// What a command that lists has to say.
    fn list(&mut self, command: &Command) -> Result<String, IpvsError> {
        let (ipvs, names) = (&mut *self.ipvs, self.names);
        Ok(match command {
            Command::List {
                service: None,
                format,
            } => {
                let version = ipvs.version()?;
                listing::all(version, ipvs.services()?, *format, names)
            }
            Command::List {
                service: Some(id),
                format,
            } => listing::one(ipvs.service(id)?, *format, names),
            Command::ListConnections(format) => {
                listing::connections(&ipvs.connections()?, *format, names)
            }
            Command::ListTimeouts => listing::timeouts(ipvs.timeouts()?),
            Command::ListDaemons => listing::daemons(&ipvs.daemons()?),
            Command::Save(format) => save::save(ipvs.services()?, *format, names),
            _ => String::new(),
        })
    }
}

/// What the lines so far come to.
#[derive(Default)]
struct Standing {
    last: u8,
    refused: Option<u8>,
}

impl Standing {
    fn status(&self) -> u8 {
        self.refused.unwrap_or(self.last)
    }
}

/// What is said of a change.
fn judged(change: &Change, outcome: Result<(), IpvsError>) -> Result<(), Failure> {
    outcome.map_err(|error| Failure::refused(Asked::by(change), &error))
}

impl std::fmt::Debug for Front<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}
