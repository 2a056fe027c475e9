//! The root suite on other kernels: Debian's stock ones, in QEMU guests.
//!
//! This machine's own kernel is one; users have others. 6.1 is the oldest that we support, without
//! TCX, and with another verifier. `xtask/guest/run` boots it over this machine's files, so that
//! what is built here runs there as it is.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    bpf_stats, console,
    machine::{self, release},
    setup,
    stage::{Outcome, Stages},
};

/// A kernel, and the names of its stages.
struct Guest {
    kernel: &'static str,
    prepare: &'static str,
    verifier: &'static str,
    suite: &'static str,
}

const GUESTS: [Guest; 2] = [
    Guest {
        kernel: "6.1",
        prepare: "guest 6.1",
        verifier: "guest 6.1: verifier",
        suite: "guest 6.1: end to end",
    },
    Guest {
        kernel: "6.12",
        prepare: "guest 6.12",
        verifier: "guest 6.12: verifier",
        suite: "guest 6.12: end to end",
    },
];

/// How long a guest may take for the suite: without the processor's help it is several times slower
/// than this machine.
const SUITE: Duration = Duration::from_secs(60 * 60);

/// The differential suite, on one kernel: IPVS is the same on all of them.
const DIFFERENTIAL: &str = "guest 6.1: differential";

/// How long it may take.
const DIFFERENTIAL_TIME: Duration = Duration::from_secs(45 * 60);

/// The same where bpvs handles in XDP what it can, on a kernel that has XDP on a veth. Loading XDP takes as long as a script.
const WITH_XDP: &str = "guest 6.12: differential, with XDP";
const WITH_XDP_TIME: Duration = Duration::from_secs(100 * 60);

/// ipvsadm held against the real one, on that kernel too.
const IPVSADM: &str = "guest 6.1: ipvsadm";

/// How long it may take.
const IPVSADM_TIME: Duration = Duration::from_secs(20 * 60);

/// How long it may take to load the programs once.
const VERIFIER: Duration = Duration::from_secs(5 * 60);

/// A Swarm by the kernel's IPVS and by bpvs, on the newest kernel.
const COMPARISON: &str = "guest 6.12: a Swarm by IPVS and by bpvs";

/// How long it may take, and a rolling update in it.
const COMPARISON_TIME: Duration = Duration::from_secs(40 * 60);
const UPDATE_TIME: Duration = Duration::from_secs(4 * 60);

/// By how much the suite's patience with programs is multiplied in a guest.
const SLOW: &str = "BPVS_LAB_SLOW=8";

/// Debian's kernels have all that the suite's cases ask for: none may be left out there.
const COMPLETE: &str = "BPVS_LAB_COMPLETE=1";

/// The random scripts of the differential suite that every run plays, and how long they may take.
const BRIEF: &str = "guest 6.1: random scripts against IPVS";
const BRIEF_SEEDS: &str = "1..20";
const BRIEF_TIME: Duration = Duration::from_secs(20 * 60);

/// How `xtask/guest/run` says that apt offers no such kernel.
const NOT_OFFERED: i32 = 126;

/// Runs what every run needs of a guest: bpvs against the kernel's IPVS, which this machine need not
/// have. Without apt there are no kernels, and it is left out.
pub(crate) fn brief(stages: &mut Stages) {
    if !setup::has_guests() {
        return stages.leave_out(
            BRIEF,
            "no apt here: guests run kernels out of Debian's packages",
        );
    }
    stages.run(BRIEF, || {
        setup::for_guests()?;
        // Not every Debian release offers it, and what is compared is this one's IPVS.
        let [oldest, ..] = &GUESTS;
        if !oldest.fetch()? {
            return Ok(Outcome::LeftOut(oldest.not_offered()));
        }
        oldest.differential(BRIEF_TIME, &["--seeds", BRIEF_SEEDS, "--steps", "60"])
    });
}

