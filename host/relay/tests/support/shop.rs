//! A small shop: a log with transactions over three tables, the guests that subscriptions may name, and answers as what
//! a subscriber gets.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use bytes::Bytes;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tidemill_event::{
    Checkpoint, ColumnSchema, Decoded, Frame, FrameHeader, Part, Position, RowKind, SchemaSet, Scn, Span,
    TableChanges, TableName, TableSchema, Timeline, Transaction, Window, decode,
};
use tidemill_log::{Fsync, Log, LogConfig, Writer};
use tidemill_relay::{
    Answer, AnswerConfig, Answers, Asked, Begin, Encoding, Format, Guests, Meter, Problem, Selection, Served,
    TablePattern,
};
use tidemill_sandbox::{FilterStage, GuestConfig, Module, ProjectionStage, Sandbox, SandboxConfig};
use tokio::sync::watch;

const DAY: Duration = Duration::from_secs(86_400);

/// One row image: id, name, note.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub id: Option<i64>,
    pub name: Option<String>,
    pub note: Option<String>,
}

pub fn row(id: i64, name: &str) -> Row {
    Row { id: Some(id), name: Some(name.into()), note: Some(format!("note {id}")) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Insert(Row),
    Update(Row, Row),
    Delete(Row),
}

/// A transaction: its SCN, and changes by the number of their table.
#[derive(Clone, Debug)]
pub struct Commit(pub u64, pub Vec<(usize, Change)>);

/// `shop.orders` (key id), `shop.parts` (key name, id), `bank.notes` (no key).
pub fn schema(table: usize) -> Arc<TableSchema> {
    let (database, name, key) =
        [("shop", "orders", vec![0]), ("shop", "parts", vec![1, 0]), ("bank", "notes", vec![])][table]
            .clone();
    let columns = vec![
        ColumnSchema::new("id", DataType::Int64, "bigint", false),
        ColumnSchema::new("name", DataType::Utf8, "varchar(40)", true),
        ColumnSchema::new("note", DataType::Utf8, "text", true),
    ];
    TableSchema::new(TableName::new(database, name), columns, key)
}

/// As `shop.orders`, with one column more.
pub fn wider_orders() -> Arc<TableSchema> {
    let mut columns = schema(0).columns().to_vec();
    columns.push(ColumnSchema::new("paid", DataType::Boolean, "tinyint(1)", true));
    TableSchema::new(TableName::new("shop", "orders"), columns, vec![0])
}

pub fn at(timeline: u32, scn: u64) -> Position {
    Position { timeline, scn: Scn(scn) }
}

/// The time at which the transaction with that SCN committed.
pub fn time_of(scn: u64) -> i64 {
    1_700_000_000_000_000 + scn as i64 * 1_000
}

/// The transactions, in a window after that SCN.
pub fn window(after: u64, commits: &[Commit]) -> Window {
    let mut ordinal = 0;
    let transaction = |commit: &Commit| {
        let first_ordinal = ordinal;
        ordinal += commit.1.len() as u32;
        Transaction {
            scn: Scn(commit.0),
            gtid: format!("server-1:{}", commit.0),
            commit_time_us: time_of(commit.0),
            first_ordinal,
            change_count: commit.1.len() as u32,
            change_offset: 0,
            part: Part::Whole,
        }
    };
    let transactions: Vec<Transaction> = commits.iter().map(transaction).collect();
    let upto = commits.last().map_or(after, |commit| commit.0);
    let window = Window {
        source: "shop".into(),
        timeline: Timeline { number: 1, server: "server-1".into() },
        span: Span { after: Scn(after), upto: Scn(upto) },
        executed: format!("server-1:1-{upto}").into(),
        transactions,
        tables: (0..3).filter_map(|table| changes(table, commits)).collect(),
        events: vec![],
        phase: tidemill_event::Phase::Stream,
    };
    window.validate().expect("the test's window keeps the rules");
    window
}

fn changes(table: usize, commits: &[Commit]) -> Option<TableChanges> {
    let (mut rows, mut kind, mut ordinals, mut txns) = (vec![], vec![], vec![], vec![]);
    let mut ordinal = 0;
    for (txn, commit) in commits.iter().enumerate() {
        for (of, change) in &commit.1 {
            let mut push = |row: &Row, k: RowKind| {
                rows.push(row.clone());
                kind.push(k as u8);
                ordinals.push(ordinal);
                txns.push(txn as u32);
            };
            match change {
                _ if *of != table => {}
                Change::Insert(row) => push(row, RowKind::Insert),
                Change::Delete(row) => push(row, RowKind::Delete),
                Change::Update(before, after) => {
                    push(before, RowKind::UpdateBefore);
                    push(after, RowKind::UpdateAfter);
                }
            }
            ordinal += 1;
        }
    }
    let schema = schema(table);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.name.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.note.clone()).collect::<StringArray>()),
    ];
    (!rows.is_empty()).then(|| TableChanges {
        rows: RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap(),
        schema,
        absent: vec![],
        kind: kind.into(),
        ordinal: ordinals.into(),
        txn: txns.into(),
    })
}

