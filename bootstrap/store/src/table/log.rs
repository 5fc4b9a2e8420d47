//! Windows of all tables become one compressed segment, and come back as they were.
//!
//! A segment is the frames of the windows, one after the other, each schema ahead of the first window that uses it; all of
//! it compressed with zstd.

use std::collections::HashSet;
use std::io::Write;

use bytes::Bytes;
use tidemill_event::{
    Decoded, Frame, FrameError, Position, SchemaId, SchemaSet, Scn, Window, decode, encode_schema,
    encode_window,
};
use zstd::stream::write::Encoder;

use crate::{DataError, LogSegment, Store, random_id};

/// Collects windows that follow each other.
pub struct LogBuffer {
    encoder: Encoder<'static, Vec<u8>>,
    schemas: HashSet<SchemaId>,
    windows: usize,
    span: Option<(Position, Position)>,
    time_us: i64,
}

impl Default for LogBuffer {
    fn default() -> LogBuffer {
        LogBuffer::new()
    }
}

impl LogBuffer {
    /// Nothing in it.
    pub fn new() -> LogBuffer {
        let encoder = Encoder::new(Vec::new(), 1).expect("memory for a compressor");
        LogBuffer { encoder, schemas: HashSet::new(), windows: 0, span: None, time_us: 0 }
    }

    /// Adds the next window. `timeline` is the store's number of its timeline.
    pub fn add(&mut self, window: &Window, timeline: u32) -> Result<(), DataError> {
        let failed = |source| DataError::Frame { path: "a new log segment".to_owned(), source };
        let frame = encode_window(window).map_err(failed)?;
        for table in &window.tables {
            if self.schemas.insert(table.schema.id()) {
                self.write(&encode_schema(&table.schema));
            }
        }
        self.write(&frame);
        let at = |scn| Position { timeline, scn };
        let after = self.span.map_or(at(window.span.after), |(after, _)| after);
        self.span = Some((after, at(window.span.upto)));
        self.time_us = window.transactions.last().map_or(self.time_us, |txn| txn.commit_time_us);
        self.windows += 1;
        Ok(())
    }

    fn write(&mut self, frame: &Frame) {
        self.encoder.write_all(frame.bytes()).expect("compressed into memory");
    }

    /// Windows that are held.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Bytes of memory that are held, and of the segment, about.
    pub fn bytes(&self) -> usize {
        self.encoder.get_ref().len()
    }

    /// Writes the segment. Call it with at least one window.
    pub async fn finish(self, store: &Store) -> Result<LogSegment, DataError> {
        let (after, upto) = self.span.expect("a segment has at least one window");
        let bytes = self.encoder.finish().expect("compressed into memory");
        let (Position { timeline, scn: Scn(scn) }, id) = (upto, random_id());
        let object = store.put(&format!("log/{timeline:010}-{scn:020}-{id}.seg"), Bytes::from(bytes)).await?;
        Ok(LogSegment { object, after, upto, time_us: self.time_us })
    }
}

/// The windows of a segment, in order, as they were.
pub async fn read_segment(store: &Store, segment: &LogSegment) -> Result<Vec<Window>, DataError> {
    let path = &segment.object.path;
    let compressed = store.get(&segment.object).await?;
    let bytes = zstd::stream::decode_all(&compressed[..]);
    let bytes = bytes.map_err(|error| DataError::Damaged { path: path.clone(), what: error.to_string() })?;
    windows(&bytes).map_err(|source| DataError::Frame { path: path.clone(), source })
}

fn windows(bytes: &[u8]) -> Result<Vec<Window>, FrameError> {
    let (mut windows, mut schemas) = (vec![], SchemaSet::default());
    let mut rest = bytes;
    while !rest.is_empty() {
        let frame = Frame::read(rest)?;
        rest = &rest[frame.bytes().len()..];
        match decode(&frame, &schemas)? {
            Decoded::Schema(schema) => drop(schemas.insert(schema)),
            Decoded::Window(window) => windows.push(window),
        }
    }
    Ok(windows)
}
