//! End to end: real sockets, real networks, the real program. Each case has a lab of its own and
//! says which mistake it catches.

mod changes;
mod counters;
mod director;
mod icmp;
mod itself;
mod networks;
mod offload;
mod offload_errors;
mod once;
mod packets;
mod persistence;
mod scale;
mod schedulers;
mod scopes;
mod settings;
mod setup;
mod short_ways;
mod socket;
mod socket_ends;
mod statistics;
mod survival;
mod swarm;
mod traffic;
mod vlan;
mod xdp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::daemon::{Daemon, find_bpvs};
use crate::features;
use crate::host::Host;
use crate::lab::{Lab, lock};

/// Prints a line. Nobody reading any more is no failure: the cases still have to clean up.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

/// Env variable: set to 1 where the kernel has everything that the cases ask for, as the guests'
/// have. A case that is left out there is a failure.
const COMPLETE: &str = "BPVS_LAB_COMPLETE";

/// One case.
pub struct Case {
    /// Its name: `area/what`.
    pub name: &'static str,
    /// The mistake that it catches.
    pub catches: &'static str,
    /// Whether it takes longer than about 10 s.
    pub long: bool,
    /// The case itself.
    pub run: fn(&Context) -> Result<()>,
}

/// A case of usual length.
pub(crate) const fn case(
    name: &'static str,
    catches: &'static str,
    run: fn(&Context) -> Result<()>,
) -> Case {
    Case {
        name,
        catches,
        long: false,
        run,
    }
}

/// A case that only `--long` runs.
pub(crate) const fn long_case(
    name: &'static str,
    catches: &'static str,
    run: fn(&Context) -> Result<()>,
) -> Case {
    Case {
        name,
        catches,
        long: true,
        run,
    }
}

/// What a case is given.
#[derive(Debug, Default)]
pub struct Context {
    /// The bpvs program that was asked for.
    asked: Option<PathBuf>,
    keep: bool,
    labs: Mutex<Vec<Lab>>,
    notes: Mutex<Vec<String>>,
    skipped: Mutex<Option<String>>,
}

impl Context {
    /// A new lab. It stays until the case has ended, so that a failure can be explained from it.
    pub fn lab(&self) -> Result<Lab> {
        let lab = Lab::new()?;
        if self.keep {
            // Until the case has passed; its tasks have to know from the start.
            lab.keep();
        }
        lock(&self.labs).push(lab.clone());
        Ok(lab)
    }

    /// Starts a daemon on `host`.
    pub fn daemon(&self, lab: &Lab, host: &Host) -> Result<Daemon> {
        Daemon::start(lab, &self.bpvs()?, host, &[])
    }

    /// A figure worth reading in the run's output.
    pub fn note(&self, note: String) {
        lock(&self.notes).push(note);
    }

    /// Says that the case cannot be run here, and why; for what no build or kernel at hand has, and
    /// never for what merely fails. It is a failure where every case has to run (see [`COMPLETE`]).
    pub fn skip(&self, reason: &str) {
        *lock(&self.skipped) = Some(reason.to_owned());
    }

    /// Whether this kernel has interfaces of a kind, as `ip link add … type` calls it. Where it has
    /// not, the case is left out by this, and has nothing more to do.
    pub fn has_interfaces(&self, kind: &str) -> Result<bool> {
        let has = features::interfaces(&self.lab()?.host("features")?, kind)?;
        if !has {
            self.skip(&format!("this kernel has no {kind} interfaces"));
        }
        Ok(has)
    }

    /// The bpvs program.
    pub fn bpvs(&self) -> Result<PathBuf> {
        find_bpvs(self.asked.clone())
    }
}

/// Which cases to run.
#[derive(Debug, Default)]
pub struct Choice {
    /// Also those that take long.
    pub long: bool,
    /// Only those whose name contains this.
    pub filter: Option<String>,
    /// Not those whose name contains this.
    pub without: Option<String>,
    /// Leave the labs of a failing case standing.
    pub keep: bool,
}

/// The names of all cases, long ones too.
pub fn names() -> Vec<&'static str> {
    all().map(|case| case.name).collect()
}

