//! The table side of snapshot storage: base merge and merge on read, and what a merge costs as the table grows.
//!
//! `cargo bench -p tidemill-bootstrap-store -- [--rows N] [--changes N] [--rounds N] [--file-mb N] [scan|merge|build|grow]`; one JSON object
//! a line. Rows per CPU second count base rows and changes.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use object_store::local::LocalFileSystem;
use tidemill_bootstrap_store::*;
use tidemill_event::{
    ColumnSchema, Part, Phase, Position, RowKind, Scn, Span, TableChanges, TableName, TableSchema, Timeline,
    Transaction, Window,
};
use tidemill_world::usage::Usage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROOT: &str = "bench.orders";
/// Rows of a base file when it is made: 32 files for 5 million.
const FILE_ROWS: u64 = 160_000;
const WINDOW_ROWS: u64 = 5_000;

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn at(scn: u64) -> Position {
    Position { timeline: 1, scn: Scn(scn) }
}

fn schema() -> Arc<TableSchema> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("customer", DataType::Int32, "int", false),
        ColumnSchema::new("status", DataType::Utf8, "varchar(20)", false),
        ColumnSchema::new("amount", DataType::Decimal128(12, 2), "decimal(12,2)", false),
        ColumnSchema::new("created", time.clone(), "datetime(6)", false),
        ColumnSchema::new("updated", time, "datetime(6)", true),
        ColumnSchema::new("note", DataType::Utf8, "varchar(100)", true),
        ColumnSchema::new("weight", DataType::Float64, "double", true),
        ColumnSchema::new("flags", DataType::Int8, "tinyint", false),
    ];
    TableSchema::new(TableName::new("bench", "orders"), columns, vec![0])
}

fn rows(schema: &TableSchema, ids: &[u64], random: &mut Random) -> RecordBatch {
    let status = ["new", "paid", "packed", "sent", "returned"];
    let time = |random: &mut Random| 1_700_000_000_000_000 + random.below(30_000_000) as i64 * 1_000_000;
    let amounts: Decimal128Array = ids.iter().map(|_| Some(i128::from(random.below(1_000_000)))).collect();
    let notes = ids.iter().map(|id| {
        (!id.is_multiple_of(4))
            .then(|| format!("{} for {}", status[random.below(5) as usize], random.below(50_000)))
    });
    let notes: StringArray = notes.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.iter().map(|id| Some(*id as i64)).collect::<Int64Array>()),
        Arc::new(ids.iter().map(|_| Some(random.below(200_000) as i32)).collect::<Int32Array>()),
        Arc::new(ids.iter().map(|_| Some(status[random.below(5) as usize])).collect::<StringArray>()),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(ids.iter().map(|_| Some(time(random))).collect::<TimestampMicrosecondArray>()),
        Arc::new(
            ids.iter()
                .map(|id| (!id.is_multiple_of(3)).then(|| time(random)))
                .collect::<TimestampMicrosecondArray>(),
        ),
        Arc::new(notes),
        Arc::new(ids.iter().map(|_| Some(random.below(10_000) as f64 / 8.0)).collect::<Float64Array>()),
        Arc::new(ids.iter().map(|_| Some(random.below(4) as i8)).collect::<Int8Array>()),
    ];
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()
}

struct Bench {
    store: Store,
    schema: Arc<TableSchema>,
    state: TableState,
    rows: u64,
    random: Random,
    scn: u64,
    options: MergeOptions,
    _directory: tempfile::TempDir,
}

#[derive(Clone, Copy)]
enum Keys {
    Random,
    Tail,
}

