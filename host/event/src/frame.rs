//! The frame codec: what lies on disk and crosses the wire. Encoded once, by the fetcher's side.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole frame |
//! | 4 | 4 | CRC-32C of the frame without this field |
//! | 8 | 1 | version, 1 |
//! | 9 | 1 | kind: 1 window, 2 schema, 3 checkpoint |
//! | 10 | 2 | zero |
//! | 12 | 4 | header length |
//! | 16 | … | header (fields below), zero-padded to a multiple of 16 |
//! | … | … | windows only: one Arrow IPC record batch a table, metadata then body, each padded to 16 |
//!
//! Integers are little-endian; a text is a u32 length and UTF-8 bytes.
//!
//! Window header: source, timeline number (u32), server; after, upto (u64); executed; then the counted lists
//! transactions (scn u64, commit time i64, first ordinal u32, change count u32, change offset u64, part u8, gtid),
//! tables (schema id u64, rows u32, metadata length u32, body length u64, counted column ordinals u32 that have
//! an absent bitmap) and events (ordinal u32, transaction u32, kind u8, its fields).
//!
//! A table's record batch has the schema's columns, then `kind` (u8), `ordinal` (u32), `txn` (u32), then one boolean
//! column per absent bitmap. Its Arrow schema follows from the table's schema, which precedes the window as a
//! frame of its own wherever a reader may begin.

mod piece;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt8Array, UInt32Array};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer};
use arrow_data::UnsafeFlag;
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::bits::without_stray_bits;
use crate::limits::{BODY_ALIGNMENT, COLUMNS_MAX, FRAME_BYTES_MAX};
use crate::wire::{Malformed, Reader, Writer};
use crate::{
    Event, EventKind, Part, Phase, Position, SchemaId, Scn, Span, TableChanges, TableName, TableSchema,
    Timeline, Transaction, Window, WindowError,
};

pub use piece::{decode, decode_checkpoint, decode_piece, encode_checkpoint};

/// An encoded frame. Cheap to clone; its bytes are aligned so that arrays are read where they lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame(Buffer);

/// What a frame holds.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A window.
    Window(Window),
    /// A table's schema, ahead of the windows that use it.
    Schema(Arc<TableSchema>),
}

/// The first 16 bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the whole frame in bytes.
    pub length: usize,
    /// Whether it holds a window.
    pub is_window: bool,
    /// Whether it holds a checkpoint.
    pub is_checkpoint: bool,
    header: usize,
    crc: u32,
}

/// Whether the values of a frame are checked (offsets, UTF-8, the rules of a window) or known to be our own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// From disk or wire: everything is checked.
    Checked,
    /// Encoded by this very call a moment ago.
    OwnMemory,
}

/// The schemas that a reader has seen.
#[derive(Clone, Debug, Default)]
pub struct SchemaSet(HashMap<SchemaId, Arc<TableSchema>>);

