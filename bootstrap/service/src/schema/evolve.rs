//! How a stored schema goes on: after a statement, and when rows of another schema come.

use tidemill_bootstrap_store::{ColumnType, StoredColumn, StoredSchema, TableKey, can_widen, can_widen_key};
use tidemill_event::{ColumnSchema, TableName, TableSchema};
use tidemill_fetchers_api::statement::ColumnChange;

use super::source_type::keeps_values;

/// What becomes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evolution {
    /// Nothing.
    Same,
    /// It has this schema from now on; older rows are what they were, NULL in columns that they do not have.
    InPlace(StoredSchema),
    /// Nobody can say what older rows are now: it is copied anew.
    CloneAnew(String),
}

/// A schema, and the fields that come after it.
pub(crate) struct Stored<'a> {
    pub(crate) name: &'a TableName,
    pub(crate) schema: &'a StoredSchema,
    pub(crate) key: &'a TableKey,
    pub(crate) next_field: u32,
    /// Whether a policy judged its rows: it may judge a column of another name otherwise.
    pub(crate) judged: bool,
}

/// After a statement. Columns that it adds are entered in `expected` and come with the rows that have them; others are
/// renamed and dropped at once, so that one that is made again is never taken for the one that was.
pub(crate) fn after_statement(
    stored: &Stored<'_>,
    changes: &[ColumnChange],
    expected: &mut Vec<String>,
) -> Evolution {
    let mut schema = stored.schema.clone();
    for change in changes {
        match change {
            ColumnChange::Created => return Evolution::CloneAnew("it was made a second time".to_owned()),
            ColumnChange::Unknown(what) => {
                return Evolution::CloneAnew(format!("its definition changed: {what}"));
            }
            ColumnChange::Added(name) => expected.push(name.clone()),
            // The rows that come tell its type, and `after_rows` judges it.
            ColumnChange::Retyped(_) => {}
            ColumnChange::Dropped(name) => {
                expected.retain(|other| other != name);
                if let Err(reason) = drop_column(&mut schema, stored.key, name) {
                    return Evolution::CloneAnew(reason);
                }
            }
            ColumnChange::Renamed { from, to } => {
                expected.iter_mut().filter(|other| *other == from).for_each(|name| name.clone_from(to));
                let Some(column) = schema.columns.iter_mut().find(|column| column.name == *from) else {
                    continue;
                };
                if stored.judged {
                    return Evolution::CloneAnew(format!(
                        "column {from} is {to} now, and a policy judges columns by name"
                    ));
                }
                column.name.clone_from(to);
            }
        }
    }
    in_place(stored, schema)
}

fn drop_column(schema: &mut StoredSchema, key: &TableKey, name: &str) -> Result<(), String> {
    let Some(at) = schema.columns.iter().position(|column| column.name == name) else { return Ok(()) };
    let field = schema.columns[at].field;
    let is_key = match key {
        TableKey::Columns { fields } => fields.contains(&field),
        TableKey::WholeRow => true,
    };
    let at = at as u32;
    if is_key || schema.primary_key.contains(&at) {
        return Err(format!("column {name} of its key was dropped"));
    }
    schema.columns.remove(at as usize);
    schema.primary_key.iter_mut().filter(|ordinal| **ordinal > at).for_each(|ordinal| *ordinal -= 1);
    Ok(())
}

fn in_place(stored: &Stored<'_>, mut schema: StoredSchema) -> Evolution {
    schema.id = schema.table_schema(stored.name).id().to_string();
    if schema == *stored.schema { Evolution::Same } else { Evolution::InPlace(schema) }
}

