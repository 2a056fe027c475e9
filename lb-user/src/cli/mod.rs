//! The command line: `bpvs COMMAND`. One file a subcommand; what all have in common is here.
//!
//! Data goes to stdout, everything else to stderr. Exit status: 0 done, 1 failed, 2 wrong usage.

mod apply;
pub mod args;
mod check;
mod conns;
mod context;
mod down;
mod failure;
mod generate;
mod ipvsadm;
mod list;
mod mark;
mod output;
mod run;
mod server;
mod service;
mod settings;
mod stats;
mod status;
mod swarm;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use context::Context;
pub use failure::CliError;
use output::Output;

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = ipvsadm::by_name() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to stdout. If even printing fails, there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let context = Context {
        run_dir: cli.run_dir,
        netns: cli.netns,
    };
    let mut output = Output::stdout();
    match cli.command {
        Command::Run(args) => return run::run(context, args).map(|()| ExitCode::SUCCESS),
        Command::Ipvsadm { arguments } => return Ok(ipvsadm::ipvsadm(context, arguments)),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    runtime.block_on(ask(&context, cli.command, &mut output))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything but the daemon itself: asks the daemon, or needs none.
async fn ask(context: &Context, command: Command, output: &mut Output) -> Result<(), CliError> {
    match command {
        // They need no runtime, or bring their own.
        Command::Run(_) | Command::Ipvsadm { .. } => Ok(()),
        Command::Down(args) => down::down(context, &args).await,
        Command::Check(args) => check::check(&args, output),
        Command::Apply(args) => apply::apply(context, &args, output).await,
        Command::Service(command) => service::service(context, command).await,
        Command::Server(command) => server::server(context, command).await,
        Command::Mark(command) => mark::mark(context, command, output).await,
        Command::Settings(args) => settings::settings(context, args, output).await,
        Command::List(args) => list::list(context, args.json, output).await,
        Command::Conns(args) => conns::conns(context, args.json, output).await,
        Command::Stats(args) => stats::stats(context, &args, output).await,
        Command::Zero { key } => service::zero(context, key).await,
        Command::Status(args) => status::status(context, args.json, output).await,
        Command::Swarm(args) => swarm::swarm(context, args.json, output).await,
        Command::Completions { shell } => generate::completions(shell, output),
        Command::Man { dir } => generate::man(&dir),
    }
}

#[cfg(test)]
mod tests;