impl SchemaSet {
    /// Adds a schema; says whether it is new.
    pub fn insert(&mut self, schema: Arc<TableSchema>) -> bool {
        self.0.insert(schema.id(), schema).is_none()
    }
    /// The schema with that id.
    pub fn get(&self, id: SchemaId) -> Option<&Arc<TableSchema>> {
        self.0.get(&id)
    }
    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.0.values()
    }
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// There are fewer bytes than the frame says it has: a torn tail, or more is to come.
    #[error("the frame ends after {have} of {want} bytes")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        want: usize,
    },
    /// The checksum does not fit, or the fields contradict one another.
    #[error("the frame is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a newer release.
    #[error(
        "the frame has version {0}, this release reads version 1; read it with the release that wrote it"
    )]
    Version(u8),
    /// A window names a schema that did not come before it.
    #[error("the window uses schema {0}, which did not come before it")]
    UnknownSchema(SchemaId),
    /// The columns are not what the schema says.
    #[error("decode the columns of a window")]
    Columns(#[from] ArrowError),
    /// The window breaks its own rules.
    #[error("the window contradicts itself")]
    Rules(#[from] WindowError),
    /// The window cannot be a frame.
    #[error("the window has {0} bytes, a frame holds at most {FRAME_BYTES_MAX}; lower the window size")]
    TooLarge(usize),
}

impl From<Malformed> for FrameError {
    fn from(m: Malformed) -> Self {
        FrameError::Damaged(m.what)
    }
}

const VERSION: u8 = 1;
const KIND_WINDOW: u8 = 1;
const KIND_SCHEMA: u8 = 2;
const KIND_CHECKPOINT: u8 = 3;
/// Bytes that tell length, checksum and kind.
const PREFIX: usize = 16;

impl FrameHeader {
    /// Bytes that [`FrameHeader::read`] needs.
    pub const BYTES: usize = PREFIX;

    /// Reads the beginning of a frame, so that a reader knows how many bytes to fetch.
    pub fn read(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
        if bytes.len() < PREFIX {
            return Err(FrameError::Truncated { have: bytes.len(), want: PREFIX });
        }
        let mut r = Reader::new(bytes);
        let length = r.u32()? as usize;
        let crc = r.u32()?;
        let (version, kind, zero) = (r.u8()?, r.u8()?, r.u16()?);
        let header = r.u32()? as usize;
        if !(PREFIX..=FRAME_BYTES_MAX).contains(&length) || header > length - PREFIX {
            return Err(FrameError::Damaged("its length is impossible"));
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if zero != 0 || !matches!(kind, KIND_WINDOW | KIND_SCHEMA | KIND_CHECKPOINT) {
            return Err(FrameError::Damaged("its kind is unknown"));
        }
        let (is_window, is_checkpoint) = (kind == KIND_WINDOW, kind == KIND_CHECKPOINT);
        Ok(FrameHeader { length, is_window, is_checkpoint, header, crc })
    }
}

impl Frame {
    /// A frame from bytes that begin with one; what follows it is ignored. Its checksum is verified.
    /// The bytes are copied once, to be aligned.
    pub fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
        let head = FrameHeader::read(bytes)?;
        if bytes.len() < head.length {
            return Err(FrameError::Truncated { have: bytes.len(), want: head.length });
        }
        let mut aligned = MutableBuffer::with_capacity(head.length);
        aligned.extend_from_slice(&bytes[..head.length]);
        Frame::checked(aligned.into(), head)
    }

    /// A frame of a buffer that holds exactly one. Its checksum is verified.
    pub fn from_buffer(buffer: Buffer) -> Result<Frame, FrameError> {
        let head = FrameHeader::read(&buffer)?;
        match buffer.len() {
            have if have < head.length => Err(FrameError::Truncated { have, want: head.length }),
            have if have > head.length => Err(FrameError::Damaged("bytes are left over")),
            _ => Frame::checked(buffer, head),
        }
    }

    /// Whether those bytes begin with a whole frame whose checksum fits; what follows it is ignored.
    pub fn check(bytes: &[u8]) -> Result<(), FrameError> {
        let head = FrameHeader::read(bytes)?;
        let frame = bytes.get(..head.length);
        let frame = frame.ok_or(FrameError::Truncated { have: bytes.len(), want: head.length })?;
        let fits = checksum(frame) == head.crc;
        fits.then_some(()).ok_or(FrameError::Damaged("its checksum does not fit"))
    }

    fn checked(buffer: Buffer, head: FrameHeader) -> Result<Frame, FrameError> {
        match checksum(&buffer) == head.crc {
            true => Ok(Frame(buffer)),
            false => Err(FrameError::Damaged("its checksum does not fit")),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn buffer(&self) -> &Buffer {
        &self.0
    }

    /// Where a window frame's reader is after it, and where it was before, without reading its columns.
    pub fn window_span(&self) -> Result<Option<(Position, Span)>, FrameError> {
        Ok(self.window_head()?.map(|(position, span, _)| (position, span)))
    }

    /// How many transactions, or parts of one, the frame holds, without reading its columns. A schema has none.
    pub fn transaction_count(&self) -> Result<u32, FrameError> {
        let Some((.., mut rest)) = self.window_head()? else { return Ok(0) };
        rest.text()?;
        Ok(rest.u32()?)
    }

    fn window_head(&self) -> Result<Option<(Position, Span, Reader<'_>)>, FrameError> {
        let head = FrameHeader::read(&self.0)?;
        if !head.is_window {
            return Ok(None);
        }
        let mut r = Reader::new(&self.0[PREFIX..PREFIX + head.header]);
        r.text()?;
        let timeline = r.u32()?;
        r.text()?;
        let span = Span { after: Scn(r.u64()?), upto: Scn(r.u64()?) };
        Ok(Some((Position { timeline, scn: span.upto }, span, r)))
    }
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

/// Encodes a schema.
pub fn encode_schema(schema: &TableSchema) -> Frame {
    let header = schema.encode();
    seal(KIND_SCHEMA, &header, &[]).expect("a schema is far smaller than a frame may be")
}

/// Encodes a window. Every table's schema must reach the reader ahead of it, see [`encode_schema`].
pub fn encode_window(window: &Window) -> Result<Frame, FrameError> {
    debug_assert_eq!(window.validate(), Ok(()));
    let batches = window.tables.iter().map(encode_table).collect::<Result<Vec<_>, _>>()?;
    let mut w = Writer::default();
    w.text(&window.source);
    w.u32(window.timeline.number);
    w.text(&window.timeline.server);
    w.u64(window.span.after.0);
    w.u64(window.span.upto.0);
    w.text(&window.executed);
    w.u32(window.transactions.len() as u32);
    window.transactions.iter().for_each(|t| write_transaction(&mut w, t));
    w.u32(window.tables.len() as u32);
    for (table, batch) in window.tables.iter().zip(&batches) {
        write_table(&mut w, table, batch);
    }
    w.u32(window.events.len() as u32);
    window.events.iter().for_each(|e| write_event(&mut w, e));
    seal(KIND_WINDOW, &w.0, &batches)
}

/// Encodes a window and gives it back with its arrays in the frame's own bytes, so that both cost the memory of one.
pub fn encode_shared(window: &Window) -> Result<(Frame, Window), FrameError> {
    let frame = encode_window(window)?;
    let mut schemas = SchemaSet::default();
    for table in &window.tables {
        schemas.insert(Arc::clone(&table.schema));
    }
    let head = FrameHeader::read(&frame.0)?;
    let header = &frame.0[PREFIX..PREFIX + head.header];
    let shared = decode_window(&frame, header, &schemas, Trust::OwnMemory)?;
    Ok((frame, shared))
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(BODY_ALIGNMENT)
}

fn seal(kind: u8, header: &[u8], batches: &[EncodedData]) -> Result<Frame, FrameError> {
    let bodies = batches.iter().map(|b| padded(b.ipc_message.len()) + padded(b.arrow_data.len()));
    let length = padded(PREFIX + header.len()) + bodies.sum::<usize>();
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    let mut frame = MutableBuffer::with_capacity(length);
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    frame.extend_from_slice(&[0u8; 4]);
    frame.extend_from_slice(&[VERSION, kind, 0, 0]);
    frame.extend_from_slice(&(header.len() as u32).to_le_bytes());
    for part in std::iter::once(header).chain(batches.iter().flat_map(|b| [&*b.ipc_message, &*b.arrow_data]))
    {
        frame.extend_from_slice(part);
        frame.resize(padded(frame.len()), 0);
    }
    let crc = checksum(&frame);
    frame.as_slice_mut()[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(Frame(frame.into()))
}

fn write_transaction(w: &mut Writer, t: &Transaction) {
    w.u64(t.scn.0);
    w.i64(t.commit_time_us);
    w.u32(t.first_ordinal);
    w.u32(t.change_count);
    w.u64(t.change_offset);
    w.u8(t.part as u8);
    w.text(&t.gtid);
}

fn write_table(w: &mut Writer, table: &TableChanges, batch: &EncodedData) {
    w.u64(table.schema.id().0);
    w.u32(table.rows.num_rows() as u32);
    w.u32(batch.ipc_message.len() as u32);
    w.u64(batch.arrow_data.len() as u64);
    let absent = absent_columns(table);
    w.u32(absent.len() as u32);
    absent.iter().for_each(|(column, _)| w.u32(*column));
}

fn write_name(w: &mut Writer, name: &TableName) {
    w.text(&name.database);
    w.text(&name.table);
}

fn read_name(r: &mut Reader<'_>) -> Result<TableName, Malformed> {
    Ok(TableName::new(r.text()?, r.text()?))
}

fn write_event(w: &mut Writer, e: &Event) {
    w.u32(e.ordinal);
    w.u32(e.txn);
    match &e.kind {
        EventKind::SchemaChange { database, tables, statement } => {
            w.u8(if statement.is_some() { 1 } else { 4 });
            w.text(database);
            w.u32(tables.len() as u32);
            tables.iter().for_each(|table| write_name(w, table));
            statement.iter().for_each(|s| w.text(s));
        }
        EventKind::Truncate { table } => {
            w.u8(2);
            write_name(w, table);
        }
        EventKind::Invalidate { table, reason } => {
            w.u8(3);
            write_name(w, table);
            w.text(reason);
        }
        EventKind::Drop { table } => {
            w.u8(5);
            write_name(w, table);
        }
        EventKind::DropDatabase { database } => {
            w.u8(6);
            w.text(database);
        }
        EventKind::Rename { from, to } => {
            w.u8(7);
            write_name(w, from);
            write_name(w, to);
        }
    }
}

fn absent_columns(table: &TableChanges) -> Vec<(u32, &BooleanBuffer)> {
    let bits = table.absent.iter().enumerate();
    bits.filter_map(|(i, bits)| Some((i as u32, bits.as_ref()?))).collect()
}

/// The Arrow schema of a table's record batch in a frame.
fn frame_schema(schema: &TableSchema, absent: usize) -> SchemaRef {
    let mut fields: Vec<_> = schema.arrow().fields().iter().cloned().collect();
    let own = [("kind", DataType::UInt8), ("ordinal", DataType::UInt32), ("txn", DataType::UInt32)];
    fields.extend(own.map(|(name, t)| Arc::new(Field::new(name, t, false))));
    fields.extend((0..absent).map(|_| Arc::new(Field::new("absent", DataType::Boolean, false))));
    Arc::new(Schema::new(fields))
}

fn encode_table(table: &TableChanges) -> Result<EncodedData, FrameError> {
    let absent = absent_columns(table);
    let mut columns: Vec<ArrayRef> = table.rows.columns().to_vec();
    columns.push(Arc::new(UInt8Array::new(table.kind.clone(), None)));
    columns.push(Arc::new(UInt32Array::new(table.ordinal.clone(), None)));
    columns.push(Arc::new(UInt32Array::new(table.txn.clone(), None)));
    for (_, bits) in &absent {
        columns.push(Arc::new(BooleanArray::new((*bits).clone(), None)));
    }
    let columns = columns.iter().map(without_stray_bits).collect();
    let batch = RecordBatch::try_new(frame_schema(&table.schema, absent.len()), columns)?;
    let options = IpcWriteOptions::try_new(BODY_ALIGNMENT, false, MetadataVersion::V5)?;
    let mut none = DictionaryTracker::new(true);
    let (_, encoded) =
        IpcDataGenerator::default().encode(&batch, &mut none, &options, &mut Default::default())?;
    Ok(encoded)
}

fn decode_as(frame: &Frame, schemas: &SchemaSet, phase: Phase) -> Result<Decoded, FrameError> {
    let head = FrameHeader::read(&frame.0)?;
    let header = &frame.0[PREFIX..PREFIX + head.header];
    if head.is_checkpoint {
        return Err(FrameError::Damaged("a checkpoint stands in its place"));
    }
    if !head.is_window {
        return Ok(Decoded::Schema(TableSchema::decode(header)?));
    }
    let mut window = decode_window(frame, header, schemas, Trust::Checked)?;
    window.phase = phase;
    window.validate()?;
    Ok(Decoded::Window(window))
}

fn decode_window(
    frame: &Frame,
    header: &[u8],
    schemas: &SchemaSet,
    trust: Trust,
) -> Result<Window, FrameError> {
    let mut r = Reader::new(header);
    let source = r.text()?.into();
    let timeline = Timeline { number: r.u32()?, server: r.text()?.into() };
    let span = Span { after: Scn(r.u64()?), upto: Scn(r.u64()?) };
    let executed = r.text()?.into();
    let transactions = (0..r.count(41)?).map(|_| read_transaction(&mut r)).collect::<Result<_, _>>()?;
    let mut bodies = Bodies { frame, at: padded(PREFIX + header.len()), trust };
    let mut tables = Vec::new();
    for _ in 0..r.count(28)? {
        tables.push(read_table(&mut r, &mut bodies, schemas)?);
    }
    let events = (0..r.count(13)?).map(|_| read_event(&mut r)).collect::<Result<_, _>>()?;
    r.end()?;
    if bodies.at != frame.0.len() {
        return Err(FrameError::Damaged("bytes are left over"));
    }
    Ok(Window { source, timeline, span, executed, transactions, tables, events, phase: Phase::Stream })
}

fn read_transaction(r: &mut Reader<'_>) -> Result<Transaction, Malformed> {
    Ok(Transaction {
        scn: Scn(r.u64()?),
        commit_time_us: r.i64()?,
        first_ordinal: r.u32()?,
        change_count: r.u32()?,
        change_offset: r.u64()?,
        part: match r.u8()? {
            0 => Part::Whole,
            1 => Part::First,
            2 => Part::Middle,
            3 => Part::Last,
            _ => return Err(r.malformed("an unknown part of a transaction")),
        },
        gtid: r.text()?.to_owned(),
    })
}

fn read_event(r: &mut Reader<'_>) -> Result<Event, Malformed> {
    let (ordinal, txn) = (r.u32()?, r.u32()?);
    let kind = match r.u8()? {
        with @ (1 | 4) => {
            let database = r.text()?.into();
            let tables = (0..r.count(8)?).map(|_| read_name(r)).collect::<Result<_, _>>()?;
            let statement = if with == 1 { Some(r.text()?.into()) } else { None };
            EventKind::SchemaChange { database, tables, statement }
        }
        2 => EventKind::Truncate { table: read_name(r)? },
        3 => EventKind::Invalidate { table: read_name(r)?, reason: r.text()?.into() },
        5 => EventKind::Drop { table: read_name(r)? },
        6 => EventKind::DropDatabase { database: r.text()?.into() },
        7 => EventKind::Rename { from: read_name(r)?, to: read_name(r)? },
        _ => return Err(r.malformed("an unknown event")),
    };
    Ok(Event { ordinal, txn, kind })
}

/// The record batches of a frame, taken in order.
struct Bodies<'a> {
    frame: &'a Frame,
    at: usize,
    trust: Trust,
}

impl Bodies<'_> {
    fn take(&mut self, len: usize) -> Result<Buffer, FrameError> {
        let end = self.at.checked_add(len).filter(|end| padded(*end) <= self.frame.0.len());
        let end = end.ok_or(FrameError::Damaged("a table lies outside the frame"))?;
        let slice = self.frame.0.slice_with_length(self.at, len);
        self.at = padded(end);
        Ok(slice)
    }

    fn batch(&mut self, meta: usize, body: usize, schema: SchemaRef) -> Result<RecordBatch, FrameError> {
        let meta = self.take(meta)?;
        let body = self.take(body)?;
        let message = arrow_ipc::root_as_message(&meta);
        let message = message.map_err(|_| FrameError::Damaged("a table's metadata is no Arrow message"))?;
        let batch = message.header_as_record_batch();
        let batch = batch.ok_or(FrameError::Damaged("a table's metadata is no record batch"))?;
        if self.trust == Trust::Checked && !lies_within(&batch, &schema, body.len()) {
            return Err(FrameError::Damaged("a column lies outside its table"));
        }
        let mut skip = UnsafeFlag::new();
        // SAFETY: `OwnMemory` is said only by `encode_shared`, of a frame that it made from valid arrays.
        unsafe { skip.set(self.trust == Trust::OwnMemory) };
        let version = message.version();
        let none = HashMap::new();
        let decoder = RecordBatchDecoder::try_new(&body, batch, schema, &none, &version)?;
        Ok(decoder.with_skip_validation(skip).read_record_batch()?)
    }
}

/// Whether every buffer of the batch lies in its body, aligned and of whole values, and no column has another
/// length than the batch: the Arrow reader takes these on trust.
fn lies_within(batch: &arrow_ipc::RecordBatch<'_>, schema: &Schema, body: usize) -> bool {
    let units = schema.fields().iter().flat_map(|field| buffer_units(field.data_type()));
    let sound = |(b, unit): (&arrow_ipc::Buffer, usize)| {
        let (Ok(offset), Ok(length)) = (usize::try_from(b.offset()), usize::try_from(b.length())) else {
            return false;
        };
        let inside = offset.checked_add(length).is_some_and(|end| end <= body);
        inside && offset.is_multiple_of(BODY_ALIGNMENT) && length.is_multiple_of(unit)
    };
    let fits =
        |n: &arrow_ipc::FieldNode| n.length() == batch.length() && (0..=n.length()).contains(&n.null_count());
    batch.buffers().is_some_and(|all| all.iter().zip(units).all(sound))
        && batch.nodes().is_some_and(|all| all.iter().all(fits))
        && batch.compression().is_none()
}

/// The unit of each buffer of a column, in bytes: validity, then values or offsets and bytes.
fn buffer_units(data_type: &DataType) -> Vec<usize> {
    match data_type {
        DataType::Boolean => vec![1, 1],
        DataType::Utf8 | DataType::Binary => vec![1, size_of::<i32>(), 1],
        fixed => vec![1, fixed.primitive_width().expect("the closed set has no other types")],
    }
}

fn read_table(
    r: &mut Reader<'_>,
    bodies: &mut Bodies<'_>,
    schemas: &SchemaSet,
) -> Result<TableChanges, FrameError> {
    let id = SchemaId(r.u64()?);
    let rows = r.u32()? as usize;
    let (meta, body) = (r.u32()? as usize, r.u64()? as usize);
    let absent = (0..r.count(4)?).map(|_| r.u32()).collect::<Result<Vec<_>, _>>()?;
    let schema = schemas.get(id).ok_or(FrameError::UnknownSchema(id))?;
    let width = schema.columns().len();
    if absent.len() > COLUMNS_MAX || absent.iter().any(|c| *c as usize >= width) {
        return Err(FrameError::Damaged("an absent bitmap of no column"));
    }
    let batch = bodies.batch(meta, body, frame_schema(schema, absent.len()))?;
    if batch.num_rows() != rows {
        return Err(FrameError::Damaged("a table has another number of rows than its header says"));
    }
    let columns = batch.columns()[..width].to_vec();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    let number = |at: usize| UInt32Array::from(batch.column(width + at).to_data()).values().clone();
    Ok(TableChanges {
        rows: RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), columns, &options)?,
        absent: absent_bitmaps(&batch, width, &absent),
        kind: UInt8Array::from(batch.column(width).to_data()).values().clone(),
        ordinal: number(1),
        txn: number(2),
        schema: Arc::clone(schema),
    })
}

fn absent_bitmaps(batch: &RecordBatch, width: usize, absent: &[u32]) -> Vec<Option<BooleanBuffer>> {
    if absent.is_empty() {
        return Vec::new();
    }
    let mut bitmaps = vec![None; width];
    for (i, column) in absent.iter().enumerate() {
        let bits = BooleanArray::from(batch.column(width + 3 + i).to_data());
        bitmaps[*column as usize] = Some(bits.values().clone());
    }
    bitmaps
}
