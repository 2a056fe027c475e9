//! `bpvs down`.

use std::time::{Duration, Instant};

use hyper::Method;

use super::args::DownArgs;
use super::{CliError, Context};
use crate::api::client::{Client, ClientError};
use crate::daemon::{RunDir, RunError, down_without_daemon};

/// How long a daemon may take to end, after it has removed everything or when it was told to end just before: it may be
/// loading the programs of a next scope, which a busy machine takes its time for.
const ENDING: Duration = Duration::from_secs(30);

pub(super) async fn down(context: &Context, args: &DownArgs) -> Result<(), CliError> {
    let asked = Instant::now();
    loop {
        match attempt(context, args).await {
            Ok(By::Daemon) => break,
            Ok(By::Us) => return Ok(()),
            // It is on its way out, or in: soon it is gone, and its work ours, or it answers.
            Err(Attempt::Later(_)) if asked.elapsed() < ENDING => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(Attempt::Later(error) | Attempt::Never(error)) => return Err(error),
        }
    }
    // So that `bpvs down && bpvs run` works.
    let asked = Instant::now();
    while RunDir::take(&context.run_dir).is_err() {
        if asked.elapsed() > ENDING {
            return Err(CliError::failed(
                "everything is removed, but the daemon does not end".into(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Who has removed everything.
enum By {
    Daemon,
    Us,
}

/// Why it is not removed.
enum Attempt {
    /// Another attempt may do it.
    Later(CliError),
    Never(CliError),
}

async fn attempt(context: &Context, args: &DownArgs) -> Result<By, Attempt> {
    // It is about all namespaces.
    let asked = match Client::connect(&context.socket(), &[]).await {
        Ok(mut client) => client.command(Method::POST, "/v1/down").await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) => Ok(By::Daemon),
        Err(ClientError::NoDaemon(_)) => {
            match down_without_daemon(&context.run_dir, &args.bpffs.bpffs).await {
                Ok(()) => Ok(By::Us),
                Err(error @ RunError::Running(_)) => Err(Attempt::Later(error.into())),
                Err(error) => Err(Attempt::Never(error.into())),
            }
        }
        Err(error @ (ClientError::Ending(_) | ClientError::Http(_) | ClientError::Io(_))) => {
            Err(Attempt::Later(error.into()))
        }
        Err(error) => Err(Attempt::Never(error.into())),
    }
}
