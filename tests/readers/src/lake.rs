//! One table in a store, written by the real writer, beside the rows that it must have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_bootstrap_store::{
    BaseVersion, ChunkWriter, DeltaLake, MergeOptions, Retention, RunBuilder, Store, StoredSchema, Swept,
    TableId, TableKey, TablePhase, TableState, Writer, WriterOptions, merge_base, table_root, trim,
};
use tidemill_event::{Position, Scn};
use tidemill_world::objects;

use crate::rows::mix;
use crate::{Digest, Rows, Table, digest};

/// A store with one table in it.
#[derive(Debug)]
pub struct Lake {
    /// What it has.
    pub table: Table,
    /// The rows that it has now.
    pub rows: Rows,
    /// The digest of each version that was published, by its SCN.
    pub published: BTreeMap<u64, Digest>,
    /// What is kept of old versions.
    pub keep: Retention,
    writer: Writer,
    id: TableId,
    url: String,
    scn: u64,
    random: u64,
}

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

impl Lake {
    /// A store in that directory, with a table that is copied in chunks and published.
    pub async fn create(directory: &Path, table: Table, rows: Rows) -> Lake {
        Lake::create_at(&crate::readers::url(directory), &[], table, rows).await
    }

    /// As [`Lake::create`], at a URL and with the environment that leads there.
    pub async fn create_at(url: &str, settings: &[(String, String)], table: Table, rows: Rows) -> Lake {
        let objects = objects::open_with(url, settings.to_vec()).expect("the store opens");
        let store = Store::new(objects, "shop").with_url(url);
        let hints: Vec<Arc<dyn tidemill_bootstrap_store::Hints>> = vec![Arc::new(DeltaLake)];
        let options = WriterOptions { hints, ..WriterOptions::default() };
        let writer = store.open_writer(options).await.expect("nobody else writes");
        let (published, url) = (BTreeMap::new(), url.to_owned());
        // Whoever wants garbage to be collected says less.
        // The transactions of our windows were soon after 1970.
        let keep_deltas = Duration::from_secs(100 * 365 * 86_400);
        let keep = Retention { keep_versions: 100, keep_deltas, ..Retention::default() };
        let mut lake = Lake { table, rows, published, writer, id: 0, url, scn: 100, random: 1, keep };
        lake.copy().await;
        lake.publish().await;
        lake
    }

    /// The URL of the table's directory.
    pub fn url(&self) -> String {
        format!("{}/shop/{}", self.url, table_root(self.table.schema.name()))
    }

    /// The table's directory, where the store is one.
    pub fn path(&self) -> PathBuf {
        self.url().strip_prefix("file://").expect("the store is a directory").into()
    }

    /// What writes it.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// What a reader must see of the rows that there are now.
    pub fn digest(&self) -> Digest {
        digest(&self.table.batch(&self.rows))
    }

    /// Its state.
    pub fn state(&self) -> Arc<TableState> {
        Arc::clone(&self.writer.tables()[&self.id])
    }

    /// The first copy, three chunks in the order of the rows' numbers.
    async fn copy(&mut self) {
        let stored = StoredSchema::new(&self.table.schema, 1);
        let fields = self.table.schema.key().iter().map(|column| stored.columns[*column as usize].field);
        let key = TableKey::Columns { fields: fields.collect() };
        let root = table_root(self.table.schema.name());
        let (all, mut files): (Vec<_>, Vec<_>) = (self.rows.iter().collect(), vec![]);
        for (number, part) in (0..).zip(all.chunks(all.len().div_ceil(3).max(1))) {
            let mut chunk = ChunkWriter::new(self.writer.store(), &root, stored.clone(), key.clone());
            chunk.add(self.table.batch(part.iter().copied()));
            files.extend(chunk.finish(number, at(self.scn)).await.expect("the chunk is written"));
        }
        let (name, at) = (self.table.schema.name().clone(), at(self.scn));
        self.id = self
            .writer
            .commit(|draft| {
                let id = draft.next_table_id();
                let base = Some(BaseVersion { path: None, at, files });
                let next_field = stored.columns.len() as u32 + 1;
                let state = TableState {
                    phase: TablePhase::Ready,
                    base,
                    deltas_since: at,
                    ..TableState::new(id, name, stored, key)
                };
                assert_eq!(state.next_field, next_field);
                draft.tables.insert(id, state);
                draft.manifest.timelines = vec!["the-server".to_owned()];
                draft.manifest.applied.position = at;
                draft.manifest.logged.position = at;
                id
            })
            .await
            .expect("the copy is committed");
    }

    /// One transaction of that many changes of rows below that number: some appear, some change, some go.
    pub async fn change(&mut self, count: u64, below: u64) {
        let mut changes: BTreeMap<i64, _> = BTreeMap::new();
        for _ in 0..count {
            self.random = mix(self.random);
            let id = (self.random % below) as i64;
            let (before, seed) = (self.rows.get(&id).copied(), mix(self.random ^ 1));
            let after = (before.is_none() || !self.random.is_multiple_of(3)).then_some(seed);
            changes.entry(id).or_insert((before, after));
        }
        for (id, (_, after)) in &changes {
            match after {
                Some(seed) => self.rows.insert(*id, *seed),
                None => self.rows.remove(id),
            };
        }
        let changes: Vec<_> = changes.into_iter().map(|(id, (before, after))| (id, before, after)).collect();
        let (old, state) = (self.scn, self.state());
        self.scn += 10;
        let window = self.table.window(&changes, old, self.scn);
        let mut run = RunBuilder::new(state.schema.clone(), state.key.clone());
        run.add(&window, &window.tables[0], 1).expect("every value is there");
        let root = table_root(self.table.schema.name());
        let (after, upto, id) = (at(old), at(self.scn), self.id);
        let run = run.finish(self.writer.store(), &root, after, upto).await.expect("the run is written");
        self.writer
            .commit(|draft| {
                draft.tables.get_mut(&id).expect("it was made").runs.extend(run);
                draft.manifest.applied.position = upto;
                draft.manifest.logged.position = upto;
            })
            .await
            .expect("the run is committed");
    }

    /// Publishes a base version with everything.
    pub async fn publish(&mut self) {
        // Small files, so that there are some to be skipped, and to be linked.
        let options = MergeOptions {
            file_bytes: 8_000,
            file_bytes_min: 1_000,
            row_group_rows: 300,
            ..MergeOptions::default()
        };
        let (state, id, keep) = (self.state(), self.id, self.keep.clone());
        let now = WriterOptions::default().now_us;
        let merged = merge_base(self.writer.store(), &state, at(self.scn), &options).await;
        let (base, _) = merged.expect("the base is written");
        self.published.insert(self.scn, self.digest());
        self.writer
            .commit(|draft| {
                let table = draft.tables.get_mut(&id).expect("it was made");
                table.base = Some(base);
                table.merged_runs.append(&mut table.runs);
                trim(draft, &keep, now());
            })
            .await
            .expect("the base is committed");
    }

    /// Removes what is not kept any more, as it will be a year from now: whatever is not the newest is old by then.
    pub async fn collect(&self) -> Swept {
        let now = WriterOptions::default().now_us;
        let year = Duration::from_secs(365 * 86_400).as_micros() as i64;
        self.writer.collect_garbage(&self.keep, now() + year).await.expect("garbage is collected")
    }
}
