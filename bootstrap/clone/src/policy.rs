//! The stream's own policy, asked about the rows of a copy: what it declines, masks or drops there is nowhere here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::{RecordBatch, new_null_array};
use tidemill_event::{
    Cursor, Part, Phase, RowKind, Scn, Span, TableChanges, TableSchema, Timeline, Transaction, Window,
};
use tidemill_fetchers_api::extract::{Comparison, Condition};
use tidemill_sandbox::{GuestError, PolicyStage};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::Stamp;

/// The policy of a source, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Policy(Option<Arc<Pool>>);

/// Instances of one policy: so many can judge at a time.
struct Pool {
    stages: Vec<Arc<Mutex<PolicyStage>>>,
    turn: AtomicUsize,
}

/// What is read of a table, and as what it is stored.
#[derive(Clone, Debug)]
pub struct TableReads {
    /// The columns that must be read, by ordinal, rising.
    pub columns: Vec<u32>,
    /// Rows that do not fulfil all of them are declined.
    pub conditions: Vec<Condition>,
    /// The schema of what is stored.
    pub schema: Arc<TableSchema>,
}

impl Policy {
    /// Everything is stored as it is.
    pub fn none() -> Policy {
        Policy(None)
    }

    /// As many instances of it as there are readers: none waits for another one's rows to be judged.
    pub fn for_readers(stage: Arc<Mutex<PolicyStage>>, readers: usize) -> Result<Policy, GuestError> {
        let another = |_| Ok(Arc::new(Mutex::new(stage.lock().expect("no holder panics").another()?)));
        let mut stages = (1..readers).map(another).collect::<Result<Vec<_>, GuestError>>()?;
        stages.push(stage);
        Ok(Policy(Some(Arc::new(Pool { stages, turn: AtomicUsize::new(0) }))))
    }

    /// What it is, in hexadecimal digits; empty: none.
    pub fn fingerprint(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |pool| hex(pool.ask(|stage| stage.fingerprint())))
    }

    /// What is kept with the rows of that table that it has judged: see [`Stamp`]. `None`: nothing of it is stored.
    pub fn stamp(&self, schema: &Arc<TableSchema>) -> Result<Option<String>, GuestError> {
        let decided = match &self.0 {
            None => Some(PolicyStage::decided_by_none(schema)),
            Some(pool) => guest_code(|| pool.ask(|stage| stage.decided(schema)))?,
        };
        Ok(decided.map(|decided| Stamp::write(&self.fingerprint(), Some(&hex(decided)))))
    }

    /// What is read of a table; `None`: nothing of it is stored.
    pub fn reads(&self, schema: &Arc<TableSchema>) -> Result<Option<TableReads>, GuestError> {
        let Some(pool) = &self.0 else {
            let columns = (0..schema.columns().len() as u32).collect();
            return Ok(Some(TableReads { columns, conditions: vec![], schema: Arc::clone(schema) }));
        };
        let reads = guest_code(|| pool.ask(|stage| stage.reads(schema)))?;
        Ok(reads.map(|reads| TableReads {
            columns: reads.columns,
            conditions: reads.conditions.iter().map(condition).collect(),
            schema: reads.schema,
        }))
    }

    /// The rows as they may be stored, with the columns of `reads.schema`; `rows` has the columns `reads.columns` of
    /// `schema`.
    pub fn judge(
        &self,
        schema: &Arc<TableSchema>,
        reads: &TableReads,
        rows: RecordBatch,
    ) -> Result<RecordBatch, GuestError> {
        let Some(pool) = &self.0 else { return Ok(rows) };
        let rows = widened(schema, &reads.columns, &rows);
        let judge = |stage: &mut PolicyStage| stage.apply(inserts(stage.source(), schema, rows));
        let judged = guest_code(|| pool.ask(judge))?;
        let left = judged.tables.into_iter().next().map(|changes| changes.rows);
        Ok(left.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(reads.schema.arrow()))))
    }
}

impl Pool {
    /// Asks an instance that nobody asks at the moment; where there is none, the one whose turn it is.
    fn ask<T>(&self, question: impl FnOnce(&mut PolicyStage) -> T) -> T {
        let (count, first) = (self.stages.len(), self.turn.fetch_add(1, Ordering::Relaxed));
        let free = (0..count).find_map(|at| self.stages[first.wrapping_add(at) % count].try_lock().ok());
        let mut stage = free.unwrap_or_else(|| self.stages[first % count].lock().expect("no holder panics"));
        question(&mut stage)
    }
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Guest code runs for long on the runtime's thread, which is told so where it can do something about it.
fn guest_code<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        _ => call(),
    }
}

/// The rows with all columns of the table: those that were not read are NULL, and nobody looks at them.
fn widened(schema: &TableSchema, columns: &[u32], rows: &RecordBatch) -> RecordBatch {
    let mut read = columns.iter().zip(rows.columns()).peekable();
    let all = (0u32..).zip(schema.columns()).map(|(ordinal, column)| {
        match read.next_if(|(read, _)| **read == ordinal) {
            Some((_, array)) => Arc::clone(array),
            None => new_null_array(&column.data_type, rows.num_rows()),
        }
    });
    let all = all.collect();
    RecordBatch::try_new(Arc::clone(schema.arrow()), all).expect("a source reads the types of its schema")
}

/// The rows as inserts of a window's first transaction.
pub(crate) fn inserted(schema: &Arc<TableSchema>, rows: RecordBatch) -> TableChanges {
    let count = rows.num_rows();
    TableChanges {
        schema: Arc::clone(schema),
        rows,
        absent: vec![],
        kind: vec![RowKind::Insert as u8; count].into(),
        ordinal: (0..count as u32).collect::<Vec<u32>>().into(),
        txn: vec![0; count].into(),
    }
}

/// The rows as the stream would bring them: one transaction of inserts.
pub fn inserts(source: &Arc<str>, schema: &Arc<TableSchema>, rows: RecordBatch) -> Window {
    let transaction = Transaction {
        scn: Scn(1),
        gtid: String::new(),
        commit_time_us: 0,
        first_ordinal: 0,
        change_count: rows.num_rows() as u32,
        change_offset: 0,
        part: Part::Whole,
    };
    Window {
        source: Arc::clone(source),
        timeline: Timeline { number: 1, server: "".into() },
        span: Span { after: Scn::ZERO, upto: Scn(1) },
        executed: "".into(),
        transactions: vec![transaction],
        tables: vec![inserted(schema, rows)],
        events: vec![],
        phase: Phase::Snapshot(Cursor::default()),
    }
}

fn condition(condition: &tidemill_sandbox::Condition) -> Condition {
    use tidemill_sandbox::Comparison as Said;
    let comparison = match condition.comparison {
        Said::Eq => Comparison::Eq,
        Said::Ne => Comparison::Ne,
        Said::Lt => Comparison::Lt,
        Said::Le => Comparison::Le,
        Said::Gt => Comparison::Gt,
        Said::Ge => Comparison::Ge,
        Said::OneOf => Comparison::OneOf,
        Said::IsNull => Comparison::IsNull,
        Said::IsNotNull => Comparison::IsNotNull,
    };
    Condition { column: condition.column, comparison, literals: condition.literals.clone() }
}
