//! Rows of which only the key is left: what deltas say of a row that is gone, or is not to be seen any more.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_select::take::take;

use crate::{RowKind, TableChanges};

impl TableChanges {
    /// The same, where those rows are deletes that say their key and nothing else.
    pub fn with_gone(self, gone: &BooleanBuffer) -> TableChanges {
        if gone.count_set_bits() == 0 {
            return self;
        }
        let is_key = |column: usize| self.schema.key().contains(&(column as u32));
        let columns = self.rows.columns().iter().enumerate();
        let arrays =
            columns.map(|(at, array)| if is_key(at) { Arc::clone(array) } else { without(array, gone) });
        let absent = |at: usize| match self.absent.get(at).cloned().flatten() {
            before if is_key(at) => before,
            Some(before) => Some(&before | gone),
            None => Some(gone.clone()),
        };
        let kind = self.kind.iter().zip(gone.iter());
        let kind = kind.map(|(kind, gone)| if gone { RowKind::Delete as u8 } else { *kind }).collect();
        let rows = RecordBatch::try_new(self.rows.schema(), arrays.collect());
        let absent = (0..self.rows.num_columns()).map(absent).collect();
        TableChanges { rows: rows.expect("columns of the same types and length"), absent, kind, ..self }
    }
}

/// The column without those values.
fn without(array: &ArrayRef, gone: &BooleanBuffer) -> ArrayRef {
    if gone.count_set_bits() == gone.len() {
        return new_null_array(array.data_type(), array.len());
    }
    // The values themselves go as well, since nobody is to find them behind the nulls.
    let indices: UInt32Array = gone.iter().zip(0u32..).map(|(gone, row)| (!gone).then_some(row)).collect();
    take(array, &indices, None).expect("rows of the column itself")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use arrow_array::cast::AsArray;
    use arrow_array::{Array, Int64Array, StringArray};
    use arrow_schema::DataType;

    use super::*;
    use crate::{ColumnSchema, TableName, TableSchema};

    #[test]
    fn what_is_gone_says_its_key_and_hides_no_value() {
        let columns = vec![
            ColumnSchema::new("id", DataType::Int64, "bigint", false),
            ColumnSchema::new("note", DataType::Utf8, "text", true),
        ];
        let schema = TableSchema::new(TableName::new("shop", "a"), columns, vec![0]);
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let notes: ArrayRef = Arc::new(StringArray::from(vec!["one", "secret", "three"]));
        let changes = TableChanges {
            rows: RecordBatch::try_new(Arc::clone(schema.arrow()), vec![ids, notes]).unwrap(),
            schema,
            absent: vec![],
            kind: vec![RowKind::UpdateAfter as u8; 3].into(),
            ordinal: vec![0, 1, 2].into(),
            txn: vec![0; 3].into(),
        };
        let gone = BooleanBuffer::from(vec![false, true, false]);
        let changes = changes.with_gone(&gone);
        assert_eq!(&changes.kind[..], [2, 3, 2]);
        let notes = changes.rows.column(1).as_string::<i32>();
        assert_eq!(notes.iter().collect::<Vec<_>>(), [Some("one"), None, Some("three")]);
        assert_eq!(notes.value_data(), b"onethree");
        assert_eq!(changes.rows.column(0).null_count(), 0);
        assert_eq!(changes.absent, [None, Some(gone)]);
    }
}