impl Bench {
    /// A base of so many rows: ids are even, so that odd ones are new.
    async fn new(rows_wanted: u64, options: MergeOptions) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Store::new(Arc::new(LocalFileSystem::new_with_prefix(directory.path()).unwrap()), "bench");
        let schema = schema();
        let stored = StoredSchema::new(&schema, 1);
        let key = TableKey::Columns { fields: vec![1] };
        let mut random = Random(7);
        let mut files = vec![];
        for first in (0..rows_wanted).step_by(FILE_ROWS as usize) {
            let mut writer = ChunkWriter::new(&store, ROOT, stored.clone(), key.clone());
            let ids: Vec<u64> = (first..(first + FILE_ROWS).min(rows_wanted)).map(|id| 2 * id).collect();
            ids.chunks(8192).for_each(|ids| writer.add(rows(&schema, ids, &mut random)));
            files.extend(writer.finish(0, at(1)).await.unwrap());
        }
        let name = TableName::new("bench", "orders");
        let mut state = TableState::new(1, name, stored, key);
        state.phase = TablePhase::Ready;
        state.base = Some(BaseVersion { path: Some("made".to_owned()), at: at(1), files });
        Bench { store, schema, state, rows: rows_wanted, random, scn: 1, options, _directory: directory }
    }

    fn base_bytes(&self) -> u64 {
        self.state.base.iter().flat_map(|base| &base.files).map(|file| file.object.bytes).sum()
    }

    /// 70 % updates, 20 % new rows, 10 % deletes.
    async fn change(&mut self, changes: u64, runs: u64, keys: Keys) {
        for _ in 0..runs {
            let mut builder = RunBuilder::new(self.state.schema.clone(), self.state.key.clone());
            let after = at(self.scn);
            for first in (0..changes / runs).step_by(WINDOW_ROWS as usize) {
                let count = WINDOW_ROWS.min(changes / runs - first);
                let window = self.window(count, keys);
                builder.add(&window, &window.tables[0], 1).unwrap();
            }
            let run = builder.finish(&self.store, ROOT, after, at(self.scn)).await.unwrap();
            self.state.runs.extend(run);
        }
    }

    fn window(&mut self, count: u64, keys: Keys) -> Window {
        let (mut ids, mut kinds) = (vec![], vec![]);
        for _ in 0..count {
            let kind = match self.random.below(10) {
                0 => RowKind::Delete,
                1 | 2 => RowKind::Insert,
                _ => RowKind::UpdateAfter,
            };
            let id = match keys {
                Keys::Random => self.random.below(self.rows),
                Keys::Tail => self.rows - 1 - self.random.below(100_000.min(self.rows)),
            };
            ids.push(match (kind, keys) {
                (RowKind::Insert, Keys::Random) => 2 * id + 1,
                (RowKind::Insert, Keys::Tail) => 2 * (self.rows + self.random.below(100_000)),
                _ => 2 * id,
            });
            kinds.push(kind as u8);
        }
        let changes = TableChanges {
            schema: Arc::clone(&self.schema),
            rows: rows(&self.schema, &ids, &mut self.random),
            absent: vec![],
            txn: vec![0; kinds.len()].into(),
            ordinal: (0..kinds.len() as u32).collect::<Vec<u32>>().into(),
            kind: kinds.into(),
        };
        let transaction = Transaction {
            scn: Scn(self.scn + 1),
            gtid: String::new(),
            commit_time_us: 0,
            first_ordinal: 0,
            change_count: count as u32,
            change_offset: 0,
            part: Part::Whole,
        };
        self.scn += 1;
        Window {
            source: "bench".into(),
            timeline: Timeline { number: 1, server: "s".into() },
            span: Span { after: Scn(self.scn - 1), upto: Scn(self.scn) },
            executed: "".into(),
            transactions: vec![transaction],
            tables: vec![changes],
            events: vec![],
            phase: Phase::Stream,
        }
    }

    async fn scan(&self) {
        let measure = Measure::begin();
        let reader = TableReader::new(self.store.clone(), Arc::new(self.state.clone()), at(self.scn));
        let mut scan = reader.scan(ScanOptions::default());
        let mut live = 0;
        while let Some(batch) = scan.next().await.unwrap() {
            live += batch.rows.num_rows() as u64;
        }
        let changes: u64 = self.state.runs.iter().map(|run| run.rows).sum();
        let name = format!("scan, {} runs", self.state.runs.len());
        measure.end(&name, self.rows + changes, &format!(r#""live":{live},"changes":{changes}"#));
    }

    async fn merge(&self, name: &str) {
        let measure = Measure::begin();
        let (base, stats) = merge_base(&self.store, &self.state, at(self.scn), &self.options).await.unwrap();
        let more = format!(
            r#""base_rows":{},"base_mb":{},"written_rows":{},"written_mb":{},"files_written":{},"files_kept":{}"#,
            self.rows,
            self.base_bytes() / 1_000_000,
            stats.rows_written,
            stats.bytes_written / 1_000_000,
            stats.files_written,
            stats.files_kept,
        );
        measure.end(name, stats.base_rows_read + stats.delta_rows, &more);
        for object in base.files {
            std::fs::remove_file(self._directory.path().join("bench").join(object.object.path)).unwrap();
        }
    }
}

struct Measure(f64, Instant);

impl Measure {
    fn begin() -> Measure {
        Usage::forget_peak();
        Measure(Usage::now().cpu.as_secs_f64(), Instant::now())
    }

    fn end(self, name: &str, rows: u64, more: &str) {
        let (cpu, wall) = (Usage::now().cpu.as_secs_f64() - self.0, self.1.elapsed().as_secs_f64());
        println!(
            r#"{{"bench":"{name}","rows":{rows},"cpu_s":{cpu:.2},"wall_s":{wall:.2},"rows_per_cpu_s":{:.0},{more},"peak_rss_mib":{:.0}}}"#,
            rows as f64 / cpu,
            Usage::now().peak_rss as f64 / f64::from(1 << 20),
        );
    }
}

async fn grow(rows: u64, changes: u64, options: &MergeOptions) {
    for rows in [rows / 100, rows / 10, rows] {
        for (name, keys) in [("random", Keys::Random), ("tail", Keys::Tail)] {
            let mut bench = Bench::new(rows, options.clone()).await;
            bench.change(changes, 1, keys).await;
            bench.merge(&format!("merge, {changes} changes of {name} keys")).await;
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].as_str());
    let number = |name: &str, default: u64| text(name).map_or(default, |n| n.parse().unwrap());
    let (rows, changes) = (number("--rows", 5_000_000), number("--changes", 500_000));
    let file_mb = number("--file-mb", 12);
    let options =
        MergeOptions { file_bytes: file_mb << 20, file_bytes_min: 1 << 20, ..MergeOptions::default() };
    let wanted = |what: &str| {
        let named: Vec<&String> =
            arguments.iter().filter(|a| ["scan", "merge", "build", "grow"].contains(&&a[..])).collect();
        named.is_empty() || named.iter().any(|name| *name == what)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if ["scan", "merge", "build"].into_iter().any(wanted) {
            let mut bench = Bench::new(rows, options.clone()).await;
            let measure = Measure::begin();
            bench.change(changes, 16, Keys::Random).await;
            measure.end("make and build 16 runs", changes, r#""base":0"#);
            for _ in 0..number("--rounds", 2) {
                if wanted("scan") {
                    bench.scan().await;
                }
                if wanted("merge") {
                    bench.merge("merge").await;
                }
            }
        }
        if wanted("grow") {
            grow(rows, changes / 250, &options).await;
        }
    });
}
