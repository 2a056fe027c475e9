//! The API: HTTP/1.1 with JSON over a Unix socket that only its owner can open.
//!
//! Everything that the command line does goes through it. Paths begin with `/v1`; a later version that means something
//! else gets another number.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | – | [`wire::Status`], of all scopes |
//! | `GET /v1/table` | – | [`wire::Listing`] |
//! | `GET /v1/connections` | – | array of [`wire::Connection`] |
//! | `GET /v1/stats` | – | [`wire::Stats`] |
//! | `GET /v1/settings` | – | array of [`wire::Setting`] |
//! | `PATCH /v1/settings` | [`wire::SettingsEdit`] | 204 |
//! | `POST /v1/zero` | – | 204, and all counters are shown from 0 |
//! | `POST /v1/services/KEY/zero` | – | 204, likewise of one service and its servers |
//! | `POST /v1/services` | [`wire::Service`] | 204 |
//! | `DELETE /v1/services` | – | 204, and no service is left |
//! | `GET /v1/services/KEY` | – | [`wire::ListedService`] |
//! | `PATCH /v1/services/KEY` | [`wire::ServiceEdit`] | 204 |
//! | `DELETE /v1/services/KEY` | – | 204 |
//! | `POST /v1/services/KEY/servers` | [`wire::Server`] | 204 |
//! | `PATCH /v1/services/KEY/servers/ADDRESS` | [`wire::ServerEdit`] | 204 |
//! | `DELETE /v1/services/KEY/servers/ADDRESS` | – | 204 |
//! | `POST /v1/changes` | array of [`wire::Change`] | array of [`wire::Outcome`]: each is made or refused by itself |
//! | `POST /v1/marks` | [`wire::MarkRule`] | 204 |
//! | `DELETE /v1/marks` | [`wire::MarkRule`] | 204 |
//! | `POST /v1/apply` | [`wire::Apply`] | array of [`wire::ScopeChanges`] |
//! | `POST /v1/down` | – | 204, and the daemon ends |
//!
//! `KEY` and `ADDRESS` are as in the JSON bodies, for instance `/v1/services/tcp:10.0.0.100:80`. An error is a
//! [`wire::Error`] with a status from 400 on.
//!
//! **Which scope** a request is about: the namespace that the client passed, or else that of its process. A client
//! passes namespaces by sending one zero byte first, with their descriptors as `SCM_RIGHTS`; HTTP follows. The first
//! descriptor is the scope of all requests on the connection, the others can be named in [`wire::Apply`]. A connection
//! that begins with anything else (`curl --unix-socket …`) is served in the namespace of the peer's process, which the
//! kernel tells by `SO_PEERCRED`; that is the main thread's, and it is not known across pid namespaces.

pub mod client;
mod handshake;
pub mod server;
pub mod wire;
