//! `cargo xtask setup`: what building and testing need, checked by asking for it, and installed
//! where that is possible.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::{
    cargo::Cargo,
    console::note,
    machine,
    toolchain::{Compiler, LINKER_LLVM, LINKER_VERSION, Missing, OLDEST_RUSTC, Search},
};

mod apt;
mod bpf_linker;

/// Debian's packages with a compiler that carries `core` for BPF.
const COMPILER: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Debian's packages to build bpf-linker, and to run it.
const LLVM: &[&str] = &["llvm-22-dev", "libllvm22"];

/// Programs that have to be there: name, Debian's packages, what for.
const PROGRAMS: [(&str, &[&str], &str); 5] = [
    ("cc", &["gcc", "libc6-dev"], "links every program"),
    ("ip", &["iproute2"], "looks at the lab's namespaces"),
    (
        "ping",
        &["iputils-ping"],
        "asks service addresses in demo and tests",
    ),
    ("curl", &["curl"], "calls services in demo and tests"),
    (
        "dockerd",
        &["docker.io"],
        "runs the Swarm in demo --swarm and tests",
    ),
];

/// The same for guests. Their kernels come from Debian's packages, too, as does QEMU where there is none, and are not
/// installed: `xtask/guest/run` unpacks them.
const GUEST_PROGRAMS: [(&str, &[&str], &str); 3] = [
    ("modprobe", &["kmod"], "loads their modules"),
    ("gzip", &["gzip"], "packs their initramfs"),
    (
        "ipvsadm",
        &["ipvsadm"],
        "tells their kernels' IPVS what bpvs is compared with",
    ),
];

/// What `cargo xtask bench` sets other ways up with.
const BENCH_PROGRAMS: [(&str, &[&str], &str); 2] = [
    ("iptables", &["iptables"], "an opponent of the benchmark"),
    ("nft", &["nftables"], "an opponent of the benchmark"),
];

/// The commands that bring what is missing.
const SETUP: &str = "cargo xtask setup";
const GUESTS: &str = "cargo xtask test --guests";
const BENCH: &str = "cargo xtask bench";

/// One thing that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    /// What is missing, in a few words.
    what: String,
    /// The packages that bring it, on Debian.
    packages: &'static [&'static str],
    /// What to do where there is no apt.
    elsewhere: String,
    /// What to type once that is done, if that is not all.
    then: Option<String>,
}

/// Makes sure that everything is there.
///
/// # Errors
///
/// When something is missing and cannot be brought; the message says what, and how to get it.
pub(crate) fn run() -> Result<()> {
    let search = Search::here(&machine::root());
    let needs = needs(&search)?;
    if needs.is_empty() {
        if let Ok(toolchain) = search.toolchain() {
            note(&format!(
                "setup: everything is there; BPF toolchain: {toolchain}"
            ));
        }
        return Ok(());
    }
    install(&search, &needs, SETUP)?;
    if let Err(Missing::Linker { .. }) = search.toolchain() {
        bpf_linker::install(&Cargo::find(&search)?)?;
    }
    confirm(&search, &self::needs(&search)?, SETUP)?;
    note("setup: done");
    Ok(())
}

/// Whether guests can be had at all.
pub(crate) fn has_guests() -> bool {
    machine::has_apt(&Search::here(&machine::root()))
}

/// Makes sure that everything for guests is there.
///
/// # Errors
///
/// As [`run`]; and where there is no apt, which guests have their kernels from.
pub(crate) fn for_guests() -> Result<()> {
    let search = Search::here(&machine::root());
    let needs = || programs(&search, &GUEST_PROGRAMS);
    if !needs().is_empty() {
        install(&search, &needs(), GUESTS)?;
        confirm(&search, &needs(), GUESTS)?;
    }
    if !machine::has_apt(&search) {
        bail!("no apt here: guests run kernels out of Debian's packages");
    }
    Ok(())
}

/// Brings the benchmark's opponents where that is possible; those that are missing are left out of it.
pub(crate) fn for_bench() {
    let search = Search::here(&machine::root());
    let needs = programs(&search, &BENCH_PROGRAMS);
    if needs.is_empty() {
        return;
    }
    if let Err(error) = install(&search, &needs, BENCH) {
        note(&format!("bench: without some opponents: {error:#}"));
    }
}