/// When rows of another schema come. `expected` are the columns that statements have added, with NULL in older rows.
pub(crate) fn after_rows(stored: &Stored<'_>, rows: &TableSchema, expected: &[String]) -> Evolution {
    if stored.schema.id == rows.id().to_string() {
        return Evolution::Same;
    }
    let mut next_field = stored.next_field;
    let mut columns = Vec::with_capacity(rows.columns().len());
    for column in rows.columns() {
        let known = stored.schema.columns.iter().find(|known| known.name == column.name);
        let field = match known {
            Some(known) => match keeps(stored, known, column) {
                Ok(()) => known.field,
                Err(reason) => return Evolution::CloneAnew(reason),
            },
            None if expected.contains(&column.name) && column.nullable => {
                next_field += 1;
                next_field - 1
            }
            None => {
                return Evolution::CloneAnew(format!(
                    "it has a column {} more, and no statement says what older rows have in it",
                    column.name
                ));
            }
        };
        columns.push(stored_column(field, column));
    }
    let schema = StoredSchema { id: rows.id().to_string(), columns, primary_key: rows.key().to_vec() };
    match same_key(stored, &schema) {
        true => Evolution::InPlace(schema),
        false => Evolution::CloneAnew("its key is another one".to_owned()),
    }
}

fn stored_column(field: u32, column: &ColumnSchema) -> StoredColumn {
    StoredColumn {
        field,
        name: column.name.clone(),
        data_type: ColumnType(column.data_type.clone()),
        source_type: column.source_type.clone(),
        nullable: column.nullable,
        sensitivity: column.sensitivity as u8,
    }
}

/// Whether the older values of a column are what they were.
fn keeps(stored: &Stored<'_>, known: &StoredColumn, column: &ColumnSchema) -> Result<(), String> {
    let changed = |what: String| Err(format!("column {} {what}", known.name));
    if known.sensitivity != column.sensitivity as u8 {
        return changed("is judged otherwise by the policy".to_owned());
    }
    // What was NULL has become something else.
    if known.nullable && !column.nullable {
        return changed("takes no NULL any more".to_owned());
    }
    let (old, new) = (&known.data_type.0, &column.data_type);
    let in_key = matches!(stored.key, TableKey::Columns { fields } if fields.contains(&known.field))
        || *stored.key == TableKey::WholeRow;
    let fits = || old == new || if in_key { can_widen_key(old, new) } else { can_widen(old, new) };
    if keeps_values(&known.source_type, &column.source_type) && fits() {
        return Ok(());
    }
    changed(format!("was {} and is {}", known.source_type, column.source_type))
}

