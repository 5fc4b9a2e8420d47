//! One reader of snapshot storage: pieces in, batches of bytes out. A piece is evaluated and written for this reader alone,
//! since no two readers stand at one place.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_event::{
    Checkpoint, FrameError, SchemaId, TableSchema, Window, encode_checkpoint, encode_schema,
};
use tokio::sync::watch;

use super::Meter;
use super::feed::{Batch, unwritten};
use crate::format::{self, Chunk, arrow};
use crate::view::View;
use crate::{Code, Format, Problem, SnapshotPiece, SnapshotReading};

/// See the module.
pub(crate) struct Pieces {
    pub(crate) source: String,
    pub(crate) reading: Box<dyn SnapshotReading>,
    pub(crate) view: Arc<View>,
    pub(crate) format: Format,
    pub(crate) bytes_left: Option<u64>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) meter: Meter,
    /// Where the reader is; `None`: it has nothing.
    pub(crate) have: Option<Checkpoint>,
    /// `frames`: schemas that it has.
    pub(crate) schemas: HashSet<SchemaId>,
    /// `arrow`: what the stream's columns are.
    pub(crate) columns: Option<Arc<TableSchema>>,
}

impl Pieces {
    /// The next batch: one piece.
    pub(crate) async fn next(&mut self) -> Result<Batch, Problem> {
        let mut batch = Batch::default();
        if *self.stop.borrow() || self.bytes_left == Some(0) {
            self.end(&mut batch)?;
            return Ok(batch);
        }
        match self.reading.next(self.have.as_ref()).await? {
            SnapshotPiece::Window(window) => self.take(window, &mut batch).await?,
            SnapshotPiece::Stream(checkpoint) => {
                match self.format {
                    Format::Frames => batch.push(self.ahead(&checkpoint)?),
                    Format::Arrow => {}
                    Format::Json | Format::Events => batch.push(self.line(&checkpoint)),
                }
                self.have = Some(checkpoint);
                self.end(&mut batch)?;
            }
        }
        Ok(batch.joined())
    }

    /// Where the reader is.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.have.clone()
    }

    async fn take(&mut self, window: Arc<Window>, batch: &mut Batch) -> Result<(), Problem> {
        let (seen, chunk) = self.view.piece(self.format, &window).await?;
        match self.format {
            Format::Frames => {
                for table in &seen.tables {
                    if self.schemas.insert(table.schema.id()) {
                        batch.push(format::frame_bytes(encode_schema(&table.schema)));
                    }
                }
                batch.push(self.ahead(&seen.checkpoint())?);
                batch.push(chunk.bytes.clone());
            }
            Format::Json | Format::Events => batch.push(chunk.bytes.clone()),
            Format::Arrow => {
                if !self.take_arrow(&chunk, batch)? {
                    return self.end(batch);
                }
            }
        }
        self.meter.window(&window, seen.row_count());
        self.have = Some(window.checkpoint());
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(batch.bytes as u64);
        }
        Ok(())
    }

    /// Whether the stream's columns are those of the piece: with others it ends before it.
    fn take_arrow(&mut self, chunk: &Chunk, batch: &mut Batch) -> Result<bool, Problem> {
        for piece in &chunk.pieces {
            match &self.columns {
                Some(columns) if columns.id() != piece.schema.id() => return Ok(false),
                Some(_) => {}
                None => {
                    let message = arrow::schema_message(piece.schema.arrow());
                    batch.push(message.map_err(|error| unwritten(&self.source, &error))?);
                    self.columns = Some(Arc::clone(&piece.schema));
                }
            }
            batch.push(piece.bytes.clone());
        }
        Ok(true)
    }

    /// Whatever the format has at its end.
    fn end(&mut self, batch: &mut Batch) -> Result<(), Problem> {
        batch.ends = true;
        if self.format == Format::Arrow {
            if self.columns.is_none() {
                let message = arrow::schema_message(&arrow_schema::Schema::empty());
                batch.push(message.map_err(|error| unwritten(&self.source, &error))?);
            }
            batch.push(Bytes::from_static(&arrow::END));
        }
        Ok(())
    }

    fn ahead(&self, checkpoint: &Checkpoint) -> Result<Bytes, Problem> {
        let frame = encode_checkpoint(checkpoint).map_err(|error: FrameError| {
            tracing::error!(source = %self.source, %error, "a checkpoint cannot be written");
            Problem::new(Code::Storage, "a checkpoint cannot be written; the relay's own log says why")
        })?;
        Ok(format::frame_bytes(frame))
    }

    fn line(&self, checkpoint: &Checkpoint) -> Bytes {
        let mut line = Vec::new();
        format::push_checkpoint(&mut line, self.format, Some(checkpoint));
        line.into()
    }
}
