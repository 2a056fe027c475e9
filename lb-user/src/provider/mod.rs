//! Providers: who else than a person says what is to be served.
//!
//! A provider watches something, works out from it what scopes are to serve, and declares that to the daemon as a file
//! does: what it declares is its own, what it declares no longer goes, and what others added stays.

pub mod swarm;
