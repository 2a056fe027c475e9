//! Applying a file.

use serde::{Deserialize, Serialize};

use super::Declared;

/// What a file says, with its namespaces resolved by the client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// About the scope of the request.
    #[serde(default)]
    pub here: Declared,
    /// About other scopes.
    #[serde(default)]
    pub scopes: Vec<ApplyScope>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a file says about another scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyScope {
    /// Its namespace as the file calls it, for messages.
    pub netns: String,
    /// Its namespace: which of the descriptors that came before the first request, counted from 0.
    pub descriptor: usize,
    /// What it is to serve.
    pub declared: Declared,
}

/// What an apply changed in one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeChanges {
    /// The scope's namespace, as the file or else the daemon calls it; none for the scope of the request.
    pub netns: Option<String>,
    /// One line for each change.
    pub changes: Vec<String>,
}
