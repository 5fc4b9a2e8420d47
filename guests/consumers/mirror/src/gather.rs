//! Picks rows out of the columns of a batch and puts them into new columns, in the order in which they were picked.

use tidemill_guest::build::{Bools, Bytes, Floats, Ints, Texts, Uints};
use tidemill_guest::column::Cell;
use tidemill_guest::consumer::Op;
use tidemill_guest::{Column, ColumnDef, Physical, Row};

/// A row, as much as there is of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Image<'a> {
    /// Every column of the table.
    Whole(Row<'a>),
    /// The key alone: `key` has the ordinals of its columns in the table.
    Key { row: Row<'a>, key: &'a [u32] },
}

/// Rows of one table, and what happens to each.
#[derive(Debug, Default)]
pub(crate) struct Gathered<'a> {
    ops: Vec<u8>,
    rows: Vec<Image<'a>>,
}

impl<'a> Gathered<'a> {
    pub(crate) fn push(&mut self, op: Op, row: Image<'a>) {
        self.ops.push(match op {
            Op::Insert => 0,
            Op::Update => 1,
            Op::Delete => 2,
            Op::Snapshot => 3,
        });
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The ops, and a column for each of the table's.
    pub(crate) fn finish(self, columns: &[ColumnDef]) -> (Vec<u8>, Vec<Column>) {
        let column = |(ordinal, def): (u32, &ColumnDef)| {
            let cells = self.rows.iter().map(|row| row.place_of(ordinal));
            match def.physical {
                Physical::Bools => gather!(cells, Bools, bool),
                Physical::Ints => gather!(cells, Ints, i64),
                Physical::Uints => gather!(cells, Uints, u64),
                Physical::Floats => gather!(cells, Floats, f64),
                Physical::Text => gather!(cells, Texts, &str),
                Physical::Bytes => gather!(cells, Bytes, &[u8]),
            }
        };
        let columns = (0u32..).zip(columns).map(column).collect();
        (self.ops, columns)
    }
}

impl<'a> Image<'a> {
    /// The row, and where in it the column of that ordinal is.
    fn place_of(&self, ordinal: u32) -> Option<(Row<'a>, usize)> {
        match self {
            Image::Whole(row) => Some((*row, ordinal as usize)),
            Image::Key { row, key } => Some((*row, key.iter().position(|of| *of == ordinal)?)),
        }
    }
}

/// A column of the builder `$builder` with the values of type `$value` in those places.
macro_rules! gather {
    ($cells:expr, $builder:ident, $value:ty) => {{
        let mut built = $builder::default();
        for place in $cells {
            match place.and_then(|(row, place)| row.cell::<$value>(place)) {
                Some(Cell::Value(value)) => built.push(value),
                Some(Cell::Null) => built.push_null(),
                Some(Cell::Absent) | None => built.push_absent(),
            }
        }
        built.finish()
    }};
}
use gather;
