//! What it costs to come back after an hour: the last state of every key that changed, or the table whole, as more of the hour's
//! changes are updates; and which of the two the chooser takes. Served by a relay over HTTP, read by the client library.
//!
//! `cargo bench -p tidemill-bootstrap-service --bench chooser -- [--rows N] [--changes N] [--runs N] [--rounds N] [--json]`
//!
//! The table has `--rows` rows when the hour begins, and `--changes` changes come in `--runs` runs: inserts behind the last key,
//! and updates of any. "merged" is the table after its base took the runs in, as it is most of the time; "fresh" is before. Times
//! are processor seconds of relay and client together, the smaller of `--rounds` readings.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use object_store::local::LocalFileSystem;
use tidemill_bootstrap_service::{ServeLimits, SnapshotServer};
use tidemill_bootstrap_store::{
    BaseVersion, ChunkWriter, Mark, MergeOptions, RunBuilder, Store, StoredSchema, TableId, TableKey,
    TablePhase, TableState, Writer, WriterOptions, merge_base,
};
use tidemill_client::{Bootstrap, Piece, RelayBootstrap, RelayOptions};
use tidemill_event::{
    Checkpoint, ColumnSchema, Part, Phase, Position, RowKind, Scn, Span, TableChanges, TableName,
    TableSchema, Timeline, Transaction, Window,
};
use tidemill_relay::{
    Nobody, Relay, RelayConfig, RelayParts, ServingMetrics, SnapshotAsked, SnapshotPath, SnapshotReading,
    Snapshots, SnapshotsServed,
};
use tidemill_world::usage::Usage;
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROOT: &str = "bench.orders";
const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const FILE_ROWS: u64 = 160_000;
const WINDOW_ROWS: u64 = 5_000;
const RATIOS: [u64; 9] = [0, 1, 5, 10, 25, 50, 75, 90, 99];

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

fn executed(scn: u64) -> String {
    format!("{SERVER}:1-{scn}")
}

fn mark(scn: u64) -> Mark {
    Mark { position: at(scn), executed: executed(scn), time_us: scn as i64 * 1_000_000 }
}

fn schema() -> Arc<TableSchema> {
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("customer", DataType::Int32, "int", false),
        ColumnSchema::new("amount", DataType::Decimal128(12, 2), "decimal(12,2)", false),
        ColumnSchema::new("state", DataType::Utf8, "varchar(20)", false),
        ColumnSchema::new("note", DataType::Utf8, "varchar(100)", true),
    ];
    TableSchema::new(TableName::new("bench", "orders"), columns, vec![0])
}

fn rows(schema: &TableSchema, ids: &[u64], random: &mut Random) -> RecordBatch {
    let states = ["new", "paid", "packed", "sent", "returned"];
    let amounts: Decimal128Array = ids.iter().map(|_| Some(i128::from(random.below(1_000_000)))).collect();
    let notes: StringArray = ids
        .iter()
        .map(|id| (!id.is_multiple_of(4)).then(|| format!("{} left at the door", random.below(50_000))))
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.iter().map(|id| Some(*id as i64)).collect::<Int64Array>()),
        Arc::new(ids.iter().map(|_| Some(random.below(200_000) as i32)).collect::<Int32Array>()),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(ids.iter().map(|_| Some(states[random.below(5) as usize])).collect::<StringArray>()),
        Arc::new(notes),
    ];
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()
}

/// A store with one table.
struct Shop {
    store: Store,
    writer: Writer,
    id: TableId,
    schema: Arc<TableSchema>,
    random: Random,
    rows: u64,
    scn: u64,
    _directory: tempfile::TempDir,
}

