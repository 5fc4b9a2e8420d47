//! What a source is compared with: something that follows it and can be read as it was at one position. Which rows are
//! differences is decided elsewhere.

use std::future::Future;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use tidemill_event::{Position, SchemaId, Scn, TableName, TableSchema};

use super::VerifyError;

/// Takes rows, a batch at a time.
pub type Give<'a> = &'a mut (dyn FnMut(&RecordBatch) -> Result<(), ArrowError> + Send);

/// A copy of a source's tables that follows it.
pub trait Replica: Send + Sync {
    /// One of its tables at one position.
    type Version: Version;

    /// The tables that it has, of those of the source.
    fn tables(
        &self,
        source: &[TableName],
    ) -> impl Future<Output = Result<Vec<TableName>, VerifyError>> + Send;

    /// The newest version of a table.
    fn version(&self, table: &TableName) -> impl Future<Output = Result<Self::Version, VerifyError>> + Send;
}

/// One table at one position: nothing of it changes any more, however long it is read.
pub trait Version: Send + Sync {
    /// Where it stands.
    fn place(&self) -> &Place;

    /// Which columns of the source's rows are which of its own; else why its rows are not comparable with those.
    fn pairing(&self, rows: &TableSchema) -> Result<Pairing, String>;

    /// About how many rows it has.
    fn row_count(&self) -> u64;

    /// Gives all its rows, their paired columns.
    fn rows(&self, pairing: &Pairing, give: Give<'_>)
    -> impl Future<Output = Result<(), VerifyError>> + Send;

    /// Gives rows with the keys of all that changed after `since` and up to here, their paired columns, of which those that
    /// are no key say nothing. `false`: that is not known, so any row may have changed.
    fn changed(
        &self,
        pairing: &Pairing,
        since: Position,
        give: Give<'_>,
    ) -> impl Future<Output = Result<bool, VerifyError>> + Send;
}

/// Where a version stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number, where versions have one.
    pub number: Option<u64>,
    /// It has every transaction up to here, and no other.
    pub position: Position,
    /// As a set of transactions.
    pub executed: String,
    /// The timelines that are known, and whose each is.
    pub timelines: Vec<(u32, String)>,
}

impl Place {
    /// The position of an SCN of that server. One that is not known yet is ahead of everything.
    pub(super) fn position_of(&self, server: &str, scn: Scn) -> Position {
        let known = self.timelines.iter().filter(|(_, of)| of == server).map(|(number, _)| *number).max();
        let last = self.timelines.iter().map(|(number, _)| *number).max().unwrap_or(0);
        Position { timeline: known.unwrap_or(last + 1), scn }
    }
}

/// Columns of the source's rows and of a replica's that are compared with each other.
#[derive(Debug)]
pub struct Pairing {
    /// Of the source's rows.
    of: SchemaId,
    /// Ordinals, the source's and the replica's.
    columns: Vec<(usize, usize)>,
    /// The compared columns, with the replica's types.
    schema: SchemaRef,
    /// Places of the key among them; empty: the whole row is one.
    pub(super) key: Vec<usize>,
    /// Columns that only one of the two has.
    pub(super) left_out: Vec<String>,
}

