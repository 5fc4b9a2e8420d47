//! Rows in any order become batches in key order: what runs and chunks are made of before they are written.

use arrow_array::{Array, ArrayRef};
use arrow_schema::ArrowError;
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;

use super::key::Keys;
use crate::limits;

/// Some rows, as they came: columns as they are stored.
pub(crate) struct Piece {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) keys: Keys,
}

impl Piece {
    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| column.get_array_memory_size()).sum();
        columns + self.keys.memory()
    }

    /// All rows of some pieces, as one.
    pub(crate) fn concat(pieces: &[Piece]) -> Result<Piece, ArrowError> {
        let count = pieces.first().map_or(0, |piece| piece.columns.len());
        let column = |place: usize| {
            let parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece.columns[place].as_ref()).collect();
            concat(&parts)
        };
        let columns = (0..count).map(column).collect::<Result<Vec<_>, _>>()?;
        let keys = Keys::concat(&pieces.iter().map(|piece| &piece.keys).collect::<Vec<_>>());
        Ok(Piece { columns, keys })
    }
}

/// Piece and row of each row, in key order; of equal keys in the order in which they came.
pub(crate) fn key_order(pieces: &[Piece]) -> Vec<(usize, usize)> {
    let rows = pieces.iter().enumerate();
    let rows = rows.flat_map(|(piece, rows)| (0..rows.keys.len()).map(move |row| (piece as u32, row as u32)));
    let mut order: Vec<(u128, (u32, u32))> = rows
        .map(|(piece, row)| (pieces[piece as usize].keys.get(row as usize).head(), (piece, row)))
        .collect();
    let key = |(piece, row): (u32, u32)| pieces[piece as usize].keys.get(row as usize);
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))).then_with(|| a.1.cmp(&b.1))
    });
    order.into_iter().map(|(_, (piece, row))| (piece as usize, row as usize)).collect()
}

/// Whether two rows have one key.
pub(crate) fn is_same_key(pieces: &[Piece], a: (usize, usize), b: (usize, usize)) -> bool {
    pieces[a.0].keys.get(a.1) == pieces[b.0].keys.get(b.1)
}

/// The columns of some rows.
pub(crate) fn gather(pieces: &[Piece], rows: &[(usize, usize)]) -> Result<Vec<ArrayRef>, ArrowError> {
    if let Some((piece, first)) = in_a_row(rows) {
        let columns = &pieces[piece].columns;
        return Ok(columns.iter().map(|column| column.slice(first, rows.len())).collect());
    }
    let count = pieces.first().map_or(0, |piece| piece.columns.len());
    let column = |place: usize| {
        let parts: Vec<&dyn Array> = pieces.iter().map(|piece| piece.columns[place].as_ref()).collect();
        interleave(&parts, rows)
    };
    (0..count).map(column).collect()
}

/// Piece and first row, where the rows are as they came: most sources give them in key order.
fn in_a_row(rows: &[(usize, usize)]) -> Option<(usize, usize)> {
    let first = *rows.first()?;
    let follows = |(at, row): (usize, &(usize, usize))| *row == (first.0, first.1 + at);
    rows.iter().enumerate().all(follows).then_some(first)
}

/// Where a batch of rows in key order that begins at `from` ends: equal keys stay together.
pub(crate) fn batch_end(pieces: &[Piece], order: &[(usize, usize)], from: usize) -> usize {
    let mut end = (from + limits::BATCH_ROWS).min(order.len());
    while end < order.len() && is_same_key(pieces, order[end - 1], order[end]) {
        end += 1;
    }
    end
}
