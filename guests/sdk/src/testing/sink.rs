//! The sink of a native test: what the host commits for a component is written down for the test's thread. Which columns
//! a table takes is not judged here.

use std::cell::RefCell;

use crate::{Column, ColumnDef, Error};

/// What was done to an output table.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// Rows were appended.
    Rows {
        /// The table's name.
        table: String,
        /// One a row.
        ops: Vec<u8>,
        /// As the guest gave them.
        columns: Vec<Column>,
    },
    /// The table of that name was truncated.
    Truncated(String),
    /// A table was renamed.
    Renamed {
        /// The name that it had.
        name: String,
        /// The name that it has.
        to: String,
    },
}

thread_local! {
    /// Their numbers are their places.
    static TABLES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static WRITTEN: RefCell<Vec<Written>> = const { RefCell::new(Vec::new()) };
}

/// What was done to output tables since the last call, in order.
pub fn written() -> Vec<Written> {
    WRITTEN.take()
}

pub(crate) fn open(name: &str, _: &[ColumnDef], _: &[u32]) -> Result<u32, Error> {
    TABLES.with_borrow_mut(|tables| {
        let known = tables.iter().position(|table| table == name);
        let place = known.unwrap_or_else(|| {
            tables.push(name.to_owned());
            tables.len() - 1
        });
        Ok(u32::try_from(place).expect("a test's tables"))
    })
}

pub(crate) fn append(table: u32, count: u32, ops: &[u8], columns: &[Column]) -> Result<(), Error> {
    let name = TABLES.with_borrow(|tables| tables.get(table as usize).cloned());
    let table = name.ok_or_else(|| Error::Fatal("no table was opened with that number".to_owned()))?;
    let count = count as usize;
    if ops.len() != count || columns.iter().any(|column| column.len() != count) {
        return Err(Error::Fatal(format!("table {table}: {count} rows have other ops or columns")));
    }
    push(Written::Rows { table, ops: ops.to_vec(), columns: columns.to_vec() })
}

pub(crate) fn truncate(name: &str) -> Result<(), Error> {
    push(Written::Truncated(name.to_owned()))
}

pub(crate) fn rename(name: &str, to: &str) -> Result<(), Error> {
    push(Written::Renamed { name: name.to_owned(), to: to.to_owned() })
}

fn push(written: Written) -> Result<(), Error> {
    WRITTEN.with_borrow_mut(|all| all.push(written));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Written, written};
    use crate::output::{self, Table};
    use crate::{Error, build, testing};

    #[test]
    fn what_a_guest_does_to_its_tables_is_written_down_in_order() {
        let defs = [testing::column("id", "int64")];
        let table = Table::open("t", &defs, &[0]).unwrap();
        assert_eq!(Table::open("t", &defs, &[0]), Ok(table));
        let columns = vec![build::Ints::of(&[1, 2])];
        table.append(&[0, 0], &columns).unwrap();
        output::truncate("t").unwrap();
        output::rename("t", "u").unwrap();
        assert!(matches!(table.append(&[0], &columns), Err(Error::Fatal(_))));
        let (table, name, to) = ("t".to_owned(), "t".to_owned(), "u".to_owned());
        let truncated = Written::Truncated("t".to_owned());
        let renamed = Written::Renamed { name, to };
        assert_eq!(written(), [Written::Rows { table, ops: vec![0, 0], columns }, truncated, renamed]);
        assert_eq!(written(), []);
    }
}
