//! Rows of a statement into batches of columns.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};

use crate::extract::definition::Definition;
use crate::limits::{BATCH_BYTES, BATCH_ROWS};
use crate::table::{Column, Kind, RowError};
use crate::value::ValueError;
use crate::wire::{Bytes, Malformed};

/// See the module.
pub(super) struct BatchMaker {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The ordinal of each in the table.
    ordinals: Vec<u32>,
    /// Columns in which what is no date is NULL.
    dates_nullable: Vec<bool>,
    rows: usize,
    bytes: usize,
}

impl BatchMaker {
    /// Of these columns of the table.
    pub(super) fn new(definition: &Definition, ordinals: &[u32]) -> BatchMaker {
        let fields = definition.layout.schema.arrow().fields();
        let fields: Vec<_> = ordinals.iter().map(|o| Arc::clone(&fields[*o as usize])).collect();
        let column = |ordinal: &u32| &definition.columns[*ordinal as usize];
        BatchMaker {
            schema: Arc::new(Schema::new(fields)),
            columns: ordinals.iter().map(|o| Column::new(column(o).sent.clone())).collect(),
            dates_nullable: ordinals.iter().map(|o| column(o).date_nullable).collect(),
            ordinals: ordinals.to_vec(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Whether the statement's columns are of the types that are expected.
    pub(super) fn fits(&self, types: &[u8]) -> bool {
        let kinds = self.columns.iter().map(Column::kind);
        let fits = |(kind, sent): (&Kind, &u8)| kind.is_sent_as(*sent);
        types.len() == self.columns.len().max(1) && kinds.zip(types).all(fits)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Appends a row. After an error the maker is good for nothing.
    #[inline]
    pub(super) fn push(&mut self, row: &[u8]) -> Result<(), RowError> {
        /// Bits of the row's head before the first column's.
        const UNUSED: usize = 2;
        let mut b = Bytes(row);
        let columns = self.columns.len().max(1);
        let nulls = b.take((columns + UNUSED).div_ceil(8))?;
        for (i, column) in self.columns.iter_mut().enumerate() {
            let bit = i + UNUSED;
            if nulls[bit / 8] >> (bit % 8) & 1 == 1 {
                column.push_null(self.rows, false);
                continue;
            }
            match column.push_sent(&mut b) {
                Ok(()) => {}
                Err(ValueError::NoDate { .. }) if self.dates_nullable[i] => {
                    column.push_null(self.rows, false)
                }
                Err(error) => return Err(RowError { column: Some(self.ordinals[i] as usize), error }),
            }
        }
        if !b.0.is_empty() && !self.columns.is_empty() {
            return Err(Malformed("a row has more bytes than columns").into());
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// Takes the rows so far.
    pub(super) fn take(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns = self.columns.iter_mut().zip(self.schema.fields());
        let arrays = columns.map(|(column, field)| column.take(rows, field.data_type()).0).collect();
        self.columns.iter_mut().for_each(Column::begin);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        batch.expect("columns are made for the schema and have a value a row")
    }
}
