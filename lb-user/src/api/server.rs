//! The server: connections from the socket, each request handed to the daemon's single writer.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::handshake::greeted;
use super::wire;
use crate::control::Command;
use crate::daemon::{ApplyScope, Failure, FailureKind, Handle, Reply, Request};
use crate::model::{ModelError, Server, ServiceKey};
use crate::net::NetNs;

/// The largest body that is read: 10 000 services with ten servers each take a third of it.
const MAX_BODY: usize = 64 << 20;

/// The namespaces that a connection may speak of.
#[derive(Clone)]
struct Caller {
    namespaces: Result<Arc<Vec<NetNs>>, String>,
}

/// Serves connections until the task is dropped.
pub async fn serve(listener: UnixListener, handle: Handle) {
    let router = router(handle);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, router.clone()));
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                // Too many open files, most likely: others must end first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: Router) {
    let caller = match caller(&stream).await {
        Ok(caller) => caller,
        Err(error) => {
            debug!("a connection ended before its first request: {error}");
            return;
        }
    };
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        router.clone().oneshot(request)
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!("a connection ended: {error}");
    }
}

/// Finds out for whom a connection is.
async fn caller(stream: &UnixStream) -> io::Result<Caller> {
    let namespaces = match greeted(stream).await? {
        Some(descriptors) if descriptors.is_empty() => Err(
            "the connection began with a zero byte, and no namespace's descriptor came with it"
                .to_owned(),
        ),
        Some(descriptors) => descriptors
            .into_iter()
            .map(NetNs::from_fd)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string()),
        None => peer_namespace(stream).map(|namespace| vec![namespace]),
    };
    Ok(Caller {
        namespaces: namespaces.map(Arc::new),
    })
}

fn peer_namespace(stream: &UnixStream) -> Result<NetNs, String> {
    let pid = stream
        .peer_cred()
        .map_err(|error| format!("the peer's process is not known: {error}"))?
        .pid();
    match pid.and_then(|pid| u32::try_from(pid).ok()) {
        Some(pid) if pid != 0 => NetNs::of_pid(pid).map_err(|error| error.to_string()),
        _ => Err(
            "the peer's network namespace is not known: its process is in another pid namespace; \
                  use `bpvs`, which passes the namespace itself"
                .to_owned(),
        ),
    }
}

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/swarm", get(swarm))
        .route("/v1/table", get(table))
        .route("/v1/connections", get(connections))
        .route("/v1/stats", get(stats))
        .route("/v1/zero", post(zero))
        .route("/v1/services/{key}/zero", post(zero_service))
        .route("/v1/settings", get(settings).patch(edit_settings))
        .route("/v1/services", post(add_service).delete(flush))
        .route(
            "/v1/services/{key}",
            get(service).patch(edit_service).delete(remove_service),
        )
        .route("/v1/services/{key}/servers", post(add_server))
        .route(
            "/v1/services/{key}/servers/{address}",
            patch(edit_server).delete(remove_server),
        )
        .route("/v1/changes", post(changes))
        .route("/v1/marks", post(add_mark).delete(remove_mark))
        .route("/v1/apply", post(apply))
        .route("/v1/down", post(down))
        .fallback(async || {
            Failure::new(FailureKind::Missing, "there is no such path in this API")
                .hint("paths begin with /v1")
        })
        .method_not_allowed_fallback(async || {
            Failure::new(FailureKind::Method, "the path does not take this method")
        })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .with_state(handle)
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = status_of(self.kind);
        (status, Json(wire::Error::from(self))).into_response()
    }
}

