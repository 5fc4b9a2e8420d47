//! Rules of the configuration: which columns, and what becomes of them.

use serde::Deserialize;
use serde_json::Value;
use tidemill_guest::{Error, Pattern, TableDef};

/// One rule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    columns: Columns,
    /// What becomes of them.
    pub action: Action,
    length: Option<usize>,
    value: Option<Value>,
}

/// One pattern or several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Columns {
    One(Pattern),
    Some(Vec<Pattern>),
}

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It does not go on.
    Drop,
    /// A keyed hash takes its place.
    Hash,
    /// Its first `length` characters, or bytes.
    Truncate,
    /// NULL in every row.
    Null,
    /// `value` in every row.
    Constant,
}

impl Rule {
    fn patterns(&self) -> &[Pattern] {
        match &self.columns {
            Columns::One(pattern) => std::slice::from_ref(pattern),
            Columns::Some(patterns) => patterns,
        }
    }

    /// Its patterns, for messages.
    pub fn spelled(&self) -> String {
        self.patterns().iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
    }

    /// What is wrong with it before any table is known.
    ///
    /// # Errors
    /// `config`.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Config(format!("rules: {}: {what}", self.spelled())));
        if self.patterns().is_empty() || self.patterns().iter().any(|pattern| pattern.part_count() < 3) {
            return wrong("columns are named schema.table.column, as in \"shop.*.email\"");
        }
        match (self.action, self.length, &self.value) {
            (Action::Truncate, None, _) => {
                wrong("`truncate` needs `length`, the number of characters that stay")
            }
            (Action::Constant, _, None) => wrong("`constant` needs `value`; for NULL use the action `null`"),
            (Action::Truncate, Some(_), None) | (Action::Constant, None, Some(_)) => Ok(()),
            (_, Some(_), _) => wrong("`length` belongs to the action `truncate`"),
            (_, _, Some(_)) => wrong("`value` belongs to the action `constant`"),
            _ => Ok(()),
        }
    }

    /// Whether it is for that column.
    pub fn names(&self, table: &TableDef, ordinal: u32) -> bool {
        let column = table.columns[ordinal as usize].name.as_str();
        self.patterns().iter().any(|pattern| pattern.matches(&[&table.schema, &table.name, column]))
    }

    /// A full name that finds no column would leave unmasked what was meant.
    ///
    /// # Errors
    /// `unsupported`.
    pub fn finds_its_column(&self, table: &TableDef) -> Result<(), Error> {
        let prefix = format!("{}.", table.path());
        for pattern in self.patterns().iter().filter(|pattern| pattern.is_exact()) {
            let column = pattern.as_str().strip_prefix(&prefix);
            if let Some(column) = column.filter(|column| table.ordinal(column).is_none()) {
                let problem = table.no_column(column);
                return Err(Error::Unsupported(format!("rules: {}: {problem}", pattern.as_str())));
            }
        }
        Ok(())
    }

    /// How many characters stay.
    pub fn length(&self) -> usize {
        self.length.unwrap_or_default()
    }

    /// What stands in every row.
    pub fn value(&self) -> &Value {
        self.value.as_ref().unwrap_or(&Value::Null)
    }

    /// What to tell when it would take a key column away.
    pub fn loses_key(&self, table: &TableDef, ordinal: u32) -> Error {
        let column = &table.columns[ordinal as usize].name;
        Error::Config(format!(
            "rules: {}: column {column} is part of the key of {} and may not be changed by {:?}; \
             use `hash`, which keeps rows apart",
            self.spelled(),
            table.path(),
            self.action,
        ))
    }
}
