//! The definitions of tables by log position, for logs that name no columns (`binlog_row_metadata` other than FULL), and
//! for types that no log of MariaDB names, where a source wants them (`declared_types`).
//!
//! ```text
//! map without names ─▶ a version that is in force here?  ── yes ─▶ fits the map? ─▶ rows
//!                            │ no                                      │ no: stop
//!                            ▼
//!      ask the server, then read the log from here to there: no definition of this table between? ─▶ a new version
//! ```
//!
//! A version begins where it was proven, and ends at the next definition that concerns its table. Nothing is guessed: what
//! cannot be proven stops the stream, with the repair. Where metadata is FULL and no such type is wanted, nothing here is used
//! at all.

mod ask;
mod described;
mod disk;
mod scan;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tidemill_event::{Scn, TableName};
use tidemill_fetchers_api::FetchError;

use crate::ddl::Definition;
use crate::place::Place;

pub(crate) use ask::{Asker, Charsets, answer, charsets, describe, is_it};
pub(crate) use described::{Described, DescribedColumn, Misfit, is_incomplete, may_hide_types};
use disk::Disk;

/// A table's definition over a stretch of one server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// In force from here …
    from: Scn,
    /// … up to the definition that ended it.
    until: Option<Scn>,
    /// No definition of the table lies between `from` and here.
    proven: Scn,
    table: Arc<Described>,
}

impl Version {
    /// Whether a reader that began there has seen everything since this was last proven.
    fn is_followed(&self, since: Option<Scn>) -> bool {
        since.is_some_and(|since| self.proven >= since)
    }
}

/// What the store has for a table at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    InForce(Arc<Described>),
    /// It would be in force if no definition of the table lies between the first place and the reader.
    Unproven(Scn),
    Nothing,
}

/// What a server is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) table: TableName,
    /// Whose log it is.
    pub(crate) server: Arc<str>,
    /// Where the transaction begins that changes the table.
    pub(crate) here: Place,
    /// Up to where the stored version is proven.
    pub(crate) unproven: Option<Scn>,
}

/// What it answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The stored version is in force.
    StillInForce,
    /// The table's definition, which has not changed between the place of the question and this one.
    Described(Described, Scn),
    /// A definition of the table lies between, so that nobody has the one that is wanted any more: where, and its text.
    Changed(String, String),
    /// The server shows no such table.
    Unknown,
}

/// See the module.
pub(crate) struct Schemas {
    server: Arc<str>,
    versions: HashMap<TableName, Vec<Version>>,
    /// Where this reader began: from here on it has seen every definition.
    since: Option<Scn>,
    /// Set where the reader went to another server: what was in force at the end of the old log is at the beginning.
    moved: bool,
    disk: Option<Disk>,
}

impl Schemas {
    /// The versions of that server's log; kept in a directory, if there is one.
    pub(crate) fn open(directory: Option<&Path>, server: Arc<str>) -> Result<Schemas, FetchError> {
        let disk = directory.map(Disk::open).transpose()?;
        let versions = match &disk {
            Some(disk) => disk.load(&server)?,
            None => HashMap::new(),
        };
        Ok(Schemas { server, versions, since: None, moved: false, disk })
    }

    /// The reader takes in everything from here on.
    pub(crate) fn begin(&mut self, at: Scn) {
        if self.since.is_some() {
            return;
        }
        self.since = Some(at);
        if std::mem::take(&mut self.moved) {
            for version in self.versions.values_mut().flatten() {
                (version.from, version.proven) = (at, at);
            }
        }
    }

    /// The reader goes on at another server, where it has left this one.
    pub(crate) fn move_to(&mut self, server: Arc<str>) {
        let since = self.since.take();
        self.server = server;
        for versions in self.versions.values_mut() {
            versions.retain(|version| version.until.is_none() && version.is_followed(since));
        }
        self.moved = true;
    }

    /// What there is for a table at a place.
    pub(crate) fn find(&self, table: &TableName, at: Scn) -> Stored {
        let versions = self.versions.get(table).map_or(&[][..], Vec::as_slice);
        let covers = |v: &&Version| v.from <= at && v.until.is_none_or(|until| at < until);
        match versions.iter().rfind(covers) {
            Some(v) if v.until.is_some() || at <= v.proven || v.is_followed(self.since) => {
                Stored::InForce(Arc::clone(&v.table))
            }
            Some(version) => Stored::Unproven(version.proven),
            None => Stored::Nothing,
        }
    }

    /// A version that a server described, good from `from` on.
    pub(crate) fn add(
        &mut self,
        table: &TableName,
        from: Scn,
        proven: Scn,
        described: Described,
    ) -> Result<Arc<Described>, FetchError> {
        let described = Arc::new(described);
        let version = Version { from, until: None, proven: proven.max(from), table: Arc::clone(&described) };
        self.keep(table, &version)?;
        let versions = self.versions.entry(table.clone()).or_default();
        // What was open and could not be proven ends where its proof does.
        versions.retain(|other| other.from != from);
        for other in versions.iter_mut().filter(|other| other.until.is_none()) {
            other.until = Some(other.proven.min(from));
        }
        versions.push(version);
        Ok(described)
    }