const fn status_of(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Invalid => StatusCode::BAD_REQUEST,
        FailureKind::Missing | FailureKind::MissingServer => StatusCode::NOT_FOUND,
        FailureKind::Method => StatusCode::METHOD_NOT_ALLOWED,
        FailureKind::Conflict => StatusCode::CONFLICT,
        FailureKind::Full => StatusCode::INSUFFICIENT_STORAGE,
        FailureKind::Ending => StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Failure> for wire::Error {
    fn from(failure: Failure) -> Self {
        Self {
            error: failure.message,
            hint: failure.hint,
        }
    }
}

impl From<Result<(), Failure>> for wire::Outcome {
    fn from(outcome: Result<(), Failure>) -> Self {
        let failure = outcome.err();
        let status = failure
            .as_ref()
            .map_or(StatusCode::NO_CONTENT, |failure| status_of(failure.kind));
        Self {
            status: status.as_u16(),
            no_server: failure
                .as_ref()
                .is_some_and(|failure| failure.kind == FailureKind::MissingServer),
            error: failure.map(Into::into),
        }
    }
}

type Answer = Result<Response, Failure>;

impl Caller {
    /// The scope of the request.
    fn here(&self) -> Result<NetNs, Failure> {
        self.descriptor(0)
    }

    fn descriptor(&self, index: usize) -> Result<NetNs, Failure> {
        let namespaces = self
            .namespaces
            .as_ref()
            .map_err(|error| Failure::new(FailureKind::Invalid, error.clone()))?;
        let namespace = namespaces.get(index).ok_or_else(|| {
            Failure::new(
                FailureKind::Invalid,
                format!(
                    "descriptor {index} was not passed: the connection began with {}",
                    namespaces.len()
                ),
            )
        })?;
        Ok(namespace.try_clone()?)
    }
}

/// A body as JSON; what is wrong with it in the API's own words.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(
            FailureKind::Invalid,
            format!("the request's body cannot be read: {error}"),
        )
    })
}

fn invalid(error: &ModelError) -> Failure {
    let failure = Failure::new(FailureKind::Invalid, error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn key(text: &str) -> Result<ServiceKey, Failure> {
    text.parse().map_err(|error| invalid(&error))
}

async fn read(handle: &Handle, request: Request) -> Answer {
    Ok(match handle.call(request).await? {
        Reply::Done => StatusCode::NO_CONTENT.into_response(),
        Reply::Status(status) => json(&status),
        Reply::Listing(listing) => json(&listing),
        Reply::Service(service) => json(&service),
        Reply::Stats(stats) => json(&stats),
        Reply::Connections(connections) => json(&connections),
        Reply::Settings(settings) => json(&settings),
        Reply::Changes(changes) => json(&changes),
        Reply::Outcomes(outcomes) => {
            let outcomes = outcomes.into_iter().map(wire::Outcome::from);
            json(&outcomes.collect::<Vec<_>>())
        }
    })
}

fn json(value: &impl Serialize) -> Response {
    Json(value).into_response()
}

async fn command(handle: &Handle, caller: &Caller, command: Command) -> Answer {
    read(
        handle,
        Request::Command {
            netns: caller.here()?,
            command,
        },
    )
    .await
}

async fn status(State(handle): State<Handle>) -> Answer {
    read(&handle, Request::Status).await
}

async fn swarm(State(handle): State<Handle>) -> Answer {
    Ok(Json(handle.swarm()?).into_response())
}

async fn table(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    read(
        &handle,
        Request::Listing {
            netns: caller.here()?,
        },
    )
    .await
}

async fn service(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
) -> Answer {
    let (netns, key) = (caller.here()?, key(&service)?);
    read(&handle, Request::Service { netns, key }).await
}

async fn connections(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    read(
        &handle,
        Request::Connections {
            netns: caller.here()?,
        },
    )
    .await
}

async fn stats(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    read(
        &handle,
        Request::Stats {
            netns: caller.here()?,
        },
    )
    .await
}

async fn add_service(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let service = body::<wire::Service>(&bytes)?
        .try_into()
        .map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::AddService(service)).await
}

async fn flush(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    command(&handle, &caller, Command::Flush).await
}

async fn zero(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    let netns = caller.here()?;
    let service = None;
    read(&handle, Request::Zero { netns, service }).await
}

async fn zero_service(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
) -> Answer {
    let netns = caller.here()?;
    let service = Some(key(&service)?);
    read(&handle, Request::Zero { netns, service }).await
}

async fn settings(State(handle): State<Handle>, Extension(caller): Extension<Caller>) -> Answer {
    let netns = caller.here()?;
    read(&handle, Request::Settings { netns }).await
}

async fn edit_settings(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let edit = body::<wire::SettingsEdit>(&bytes)?;
    let edit = wire::settings_edit(&edit).map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::EditSettings(edit)).await
}

