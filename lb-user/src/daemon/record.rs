//! The journal's JSON. Entries are written as the API writes them.

use serde::{Deserialize, Serialize};

use super::journal::{Journal, KnownNetNs, KnownScope, Own, ScopeChange};
use crate::api::wire;
use crate::control::{Claims, Origin, Patch, Released};
use crate::model::{ModelError, ScopeId};
use crate::net::HopId;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) version: u32,
    pub(super) boot: String,
    pub(super) next_scope: u32,
    pub(super) scopes: Vec<ScopeRecord>,
    pub(super) change: Vec<ChangeRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScopeRecord {
    id: u32,
    netns: KnownNetNs,
    hops: Vec<(String, u32)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClaimRecord {
    origin: String,
    declared: wire::Declared,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChangeRecord {
    scope: u32,
    before: PatchRecord,
    after: PatchRecord,
    claims: Option<Vec<ClaimRecord>>,
    #[serde(default)]
    released: Vec<ReleasedRecord>,
}

/// Something that no file claims any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReleasedRecord {
    /// To what it belongs where it has a line of its own.
    edition: u64,
    service: String,
    server: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PatchRecord {
    /// A service that is there.
    services: Vec<wire::Service>,
    /// Keys by which no service is there.
    absent: Vec<String>,
    marks: Option<Vec<wire::MarkRule>>,
    settings: Option<wire::Settings>,
}

/// The file of one scope: what is as large as the files that were applied.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnRecord {
    claims: Vec<ClaimRecord>,
    marks: Vec<wire::MarkRule>,
    #[serde(default)]
    settings: wire::Settings,
    #[serde(default)]
    edition: u64,
}

impl From<&Own> for OwnRecord {
    fn from(own: &Own) -> Self {
        Self {
            claims: write_claims(&own.claims),
            marks: own.marks.iter().map(wire::MarkRule::from).collect(),
            settings: (&own.settings).into(),
            edition: own.edition,
        }
    }
}

impl OwnRecord {
    /// Reads it from JSON.
    pub(super) fn read(text: &[u8]) -> Result<Own, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let marks = record
            .marks
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, ModelError>>();
        let said = |error: ModelError| error.to_string();
        Ok(Own {
            marks: marks.map_err(said)?,
            settings: record.settings.try_into().map_err(said)?,
            claims: claims(record.claims).map_err(|error| error.error)?,
            edition: record.edition,
        })
    }
}