/// A window of one inserted order a transaction.
pub fn inserts(after: u64, scns: &[u64]) -> Window {
    let one = |scn: &u64| Commit(*scn, vec![(0, Change::Insert(row(*scn as i64, "open")))]);
    window(after, &scns.iter().map(one).collect::<Vec<_>>())
}

/// The same as a part of the one transaction that it holds. Only the last part moves the position.
pub fn part(mut window: Window, part: Part, change_offset: u64) -> Window {
    window.transactions[0].part = part;
    window.transactions[0].change_offset = change_offset;
    if !part.completes() {
        window.span.upto = window.span.after;
        window.executed = format!("server-1:1-{}", window.span.after).into();
    }
    window
}

/// A row image of a window, as something to compare: `database.table`, SCN, number of the change, kind, row.
pub type Image = (String, u64, u64, RowKind, Row);

/// Every row image of the windows, in commit order.
pub fn images<'a>(windows: impl IntoIterator<Item = &'a Window>) -> Vec<Image> {
    windows.into_iter().flat_map(images_of).collect()
}

fn images_of(window: &Window) -> Vec<Image> {
    let mut images: Vec<(u32, Image)> = vec![];
    for table in &window.tables {
        let text = |column: &str, row: usize| {
            let array = table.rows.column(table.schema.column(column)?).as_string::<i32>();
            (!array.is_null(row)).then(|| array.value(row).to_owned())
        };
        let ids = table.rows.column(table.schema.column("id").unwrap()).as_primitive::<Int64Type>();
        for row in 0..table.rows.num_rows() {
            let txn = &window.transactions[table.txn[row] as usize];
            let id = (!ids.is_null(row)).then(|| ids.value(row));
            let image = Row { id, name: text("name", row), note: text("note", row) };
            let kind = RowKind::from_u8(table.kind[row]).unwrap();
            let number = txn.change_number(table.ordinal[row]);
            images.push((
                table.ordinal[row],
                (table.schema.name().to_string(), txn.scn.0, number, kind, image),
            ));
        }
    }
    images.sort_by_key(|(ordinal, _)| *ordinal);
    images.into_iter().map(|(_, image)| image).collect()
}

/// A source with its log and its writer.
pub struct Shop {
    pub served: Served,
    pub writer: Writer,
    directory: TempDir,
}

impl Shop {
    pub fn new() -> Shop {
        Shop::with(|_| {})
    }

    /// Nothing happens by itself: no sync and no idle position within the life of a test.
    pub fn with(change: impl FnOnce(&mut LogConfig)) -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let mut config = LogConfig { idle_interval: DAY, ..LogConfig::new(directory.path()) };
        config.fsync = Fsync::Interval(DAY);
        change(&mut config);
        let log = Log::open(config).unwrap();
        let writer = log.writer().unwrap();
        Shop { served: Served { name: "shop".into(), log }, writer, directory }
    }

    /// With windows of those transactions, each inserts one order.
    pub fn of(windows: &[&[u64]]) -> Shop {
        let mut shop = Shop::new();
        let mut after = 0;
        for scns in windows {
            shop.append(&inserts(after, scns));
            after = *scns.last().unwrap();
        }
        shop
    }

    pub fn append(&mut self, window: &Window) {
        self.writer.append(window).unwrap();
    }
}

/// Everything from the beginning to what is there now.
pub fn all(format: Format) -> Asked {
    Asked {
        begin: Begin::Earliest,
        selection: Selection::default(),
        format,
        follow: false,
        bytes_max: None,
        heartbeat: DAY,
        subscriber: "test".into(),
    }
}

