//! The files of the project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A text file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Relative to the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_manifest(&self) -> bool {
        self.path == "Cargo.toml" || self.path.ends_with("/Cargo.toml")
    }

    /// The folder below the root: the crate, for a source file.
    pub(super) fn member(&self) -> &str {
        self.path.split_once('/').map_or("", |(member, _)| member)
    }
}

/// Folders with nothing written by hand.
const SKIPPED: [&str; 4] = [".git", "target", "corpus", "artifacts"];

/// Every text file below `root`, sorted by path.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let entries = full
            .read_dir()
            .with_context(|| full.display().to_string())?;
        for entry in entries {
            let entry = entry.with_context(|| full.display().to_string())?;
            let name = entry.file_name();
            if SKIPPED.iter().any(|skipped| name == *skipped) {
                continue;
            }
            let path = folder.join(&name);
            let kind = entry
                .file_type()
                .with_context(|| path.display().to_string())?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && name != "Cargo.lock" {
                // What is not UTF-8 is no text.
                if let Ok(text) = fs::read_to_string(root.join(&path)) {
                    files.push(File {
                        path: path.to_string_lossy().into_owned(),
                        text,
                    });
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
