//! The journal: what the maps cannot say, on disk before the maps change.
//!
//! It holds which namespace each scope's number stands for, its mark rules and settings, what files claim, which ids next hops had, and
//! the change that is being made, as it was before and is to be after. A daemon that finds a change in it finishes that change.
//!
//! Every write replaces a file whole: a temporary file beside it is renamed over it. It is not forced to disk: the maps that
//! it is about end with the machine, and a file of another boot counts for nothing. Claims, mark
//! rules and settings have a file of their own for each scope (`scope-1.json`), for they are as large as the files that were applied and
//! seldom change, while the journal is written twice for every command. What changes of them is in the journal's change
//! until it is in that file. What commands take out of the claims is a line each in a file beside it
//! (`scope-1.released`), until the first is written again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::find;
use super::record::{ChangeRecord, FileRecord, OwnRecord, ReleasedRecord, ScopeRecord};
use crate::api::wire;
use crate::control::{Claims, Origin, Patch, Released};
use crate::model::{MarkRule, ScopeId, Settings};
use crate::net::{HopId, HopKey, NetNs, NetNsId};

/// The form of the file. Another one is not read.
pub(super) const VERSION: u32 = 1;

/// Why the journal could not be read or written.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum JournalError {
    #[error("cannot read the journal {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write to the journal {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the journal {} cannot be understood: {reason}", .path.display())]
    Content { path: PathBuf, reason: String },
}

/// How to know a namespace again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNetNs {
    /// The number that no other namespace gets until the next boot, where the kernel tells it.
    pub cookie: Option<u64>,
    /// Device number of its file.
    pub device: u64,
    /// Inode number of its file.
    pub inode: u64,
    /// What people call it.
    pub label: String,
}

impl KnownNetNs {
    /// What there is to know of a namespace; without the cookie where it may not be entered.
    #[must_use]
    pub fn of(netns: &NetNs) -> Self {
        let NetNsId { device, inode } = netns.id();
        Self {
            cookie: netns.cookie().unwrap_or_default(),
            device,
            inode,
            label: find::name(netns),
        }
    }

    /// It as the place where files are applied.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin(match self.cookie {
            Some(cookie) => format!("cookie {cookie}"),
            None => format!("file {}:{}", self.device, self.inode),
        })
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, netns: &NetNs) -> bool {
        let same_file = netns.id()
            == NetNsId {
                device: self.device,
                inode: self.inode,
            };
        same_file
            && (self.cookie.is_none() || netns.cookie().is_ok_and(|cookie| cookie == self.cookie))
    }
}

/// A scope as the journal knows it.
#[derive(Debug, Clone)]
pub struct KnownScope {
    /// Its namespace.
    pub netns: KnownNetNs,
    /// What is in a file of its own.
    pub own: Own,
    /// The ids of its next hops.
    pub hops: Vec<(HopKey, HopId)>,
}

/// What cannot be read back from the maps of a scope's table, and who asked for what of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// Its mark rules.
    pub marks: Vec<MarkRule>,
    /// Its settings.
    pub settings: Settings,
    /// What files claim of its table.
    pub claims: Claims,
    /// How often it was written whole. What was released since is beside it, under this number.
    pub edition: u64,
}

impl Own {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            marks,
            settings,
            claims,
            edition: _,
        } = self;
        marks.is_empty() && *settings == Settings::default() && claims.is_empty()
    }
}

/// What a change does to one scope.
#[derive(Debug, Clone)]
pub struct ScopeChange {
    /// The scope.
    pub scope: ScopeId,
    /// What it touches, as it was.
    pub before: Patch,
    /// What it touches, as it is to be.
    pub after: Patch,
    /// The claims as they are to be; none if they stay as they are, but for what is released.
    pub claims: Option<Claims>,
    /// What is taken out of the claims.
    pub released: Vec<Released>,
}

/// All that the journal holds.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// Where the search for a free number begins: numbers are used in turn, so that one rests after its scope is gone.
    pub next_scope: u32,
    /// The scopes by their numbers.
    pub scopes: BTreeMap<ScopeId, KnownScope>,
    /// The change that is being made.
    pub change: Vec<ScopeChange>,
}

impl Journal {
    /// A number that no scope has, or none if all are taken.
    #[must_use]
    pub fn free_scope(&self) -> Option<ScopeId> {
        let (first, last) = (ScopeId::MIN.get(), ScopeId::MAX.get());
        let start = self.next_scope.clamp(first, last);
        (start..=last)
            .chain(first..start)
            .filter_map(|id| ScopeId::new(id).ok())
            .find(|id| !self.scopes.contains_key(id))
    }
}

/// Where the journal is kept.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    boot: String,
}

