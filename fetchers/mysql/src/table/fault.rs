//! What is said when rows of a table cannot be read: the table, the column, the place, and what mends it.

use tidemill_event::TableSchema;
use tidemill_fetchers_api::{FetchError, Undecodable};

use crate::table::RowError;
use crate::value::ValueError;

const MEND_DATE: &str = "set zero_dates = \"null\" on the source (not for a column of the primary key), leave the table out, \
                         or store a date in the row and start after that";

/// Of a row at that place.
pub(crate) fn of_row(
    schema: &TableSchema,
    RowError { column, error }: RowError,
    place: String,
) -> FetchError {
    match error {
        ValueError::Malformed(what) => {
            let column =
                column.map(|c| format!(", column `{}`", schema.columns()[c].name)).unwrap_or_default();
            FetchError::Damaged { place, what: format!("{what} (table {}{column})", schema.name()) }
        }
        ValueError::Refused(why) => unreadable(schema, column, place, why),
        ValueError::NoDate { year, month, day } => {
            let why = format!("{year:04}-{month:02}-{day:02} is no date; {MEND_DATE}");
            unreadable(schema, column, place, why)
        }
    }
}

/// Of all rows that come from that place on.
pub(crate) fn unreadable(
    schema: &TableSchema,
    column: Option<usize>,
    place: String,
    why: String,
) -> FetchError {
    let column = column.map(|c| &schema.columns()[c]);
    FetchError::Undecodable(Box::new(Undecodable {
        table: Some(schema.name().clone()),
        column: column.map(|c| c.name.clone()),
        source_type: column.map(|c| c.source_type.clone()),
        place,
        why,
    }))
}
