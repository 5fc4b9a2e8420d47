//! Whether an update is of one row, or took one row away and gave another.

use arrow_array::cast::AsArray;
use arrow_array::{Array, downcast_primitive_array};
use arrow_schema::DataType;

use crate::TableChanges;

impl TableChanges {
    /// Whether a key column differs between the two images: then the old row is gone and the new one is another. A value
    /// that the source did not log has not changed.
    pub fn is_key_changed(&self, before: usize, after: usize) -> bool {
        self.schema.key().iter().any(|column| {
            let column = *column as usize;
            let logged = !self.is_absent(before, column) && !self.is_absent(after, column);
            logged && !is_same(self.rows.column(column), before, after)
        })
    }
}

fn is_same(array: &dyn Array, a: usize, b: usize) -> bool {
    if array.is_null(a) || array.is_null(b) {
        return array.is_null(a) == array.is_null(b);
    }
    downcast_primitive_array!(
        array => array.value(a) == array.value(b),
        DataType::Boolean => array.as_boolean().value(a) == array.as_boolean().value(b),
        DataType::Utf8 => array.as_string::<i32>().value(a) == array.as_string::<i32>().value(b),
        DataType::Binary => array.as_binary::<i32>().value(a) == array.as_binary::<i32>().value(b),
        other => unreachable!("{other} is outside the closed set of column types"),
    )
}