/// Those tables alone.
pub fn tables(patterns: &[&str]) -> Selection {
    let tables = patterns.iter().map(|text| TablePattern::parse(text).unwrap()).collect();
    Selection { tables, ..Selection::default() }
}

/// Answers of a relay that has registered `config/…` guests: filters `big`, `none`, `broken`, the projection `masked`.
pub fn answers() -> Answers {
    Answers::new(Arc::new(Registered), AnswerConfig::default())
}

/// The guests of the tests.
pub struct Registered;

impl Guests for Registered {
    fn filters(&self) -> Vec<String> {
        ["big", "none", "broken"].map(str::to_owned).into()
    }

    fn projections(&self) -> Vec<String> {
        vec!["masked".into()]
    }

    fn filter(&self, name: &str, source: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>> {
        match name {
            "big" => stage("where", r#"{"tables":["shop.orders"],"where":"id >= 100"}"#, source),
            "none" => stage("where", r#"{"where":"id < 0 and id > 0"}"#, source),
            _ => stage("where", r#"{"where":"nothing = 1"}"#, source),
        }
    }

    fn projection(&self, _: &str, source: &str) -> Result<ProjectionStage, Box<dyn Error + Send + Sync>> {
        let json = r#"{"rules":[{"columns":"shop.orders.note","action":"null"}]}"#;
        Ok(ProjectionStage::open(&module("mask"), GuestConfig::new(source, json))?)
    }

    fn partition(&self, config: &str, source: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>> {
        stage("partition", config, source)
    }
}

pub fn stage(guest: &str, json: &str, source: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>> {
    Ok(FilterStage::open(&module(guest), GuestConfig::new(source, json))?)
}

/// A guest of the catalogue, loaded once a process.
pub fn module(name: &str) -> Module {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    static LOADED: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let sandbox = SANDBOX.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-cache");
        Sandbox::new(SandboxConfig { instances_max: 64, ..SandboxConfig::new(cache) }).expect("it starts")
    });
    let wasm = tidemill_sandbox::catalogue::builtin(name).expect("it is in the catalogue");
    let mut loaded = LOADED.lock().expect("a guest of the catalogue loads");
    loaded.entry(name.to_owned()).or_insert_with(|| sandbox.load(name, wasm).expect("it loads")).clone()
}

/// Opens an answer that nobody stops.
pub async fn open(answers: &Answers, shop: &Shop, asked: Asked) -> Result<Answer, Problem> {
    open_as(answers, shop, asked, Encoding::Identity).await
}

pub async fn open_as(
    answers: &Answers,
    shop: &Shop,
    asked: Asked,
    encoding: Encoding,
) -> Result<Answer, Problem> {
    // Kept for ever: an answer whose sender is gone stops.
    let stop = Box::leak(Box::new(watch::Sender::new(false))).subscribe();
    answers.open(&shop.served, asked, encoding, Meter::default(), stop).await
}

/// All of an answer that ends, and where the subscriber is after it.
pub async fn whole(answer: Answer) -> (Bytes, Option<String>) {
    let collected = answer.collect().await.expect("the body ends in an orderly way");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let checkpoint = trailers.get("tidemill-checkpoint").map(|value| value.to_str().unwrap().to_owned());
    (collected.to_bytes(), checkpoint)
}

/// All of an answer to that.
pub async fn body(answers: &Answers, shop: &Shop, asked: Asked) -> Bytes {
    whole(open(answers, shop, asked).await.unwrap()).await.0
}

/// The next piece of a body that goes on.
pub async fn piece(answer: &mut Answer) -> Bytes {
    let frame = answer.frame().await.expect("the body goes on").expect("without an error");
    frame.into_data().expect("it is data")
}

/// The windows of a body of frames; each schema came before it was needed, and none twice.
pub fn windows(mut bytes: &[u8]) -> Vec<Window> {
    let (mut schemas, mut windows) = (SchemaSet::default(), vec![]);
    while !bytes.is_empty() {
        let length = FrameHeader::read(bytes).unwrap().length;
        match decode(&Frame::read(bytes).unwrap(), &schemas).unwrap() {
            Decoded::Schema(schema) => assert!(schemas.insert(schema), "a schema came twice"),
            Decoded::Window(window) => windows.push(window),
        }
        bytes = &bytes[length..];
    }
    windows
}

/// The checkpoint of its text form.
pub fn checkpoint(text: &str) -> Checkpoint {
    use base64::Engine;
    let record = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    Checkpoint::decode(&record).unwrap()
}