impl FileRecord {
    pub(super) fn into_journal(self) -> Result<Journal, wire::Error> {
        let mut journal = Journal {
            next_scope: self.next_scope,
            ..Journal::default()
        };
        for record in self.scopes {
            let id = ScopeId::new(record.id)?;
            let hops = record
                .hops
                .into_iter()
                // A hop that cannot be read gets another id, which costs its connections a moment's detour.
                .filter_map(|(key, id)| Some((key.parse().ok()?, HopId(id))))
                .collect();
            let scope = KnownScope {
                netns: record.netns,
                own: Own::default(),
                hops,
            };
            journal.scopes.insert(id, scope);
        }
        for record in self.change {
            journal.change.push(ScopeChange {
                scope: ScopeId::new(record.scope)?,
                before: record.before.read()?,
                after: record.after.read()?,
                claims: record.claims.map(claims).transpose()?,
                released: record
                    .released
                    .iter()
                    .map(ReleasedRecord::released)
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(journal)
    }
}

impl ScopeRecord {
    pub(super) fn new(id: ScopeId, scope: &KnownScope) -> Self {
        Self {
            id: id.get(),
            netns: scope.netns.clone(),
            hops: scope
                .hops
                .iter()
                .map(|(key, id)| (key.to_string(), id.0))
                .collect(),
        }
    }
}

impl From<&ScopeChange> for ChangeRecord {
    fn from(change: &ScopeChange) -> Self {
        Self {
            scope: change.scope.get(),
            before: PatchRecord::new(&change.before),
            after: PatchRecord::new(&change.after),
            claims: change.claims.as_ref().map(write_claims),
            released: change
                .released
                .iter()
                .map(|released| ReleasedRecord::new(0, released))
                .collect(),
        }
    }
}

impl ReleasedRecord {
    pub(super) fn new(edition: u64, released: &Released) -> Self {
        Self {
            edition,
            service: released.service.to_string(),
            server: released.server.map(|server| server.to_string()),
        }
    }

    /// Reads a line; none if it belongs to another edition.
    pub(super) fn read(line: &str, edition: u64) -> Result<Option<Released>, String> {
        let record: Self = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if record.edition != edition {
            return Ok(None);
        }
        record.released().map(Some).map_err(|error| error.error)
    }

    fn released(&self) -> Result<Released, wire::Error> {
        let unreadable = |_| wire::Error {
            error: format!("{:?} is no address with a port", self.server),
            hint: None,
        };
        Ok(Released {
            service: self.service.parse().map_err(wire::Error::from)?,
            server: self
                .server
                .as_ref()
                .map(|server| server.parse())
                .transpose()
                .map_err(unreadable)?,
        })
    }
}

impl PatchRecord {
    fn new(patch: &Patch) -> Self {
        let absent = patch
            .services
            .iter()
            .filter(|(_, service)| service.is_none());
        Self {
            services: patch
                .services
                .values()
                .flatten()
                .map(wire::Service::from)
                .collect(),
            absent: absent.map(|(key, _)| key.to_string()).collect(),
            marks: patch
                .marks
                .as_ref()
                .map(|rules| rules.iter().map(wire::MarkRule::from).collect()),
            settings: patch.settings.as_ref().map(wire::Settings::from),
        }
    }

    fn read(self) -> Result<Patch, wire::Error> {
        let mut patch = Patch::default();
        for key in self.absent {
            patch.services.insert(key.parse()?, None);
        }
        for service in self.services {
            let service: crate::model::Service = service.try_into()?;
            patch.services.insert(service.key, Some(service));
        }
        if let Some(rules) = self.marks {
            patch.marks = Some(
                rules
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()?,
            );
        }
        patch.settings = self.settings.map(TryInto::try_into).transpose()?;
        Ok(patch)
    }
}

fn write_claims(claims: &Claims) -> Vec<ClaimRecord> {
    let record = |(origin, declared): (&Origin, &crate::control::Declared)| ClaimRecord {
        origin: origin.0.clone(),
        declared: declared.into(),
    };
    claims.files().iter().map(record).collect()
}

fn claims(records: Vec<ClaimRecord>) -> Result<Claims, wire::Error> {
    let mut claims = Claims::default();
    for record in records {
        claims.insert(Origin(record.origin), record.declared.try_into()?);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::Declared;
    use crate::control::testing::table_strategy;
    use crate::control::{Op, diff};
    use crate::daemon::journal::Store;
    use crate::model::Server;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read(old in table_strategy(), new in table_strategy()) {
            let folder = std::env::temp_dir().join(format!("bpvs-journal-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let store = Store::new(&folder);
            let scope = ScopeId::MIN;
            let mut claims = Claims::default();
            claims.insert(Origin("here".into()), Declared { table: old.clone(), has_settings: true });
            let ops: Vec<Op> = diff(&old, &new);
            let netns = KnownNetNs { cookie: Some(7), device: 4, inode: 9, label: "lb".into() };
            let mut journal = Journal { next_scope: 2, ..Journal::default() };
            let mut own = Own { marks: old.marks().to_vec(), settings: old.settings().clone(), claims: claims.clone(), edition: 6 };
            let released: Vec<Released> = old
                .services()
                .map(|service| Released { service: service.key, server: service.servers.first().map(Server::socket) })
                .collect();
            let hops = vec![("forward dev 3 via 10.0.0.1".parse().unwrap(), HopId(5))];
            journal.scopes.insert(scope, KnownScope { netns, own: own.clone(), hops });
            journal.change.push(ScopeChange {
                scope,
                before: Patch::touched(&ops, &old),
                after: Patch::touched(&ops, &new),
                claims: Some(claims.clone()),
                released: released.clone(),
            });
            // Of an edition before this one: what it releases is claimed again.
            store.save_released(scope, &own, &released).unwrap();
            store.save_scope(scope, &mut own).unwrap();
            journal.scopes.get_mut(&scope).unwrap().own = own.clone();
            store.save(&journal).unwrap();
            let read = store.load().unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{journal:?}"));
            if !own.is_empty() {
                store.save_released(scope, &own, &released).unwrap();
                released.iter().for_each(|it| own.claims.release(it));
                // One that was cut short.
                let path = folder.join("scope-1.released");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text + "{\"edition\"").unwrap();
                let read = store.load().unwrap();
                prop_assert_eq!(&read.scopes[&scope].own, &own);
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