/// Notes that it does not run, and why.
pub(crate) fn leave_out_brief(stages: &mut Stages, reason: &str) {
    stages.leave_out(BRIEF, reason);
}

/// Runs all stages of all guests; `lab` and `bpvs` have been built.
pub(crate) fn run(stages: &mut Stages) {
    stages.run("guests: setup", || {
        setup::for_guests().map(|()| Outcome::Passed)
    });
    for guest in &GUESTS {
        stages.run_after("guests: setup", guest.prepare, || guest.prepare());
        stages.run_after(guest.prepare, guest.verifier, || guest.verifier());
        stages.run_after(guest.prepare, guest.suite, || guest.suite());
    }
    let [oldest, newest] = &GUESTS;
    stages.run_after(oldest.prepare, DIFFERENTIAL, || {
        oldest.differential(DIFFERENTIAL_TIME, &[])
    });
    stages.run_after(newest.prepare, WITH_XDP, || {
        newest.differential(WITH_XDP_TIME, &["--xdp"])
    });
    stages.run_after(oldest.prepare, IPVSADM, || oldest.ipvsadm());
    let [.., newest] = &GUESTS;
    stages.run_after(newest.prepare, COMPARISON, || {
        console::run(&mut newest.swarm(1, false)).map(|()| Outcome::Passed)
    });
}

/// Notes that none of them runs, and why.
pub(crate) fn leave_out(stages: &mut Stages, reason: &str) {
    for guest in &GUESTS {
        stages.leave_out(guest.verifier, reason);
        stages.leave_out(guest.suite, reason);
    }
    stages.leave_out(DIFFERENTIAL, reason);
    stages.leave_out(WITH_XDP, reason);
    stages.leave_out(IPVSADM, reason);
    stages.leave_out(COMPARISON, reason);
}

/// Has a Swarm balanced by the kernel's IPVS and by bpvs ([`crate::demo`]); `lab` and `bpvs` have been built.
pub(crate) fn compare_swarm(updates: u32, instructions: bool) -> Result<()> {
    setup::for_guests()?;
    let [.., newest] = &GUESTS;
    console::run(&mut newest.swarm(updates, instructions))
}

/// Counts instructions on these kernels ([`crate::bench`]); `lab` and `bpvs` have been built.
pub(crate) fn count_instructions(
    kernels: &[String],
    arguments: &[String],
    time: Duration,
) -> Result<()> {
    setup::for_guests()?;
    for kernel in kernels {
        let Some(guest) = GUESTS.iter().find(|guest| guest.kernel == kernel) else {
            let known: Vec<&str> = GUESTS.iter().map(|guest| guest.kernel).collect();
            bail!(
                "no guest kernel {kernel}: there are {}",
                known.join(" and ")
            );
        };
        // Those that stand on the guest itself, then the director alone: a guest with cables.
        for (what, far_end) in [("--instructions", false), ("--alone", true)] {
            // A choice is among those of the first.
            if far_end && arguments.iter().any(|word| word == "--only") {
                continue;
            }
            let mut command = guest.command();
            command.args(["-I", "-t", &time.as_secs().to_string()]);
            if far_end {
                command.arg("-N").arg(release("lab"));
            }
            let status = command
                .args(["-e", SLOW, "--"])
                .arg(release("lab"))
                .args(["bench", what])
                .arg("--bpvs")
                .arg(release("bpvs"))
                .args(arguments)
                .status()
                .context("cannot start xtask/guest/run")?;
            if !status.success() {
                bail!("counting instructions on {kernel} failed ({status})");
            }
        }
    }
    Ok(())
}

impl Guest {
    fn command(&self) -> Command {
        let mut command = Command::new(machine::root().join("xtask/guest/run"));
        command.current_dir(machine::root());
        command.args(["-k", self.kernel, "-d"]);
        command.arg(machine::target().join("guests"));
        command
    }