fn all() -> impl Iterator<Item = &'static Case> {
    [
        itself::CASES,
        packets::CASES,
        schedulers::CASES,
        director::CASES,
        short_ways::CASES,
        traffic::CASES,
        icmp::CASES,
        offload::CASES,
        offload_errors::CASES,
        changes::CASES,
        scale::CASES,
        networks::CASES,
        counters::CASES,
        statistics::CASES,
        settings::CASES,
        persistence::CASES,
        once::CASES,
        vlan::CASES,
        xdp::CASES,
        scopes::CASES,
        socket::CASES,
        socket_ends::CASES,
        survival::CASES,
        swarm::CASES,
    ]
    .into_iter()
    .flatten()
}

impl Choice {
    fn cases(&self) -> impl Iterator<Item = &'static Case> {
        all()
            .filter(|case| match &self.filter {
                Some(text) => case.name.contains(text.as_str()),
                None => self.long || !case.long,
            })
            .filter(|case| {
                let without = self.without.as_deref();
                without.is_none_or(|text| !case.name.contains(text))
            })
    }
}

/// Prints the cases.
pub fn list(choice: &Choice) {
    for case in choice.cases() {
        say!("{:34} {}", case.name, case.catches);
    }
}

/// Runs the cases one after the other, a line each; whether all passed.
pub fn run(bpvs: Option<&PathBuf>, choice: &Choice) -> Result<bool> {
    let begin = Instant::now();
    let (mut passed, mut skipped, mut failed) = (0_u32, 0_u32, Vec::new());
    let complete = std::env::var(COMPLETE).is_ok_and(|value| value == "1");
    for case in choice.cases() {
        let context = Context {
            asked: bpvs.cloned(),
            keep: choice.keep,
            ..Context::default()
        };
        let start = Instant::now();
        // A panic is a failure of this case; the labs that it leaves are cleaned up below, as those
        // of any other.
        let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&context)))
            .unwrap_or_else(|_| Err(anyhow!("panicked")));
        let took = start.elapsed().as_secs_f32();
        if result.is_ok() {
            lock(&context.labs).iter().for_each(Lab::discard);
        }
        let skip = lock(&context.skipped).take();
        let result = match (&skip, result) {
            (Some(reason), Ok(())) if complete => Err(anyhow!(
                "left out where every case has to run ({COMPLETE}): {reason}"
            )),
            (_, result) => result,
        };
        match (result, skip) {
            (Ok(()), Some(reason)) => {
                skipped += 1;
                say!("skip   {:34} {took:6.2} s\n    {reason}", case.name);
            }
            (Ok(()), None) => {
                passed += 1;
                say!("ok     {:34} {took:6.2} s", case.name);
                lock(&context.notes)
                    .iter()
                    .for_each(|note| say!("       {note}"));
            }
            (Err(error), _) => {
                failed.push(case.name);
                say!(
                    "FAILED {:34} {took:6.2} s\n    {error:#}\n    it catches: {}",
                    case.name,
                    case.catches
                );
                explain(&context);
            }
        }
    }
    let skips = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    let took = begin.elapsed().as_secs_f32();
    say!(
        "\n{passed} passed, {} failed{skips} in {took:.1} s",
        failed.len()
    );
    for name in &failed {
        say!("failed: {name}");
    }
    Ok(failed.is_empty() && passed > 0)
}

/// What the daemons of a failed case have to say.
fn explain(context: &Context) {
    for lab in lock(&context.labs).iter() {
        for daemon in lab.daemons() {
            let mut sections = vec![("the daemon's last lines".to_owned(), daemon.log_tail(20))];
            if daemon.process().is_some() {
                for arguments in ["status", "list", "stats", "conns"] {
                    let said = daemon
                        .bpvs(daemon.host(), arguments)
                        .unwrap_or_else(|error| format!("{error:#}"));
                    let first: Vec<&str> = said.lines().take(30).collect();
                    sections.push((
                        format!("{}$ bpvs {arguments}", daemon.host().name()),
                        first.join("\n"),
                    ));
                }
            }
            for (title, text) in sections {
                say!(
                    "    {title}\n      {}",
                    text.trim().replace('\n', "\n      ")
                );
            }
        }
        if lab.is_kept() {
            say!(
                "    left standing (take it away with: lab clean)\n{}",
                crate::cli::how_to_enter(lab)
            );
        }
    }
}