    /// The stored version was proven up to here.
    pub(crate) fn prove(&mut self, table: &TableName, at: Scn) -> Result<(), FetchError> {
        let open = self.versions.get_mut(table).and_then(|versions| versions.last_mut());
        let Some(version) = open.filter(|version| version.until.is_none()) else { return Ok(()) };
        version.proven = version.proven.max(at);
        let version = version.clone();
        self.keep(table, &version)
    }

    /// A definition ends the versions of the tables that it concerns.
    pub(crate) fn close(&mut self, definition: &Definition, at: Scn) -> Result<(), FetchError> {
        let since = self.since;
        let mut ended = vec![];
        for (table, versions) in self.versions.iter_mut().filter(|(table, _)| definition.concerns(table)) {
            for version in versions.iter_mut().filter(|version| version.until.is_none() && version.from < at)
            {
                let end = if version.is_followed(since) { at } else { version.proven.min(at) };
                version.until = Some(end);
                ended.push((table.clone(), version.clone()));
            }
        }
        ended.iter().try_for_each(|(table, version)| self.keep(table, version))
    }

    /// Everything up to here was read: what is in force stays so, also for a reader that begins here.
    pub(crate) fn mark(&mut self, at: Scn) -> Result<(), FetchError> {
        let since = self.since;
        let mut moved = vec![];
        for (table, versions) in &mut self.versions {
            let open = |v: &&mut Version| v.until.is_none() && v.is_followed(since) && v.proven < at;
            for version in versions.iter_mut().filter(open) {
                version.proven = at;
                moved.push((table.clone(), version.clone()));
            }
        }
        moved.iter().try_for_each(|(table, version)| self.keep(table, version))
    }

    fn keep(&mut self, table: &TableName, version: &Version) -> Result<(), FetchError> {
        match &mut self.disk {
            Some(disk) => disk.keep(&self.server, table, version),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ddl::{Meaning, meaning};

    fn described(name: &str) -> Described {
        let column = described::DescribedColumn { name: name.into(), ..Default::default() };
        Described { columns: vec![column], key: vec![] }
    }

    fn definition(statement: &str) -> Definition {
        match meaning(statement, "shop", false) {
            Meaning::Schema(definition) => definition,
            other => panic!("{other:?}"),
        }
    }

    fn t() -> TableName {
        TableName::new("shop", "t")
    }

    /// The name of the only column of what is in force.
    fn in_force(schemas: &Schemas, at: u64) -> Option<String> {
        match schemas.find(&t(), Scn(at)) {
            Stored::InForce(table) => Some(table.columns[0].name.clone()),
            _ => None,
        }
    }

    #[test]
    fn l32_a_version_is_in_force_from_its_proof_to_the_next_definition() {
        let mut schemas = Schemas::open(None, "a".into()).unwrap();
        schemas.begin(Scn(10));
        assert_eq!(schemas.find(&t(), Scn(20)), Stored::Nothing);
        schemas.add(&t(), Scn(20), Scn(500), described("old")).unwrap();
        schemas.close(&definition("ALTER TABLE other FORCE"), Scn(30)).unwrap();
        schemas.close(&definition("ALTER TABLE T ADD c INT"), Scn(600)).unwrap();
        schemas.add(&t(), Scn(700), Scn(700), described("new")).unwrap();
        for (at, expected) in [
            (19, None),
            (20, Some("old")),
            (599, Some("old")),
            (600, None),
            (700, Some("new")),
            (9000, Some("new")),
        ] {
            assert_eq!(in_force(&schemas, at).as_deref(), expected, "{at}");
        }
    }

    #[test]
    fn l32_a_version_outlives_its_reader_only_as_far_as_it_was_proven() {
        let directory = tempfile::tempdir().unwrap();
        {
            let mut schemas = Schemas::open(Some(directory.path()), "a".into()).unwrap();
            schemas.begin(Scn(10));
            schemas.add(&t(), Scn(20), Scn(50), described("old")).unwrap();
            schemas.mark(Scn(90)).unwrap();
        }
        let open = |server: &str| Schemas::open(Some(directory.path()), server.into()).unwrap();
        // A reader that begins where the last one was proven follows on; one that begins later has a gap.
        let mut next = open("a");
        next.begin(Scn(90));
        assert_eq!(in_force(&next, 200).as_deref(), Some("old"));
        drop(next);
        let mut late = open("a");
        late.begin(Scn(91));
        assert_eq!(late.find(&t(), Scn(200)), Stored::Unproven(Scn(90)));
        // A definition that it meets ends the version where the proof ended.
        late.close(&definition("ALTER TABLE t FORCE"), Scn(300)).unwrap();
        assert_eq!((in_force(&late, 80).as_deref(), in_force(&late, 200)), (Some("old"), None));
        drop(late);
        let mut other = open("b");
        other.begin(Scn(20));
        assert_eq!(other.find(&t(), Scn(30)), Stored::Nothing);
    }

    #[test]
    fn what_is_in_force_where_a_reader_leaves_a_server_is_in_force_where_it_joins_another() {
        let mut schemas = Schemas::open(None, "a".into()).unwrap();
        schemas.begin(Scn(10));
        schemas.add(&t(), Scn(20), Scn(20), described("old")).unwrap();
        schemas.move_to("b".into());
        schemas.begin(Scn(5));
        assert_eq!((in_force(&schemas, 4), in_force(&schemas, 900).as_deref()), (None, Some("old")));
        schemas.close(&definition("DROP DATABASE shop"), Scn(40)).unwrap();
        assert_eq!(in_force(&schemas, 40), None);
    }
}