    fn prepare(&self) -> Result<Outcome> {
        if !self.fetch()? {
            bail!("{}", self.not_offered());
        }
        Ok(Outcome::Passed)
    }

    /// Fetches what it needs and is not there; `false`: apt offers no such kernel.
    fn fetch(&self) -> Result<bool> {
        let status = self
            .command()
            .arg("--prepare")
            .status()
            .context("cannot start xtask/guest/run")?;
        match status.code() {
            Some(0) => Ok(true),
            Some(NOT_OFFERED) => Ok(false),
            _ => bail!("`xtask/guest/run --prepare` failed ({status})"),
        }
    }

    fn not_offered(&self) -> String {
        format!("this machine's apt offers no kernel {}", self.kernel)
    }

    fn verifier(&self) -> Result<Outcome> {
        let output = self
            .command()
            .args(["-t", &VERIFIER.as_secs().to_string(), "--"])
            .arg(release("lab"))
            .args(["bpf-stats", "--json"])
            .output()
            .context("cannot start xtask/guest/run")?;
        if !output.status.success() {
            bail!(
                "`lab bpf-stats --json` failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        bpf_stats::judge(&String::from_utf8_lossy(&output.stdout))
    }

    fn suite(&self) -> Result<Outcome> {
        let mut command = self.command();
        command
            .args(["-t", &SUITE.as_secs().to_string(), "-e", SLOW])
            .args(["-e", COMPLETE, "--"])
            .arg(release("lab"))
            // Container engines without the processor's help take minutes for each case.
            .args(["test", "--without", "swarm/"])
            .stdout(Stdio::piped());
        watch(command)
    }

    /// The kernel's IPVS against bpvs. Its scripts wait and look at timeouts, so this guest has a
    /// clock that does not depend on how busy the machine is.
    fn differential(&self, time: Duration, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.command();
        command
            .args(["-I", "-t", &time.as_secs().to_string()])
            .args(["-e", SLOW, "--"])
            .arg(release("lab"))
            .arg("differential")
            .args(arguments)
            .stdout(Stdio::piped());
        watch(command)
    }

    /// The same Swarm by the kernel's IPVS and by bpvs.
    fn swarm(&self, updates: u32, instructions: bool) -> Command {
        let time = COMPARISON_TIME + updates * UPDATE_TIME;
        let mut command = self.command();
        command.args(["-t", &time.as_secs().to_string(), "-e", SLOW]);
        // Nothing is compared there that depends on a second processor.
        command.args(instructions.then_some("-I"));
        command.arg("--").arg(release("lab")).arg("swarm-compare");
        command.args(["--updates", &updates.to_string()]);
        command.args(instructions.then_some("--instructions"));
        command
    }

    /// The same tables for bpvs's ipvsadm and the real one.
    fn ipvsadm(&self) -> Result<Outcome> {
        let mut command = self.command();
        command
            .args(["-t", &IPVSADM_TIME.as_secs().to_string(), "--"])
            .arg(release("lab"))
            .arg("ipvsadm-parity")
            .stdout(Stdio::piped());
        watch(command)
    }
}

/// Runs a suite, shows what it says, and gathers what failed.
fn watch(mut command: Command) -> Result<Outcome> {
    let mut suite = command.spawn().context("cannot start xtask/guest/run")?;
    let mut failed = Vec::new();
    if let Some(said) = suite.stdout.take() {
        for line in BufReader::new(said).lines() {
            let line = line.context("the suite's output")?;
            failed.extend(line.strip_prefix("failed: ").map(str::to_owned));
            eprintln!("{line}");
        }
    }
    let status = suite.wait().context("the guest")?;
    Ok(match (status.success(), failed.is_empty()) {
        (true, _) => Outcome::Passed,
        (false, false) => Outcome::Failed(failed.join(", ")),
        (false, true) => Outcome::Failed(format!("the suite did not come to its end ({status})")),
    })
}
