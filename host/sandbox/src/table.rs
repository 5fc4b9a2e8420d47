//! What the stages share about tables: their numbers, what `plan` is told, and the columns of a call.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use tidemill_event::{SchemaId, TableChanges, TableSchema};

use crate::abi::{ColumnDef, TableDef};
use crate::convert::{self, Lowered};

/// The numbers that one guest knows table versions by: its own, in the order of appearance.
#[derive(Default)]
pub(crate) struct TableIds(HashMap<SchemaId, u32>);

impl TableIds {
    pub(crate) fn of(&mut self, schema: &TableSchema) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(schema.id()).or_insert(next)
    }

    /// Of a table that has a number.
    pub(crate) fn known(&self, schema: &TableSchema) -> u32 {
        *self.0.get(&schema.id()).expect("the table was planned")
    }
}

/// What `plan` and `decide` are told.
pub(crate) fn def<'a>(
    id: u32,
    source: &'a str,
    schema: &'a TableSchema,
    columns: &'a [ColumnDef],
) -> TableDef<'a> {
    let name = schema.name();
    TableDef { id, source, schema: &name.database, name: &name.table, columns, key: schema.key() }
}

/// Whether the guest named columns that are there, each once.
pub(crate) fn check_ordinals(ordinals: &[u32], schema: &TableSchema) -> Result<(), String> {
    let mut seen = vec![false; schema.columns().len()];
    for ordinal in ordinals {
        match seen.get_mut(*ordinal as usize) {
            None => return Err(format!("names column {ordinal}; the table has {}", seen.len())),
            Some(true) => return Err(format!("names column {ordinal} twice")),
            Some(first) => *first = true,
        }
    }
    Ok(())
}

/// Some columns of some rows, held while they are lowered.
pub(crate) struct Input {
    pub(crate) arrays: Vec<ArrayRef>,
    pub(crate) absent: Vec<Option<BooleanBuffer>>,
    pub(crate) rows: usize,
}

impl Input {
    pub(crate) fn of(changes: &TableChanges, columns: &[u32], range: Range<usize>) -> Input {
        let (start, rows) = (range.start, range.len());
        let all = rows == changes.rows.num_rows();
        let array = |column: &u32| {
            let whole = changes.rows.column(*column as usize);
            if all { Arc::clone(whole) } else { whole.slice(start, rows) }
        };
        let absent = |column: &u32| {
            let bits = changes.absent.get(*column as usize)?.as_ref()?;
            Some(bits.slice(start, rows))
        };
        Input {
            arrays: columns.iter().map(array).collect(),
            absent: columns.iter().map(absent).collect(),
            rows,
        }
    }

    pub(crate) fn lower(&self) -> Vec<Lowered<'_>> {
        let columns = self.arrays.iter().zip(&self.absent);
        columns.map(|(array, absent)| convert::lower(array, absent.as_ref())).collect()
    }
}
