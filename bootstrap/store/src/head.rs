//! The newest commit as its writer knows it, and the next one made of a draft: which table states are new, what the
//! manifest says. Nothing is written to the store here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::manifest::FORMAT;
use crate::{
    Draft, Manifest, Mark, ObjectRef, StoreError, TableId, TableRef, TableState, WriterOptions, random_id,
};

/// A commit with its table states.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) tables: BTreeMap<TableId, Arc<TableState>>,
}

/// A commit that is to be written.
pub(crate) struct Next {
    pub(crate) head: Head,
    /// The table states that are new, each with where it goes.
    pub(crate) states: Vec<(ObjectRef, Bytes)>,
}

/// What is there before the first commit.
pub(crate) fn nothing(source: &str) -> Manifest {
    Manifest {
        format: FORMAT,
        number: 0,
        commit_id: String::new(),
        epoch: 0,
        writer: String::new(),
        time_us: 0,
        source: source.to_owned(),
        timelines: Vec::new(),
        applied: Mark::default(),
        logged: Mark::default(),
        log: Vec::new(),
        tables: BTreeMap::new(),
        next_table: 1,
        dropped: Vec::new(),
    }
}

impl Head {
    pub(crate) fn draft(&self) -> Draft {
        let tables = self.tables.iter().map(|(id, table)| (*id, TableState::clone(table)));
        Draft { manifest: Manifest::clone(&self.manifest), tables: tables.collect() }
    }

    /// The commit that takes the store over: nothing else is changed.
    pub(crate) fn taken_over(&self, options: &WriterOptions) -> Head {
        let mut manifest = Manifest::clone(&self.manifest);
        manifest.epoch += 1;
        self.sign(&mut manifest, options);
        Head { manifest: Arc::new(manifest), tables: self.tables.clone() }
    }

    /// The commit that makes the draft the head; `None`: it is.
    pub(crate) fn next(&self, draft: Draft, options: &WriterOptions) -> Result<Option<Next>, StoreError> {
        draft.check(&self.manifest)?;
        let Draft { mut manifest, tables: drafted } = draft;
        let (mut refs, mut tables, mut states) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (id, table) in drafted {
            let key = table.name.to_string();
            let before = self.tables.get(&id);
            if let Some(before) = before.filter(|before| ***before == table) {
                let same = self.state_of(before);
                refs.insert(key, same);
                tables.insert(id, Arc::clone(before));
                continue;
            }
            let table = with_older(table, before);
            let bytes =
                Bytes::from(serde_json::to_vec(&table).expect("states have text keys and cannot fail"));
            let state = ObjectRef {
                path: format!("_meta/table/{id}/{}.json", random_id()),
                bytes: bytes.len() as u64,
                crc32c: crc32c::crc32c(&bytes),
            };
            refs.insert(key, TableRef { id, state: state.clone() });
            tables.insert(id, Arc::new(table));
            states.push((state, bytes));
        }
        manifest.tables = refs;
        let is_same = Manifest {
            number: self.manifest.number,
            commit_id: self.manifest.commit_id.clone(),
            epoch: self.manifest.epoch,
            writer: self.manifest.writer.clone(),
            time_us: self.manifest.time_us,
            ..manifest.clone()
        } == *self.manifest;
        if is_same {
            return Ok(None);
        }
        manifest.epoch = self.manifest.epoch;
        self.sign(&mut manifest, options);
        Ok(Some(Next { head: Head { manifest: Arc::new(manifest), tables }, states }))
    }

    fn state_of(&self, table: &TableState) -> TableRef {
        let name = table.name.to_string();
        self.manifest.tables.get(&name).expect("the head names each of its tables").clone()
    }

    fn sign(&self, manifest: &mut Manifest, options: &WriterOptions) {
        manifest.number = self.manifest.number + 1;
        manifest.commit_id = random_id();
        manifest.writer.clone_from(&options.writer);
        manifest.time_us = (options.now_us)();
    }
}

/// The directory of the version that is replaced becomes an older one.
fn with_older(mut table: TableState, before: Option<&Arc<TableState>>) -> TableState {
    let path = |table: &TableState| table.base.as_ref().and_then(|base| base.path.clone());
    if let Some(replaced) = before.and_then(|before| path(before))
        && path(&table).as_ref() != Some(&replaced)
        && !table.older.contains(&replaced)
    {
        table.older.push(replaced);
    }
    table
}