async fn edit_service(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    bytes: Bytes,
) -> Answer {
    let key = key(&service)?;
    let edit = body::<wire::ServiceEdit>(&bytes)?
        .of(&key)
        .map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::EditService { key, edit }).await
}

async fn remove_service(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
) -> Answer {
    command(&handle, &caller, Command::RemoveService(key(&service)?)).await
}

async fn add_server(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    bytes: Bytes,
) -> Answer {
    let service = key(&service)?;
    let server = body::<wire::Server>(&bytes)?
        .of(&service)
        .map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::AddServer { service, server }).await
}

async fn edit_server(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path((service, address)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let service = key(&service)?;
    let address = Server::parse_socket(&address, &service).map_err(|error| invalid(&error))?;
    let edit = body::<wire::ServerEdit>(&bytes)?
        .try_into()
        .map_err(|error| invalid(&error))?;
    let edit = Command::EditServer {
        service,
        address,
        edit,
    };
    command(&handle, &caller, edit).await
}

async fn remove_server(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    Path((service, address)): Path<(String, String)>,
) -> Answer {
    let service = key(&service)?;
    let address = Server::parse_socket(&address, &service).map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::RemoveServer { service, address }).await
}

/// What is wrong in itself is refused where it stands, and the others are made or refused as they come.
async fn changes(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let mut outcomes: Vec<wire::Outcome> = Vec::new();
    let mut commands = Vec::new();
    let mut wrong = Vec::new();
    for (place, change) in body::<Vec<wire::Change>>(&bytes)?.into_iter().enumerate() {
        match Command::try_from(change) {
            Ok(command) => commands.push(command),
            Err(error) => wrong.push((place, invalid(&error))),
        }
    }
    if !commands.is_empty() {
        let netns = caller.here()?;
        if let Reply::Outcomes(made) = handle.call(Request::Commands { netns, commands }).await? {
            outcomes.extend(made.into_iter().map(wire::Outcome::from));
        }
    }
    for (place, failure) in wrong {
        outcomes.insert(place, Err(failure).into());
    }
    Ok(json(&outcomes))
}

async fn add_mark(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let rule = body::<wire::MarkRule>(&bytes)?
        .try_into()
        .map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::AddMark(rule)).await
}

async fn remove_mark(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let rule = body::<wire::MarkRule>(&bytes)?
        .try_into()
        .map_err(|error| invalid(&error))?;
    command(&handle, &caller, Command::RemoveMark(rule)).await
}

async fn apply(
    State(handle): State<Handle>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answer {
    let wire::Apply {
        here,
        scopes,
        dry_run,
    } = body(&bytes)?;
    let declared = |wire: wire::Declared| {
        wire.try_into().map_err(|error: wire::Error| Failure {
            kind: FailureKind::Invalid,
            message: error.error,
            hint: error.hint,
        })
    };
    let mut wanted = vec![ApplyScope {
        name: None,
        netns: caller.here()?,
        declared: declared(here)?,
    }];
    for scope in scopes {
        wanted.push(ApplyScope {
            netns: caller.descriptor(scope.descriptor)?,
            name: Some(scope.netns),
            declared: declared(scope.declared)?,
        });
    }
    read(
        &handle,
        Request::Apply {
            scopes: wanted,
            dry_run,
        },
    )
    .await
}

async fn down(State(handle): State<Handle>) -> Answer {
    read(&handle, Request::Down).await
}