impl Store {
    /// The journal of this run directory.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            path: run_dir.join("journal.json"),
            boot: boot.trim().to_owned(),
        }
    }

    /// Reads it; an empty one if there is none, or if it is from before the last boot.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn load(&self) -> Result<Journal, JournalError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
            Err(source) => {
                return Err(JournalError::Read {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let wrong = |reason: String| JournalError::Content {
            path: self.path.clone(),
            reason,
        };
        // What is left where the machine went down before the file was on disk: of another boot.
        if text.is_empty() {
            return Ok(Journal::default());
        }
        let record: FileRecord =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if record.version != VERSION {
            return Err(wrong(format!(
                "it has form {}, and this is for form {VERSION}",
                record.version
            )));
        }
        if record.boot != self.boot {
            return Ok(Journal::default());
        }
        let wrong_value = |error: wire::Error| wrong(error.error);
        let mut journal = record.into_journal().map_err(wrong_value)?;
        for (id, scope) in &mut journal.scopes {
            let path = self.scope_path(*id);
            match fs::read(&path) {
                Ok(text) => {
                    scope.own = OwnRecord::read(&text)
                        .map_err(|reason| JournalError::Content { path, reason })?;
                    self.release_again(*id, &mut scope.own)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(JournalError::Read { path, source }),
            }
        }
        Ok(journal)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file system refuses; the journal is then as before.
    pub fn save(&self, journal: &Journal) -> Result<(), JournalError> {
        let record = FileRecord {
            version: VERSION,
            boot: self.boot.clone(),
            next_scope: journal.next_scope,
            scopes: journal
                .scopes
                .iter()
                .map(|(id, scope)| ScopeRecord::new(*id, scope))
                .collect(),
            change: journal.change.iter().map(ChangeRecord::from).collect(),
        };
        self.replace(&self.path, &record)
    }

    /// Writes what is a scope's own; without anything there is no file.
    ///
    /// # Errors
    /// The file system refuses; the file is then as before.
    pub fn save_scope(&self, id: ScopeId, own: &mut Own) -> Result<(), JournalError> {
        let path = self.scope_path(id);
        if own.is_empty() {
            delete(&path)?;
        } else {
            own.edition += 1;
            self.replace(&path, &OwnRecord::from(&*own))?;
        }
        // It is of another edition now, and counts for nothing.
        delete(&self.released_path(id))
    }

    /// Writes what was taken out of the claims since the scope's own was written whole: as much as that is, however much is
    /// claimed.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn save_released(
        &self,
        id: ScopeId,
        own: &Own,
        released: &[Released],
    ) -> Result<(), JournalError> {
        let path = self.released_path(id);
        let write = || {
            let mut text = Vec::new();
            for released in released {
                serde_json::to_writer(&mut text, &ReleasedRecord::new(own.edition, released))?;
                text.push(b'\n');
            }
            let mut file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)?;
            io::Write::write_all(&mut file, &text)
        };
        write().map_err(|source| JournalError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Takes out of the claims what was released since they were written.
    fn release_again(&self, id: ScopeId, own: &mut Own) -> Result<(), JournalError> {
        let path = self.released_path(id);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(JournalError::Read { path, source }),
        };
        // A line that was not finished is of a change that is still in the journal.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let released = ReleasedRecord::read(line, own.edition);
            let released = released.map_err(|reason| JournalError::Content {
                path: path.clone(),
                reason,
            })?;
            released.iter().for_each(|it| own.claims.release(it));
        }
        Ok(())
    }

    fn released_path(&self, id: ScopeId) -> PathBuf {
        self.path.with_file_name(format!("scope-{id}.released"))
    }

    fn scope_path(&self, id: ScopeId) -> PathBuf {
        self.path.with_file_name(format!("scope-{id}.json"))
    }

    fn replace(&self, path: &Path, content: &impl Serialize) -> Result<(), JournalError> {
        let temporary = path.with_extension("json.new");
        let write = || {
            fs::write(&temporary, serde_json::to_vec(content)?)?;
            fs::rename(&temporary, path)
        };
        write().map_err(|source| JournalError::Write {
            path: path.into(),
            source,
        })
    }

    /// Removes it, and the files of all scopes that it could know.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self) -> Result<(), JournalError> {
        let scopes =
            (ScopeId::MIN.get()..=ScopeId::MAX.get()).filter_map(|id| ScopeId::new(id).ok());
        scopes
            .flat_map(|id| [self.scope_path(id), self.released_path(id)])
            .try_for_each(|path| delete(&path))?;
        delete(&self.path)
    }
}

/// Removes a file, if it is there.
fn delete(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(JournalError::Write {
            path: path.into(),
            source,
        }),
        _ => Ok(()),
    }
}