impl Pairing {
    /// Of rows that are the same on both sides. `key` may be empty.
    pub(super) fn same(rows: &TableSchema, key: Vec<usize>) -> Pairing {
        let columns = (0..rows.columns().len()).map(|ordinal| (ordinal, ordinal)).collect();
        // Of a row that is gone only the key is known.
        let fields = rows.columns().iter().map(|c| Field::new(&c.name, c.data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Pairing { of: rows.id(), columns, schema, key, left_out: vec![] }
    }

    /// By the columns' names. Both must have one key.
    pub(super) fn by_name(rows: &TableSchema, replica: &TableSchema) -> Result<Pairing, String> {
        let key = |schema: &TableSchema| -> Vec<String> {
            schema.key().iter().map(|k| schema.columns()[*k as usize].name.clone()).collect()
        };
        let (theirs, ours) = (key(rows), key(replica));
        let said = |key: &[String]| if key.is_empty() { "none".to_owned() } else { key.join(", ") };
        if ours.is_empty() || theirs.len() != ours.len() || !ours.iter().all(|name| theirs.contains(name)) {
            let (theirs, ours) = (said(&theirs), said(&ours));
            return Err(format!(
                "rows are compared by key, and the source's ({theirs}) is not the output's ({ours}); have the consumer write \
                 rows with the source's key, or leave the table out"
            ));
        }
        let (mut columns, mut fields) = (vec![], vec![]);
        for (ordinal, column) in rows.columns().iter().enumerate() {
            let Some(place) = replica.column(&column.name) else { continue };
            let written = &replica.columns()[place].data_type;
            if !is_comparable(&column.data_type, written) {
                let (name, read) = (&column.name, &column.data_type);
                return Err(format!(
                    "column `{name}` is {read} at the source and {written} in the output; have the consumer write it with the \
                     source's type, or leave the table out"
                ));
            }
            columns.push((ordinal, place));
            fields.push(Field::new(&column.name, written.clone(), true));
        }
        let name_of = |field: &Field| field.name().clone();
        let compared: Vec<String> = fields.iter().map(name_of).collect();
        let all = rows.columns().iter().chain(replica.columns());
        let left_out = all.map(|column| column.name.clone()).filter(|name| !compared.contains(name));
        let place = |name: &String| compared.iter().position(|of| of == name).expect("both have the key");
        let key = ours.iter().map(place).collect();
        let (schema, left_out) = (Arc::new(Schema::new(fields)), left_out.collect());
        Ok(Pairing { of: rows.id(), columns, schema, key, left_out })
    }

    /// The compared columns.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether it was made for rows of that schema.
    pub(super) fn is_of(&self, rows: &TableSchema) -> bool {
        self.of == rows.id()
    }

    /// The compared columns of rows of the source.
    pub(super) fn of_source(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let paired = self.columns.iter().zip(self.schema.fields());
        let columns = paired.map(|((ordinal, _), field)| {
            let column = rows.column(*ordinal);
            match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => arrow_cast::cast(column, field.data_type()),
            }
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }

    /// The compared columns of rows of the replica.
    pub(super) fn of_replica(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter().map(|(_, ordinal)| Arc::clone(rows.column(*ordinal)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())
    }
}

/// Whether a value of the first type has one form in the second: a guest's numbers have 64 bits.
fn is_comparable(read: &DataType, written: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    read == written
        || matches!(
            (read, written),
            (Int8 | Int16 | Int32, Int64) | (UInt8 | UInt16 | UInt32, UInt64) | (Float32, Float64)
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tidemill_event::ColumnSchema;

    use super::*;

    fn table(columns: &[(&str, DataType)], key: &[u32]) -> Arc<TableSchema> {
        let columns = columns.iter().map(|(name, of)| ColumnSchema::new(name, of.clone(), "", true));
        TableSchema::new(TableName::new("t", "a"), columns.collect(), key.to_vec())
    }

    #[test]
    fn columns_are_paired_by_name_and_numbers_widened_as_guests_have_them() {
        let source =
            table(&[("a", DataType::Int16), ("id", DataType::UInt32), ("note", DataType::Utf8)], &[1]);
        let output =
            table(&[("id", DataType::UInt64), ("a", DataType::Int64), ("made", DataType::Utf8)], &[0]);
        let pairing = Pairing::by_name(&source, &output).unwrap();
        assert_eq!(pairing.columns, [(0, 1), (1, 0)]);
        assert_eq!((pairing.key, pairing.left_out), (vec![1], vec!["note".to_owned(), "made".to_owned()]));
    }

    #[test]
    fn what_cannot_be_compared_is_said_with_what_to_do() {
        let source = table(&[("id", DataType::Int32), ("a", DataType::Date32)], &[0]);
        let refused = |columns: &[(&str, DataType)], key: &[u32]| {
            Pairing::by_name(&source, &table(columns, key)).unwrap_err()
        };
        let text = ("a", DataType::Utf8);
        let error = refused(&[("id", DataType::Int64), text.clone()], &[0]);
        assert!(
            error.starts_with("column `a` is Date32 at the source and Utf8 in the output; have"),
            "{error}"
        );
        for (columns, key, says) in [
            (vec![("id", DataType::Int64)], vec![], "the source's (id) is not the output's (none)"),
            (vec![text.clone()], vec![0], "the source's (id) is not the output's (a)"),
            (vec![("id", DataType::Int64), text], vec![0, 1], "is not the output's (id, a)"),
        ] {
            let error = refused(&columns, &key);
            assert!(error.contains(says), "{error}");
        }
    }
}
