//! The names of the output tables, by schema, in the state: what is emptied where a schema is dropped.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_guest::consumer::TableName;
use tidemill_guest::state;

/// As far as they were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<String, BTreeSet<String>>);

impl Names {
    /// The tables of a schema.
    pub(crate) fn of(&mut self, schema: &str) -> &mut BTreeSet<String> {
        self.0.entry(schema.to_owned()).or_insert_with(|| load(schema))
    }

    /// There is a table of that name.
    pub(crate) fn add(&mut self, table: &TableName) {
        let names = self.of(&table.schema);
        if !names.contains(&table.name) {
            names.insert(table.name.clone());
            self.save(&table.schema);
        }
    }

    /// There is none any more.
    pub(crate) fn remove(&mut self, table: &TableName) {
        if self.of(&table.schema).remove(&table.name) {
            self.save(&table.schema);
        }
    }

    /// Takes all of a schema.
    pub(crate) fn take(&mut self, schema: &str) -> BTreeSet<String> {
        let names = std::mem::take(self.of(schema));
        if !names.is_empty() {
            self.save(schema);
        }
        names
    }

    fn save(&mut self, schema: &str) {
        let names = self.of(schema);
        match names.is_empty() {
            true => state::delete(&key(schema)),
            false => state::set(&key(schema), serde_json::json!(names).to_string().as_bytes()),
        }
    }
}

fn key(schema: &str) -> String {
    format!("tables/{schema}")
}

fn load(schema: &str) -> BTreeSet<String> {
    let kept = state::get(&key(schema));
    kept.map(|json| serde_json::from_slice(&json).expect("this guest wrote it")).unwrap_or_default()
}
