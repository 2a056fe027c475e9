//! The client: what the command line speaks to the daemon with.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::handshake::{MAX_DESCRIPTORS, greet};
use super::wire;
use crate::net::NetNs;

/// Why a request came to nothing.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon listens.
    #[error("no daemon answers at {}: start it with `bpvs run`", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is not ours to open.
    #[error("{} may not be opened: only root can", .0.display())]
    Permission(PathBuf),
    /// The daemon refused.
    #[error("{error}")]
    Refused {
        /// The HTTP status of its answer.
        status: u16,
        /// What it said.
        error: wire::Error,
    },
    /// The daemon is ending, and does nothing any more.
    #[error("{0}")]
    Ending(wire::Error),
    /// More namespaces than fit into one message.
    #[error("{0} scopes are more than the {MAX_DESCRIPTORS} that one file may name")]
    TooManyScopes(usize),
    /// The connection failed.
    #[error("the connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
    /// The daemon spoke no HTTP.
    #[error("the connection to the daemon failed: {0}")]
    Http(#[from] hyper::Error),
    /// The daemon's answer was not what it should be.
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
}

impl ClientError {
    /// What would be right, where there is more to say than the message does.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { error, .. } => error.hint.clone(),
            Self::Permission(_) => Some("run it as root".into()),
            Self::Answer(_) => {
                Some("client and daemon may be of different versions; see `bpvs status`".into())
            }
            Self::Http(_) => {
                Some("if the daemon has died: `bpvs run` finishes what it had begun, `bpvs list` shows it".into())
            }
            Self::NoDaemon(_) | Self::Ending(_) | Self::TooManyScopes(_) | Self::Io(_) => None,
        }
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    requests: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects and passes the namespaces: the first is the scope of all requests.
    ///
    /// # Errors
    /// No daemon listens at `socket`, or it is not ours to open.
    pub async fn connect(socket: &Path, namespaces: &[&NetNs]) -> Result<Self, ClientError> {
        if namespaces.len() > MAX_DESCRIPTORS {
            return Err(ClientError::TooManyScopes(namespaces.len()));
        }
        let stream =
            std::os::unix::net::UnixStream::connect(socket).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        ClientError::NoDaemon(socket.into())
                    }
                    io::ErrorKind::PermissionDenied => ClientError::Permission(socket.into()),
                    _ => ClientError::Io(error),
                }
            })?;
        if !namespaces.is_empty() {
            let descriptors: Vec<_> = namespaces
                .iter()
                .map(|namespace| namespace.as_fd())
                .collect();
            greet(&stream, &descriptors)?;
        }
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let (requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its errors come out of the requests, too.
        tokio::spawn(connection);
        Ok(Self { requests })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The daemon refuses, or is gone.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let body = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Asks for a change that answers nothing.
    ///
    /// # Errors
    /// The daemon refuses, or is gone.
    pub async fn change(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        self.send(method, path, serde_json::to_vec(body)?.into())
            .await
            .map(drop)
    }

    /// Asks for a change without a body.
    ///
    /// # Errors
    /// The daemon refuses, or is gone.
    pub async fn command(&mut self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(method, path, Bytes::new()).await.map(drop)
    }

    /// Asks for changes, each of which is made or refused by itself.
    ///
    /// # Errors
    /// The daemon refuses all of them, or is gone.
    pub async fn changes(
        &mut self,
        changes: &[wire::Change],
    ) -> Result<Vec<wire::Outcome>, ClientError> {
        let body = serde_json::to_vec(changes)?.into();
        let body = self.send(Method::POST, "/v1/changes", body).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Applies a file.
    ///
    /// # Errors
    /// The daemon refuses, or is gone.
    pub async fn apply(
        &mut self,
        apply: &wire::Apply,
    ) -> Result<Vec<wire::ScopeChanges>, ClientError> {
        let body = self
            .send(Method::POST, "/v1/apply", serde_json::to_vec(apply)?.into())
            .await?;
        Ok(serde_json::from_slice(&body)?)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let headers = request.headers_mut();
        headers.insert("host", hyper::header::HeaderValue::from_static("bpvs"));
        headers.insert(
            "content-type",
            hyper::header::HeaderValue::from_static("application/json"),
        );
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let error = serde_json::from_slice(&body).unwrap_or_else(|_| wire::Error {
            error: format!("the daemon answered {status}"),
            hint: None,
        });
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => ClientError::Ending(error),
            status => ClientError::Refused {
                status: status.as_u16(),
                error,
            },
        })
    }
}