impl Shop {
    async fn new(rows_wanted: u64) -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let objects = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        let store = Store::new(Arc::new(objects), "bench");
        let options = WriterOptions { writer: "bench".into(), ..WriterOptions::default() };
        let writer = store.open_writer(options).await.unwrap();
        let (schema, mut random) = (schema(), Random(7));
        let (stored, key) = (StoredSchema::new(&schema, 1), TableKey::Columns { fields: vec![1] });
        let mut files = vec![];
        for first in (0..rows_wanted).step_by(FILE_ROWS as usize) {
            let mut chunk = ChunkWriter::new(&store, ROOT, stored.clone(), key.clone());
            let ids: Vec<u64> = (first..(first + FILE_ROWS).min(rows_wanted)).collect();
            ids.chunks(8192).for_each(|ids| chunk.add(rows(&schema, ids, &mut random)));
            files.extend(chunk.finish(0, at(1)).await.unwrap());
        }
        let id = writer
            .commit(move |draft| {
                let id = draft.next_table_id();
                let mut state = TableState::new(id, TableName::new("bench", "orders"), stored, key);
                (state.phase, state.deltas_since) = (TablePhase::Ready, at(1));
                state.base = Some(BaseVersion { path: Some("made".to_owned()), at: at(1), files });
                draft.tables.insert(id, state);
                draft.manifest.timelines = vec![SERVER.into()];
                (draft.manifest.applied, draft.manifest.logged) = (mark(1), mark(1));
                id
            })
            .await
            .unwrap();
        Shop { store, writer, id, schema, random, rows: rows_wanted, scn: 1, _directory: directory }
    }

    /// An hour of changes, of which so many in a hundred are updates.
    async fn change(&mut self, changes: u64, runs: u64, updates: u64) {
        for _ in 0..runs {
            let state = Arc::clone(&self.writer.tables()[&self.id]);
            let mut builder = RunBuilder::new(state.schema.clone(), state.key.clone());
            let after = at(self.scn);
            for first in (0..changes / runs).step_by(WINDOW_ROWS as usize) {
                let window = self.window(WINDOW_ROWS.min(changes / runs - first), updates);
                builder.add(&window, &window.tables[0], 1).unwrap();
            }
            let run = builder.finish(&self.store, ROOT, after, at(self.scn)).await.unwrap();
            let (id, upto) = (self.id, self.scn);
            self.writer
                .commit(move |draft| {
                    draft.tables.get_mut(&id).unwrap().runs.extend(run.clone());
                    (draft.manifest.applied, draft.manifest.logged) = (mark(upto), mark(upto));
                })
                .await
                .unwrap();
        }
    }

    fn window(&mut self, count: u64, updates: u64) -> Window {
        let (mut ids, mut kinds) = (vec![], vec![]);
        for _ in 0..count {
            let is_update = self.random.below(100) < updates;
            ids.push(if is_update { self.random.below(self.rows) } else { self.rows });
            self.rows += u64::from(!is_update);
            kinds.push(if is_update { RowKind::UpdateAfter } else { RowKind::Insert } as u8);
        }
        let changes = TableChanges {
            schema: Arc::clone(&self.schema),
            rows: rows(&self.schema, &ids, &mut self.random),
            absent: vec![],
            txn: vec![0; kinds.len()].into(),
            ordinal: (0..kinds.len() as u32).collect::<Vec<u32>>().into(),
            kind: kinds.into(),
        };
        self.scn += 1;
        let transaction = Transaction {
            scn: Scn(self.scn),
            gtid: format!("{SERVER}:{}", self.scn),
            commit_time_us: 0,
            first_ordinal: 0,
            change_count: count as u32,
            change_offset: 0,
            part: Part::Whole,
        };
        let span = Span { after: Scn(self.scn - 1), upto: Scn(self.scn) };
        let timeline = Timeline { number: 1, server: SERVER.into() };
        let empty = Window::empty("bench".into(), timeline, span, executed(self.scn).into());
        Window { transactions: vec![transaction], tables: vec![changes], ..empty }
    }

    /// A new base takes the runs in; they stay for whoever reads deltas.
    async fn merge(&self) {
        let state = Arc::clone(&self.writer.tables()[&self.id]);
        let (base, _) =
            merge_base(&self.store, &state, at(self.scn), &MergeOptions::default()).await.unwrap();
        let id = self.id;
        self.writer
            .commit(move |draft| {
                let state = draft.tables.get_mut(&id).unwrap();
                state.base = Some(base.clone());
                let merged = std::mem::take(&mut state.runs);
                state.merged_runs.extend(merged);
            })
            .await
            .unwrap();
    }
}

/// Serves a store in one way, whatever is asked for.
struct Forced(SnapshotServer, SnapshotPath);

impl Snapshots for Forced {
    fn open(&self, asked: SnapshotAsked) -> Box<dyn SnapshotReading> {
        self.0.open(SnapshotAsked { path: self.1, ..asked })
    }
}

/// One reading.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    wall: Duration,
    rows: u64,
}

impl Cost {
    fn less(self, other: Cost) -> Cost {
        assert_eq!(self.rows, other.rows, "a path gives the same each time");
        Cost { cpu: self.cpu.min(other.cpu), wall: self.wall.min(other.wall), rows: self.rows }
    }
}

