//! What a source's statement does to the columns of a table, for who keeps older rows of it. Each source reads its own words.

use tidemill_event::TableName;

/// One thing that a statement does to the rows of the tables that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnChange {
    /// The table was made by it, empty; there was none of that name before.
    Created,
    /// There is a column more, with NULL in every older row.
    Added(String),
    /// A column is gone.
    Dropped(String),
    /// A column has another name.
    Renamed {
        /// The one that it had.
        from: String,
        /// The one that it has.
        to: String,
    },
    /// A column was defined anew; its type tells whether its values are what they were.
    Retyped {
        /// The name that it has behind the statement.
        name: String,
        /// The type, spelt as the source spells types elsewhere; `None`: it cannot be told.
        to: Option<String>,
        /// Whether it takes NULL.
        nullable: bool,
    },
    /// Older rows may have other values, or nobody can say.
    Unknown(String),
}

/// Reads what a statement does to the one table that it names, all at once: names are those of before it, but where they are
/// said to be new. Nothing: it changes no row and no column.
pub type ReadStatement = fn(table: &TableName, statement: &str) -> Vec<ColumnChange>;
