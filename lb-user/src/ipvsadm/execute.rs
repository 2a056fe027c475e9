//! Carries commands out, and writes what they have to say.

use std::io::{BufRead, Write};

use super::command::Command;
use super::failure::{Failure, NOT_THERE};
use super::help;
use super::ipvs::{Ipvs, IpvsError};
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
            self.command(words, false)
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

    /// One command line, from the program's arguments or from a line of `--restore`; the exit status.
    fn command(&mut self, words: &[String], restoring: bool) -> Result<u8, Failure> {
        let command = parse(self.program, words, self.names)?;
        match command {
            Command::Restore if restoring => Err(Failure::no_command(self.program)),
            Command::Restore => self.restore(|_| true),
            command => self.execute(&command).map(|()| 0),
        }
    }

    /// Carries out a line after the other. The status is the last one's, unless something was refused for bpvs's own
    /// reasons: that must not look as if all had been done.
    fn restore(&mut self, counts: impl Fn(&str) -> bool) -> Result<u8, Failure> {
        let (mut status, mut refused) = (0, None);
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.input.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(Failure::fatal(format!("cannot read: {error}"))),
            }
            let text = String::from_utf8_lossy(&line);
            let words: Vec<String> = text
                .split([' ', '\t', '\n', '\r'])
                .filter(|word| !word.is_empty() && *word != "ipvsadm")
                .map(str::to_owned)
                .collect();
            if words.is_empty() || !counts(&text) {
                continue;
            }
            status = match self.command(&words, true) {
                Ok(status) => status,
                Err(failure) if failure.ends => return Err(failure),
                Err(failure) => {
                    self.complain(&failure);
                    if failure.status == NOT_THERE || failure.status == 1 {
                        refused = Some(failure.status);
                    }
                    failure.status
                }
            };
        }
        Ok(refused.unwrap_or(status))
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
            Command::AddService(spec) => {
                ipvs.add_service(spec).map_err(refused(Asked::AddService))?;
            }
            Command::EditService(spec) => {
                ipvs.edit_service(spec).map_err(refused(Asked::Service))?;
            }
            Command::DeleteService(id) => {
                ipvs.delete_service(id).map_err(refused(Asked::Service))?;
            }
            Command::AddServer(service, spec) => ipvs
                .add_destination(service, spec)
                .map_err(refused(Asked::AddDestination))?,
            Command::EditServer(service, spec) => ipvs
                .edit_destination(service, spec)
                .map_err(refused(Asked::Destination))?,
            Command::DeleteServer(service, id) => ipvs
                .delete_destination(service, id)
                .map_err(refused(Asked::Destination))?,
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

impl std::fmt::Debug for Front<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}
