//! The types of `wit/guest.wit` as wasmtime sees them, by hand: what is lowered borrows, so that column buffers
//! go from where they lie into the guest's memory; what is lifted owns. Names and shapes are those of the
//! contract, which documents them; a guest whose types differ does not load.

use wasmtime::component::{ComponentType, Lift, Lower};

/// The version of the contract that this host speaks.
pub(crate) const VERSION: &str = "0.2.1";

#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Physical {
    #[component(name = "bools")]
    Bools,
    #[component(name = "ints")]
    Ints,
    #[component(name = "uints")]
    Uints,
    #[component(name = "floats")]
    Floats,
    #[component(name = "text")]
    Text,
    #[component(name = "bytes")]
    Bytes,
}

#[derive(ComponentType, Lift, Lower, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct ColumnDef {
    pub name: String,
    pub logical: String,
    pub physical: Physical,
    #[component(name = "source-type")]
    pub source_type: String,
    pub nullable: bool,
}

#[derive(ComponentType, Lower, Clone, Debug)]
#[component(record)]
pub(crate) struct TableDef<'a> {
    pub id: u32,
    pub source: &'a str,
    pub schema: &'a str,
    pub name: &'a str,
    pub columns: &'a [ColumnDef],
    pub key: &'a [u32],
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Varlen<'a> {
    pub offsets: &'a [u32],
    pub data: &'a [u8],
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(variant)]
pub(crate) enum Values<'a> {
    #[component(name = "bools")]
    Bools(&'a [u8]),
    #[component(name = "ints")]
    Ints(&'a [i64]),
    #[component(name = "uints")]
    Uints(&'a [u64]),
    #[component(name = "floats")]
    Floats(&'a [f64]),
    #[component(name = "text")]
    Text(Varlen<'a>),
    #[component(name = "bytes")]
    Bytes(Varlen<'a>),
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Column<'a> {
    pub valid: &'a [u8],
    pub present: &'a [u8],
    pub values: Values<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Rows<'a> {
    pub table: u32,
    pub count: u32,
    pub columns: &'a [Column<'a>],
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct OwnedVarlen {
    pub offsets: Vec<u32>,
    pub data: Vec<u8>,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(variant)]
pub(crate) enum OwnedValues {
    #[component(name = "bools")]
    Bools(Vec<u8>),
    #[component(name = "ints")]
    Ints(Vec<i64>),
    #[component(name = "uints")]
    Uints(Vec<u64>),
    #[component(name = "floats")]
    Floats(Vec<f64>),
    #[component(name = "text")]
    Text(OwnedVarlen),
    #[component(name = "bytes")]
    Bytes(OwnedVarlen),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct OwnedColumn {
    pub valid: Vec<u8>,
    pub present: Vec<u8>,
    pub values: OwnedValues,
}

#[derive(ComponentType, Lift, Lower, Clone, Debug)]
#[component(record)]
pub(crate) struct RowError {
    pub row: u32,
    pub message: String,
}

#[derive(ComponentType, Lift, Lower, Clone, Debug)]
#[component(variant)]
pub(crate) enum Error {
    #[component(name = "config")]
    Config(String),
    #[component(name = "unsupported")]
    Unsupported(String),
    #[component(name = "retry")]
    Retry(String),
    #[component(name = "rejected")]
    Rejected(Vec<RowError>),
    #[component(name = "fatal")]
    Fatal(String),
}

impl From<Error> for crate::error::Answer {
    fn from(error: Error) -> Self {
        use crate::error::{Answer, RejectedRow};
        match error {
            Error::Config(text) => Answer::Config(text),
            Error::Unsupported(text) => Answer::Unsupported(text),
            Error::Retry(text) => Answer::Retry(text),
            Error::Fatal(text) => Answer::Fatal(text),
            Error::Rejected(rows) => {
                let own = |row: RowError| RejectedRow { row: row.row, message: row.message };
                Answer::Rejected(rows.into_iter().map(own).collect())
            }
        }
    }
}

#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "only a guest makes these")]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Info {
    pub name: String,
    pub version: String,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct OutputColumn {
    pub def: ColumnDef,
    pub source: Option<u32>,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct ProjectionPlan {
    pub input: Vec<u32>,
    pub output: Vec<OutputColumn>,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(variant)]
pub(crate) enum Treatment {
    #[component(name = "keep")]
    Keep,
    #[component(name = "drop")]
    Drop,
    #[component(name = "blank")]
    Blank,
    #[component(name = "pseudonym")]
    Pseudonym(String),
    #[component(name = "computed")]
    Computed,
}

#[derive(ComponentType, Lift, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[component(enum)]
#[repr(u8)]
/// How a condition compares.
pub enum Comparison {
    /// Equal.
    #[component(name = "eq")]
    Eq,
    /// Not equal, and not NULL.
    #[component(name = "ne")]
    Ne,
    /// Less.
    #[component(name = "lt")]
    Lt,
    /// Less or equal.
    #[component(name = "le")]
    Le,
    /// Greater.
    #[component(name = "gt")]
    Gt,
    /// Greater or equal.
    #[component(name = "ge")]
    Ge,
    /// Equal to one of several.
    #[component(name = "one-of")]
    OneOf,
    /// NULL.
    #[component(name = "is-null")]
    IsNull,
    /// Not NULL.
    #[component(name = "is-not-null")]
    IsNotNull,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
/// A condition of a policy on one column; its meaning is that of `condition` in `wit/`.
pub struct Condition {
    /// The column's ordinal.
    pub column: u32,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, as text in the form of the column's logical type.
    pub literals: Vec<String>,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct ClonePlan {
    pub columns: Vec<Treatment>,
    pub conditions: Vec<Condition>,
    pub input: Vec<u32>,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(variant)]
pub(crate) enum Decision {
    #[component(name = "skip")]
    Skip,
    #[component(name = "take")]
    Take(ClonePlan),
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Verdict {
    pub keep: Vec<u8>,
    pub columns: Vec<OwnedColumn>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Phase {
    #[component(name = "snapshot")]
    Snapshot,
    #[component(name = "deltas")]
    Deltas,
    #[component(name = "live")]
    Live,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Part {
    #[component(name = "whole")]
    Whole,
    #[component(name = "first")]
    First,
    #[component(name = "middle")]
    Middle,
    #[component(name = "last")]
    Last,
}

#[derive(ComponentType, Lower, Clone, Debug)]
#[component(record)]
pub(crate) struct Transaction<'a> {
    pub id: &'a str,
    pub scn: u64,
    pub committed: i64,
    pub changes: u32,
    pub part: Part,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct Interest {
    pub after: Vec<u32>,
    pub before: Vec<u32>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct ChangeSet<'a> {
    pub table: u32,
    pub count: u32,
    pub places: &'a [u32],
    pub ops: &'a [u8],
    pub after: &'a [Column<'a>],
    pub before: &'a [Column<'a>],
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct TableName<'a> {
    pub schema: &'a str,
    pub name: &'a str,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct SchemaChange<'a> {
    pub schema: &'a str,
    pub tables: &'a [TableName<'a>],
    pub statement: Option<&'a str>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Renaming<'a> {
    pub from: TableName<'a>,
    pub to: TableName<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Invalidation<'a> {
    pub table: TableName<'a>,
    pub reason: &'a str,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(variant)]
pub(crate) enum Happening<'a> {
    #[component(name = "schema-changed")]
    SchemaChanged(SchemaChange<'a>),
    #[component(name = "truncated")]
    Truncated(TableName<'a>),
    #[component(name = "dropped")]
    Dropped(TableName<'a>),
    #[component(name = "schema-dropped")]
    SchemaDropped(&'a str),
    #[component(name = "renamed")]
    Renamed(Renaming<'a>),
    #[component(name = "invalidated")]
    Invalidated(Invalidation<'a>),
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Event<'a> {
    pub place: u32,
    pub what: Happening<'a>,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(crate) struct Batch<'a> {
    pub phase: Phase,
    pub transactions: &'a [Transaction<'a>],
    pub changes: &'a [ChangeSet<'a>],
    pub events: &'a [Event<'a>],
}

#[derive(ComponentType, Lift, Clone, Debug)]
#[component(record)]
pub(crate) struct Failure {
    pub done: u32,
    pub cause: Error,
}