fn same_key(stored: &Stored<'_>, schema: &StoredSchema) -> bool {
    let fields = |schema: &StoredSchema| -> Vec<u32> {
        schema.primary_key.iter().map(|at| schema.columns[*at as usize].field).collect()
    };
    match stored.key {
        // Equal rows are told apart by all columns: there must be no other ones.
        TableKey::WholeRow => {
            let all = |schema: &StoredSchema| schema.columns.iter().map(|c| c.field).collect::<Vec<_>>();
            all(schema) == all(stored.schema) && schema.primary_key.is_empty()
        }
        TableKey::Columns { fields: key } => {
            let there = |field: &u32| schema.columns.iter().any(|column| column.field == *field);
            key.iter().all(there) && fields(schema) == fields(stored.schema)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::DataType;

    fn table(columns: &[(&str, DataType, &str, bool)], key: &[u32]) -> std::sync::Arc<TableSchema> {
        let column = |(name, data_type, source, nullable): &(&str, DataType, &str, bool)| {
            ColumnSchema::new(name, data_type.clone(), source, *nullable)
        };
        TableSchema::new(name(), columns.iter().map(column).collect(), key.to_vec())
    }

    fn name() -> TableName {
        TableName::new("shop", "orders")
    }

    const ID: (&str, DataType, &str, bool) = ("id", DataType::Int64, "bigint", false);
    const NOTE: (&str, DataType, &str, bool) = ("note", DataType::Utf8, "varchar(10)", true);
    const MORE: (&str, DataType, &str, bool) = ("more", DataType::Int32, "int", true);

    /// What becomes of a table with `id` and `note` after those changes, when rows with those columns come.
    fn evolved(changes: &[ColumnChange], columns: &[(&str, DataType, &str, bool)], key: &[u32]) -> Evolution {
        let (name, before) = (name(), table(&[ID, NOTE], &[0]));
        let mut schema = StoredSchema::new(&before, 1);
        let key_fields = TableKey::Columns { fields: vec![1] };
        fn stored<'a>(name: &'a TableName, schema: &'a StoredSchema, key: &'a TableKey) -> Stored<'a> {
            Stored { name, schema, key, next_field: 3, judged: false }
        }
        let mut expected = vec![];
        let evolution = after_statement(&stored(&name, &schema, &key_fields), changes, &mut expected);
        match evolution {
            Evolution::Same => {}
            Evolution::InPlace(next) => schema = next,
            other => return other,
        }
        match after_rows(&stored(&name, &schema, &key_fields), &table(columns, key), &expected) {
            Evolution::Same => Evolution::InPlace(schema),
            other => other,
        }
    }

    fn fields(evolution: &Evolution) -> Vec<(String, u32)> {
        match evolution {
            Evolution::InPlace(schema) => schema.columns.iter().map(|c| (c.name.clone(), c.field)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn added(name: &str) -> ColumnChange {
        ColumnChange::Added(name.to_owned())
    }

    #[test]
    fn b51_a_compatible_change_goes_on_in_place_and_field_ids_stay() {
        let of = |changes: &[ColumnChange], columns: &[_]| fields(&evolved(changes, columns, &[0]));
        let pairs = |all: &[(&str, u32)]| all.iter().map(|(n, f)| ((*n).to_owned(), *f)).collect::<Vec<_>>();
        assert_eq!(of(&[added("more")], &[ID, MORE, NOTE]), pairs(&[("id", 1), ("more", 3), ("note", 2)]));
        assert_eq!(of(&[ColumnChange::Dropped("note".into())], &[ID]), pairs(&[("id", 1)]));
        let wider = ("note", DataType::Utf8, "varchar(20)", true);
        assert_eq!(of(&[], &[ID, wider]), pairs(&[("id", 1), ("note", 2)]));
        let renamed = ColumnChange::Renamed { from: "note".into(), to: "text".into() };
        let text = ("text", DataType::Utf8, "varchar(11)", true);
        assert_eq!(of(&[renamed], &[ID, text]), pairs(&[("id", 1), ("text", 2)]));
        let again = [ColumnChange::Dropped("note".into()), added("note")];
        assert_eq!(of(&again, &[ID, NOTE]), pairs(&[("id", 1), ("note", 3)]));
    }

    #[test]
    fn b51_what_is_not_proven_is_copied_anew() {
        let narrower = ("note", DataType::Utf8, "varchar(9)", true);
        let strict = ("note", DataType::Utf8, "varchar(10)", false);
        let other = ("note", DataType::Int64, "bigint", true);
        let sure = ("more", DataType::Int32, "int", false);
        for (changes, columns, key) in [
            (vec![], vec![ID, NOTE, MORE], vec![0]),
            (vec![added("more")], vec![ID, NOTE, sure], vec![0]),
            (vec![], vec![ID, narrower], vec![0]),
            (vec![], vec![ID, strict], vec![0]),
            (vec![], vec![ID, other], vec![0]),
            (vec![], vec![ID, NOTE], vec![0, 1]),
            (vec![], vec![ID, NOTE], vec![]),
            (vec![ColumnChange::Dropped("id".into())], vec![NOTE], vec![]),
            (vec![ColumnChange::Unknown("CONVERT".into())], vec![ID, NOTE], vec![0]),
        ] {
            let evolution = evolved(&changes, &columns, &key);
            assert!(matches!(evolution, Evolution::CloneAnew(_)), "{changes:?}: {evolution:?}");
        }
    }

    #[test]
    fn b52_a_column_that_a_policy_judged_by_its_old_name_is_copied_anew() {
        let (name, before) = (name(), table(&[ID, NOTE], &[0]));
        let (schema, key) = (StoredSchema::new(&before, 1), TableKey::Columns { fields: vec![1] });
        let stored = Stored { name: &name, schema: &schema, key: &key, next_field: 3, judged: true };
        let renamed = ColumnChange::Renamed { from: "note".into(), to: "email".into() };
        let evolution = after_statement(&stored, &[renamed], &mut vec![]);
        assert!(matches!(evolution, Evolution::CloneAnew(_)), "{evolution:?}");
    }
}
