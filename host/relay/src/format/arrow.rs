//! One table as an Arrow IPC stream, as any reader of Arrow takes it: the table's columns, then what each row is and
//! where it stands.
//!
//! | column | type | what |
//! |---|---|---|
//! | `_op` | utf8 | `c` insert, `r` row of a snapshot, `ub` and `ua` the two images of an update, `d` delete |
//! | `_timeline`, `_scn` | uint32, uint64 | the position of its transaction |
//! | `_ordinal` | uint64 | the number of its change in the transaction, from 0; gaps are changes of other tables |
//! | `_commit_time` | timestamp(us, UTC) | when it committed, by the source's clock |
//! | `_gtid` | utf8 | the source's own id of the transaction; empty where it gives none |
//! | `_absent` | list(utf8) | columns that the source did not log; their values are null here |

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
    make_array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions, write_message};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use tidemill_event::{Phase, RowKind, TableChanges, TableSchema, Window};

/// The end of a stream: no message follows.
pub(crate) const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The rows of one version of the table in one window, as a message.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) schema: Arc<TableSchema>,
    /// Indexes of the first and the last transaction that have rows in it.
    pub(crate) first_txn: u32,
    pub(crate) last_txn: u32,
    pub(crate) bytes: Bytes,
}

/// The messages of a window in which one table is selected.
pub(crate) fn pieces(window: &Window) -> Result<Vec<Piece>, ArrowError> {
    let filled = window.tables.iter().filter(|changes| changes.rows.num_rows() > 0);
    let mut pieces = filled.map(|changes| piece(window, changes)).collect::<Result<Vec<_>, _>>()?;
    pieces.sort_by_key(|piece| piece.first_txn);
    Ok(pieces)
}

/// The message that begins a stream.
pub(crate) fn schema_message(columns: &Schema) -> Result<Bytes, ArrowError> {
    let options = options()?;
    let schema = schema(columns);
    let mut none = DictionaryTracker::new(false);
    let encoded =
        IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(&schema, &mut none, &options);
    message(encoded, &options)
}

/// A message without rows: a sign of life.
pub(crate) fn empty_message(columns: &Schema) -> Result<Bytes, ArrowError> {
    batch_message(&RecordBatch::new_empty(schema(columns)))
}

fn piece(window: &Window, changes: &TableChanges) -> Result<Piece, ArrowError> {
    let rows = changes.rows.num_rows();
    let mut columns: Vec<ArrayRef> = (0..changes.rows.num_columns()).map(|c| values(changes, c)).collect();
    let txns = || changes.txn.iter().map(|txn| &window.transactions[*txn as usize]);
    let numbers = txns().zip(changes.ordinal.iter()).map(|(txn, ordinal)| txn.change_number(*ordinal));
    let times = TimestampMicrosecondArray::from_iter_values(txns().map(|txn| txn.commit_time_us));
    let new = if matches!(window.phase, Phase::Snapshot(_)) { "r" } else { "c" };
    columns.push(Arc::new(StringArray::from_iter_values((0..rows).map(|row| op(changes, row, new)))));
    columns.push(Arc::new(UInt32Array::from(vec![window.timeline.number; rows])));
    columns.push(Arc::new(UInt64Array::from_iter_values(txns().map(|txn| txn.scn.0))));
    columns.push(Arc::new(UInt64Array::from_iter_values(numbers)));
    columns.push(Arc::new(times.with_timezone("UTC")));
    columns.push(Arc::new(StringArray::from_iter_values(txns().map(|txn| txn.gtid.as_str()))));
    columns.push(absent_names(changes));
    let batch = RecordBatch::try_new(schema(changes.schema.arrow()), columns)?;
    Ok(Piece {
        schema: Arc::clone(&changes.schema),
        first_txn: changes.txn[0],
        last_txn: changes.txn[rows - 1],
        bytes: batch_message(&batch)?,
    })
}

/// What a row is, `new` being what one is called that appears; the half of an update whose other half is not selected is an insert or a delete.
fn op(changes: &TableChanges, row: usize, new: &'static str) -> &'static str {
    let joins = |other: Option<usize>| {
        other.and_then(|other| changes.ordinal.get(other)).is_some_and(|o| *o == changes.ordinal[row])
    };
    match RowKind::from_u8(changes.kind[row]).expect("kinds were validated") {
        RowKind::UpdateBefore if joins(row.checked_add(1)) => "ub",
        RowKind::UpdateAfter if joins(row.checked_sub(1)) => "ua",
        RowKind::Insert | RowKind::UpdateAfter => new,
        RowKind::Delete | RowKind::UpdateBefore => "d",
    }
}

/// A column, null where the source did not log it.
fn values(changes: &TableChanges, column: usize) -> ArrayRef {
    let array = changes.rows.column(column);
    let Some(absent) = absent_bits(changes, column) else { return Arc::clone(array) };
    let nulls = NullBuffer::union(array.nulls(), Some(&NullBuffer::new(!absent)));
    let data = array.to_data().into_builder().nulls(nulls).build();
    make_array(data.expect("more nulls do not make an array invalid"))
}

fn absent_bits(changes: &TableChanges, column: usize) -> Option<&BooleanBuffer> {
    changes.absent.get(column)?.as_ref().filter(|bits| bits.count_set_bits() > 0)
}

fn absent_names(changes: &TableChanges) -> ArrayRef {
    let columns: Vec<(&str, &BooleanBuffer)> = (changes.schema.columns().iter().enumerate())
        .filter_map(|(ordinal, column)| Some((column.name.as_str(), absent_bits(changes, ordinal)?)))
        .collect();
    let mut names = ListBuilder::new(StringBuilder::new());
    for row in 0..changes.rows.num_rows() {
        let absent = columns.iter().filter(|(_, bits)| bits.value(row));
        absent.for_each(|(name, _)| names.values().append_value(name));
        names.append(true);
    }
    Arc::new(names.finish())
}

fn schema(columns: &Schema) -> SchemaRef {
    let of_row = [
        Field::new("_op", DataType::Utf8, false),
        Field::new("_timeline", DataType::UInt32, false),
        Field::new("_scn", DataType::UInt64, false),
        Field::new("_ordinal", DataType::UInt64, false),
        Field::new("_commit_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("_gtid", DataType::Utf8, false),
        Field::new_list("_absent", Field::new_list_field(DataType::Utf8, true), false),
    ];
    let fields: Vec<Arc<Field>> =
        columns.fields().iter().cloned().chain(of_row.into_iter().map(Arc::new)).collect();
    Arc::new(Schema::new(fields))
}

fn options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(8, false, arrow_ipc::MetadataVersion::V5)
}

fn batch_message(batch: &RecordBatch) -> Result<Bytes, ArrowError> {
    let options = options()?;
    let mut none = DictionaryTracker::new(false);
    let (_, encoded) =
        IpcDataGenerator::default().encode(batch, &mut none, &options, &mut Default::default())?;
    message(encoded, &options)
}

fn message(encoded: EncodedData, options: &IpcWriteOptions) -> Result<Bytes, ArrowError> {
    let mut bytes = Vec::with_capacity(encoded.ipc_message.len() + encoded.arrow_data.len() + 64);
    write_message(&mut bytes, encoded, options)?;
    Ok(bytes.into())
}
