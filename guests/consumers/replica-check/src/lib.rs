//! Keeps a digest of every table, so that tests can compare what was delivered with the source.
//!
//! ```json
//! {"tables": ["bank.*"],
//!  "sum": [{"table": "bank.a", "column": "balance"}, {"table": "bank.b", "column": "balance"}],
//!  "equals": 10000}
//! ```
//!
//! Everything is in `state`, so that any instance goes on where another one stopped, and a batch that is
//! rolled back leaves no trace:
//!
//! | key | value, JSON |
//! |---|---|
//! | `table/SCHEMA.NAME` | `{"digest": "…", "rows": 3, "inserts": 5, "updates": 1, "deletes": 2, "snapshot": 0, "emptied": 0, "invalidated": 0, "sum": "0"}` |
//! | `total` | `{"transactions": 9, "scn": 77, "id": "…", "sum": "10000", "reached": true, "tables": ["…"]}` |
//!
//! `digest` is a `tidemill_digest::Digest` over all columns, in the table's order, of the rows that are
//! there now: inserts and snapshot rows are added, deletes removed, updates both. A table that is truncated or dropped
//! has none; a renamed one takes its rows to its new name. `invalidated` counts how often its content became another
//! than what was delivered: from then on its digest says nothing of the source. `transactions` counts
//! those that came to their end, `scn` and `id` are the last one's.
//!
//! With `sum`, `total.sum` is what these columns (integers or decimals, NULL counts as 0) hold together.
//! From the first transaction at whose end it has been `equals`, every later one has to keep it: the
//! consumer stops with `fatal` at the first one that does not, and names it. Rows that were not sent
//! whole (MINIMAL images) are rejected.

mod amount;
mod checked;
mod kept;

use serde::Deserialize;
use tidemill_guest::canonical::Canonical;
use tidemill_guest::config::Tables;
use tidemill_guest::consumer::{Batch, Consumer, Failure, Interested, Phase};
use tidemill_guest::{Error, TableDef};

use amount::Amount;
use checked::Checked;

/// The configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    tables: Tables,
    #[serde(default)]
    sum: Vec<Summed>,
    equals: Option<Amount>,
}

/// A column that is summed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summed {
    table: String,
    column: String,
}

/// The consumer.
#[derive(Clone, Debug)]
pub struct ReplicaCheck {
    config: Config,
}

/// How the rows of one table are digested.
#[derive(Clone, Debug)]
pub struct Plan {
    table: String,
    names: Vec<String>,
    columns: Vec<Canonical>,
    /// Places of the columns that are summed.
    summed: Vec<usize>,
}

impl Consumer for ReplicaCheck {
    type Config = Config;
    type Plan = Plan;
    const TAKES_EVENTS: bool = true;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        if config.equals.is_some() && config.sum.is_empty() {
            return Err(Error::Config("equals: name the columns that are summed under `sum`".to_owned()));
        }
        Ok(ReplicaCheck { config })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Interested<Plan>>, Error> {
        if !self.config.tables.contain(table) {
            return Ok(None);
        }
        let mine = self.config.sum.iter().filter(|summed| summed.table == table.path());
        let summed = mine.map(|summed| summed_place(table, &summed.column)).collect::<Result<_, _>>()?;
        let plan = Plan {
            table: table.path(),
            names: table.columns.iter().map(|column| column.name.clone()).collect(),
            columns: table.columns.iter().map(Canonical::of).collect(),
            summed,
        };
        Ok(Some(Interested { after: table.ordinals(), before: table.ordinals(), plan }))
    }

    fn process(&mut self, batch: &Batch<'_, Plan>) -> Result<(), Failure> {
        if batch.phase() == Phase::Deltas {
            let message = "replica-check takes snapshots and live transactions; deltas have no before-images";
            return Err(Error::Unsupported(message.to_owned()).into());
        }
        let mut checked = Checked::load(batch.plans());
        for (done, transaction) in (0u32..).zip(batch.transactions()) {
            if let Err(cause) = checked.apply(&transaction, &self.config) {
                self.keep_first(batch, done)?;
                return Err(Failure { done, cause });
            }
        }
        checked.save();
        Ok(())
    }
}

impl ReplicaCheck {
    /// Keeps what the first transactions of a batch make, once more from what is kept: the batch stopped
    /// in the midst of the one after them.
    fn keep_first(&self, batch: &Batch<'_, Plan>, count: u32) -> Result<(), Failure> {
        let mut checked = Checked::load(batch.plans());
        for transaction in batch.transactions().take(count as usize) {
            checked.apply(&transaction, &self.config)?;
        }
        checked.save();
        Ok(())
    }
}

/// The place of a column that can be summed.
fn summed_place(table: &TableDef, name: &str) -> Result<usize, Error> {
    let (ordinal, column) = table.column(name)?;
    if Amount::can_sum(column) {
        Ok(ordinal as usize)
    } else {
        let (path, logical) = (table.path(), &column.logical);
        Err(Error::Unsupported(format!(
            "sum: column {path}.{name} is {logical}; integers and decimals of up to {} places are summed",
            amount::PLACES
        )))
    }
}

tidemill_guest::export_consumer!(ReplicaCheck);

#[cfg(test)]
mod tests;