/// Everything that comes to whoever was away since position 1.
async fn read(store: &Store, path: SnapshotPath) -> Cost {
    // A server that was started just now: nothing is remembered.
    let store = Store::new(Arc::clone(store.objects()), "bench");
    let server = SnapshotServer::new(store, ServeLimits::default());
    let parts = RelayParts {
        served: vec![],
        snapshots: vec![SnapshotsServed {
            source: "bench".into(),
            snapshots: Arc::new(Forced(server, path)),
        }],
        guests: Arc::new(Nobody),
        operator: Arc::new(Nobody),
        metrics: ServingMetrics::default(),
    };
    let relay = Relay::new(RelayConfig::new("127.0.0.1:0".parse().unwrap()), parts).unwrap();
    let (url, stop) = (format!("http://{}", relay.address()), watch::Sender::new(false));
    let ended = tokio::spawn(relay.run(stop.subscribe()));
    let mut have = Checkpoint {
        source: "bench".into(),
        server: SERVER.into(),
        position: at(1),
        gtid_set: executed(1),
        phase: Phase::Stream,
    };
    let (cpu, began, mut rows) = (Usage::now().cpu, Instant::now(), 0);
    let mut client = RelayBootstrap::new(RelayOptions::new("bench", [url])).unwrap();
    while let Piece::Window(window) = client.next(Some(&have)).await.unwrap() {
        rows += window.row_count() as u64;
        have = window.checkpoint();
    }
    let cost = Cost { cpu: Usage::now().cpu - cpu, wall: began.elapsed(), rows };
    drop(client);
    stop.send_replace(true);
    ended.await.unwrap().unwrap();
    cost
}

/// The least of several readings of each path, one after the other so that what disturbs hits all.
async fn measure(store: &Store, rounds: u64) -> [Cost; 3] {
    let paths = [SnapshotPath::Deltas, SnapshotPath::Whole, SnapshotPath::Auto];
    let mut least: [Option<Cost>; 3] = [None; 3];
    for _ in 0..rounds {
        for (path, least) in paths.into_iter().zip(&mut least) {
            let cost = read(store, path).await;
            *least = Some(least.map_or(cost, |least| least.less(cost)));
        }
    }
    least.map(|cost| cost.expect("there is a round"))
}

fn report(state: &str, updates: u64, [deltas, whole, auto]: [Cost; 3], as_json: bool) {
    let picked = if auto.rows == deltas.rows { "deltas" } else { "whole" };
    let better = deltas.cpu.min(whole.cpu);
    let taken = if picked == "deltas" { deltas.cpu } else { whole.cpu };
    let over = taken.as_secs_f64() / better.as_secs_f64() * 100.0 - 100.0;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    if as_json {
        println!(
            r#"{{"state":"{state}","updates_percent":{updates},"deltas_rows":{},"deltas_cpu_ms":{:.0},"deltas_wall_ms":{:.0},"whole_rows":{},"whole_cpu_ms":{:.0},"whole_wall_ms":{:.0},"auto_cpu_ms":{:.0},"auto_wall_ms":{:.0},"picked":"{picked}","over_better_percent":{over:.0}}}"#,
            deltas.rows,
            ms(deltas.cpu),
            ms(deltas.wall),
            whole.rows,
            ms(whole.cpu),
            ms(whole.wall),
            ms(auto.cpu),
            ms(auto.wall),
        );
    } else {
        println!(
            "| {state} | {updates} % | {} rows, {:.0} ms | {} rows, {:.0} ms | {picked}, {:.0} ms | {over:.0} % |",
            deltas.rows,
            ms(deltas.cpu),
            whole.rows,
            ms(whole.cpu),
            ms(auto.cpu),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].as_str());
    let number = |name: &str, default: u64| text(name).map_or(default, |n| n.parse().unwrap());
    let (rows, changes) = (number("--rows", 1_000_000), number("--changes", 1_000_000));
    let (runs, rounds) = (number("--runs", 12), number("--rounds", 3));
    let as_json = arguments.iter().any(|a| a == "--json");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if !as_json {
            println!(
                "| table | updates | deltas | whole | chosen | over the better |\n|---|---|---|---|---|---|"
            );
        }
        for updates in RATIOS {
            let mut shop = Shop::new(rows).await;
            shop.change(changes, runs, updates).await;
            report("fresh", updates, measure(&shop.store, rounds).await, as_json);
            shop.merge().await;
            report("merged", updates, measure(&shop.store, rounds).await, as_json);
        }
    });
}
