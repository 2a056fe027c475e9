//! `bpvs down`.

use std::time::{Duration, Instant};

use hyper::Method;

use super::args::DownArgs;
use super::{CliError, Context};
use crate::api::client::{Client, ClientError};
use crate::daemon::{RunDir, down_without_daemon};

/// How long a daemon may take to end after it has removed everything.
const ENDING: Duration = Duration::from_secs(5);

pub(super) async fn down(context: &Context, args: &DownArgs) -> Result<(), CliError> {
    // It is about all namespaces.
    match Client::connect(&context.socket(), &[]).await {
        Ok(mut client) => client.command(Method::POST, "/v1/down").await?,
        Err(ClientError::NoDaemon(_)) => {
            return Ok(down_without_daemon(&context.run_dir, &args.bpffs.bpffs).await?);
        }
        Err(error) => return Err(error.into()),
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
