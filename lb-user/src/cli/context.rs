//! What every command needs: where the daemon is, and which namespace it is about.

use std::path::PathBuf;

use super::CliError;
use crate::api::client::Client;
use crate::daemon::SOCKET;
use crate::net::NetNs;

/// The options before the command.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) run_dir: PathBuf,
    pub(super) netns: Option<String>,
}

impl Context {
    /// The namespace that the command is about.
    pub(super) fn namespace(&self) -> Result<NetNs, CliError> {
        Ok(match &self.netns {
            Some(name) => NetNs::open(name)?,
            None => NetNs::current()?,
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET)
    }

    /// A connection for requests about that namespace.
    pub(super) async fn client(&self) -> Result<Client, CliError> {
        let namespace = self.namespace()?;
        Ok(Client::connect(&self.socket(), &[&namespace]).await?)
    }
}

/// One segment of a path of the API.
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b":.-_~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
