//! How a stored schema goes on: after a statement, and when rows of another schema come.

use std::collections::{HashMap, HashSet};

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
    match evolved(stored, changes, expected) {
        Ok(schema) => in_place(stored, schema),
        Err(reason) => Evolution::CloneAnew(reason),
    }
}

fn evolved(
    stored: &Stored<'_>,
    changes: &[ColumnChange],
    expected: &mut Vec<String>,
) -> Result<StoredSchema, String> {
    let (mut schema, before) = (stored.schema.clone(), std::mem::take(expected));
    // All at once: two columns may have changed their names with each other.
    let mut renamed: HashMap<String, &str> = HashMap::new();
    let mut dropped: HashSet<String> = HashSet::new();
    for change in changes {
        match change {
            ColumnChange::Created => return Err("it was made a second time".to_owned()),
            ColumnChange::Unknown(what) => return Err(format!("its definition changed: {what}")),
            ColumnChange::Renamed { from, to } => drop(renamed.insert(folded(from), to)),
            ColumnChange::Dropped(name) => drop(dropped.insert(folded(name))),
            ColumnChange::Added(_) | ColumnChange::Retyped { .. } => {}
        }
    }
    let gone: Vec<u32> =
        schema.columns.iter().filter(|c| dropped.contains(&folded(&c.name))).map(|c| c.field).collect();
    for field in gone {
        drop_column(&mut schema, stored.key, field)?;
    }
    for column in &mut schema.columns {
        let Some(to) = renamed.get(&folded(&column.name)) else { continue };
        if stored.judged {
            return Err(format!("column {} is {to} now, and a policy judges columns by name", column.name));
        }
        (*to).clone_into(&mut column.name);
    }
    expected.extend(
        before
            .into_iter()
            .filter(|name| !dropped.contains(&folded(name)))
            .map(|name| renamed.get(&folded(&name)).map_or(name, |to| (*to).to_owned())),
    );
    for change in changes {
        match change {
            ColumnChange::Retyped { name, to, nullable } => {
                retyped(&schema, expected, name, to.as_deref(), *nullable)?;
            }
            ColumnChange::Added(name) => expected.push(name.clone()),
            _ => {}
        }
    }
    Ok(schema)
}

/// A name as names of columns are compared.
fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// Rows with the new type may never come: what became of the values is judged at once.
fn retyped(
    schema: &StoredSchema,
    expected: &[String],
    name: &str,
    to: Option<&str>,
    nullable: bool,
) -> Result<(), String> {
    let column = schema.columns.iter().find(|column| folded(&column.name) == folded(name));
    let is_expected = || expected.iter().any(|other| folded(other) == folded(name));
    if !nullable && column.map_or_else(is_expected, |column| column.nullable) {
        return Err(format!("column {name} takes no NULL any more"));
    }
    match column {
        Some(column) if to.is_none_or(|to| !keeps_values(&column.source_type, to)) => {
            Err(format!("column {name} was {} and is {}", column.source_type, to.unwrap_or("defined anew")))
        }
        _ => Ok(()),
    }
}

fn drop_column(schema: &mut StoredSchema, key: &TableKey, field: u32) -> Result<(), String> {
    let Some(at) = schema.columns.iter().position(|column| column.field == field) else { return Ok(()) };
    let name = &schema.columns[at].name;
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
        let known = known(stored.schema, rows, &column.name);
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

/// The stored column of that name. One that differs in case alone is it, unless the rows have that one, too.
fn known<'a>(schema: &'a StoredSchema, rows: &TableSchema, name: &str) -> Option<&'a StoredColumn> {
    let columns = || schema.columns.iter();
    columns().find(|known| known.name == name).or_else(|| {
        columns().find(|known| folded(&known.name) == folded(name) && rows.column(&known.name).is_none())
    })
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
        for dropped in ["note", "NOTE"] {
            let again = [ColumnChange::Dropped(dropped.into()), added("note")];
            assert_eq!(of(&again, &[ID, NOTE]), pairs(&[("id", 1), ("note", 3)]));
        }
        let upper = ("NOTE", DataType::Utf8, "varchar(10)", true);
        assert_eq!(of(&[], &[ID, upper]), pairs(&[("id", 1), ("NOTE", 2)]));
    }

    #[test]
    fn b51_columns_that_changed_their_names_with_each_other_keep_their_values() {
        let (name, before) = (name(), table(&[ID, MORE, ("other", DataType::Int32, "int", true)], &[0]));
        let (schema, key) = (StoredSchema::new(&before, 1), TableKey::Columns { fields: vec![1] });
        let stored = Stored { name: &name, schema: &schema, key: &key, next_field: 4, judged: false };
        let renamed = |from: &str, to: &str| ColumnChange::Renamed { from: from.into(), to: to.into() };
        let mut expected = vec!["a".to_owned(), "b".to_owned()];
        let swapped =
            [renamed("more", "other"), renamed("OTHER", "more"), renamed("a", "b"), renamed("b", "a")];
        let evolution = after_statement(&stored, &swapped, &mut expected);
        assert_eq!(fields(&evolution), [("id".into(), 1), ("other".into(), 2), ("more".into(), 3)]);
        assert_eq!(expected, ["b", "a"]);
        let mut expected = vec![];
        let moved = [renamed("other", "more"), ColumnChange::Dropped("more".into()), added("other")];
        let evolution = after_statement(&stored, &moved, &mut expected);
        assert_eq!(fields(&evolution), [("id".into(), 1), ("more".into(), 3)]);
        assert_eq!(expected, ["other"]);
    }

    #[test]
    fn b51_a_type_that_changes_values_has_the_table_copied_before_any_row_comes() {
        let retyped = |name: &str, to: Option<&str>, nullable: bool| {
            let change = ColumnChange::Retyped { name: name.into(), to: to.map(str::to_owned), nullable };
            evolved(&[change], &[ID, NOTE], &[0])
        };
        let renamed = ColumnChange::Renamed { from: "note".into(), to: "text".into() };
        let shorter =
            ColumnChange::Retyped { name: "text".into(), to: Some("varchar(9)".into()), nullable: true };
        assert!(matches!(evolved(&[renamed, shorter], &[], &[]), Evolution::CloneAnew(_)));
        let (name, before) = (name(), table(&[ID, NOTE], &[0]));
        let (schema, key) = (StoredSchema::new(&before, 1), TableKey::Columns { fields: vec![1] });
        let stored = Stored { name: &name, schema: &schema, key: &key, next_field: 3, judged: false };
        let strict = ColumnChange::Retyped { name: "more".into(), to: Some("int".into()), nullable: false };
        let evolution = after_statement(&stored, &[strict], &mut vec!["more".to_owned()]);
        assert!(matches!(evolution, Evolution::CloneAnew(_)), "older rows have a value now: {evolution:?}");
        for (name, to, nullable) in [
            ("note", Some("varchar(9)"), true),
            ("NOTE", Some("varbinary(10)"), true),
            ("note", Some("varchar(10)"), false),
            ("note", None, true),
        ] {
            assert!(
                matches!(retyped(name, to, nullable), Evolution::CloneAnew(_)),
                "{name} {to:?} {nullable}"
            );
        }
        assert!(matches!(retyped("note", Some("text"), true), Evolution::InPlace(_)));
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
