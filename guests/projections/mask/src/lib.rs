//! Drops, hashes, truncates and replaces columns, chosen by patterns `schema.table.column`.
//!
//! ```json
//! {"key_id": "k1", "key": "a long secret", "rules": [
//!     {"columns": "shop.*.email", "action": "hash"},
//!     {"columns": ["*.*.phone", "*.*.fax"], "action": "truncate", "length": 3},
//!     {"columns": "shop.customers.note", "action": "drop"},
//!     {"columns": "shop.customers.born", "action": "null"},
//!     {"columns": "shop.customers.country", "action": "constant", "value": "XX"}
//! ]}
//! ```
//!
//! The first rule that names a column wins; what no rule names goes on as it is and never enters the
//! guest. A rule that names one column of one table by its full name has to find it there.
//!
//! `hash` is HMAC-SHA-256 over the value's text (bytes as they are; integers, dates and the like
//! as `tidemill_guest::text` spells them) and gives the text `KEY_ID:` and 64 hexadecimal digits. The
//! same value gives the same text in every column, so that joins still work. NULL stays NULL, absent
//! stays absent. A key column may only be hashed: everything else would let rows fall together.

mod four;
mod keyed;
mod lanes;
mod rule;
mod work;

use std::rc::Rc;

use serde::Deserialize;
use tidemill_guest::projection::{Output, Projected, Projection};
use tidemill_guest::{Column, Error, Rows, TableDef};

pub use keyed::KeyedHash;
pub use rule::{Action, Rule};
use work::Work;

/// The configuration.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    key_id: Option<String>,
    key: Option<String>,
    rules: Vec<Rule>,
}

/// The projection.
#[derive(Clone)]
pub struct Mask {
    rules: Vec<Rule>,
    hash: Option<Rc<KeyedHash>>,
}

/// What is computed for the rows of one table.
pub struct Plan {
    /// One a computed column, with its place in the input where it has one.
    works: Vec<(Option<usize>, Work)>,
}

impl Projection for Mask {
    type Config = Config;
    type Plan = Plan;

    fn setup(config: Config) -> Result<Self, Error> {
        config.rules.iter().try_for_each(Rule::validate)?;
        let hashes = config.rules.iter().any(|rule| rule.action == Action::Hash);
        let hash = match (config.key_id, config.key) {
            (Some(id), Some(key)) => Some(Rc::new(KeyedHash::new(&id, &key)?)),
            (None, None) if !hashes => None,
            (None, _) => {
                return Err(Error::Config(
                    "key_id: a short name for the key is needed, as in \"k1\"".to_owned(),
                ));
            }
            (_, None) => {
                return Err(Error::Config(
                    "key: the secret that the action `hash` needs is missing".to_owned(),
                ));
            }
        };
        Ok(Mask { rules: config.rules, hash })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Projected<Plan>>, Error> {
        self.rules.iter().try_for_each(|rule| rule.finds_its_column(table))?;
        let mut projected =
            Projected { input: Vec::new(), output: Vec::new(), plan: Plan { works: Vec::new() } };
        for ordinal in table.ordinals() {
            match self.rules.iter().find(|rule| rule.names(table, ordinal)) {
                None => projected.output.push(Output::keep(table, ordinal)),
                Some(rule) => self.compute(table, ordinal, rule, &mut projected)?,
            }
        }
        let changed = projected.output.len() < table.columns.len() || !projected.plan.works.is_empty();
        Ok(changed.then_some(projected))
    }

    fn project(&self, plan: &Plan, rows: &Rows) -> Result<Vec<Column>, Error> {
        let missing = || Error::Fatal("the batch does not carry the columns that were planned".to_owned());
        let compute = |(place, work): &(Option<usize>, Work)| match place {
            Some(place) => work.of_column(rows.columns.get(*place).ok_or_else(missing)?),
            None => Ok(work.of_nothing(rows.count as usize)),
        };
        plan.works.iter().map(compute).collect()
    }
}

impl Mask {
    fn compute(
        &self,
        table: &TableDef,
        ordinal: u32,
        rule: &Rule,
        projected: &mut Projected<Plan>,
    ) -> Result<(), Error> {
        if table.is_key(ordinal) && rule.action != Action::Hash {
            return Err(rule.loses_key(table, ordinal));
        }
        if rule.action == Action::Drop {
            return Ok(());
        }
        let (def, work) = Work::plan(rule, self.hash.as_ref(), table, ordinal)?;
        let place = work.needs_input().then(|| {
            projected.input.push(ordinal);
            projected.input.len() - 1
        });
        projected.output.push(Output::computed(def));
        projected.plan.works.push((place, work));
        Ok(())
    }
}

tidemill_guest::export_projection!(Mask);

#[cfg(test)]
mod tests;
