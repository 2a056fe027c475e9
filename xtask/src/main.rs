//! The project's own commands, `cargo xtask …`.
//!
//! xtask builds and runs `bpvs` and `lab`; it imports nothing of the workspace, so that it compiles
//! on a machine that has nothing but cargo, and can then bring the rest.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod bpf_stats;
mod cargo;
mod console;
mod demo;
mod guests;
mod lint;
mod machine;
mod setup;
mod stage;
mod test;
mod toolchain;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "The project's own commands",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make sure that everything needed to build and test is on this machine.
    ///
    /// On Debian, as root, it installs what is missing: the Rust compiler for BPF and a few tools
    /// by apt, bpf-linker into target/tools. Elsewhere it says what is missing and how to get it,
    /// and changes nothing. Where nothing is missing it does nothing.
    Setup,
    /// Watch bpvs balance real connections between network namespaces.
    Demo(demo::Arguments),
    /// Measure bpvs against plain routing, a redirect, iptables, nftables and, where the kernel has it, IPVS.
    Bench(bench::Arguments),
    /// Run every check and test: format, lints, house rules, unit tests, packets, end to end.
    Test(test::Arguments),
    /// Show what the verifier thinks of each program: instructions and stack.
    BpfStats(bpf_stats::Arguments),
    /// Check the house rules: who may import whom, file sizes, words, licences.
    Lint,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::BpfStats(arguments) => bpf_stats::run(&arguments),
        Command::Lint => lint::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