/// Installs the packages of what is missing.
fn install(search: &Search, needs: &[Need], command: &str) -> Result<()> {
    if !machine::is_root() {
        bail!("{}", report_here(search, needs, "not root", command));
    }
    if !machine::has_apt(search) {
        bail!("{}", report_here(search, needs, "no apt here", command));
    }
    apt::install(&wanted(needs))
}

/// Fails if something is still missing.
fn confirm(search: &Search, left: &[Need], command: &str) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let reason = "the packages were installed and did not bring it";
    bail!("{}", report_here(search, left, reason, command))
}

fn report_here(search: &Search, needs: &[Need], reason: &str, command: &str) -> String {
    report(needs, reason, command, |packages| {
        match machine::has_apt(search) {
            true => apt::absent(packages).unwrap_or_else(|_| packages.to_vec()),
            false => packages.to_vec(),
        }
    })
}

/// Those of these programs that are missing.
fn programs(search: &Search, programs: &[(&str, &'static [&'static str], &str)]) -> Vec<Need> {
    programs
        .iter()
        .filter(|(program, ..)| !machine::has(search, program))
        .map(|&(program, packages, why)| Need {
            what: format!("the program `{program}` ({why})"),
            packages,
            elsewhere: format!("install {program} by your system's packages"),
            then: None,
        })
        .collect()
}

/// What is missing on this machine.
fn needs(search: &Search) -> Result<Vec<Need>> {
    let mut needs = programs(search, &PROGRAMS);
    match search.toolchain() {
        Ok(_) => {}
        Err(Missing::Compiler) => {
            needs.push(compiler());
            // Once there is a compiler it will want a linker: both are said at once.
            if search.linkers().is_empty() {
                needs.push(linker(None));
            }
        }
        Err(Missing::Linker { compiler }) => {
            // Our linker is built for one LLVM. A newer compiler needs one of its own; where apt
            // can bring a compiler that fits, that is simpler.
            if compiler.llvm > LINKER_LLVM {
                needs.push(self::compiler());
            }
            needs.push(linker(Some(&compiler)));
        }
        Err(choice @ Missing::Choice { .. }) => bail!("{choice}"),
    }
    if Cargo::find(search).is_err() {
        needs.push(Need {
            what: format!("rustc {OLDEST_RUSTC} or newer, with its cargo, to build bpvs"),
            packages: COMPILER,
            elsewhere: "rustup update stable".to_owned(),
            then: None,
        });
    }
    Ok(needs)
}

fn compiler() -> Need {
    Need {
        what: format!("a Rust compiler with `core` for BPF, {OLDEST_RUSTC} or newer"),
        packages: COMPILER,
        elsewhere: "rustup toolchain install nightly --component rust-src".to_owned(),
        then: None,
    }
}

fn linker(compiler: Option<&Compiler>) -> Need {
    let newer = compiler
        .map(|compiler| compiler.llvm)
        .filter(|&llvm| llvm > LINKER_LLVM);
    let (elsewhere, then) = match newer {
        None => (
            format!("install LLVM {LINKER_LLVM} with its development files"),
            Some(bpf_linker::command_line(&machine::root())),
        ),
        Some(llvm) => (
            format!("put a bpf-linker that was built with LLVM {llvm} or newer on PATH"),
            None,
        ),
    };
    Need {
        what: format!("bpf-linker {LINKER_VERSION}, working"),
        packages: LLVM,
        elsewhere,
        then,
    }
}

/// Each package once.
fn wanted(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// What is missing and how to get it, and the command that would bring it where that is possible; `absent` tells which of
/// a need's packages are.
fn report(
    needs: &[Need],
    reason: &str,
    command: &str,
    absent: impl Fn(&[&'static str]) -> Vec<&'static str>,
) -> String {
    let mut text = match needs.len() {
        1 => format!("1 thing is missing, and was not installed ({reason}):\n"),
        many => format!("{many} things are missing, and were not installed ({reason}):\n"),
    };
    for need in needs {
        let packages = absent(need.packages);
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {}\n", need.what);
        if !packages.is_empty() {
            let _ = writeln!(
                text,
                "      Debian:     apt-get install {}",
                packages.join(" ")
            );
            let _ = writeln!(text, "      elsewhere:  {}", need.elsewhere);
        }
        if let Some(then) = &need.then {
            let _ = writeln!(text, "      then:       {then}");
        }
    }
    let _ = write!(
        text,
        "\nhint: on Debian, as root, `{command}` does all of it"
    );
    text
}

#[cfg(test)]
mod tests;
