//! Says which tables, columns and rows of a source may be stored.
//!
//! ```json
//! {"tables": [
//!     {"match": "shop.orders",
//!      "columns": {"email": {"pseudonym": "MAIL_KEY"}, "note": "drop", "card*": "blank"},
//!      "rows": "amount > 0 and status in ('paid', 'sent')"},
//!     {"match": "shop.*"}
//!  ],
//!  "otherwise": "skip"}
//! ```
//!
//! The first entry whose `match` names a table decides; a table that none names is treated as
//! `otherwise` says: `skip` (without the key) or `keep`. In `columns`, a full name goes before a
//! pattern, and of two patterns the one with more letters wins; columns that nothing names are kept.
//! A key column can be kept or replaced by a pseudonym, nothing else.
//!
//! `rows` is a predicate (`tidemill-predicate`). Its simple conjuncts become conditions, which the host
//! judges, in a clone inside the source's query; what is left is judged here, row by row.

mod columns;

use serde::Deserialize;
use tidemill_guest::policy::{Judged, Policy, Taken, Treatment};
use tidemill_guest::{Error, Mask, Pattern, Rows, TableDef, config};
use tidemill_predicate::{Plan, Predicate};

use columns::Columns;

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    tables: Vec<EntryConfig>,
    #[serde(default)]
    otherwise: Otherwise,
}

/// One entry of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryConfig {
    #[serde(rename = "match")]
    pattern: Pattern,
    #[serde(default)]
    columns: Columns,
    rows: Option<String>,
}

/// What becomes of tables that no entry names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// nothing of them is stored
    #[default]
    Skip,
    /// they are stored whole
    Keep,
}

/// The policy.
#[derive(Clone, Debug)]
pub struct Select {
    entries: Vec<Entry>,
    otherwise: Otherwise,
}

#[derive(Clone, Debug)]
struct Entry {
    pattern: Pattern,
    columns: Columns,
    rows: Option<Predicate>,
}

impl Policy for Select {
    type Config = Config;
    /// What is left of the predicate.
    type Plan = Option<Plan>;

    fn setup(config: Config) -> Result<Self, Error> {
        let entries = config.tables.into_iter().map(Entry::read).collect::<Result<_, _>>()?;
        Ok(Select { entries, otherwise: config.otherwise })
    }

    fn decide(&self, table: &TableDef) -> Result<Option<Taken<Option<Plan>>>, Error> {
        match self.entries.iter().find(|entry| table.is_named_by(&entry.pattern)) {
            Some(entry) => entry.take(table).map(Some),
            None if self.otherwise == Otherwise::Skip => Ok(None),
            None => Ok(Some(Taken {
                columns: vec![Treatment::Keep; table.columns.len()],
                conditions: Vec::new(),
                input: Vec::new(),
                plan: None,
            })),
        }
    }

    fn apply(&self, plan: &Option<Plan>, rows: &Rows) -> Result<Judged, Error> {
        let keep = match plan {
            Some(plan) => plan.keep(rows)?,
            None => Mask::all(rows.count as usize),
        };
        Ok(Judged { keep, columns: Vec::new() })
    }
}

impl Entry {
    fn read(config: EntryConfig) -> Result<Self, Error> {
        config::table_pattern("match", &config.pattern)?;
        let name = config.pattern.as_str().to_owned();
        let parse = |text: String| {
            Predicate::parse(&text).map_err(|error| Error::Config(format!("{name}: rows: {error}")))
        };
        config.columns.validate(&name)?;
        Ok(Entry {
            rows: config.rows.map(parse).transpose()?,
            pattern: config.pattern,
            columns: config.columns,
        })
    }

    fn take(&self, table: &TableDef) -> Result<Taken<Option<Plan>>, Error> {
        if self.pattern.is_exact() {
            self.columns.find_all(table)?;
        }
        let columns = self.columns.treatments(table)?;
        let Some(predicate) = &self.rows else {
            return Ok(Taken { columns, conditions: Vec::new(), input: Vec::new(), plan: None });
        };
        let split = predicate.split(table)?;
        let input = split.rest.as_ref().map(|plan| plan.input().to_vec()).unwrap_or_default();
        Ok(Taken { columns, conditions: split.conditions, input, plan: split.rest })
    }
}

tidemill_guest::export_policy!(Select);

#[cfg(test)]
mod tests;
