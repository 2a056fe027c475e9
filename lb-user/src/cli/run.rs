//! `bpvs run`.

use std::io::{self, IsTerminal};

use listenfd::ListenFd;
use tracing_subscriber::EnvFilter;

use super::args::RunArgs;
use super::{CliError, Context};
use crate::daemon::{self, Options};
use crate::datapath;
use crate::provider::swarm;

/// Threads for the API and the watches; the engine has one of its own.
const WORKERS: usize = 2;

pub(super) fn run(context: Context, args: RunArgs) -> Result<(), CliError> {
    let filter = EnvFilter::try_from_env("BPVS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(io::stderr)
        .init();

    // It changes the environment, so it comes before any other thread.
    let listener = ListenFd::from_env()
        .take_unix_listener(0)
        .map_err(|error| {
            CliError::failed(format!("cannot use the socket that was passed: {error}"))
        })?;
    let options = Options {
        run_dir: context.run_dir,
        config: args.config,
        swarm: args.swarm.map(|docker| swarm::Options {
            docker,
            sandboxes: args.swarm_sandboxes,
            ..swarm::Options::default()
        }),
        datapath: datapath::Options {
            bpffs: args.bpffs.bpffs,
            connections: args.connections,
            services: args.services,
            servers: args.servers.unwrap_or_else(datapath::default_servers),
            templates: args.templates,
            buckets: args.buckets,
            log_drops: args.log_drops,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(daemon::run(options, listener))?)
}
