//! Updates of PARTIAL_UPDATE_ROWS: a document of the image after may be told as its differences from the one before.

use tidemill_event::RowKind;

use super::{Present, RowError, TableBuilder, bit, error_at};
use crate::table::column::{Kind, value};
use crate::value::ValueError;
use crate::value::document::Document;
use crate::wire::{Bytes, Malformed};

/// The image after begins with options; with this one a bit for each JSON column of the table follows.
const PARTIAL_JSON: u64 = 1;

const NO_BASE: &str = "the log has only what changed of a document, and not the document before; run SET GLOBAL \
                       binlog_row_image = FULL or binlog_row_value_options = '', and start after that";

impl TableBuilder {
    /// One update: both images.
    pub(super) fn partial_update(
        &mut self,
        b: &mut Bytes<'_>,
        [first, second]: [&Present<'_>; 2],
        ordinal: u32,
        txn: u32,
    ) -> Result<(), RowError> {
        let images = *b;
        self.row(b, first, RowKind::UpdateBefore, ordinal, txn)?;
        let options = b.length()?;
        if options & !PARTIAL_JSON != 0 {
            return Err(Malformed("an update has value options that this release does not know").into());
        }
        let documents = self.columns.iter().filter(|c| matches!(c.kind(), Kind::Json { .. })).count();
        if options & PARTIAL_JSON == 0 || documents == 0 {
            return self.row(b, second, RowKind::UpdateAfter, ordinal, txn);
        }
        let told = b.take(documents.div_ceil(8))?;
        let before = self.documents(images, first)?;
        self.partial_row(b, second, (told, &before), ordinal, txn)
    }

    /// The documents of an image that was decoded before, packed, by the number of their JSON column.
    fn documents<'a>(
        &self,
        image: Bytes<'a>,
        present: &Present<'_>,
    ) -> Result<Vec<Option<&'a [u8]>>, RowError> {
        let mut b = image;
        let nulls = b.take(present.count.div_ceil(8))?;
        let mut documents = Vec::new();
        let mut place = 0;
        for (i, column) in self.columns.iter().enumerate() {
            let mut found = None;
            if bit(present.bits, i) {
                if !bit(nulls, place) {
                    found = skip(column.kind(), &mut b)?;
                }
                place += 1;
            }
            if matches!(column.kind(), Kind::Json { .. }) {
                documents.push(found);
            }
        }
        Ok(documents)
    }

    /// The image after. `told` says which documents are told as differences from those of `before`.
    fn partial_row(
        &mut self,
        b: &mut Bytes<'_>,
        present: &Present<'_>,
        (told, before): (&[u8], &[Option<&[u8]>]),
        ordinal: u32,
        txn: u32,
    ) -> Result<(), RowError> {
        let nulls = b.take(present.count.div_ceil(8))?;
        let row = self.kinds.len();
        let (mut place, mut document) = (0, 0);
        for (i, column) in self.columns.iter_mut().enumerate() {
            let json = match column.kind() {
                Kind::Json { length } => Some(*length),
                _ => None,
            };
            let number = document;
            document += usize::from(json.is_some());
            if !bit(present.bits, i) {
                column.push_null(row, true);
                continue;
            }
            place += 1;
            if bit(nulls, place - 1) {
                column.push_null(row, false);
                continue;
            }
            let pushed = match json.filter(|_| bit(told, number)) {
                Some(length) => value(b, length).and_then(|differences| {
                    let base = before[number].ok_or_else(|| ValueError::Refused(NO_BASE.to_owned()))?;
                    let mut document = Document::read(base)?;
                    document.apply(differences)?;
                    column.push_document(&document)
                }),
                None => column.push(b),
            };
            match pushed {
                Ok(()) => {}
                Err(ValueError::NoDate { .. }) if self.dates_nullable[i] => column.push_null(row, false),
                Err(error) => return Err(error_at(i, &self.hidden, error)),
            }
        }
        self.end_row(RowKind::UpdateAfter, ordinal, txn);
        Ok(())
    }
}

/// Passes over a value, and gives it if it is a document.
fn skip<'a>(kind: &Kind, b: &mut Bytes<'a>) -> Result<Option<&'a [u8]>, RowError> {
    let of_value = |error| RowError { column: None, error };
    match kind {
        Kind::Json { length } => return value(b, *length).map(Some).map_err(of_value),
        Kind::Text { length, .. }
        | Kind::Bytes { length }
        | Kind::Padded { length, .. }
        | Kind::Shown { length, .. }
        | Kind::Compressed { length, .. } => drop(value(b, *length).map_err(of_value)?),
        fixed => drop(b.take(fixed.fixed_bytes())?),
    }
    Ok(None)
}
